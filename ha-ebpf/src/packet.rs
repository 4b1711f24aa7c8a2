//! Access to the frame's bytes: the one place where packet pointers are followed.

use core::arch::asm;

use aya_ebpf::programs::XdpContext;

/// A frame between the two pointers of its context.
///
/// The context is read once, at the entry: LLVM may merge two readings of it into arithmetic on the
/// context pointer, which the verifier refuses ("dereference of modified ctx ptr").
pub(crate) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame that a program was called for.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// The `N` bytes at `offset`, unless the frame ends before.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = hidden(self.start + offset);
        if start + N > self.end {
            return None;
        }
        // SAFETY: `start..start + N` lies within the frame (which the verifier proves again), stays
        // there for the program's run, and byte arrays have no alignment.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    /// Overwrites the first `N` bytes. False if the frame is shorter.
    #[inline(always)]
    pub(crate) fn overwrite<const N: usize>(&self, bytes: &[u8; N]) -> bool {
        if self.start + N > self.end {
            return false;
        }
        // SAFETY: as in `bytes`; no reference into the frame is alive in the callers at this point.
        unsafe { *(self.start as *mut [u8; N]) = *bytes };
        true
    }
}

/// The pointer, from which LLVM knows nothing of its relation to other pointers.
///
/// LLVM would leave out a check that an earlier one implies through arithmetic that the verifier does
/// not follow; the verifier sees the same register.
#[inline(always)]
fn hidden(pointer: usize) -> usize {
    let mut pointer = pointer;
    // SAFETY: moves a register to itself. (Without any instruction the line information would name one
    // instruction twice, which the kernel refuses.)
    unsafe { asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack)) };
    pointer
}

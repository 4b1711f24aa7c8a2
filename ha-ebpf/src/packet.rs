//! Access to a frame's bytes: the one place where packet pointers are followed.

use core::arch::asm;

/// The bytes between two pointers into a frame.
///
/// A context's pointers are read once, at the entry: LLVM may merge two readings of them into arithmetic
/// on the context pointer, which the verifier refuses ("dereference of modified ctx ptr").
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// From `data` to `data_end` of a context.
    #[inline(always)]
    pub(crate) const fn new(data: usize, data_end: usize) -> Self {
        Self {
            start: data,
            end: data_end,
        }
    }

    /// What is left after `offset` bytes, less than 64; nothing, if there are fewer. How many they are is
    /// kept from the verifier, which would follow all that comes after once for each number; it takes
    /// any number that it does not know.
    #[inline(always)]
    pub(crate) fn after(self, offset: usize, unknown: u32) -> Self {
        Self {
            start: hidden(self.start + (forgotten(offset, unknown) & 63)),
            end: self.end,
        }
    }

    /// The two pointers.
    #[inline(always)]
    pub(crate) const fn bounds(self) -> (usize, usize) {
        (self.start, self.end)
    }

    /// What is left after `offset` bytes, less than 2,048, of which the verifier knows no more than that.
    #[inline(always)]
    pub(crate) fn after_unknown(self, offset: usize, unknown: u32) -> Self {
        Self {
            start: hidden(self.start + (forgotten(offset, unknown) & 0x7ff)),
            end: self.end,
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

    /// The `N` words at `offset`, as they lie in memory, unless the frame ends before.
    ///
    /// One load each. From bytes, whose alignment LLVM does not know, it would make eight and a spill for each
    /// of them; the kernel takes such loads where the processor does (x86-64, arm64).
    #[inline(always)]
    pub(crate) fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        let start = hidden(self.start + offset);
        if start + N * 8 > self.end {
            return None;
        }
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = load(start + index * 8);
        }
        Some(words)
    }

    /// [`Self::words`] of 32 bits.
    #[inline(always)]
    pub(crate) fn half_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let start = hidden(self.start + offset);
        if start + N * 4 > self.end {
            return None;
        }
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = load_half(start + index * 4);
        }
        Some(words)
    }

    /// Overwrites the `N` words at `offset`. False if the frame ends before.
    #[inline(always)]
    pub(crate) fn set_words<const N: usize>(&self, offset: usize, words: [u64; N]) -> bool {
        Self::new(hidden(self.start + offset), self.end).overwrite_words(words)
    }

    /// Overwrites the first `N` words. False if there are fewer bytes.
    #[inline(always)]
    pub(crate) fn overwrite_words<const N: usize>(&self, words: [u64; N]) -> bool {
        if self.start + N * 8 > self.end {
            return false;
        }
        for (index, word) in words.into_iter().enumerate() {
            store(self.start + index * 8, word);
        }
        true
    }

    /// Overwrites the first `N` bytes. False if there are fewer.
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

#[inline(always)]
fn load(pointer: usize) -> u64 {
    let word;
    // SAFETY: the callers have shown that eight bytes lie there (which the verifier proves again); whether
    // they are aligned does not matter to the instruction.
    unsafe {
        asm!(
            "{word} = *(u64 *)({pointer} + 0)",
            word = out(reg) word,
            pointer = in(reg) pointer,
            options(pure, readonly, nostack)
        );
    }
    word
}

/// [`load`] of 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the instruction clears the upper half"
)]
#[inline(always)]
fn load_half(pointer: usize) -> u32 {
    let word: u64;
    // SAFETY: as in `load`, of four bytes.
    unsafe {
        asm!(
            "{word} = *(u32 *)({pointer} + 0)",
            word = out(reg) word,
            pointer = in(reg) pointer,
            options(pure, readonly, nostack)
        );
    }
    word as u32
}

#[inline(always)]
fn store(pointer: usize, word: u64) {
    // SAFETY: as in `load`; no reference into the frame is alive in the callers at this point.
    unsafe {
        asm!(
            "*(u64 *)({pointer} + 0) = {word}",
            word = in(reg) word,
            pointer = in(reg) pointer,
            options(nostack)
        );
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

/// The number, of which the verifier forgets what it is, by means of one that it does not know: to it,
/// anything comes of an exclusive or, though the second undoes the first.
#[inline(always)]
pub(crate) fn forgotten(number: usize, unknown: u32) -> usize {
    let mut number = number;
    // SAFETY: changes one register and reads another.
    unsafe {
        asm!(
            "{number} ^= {unknown}",
            "{number} ^= {unknown}",
            number = inout(reg) number,
            unknown = in(reg) u64::from(unknown),
            options(pure, nomem, nostack)
        );
    }
    number
}

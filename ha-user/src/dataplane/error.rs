//! Why the dataplane could not be used.

use std::{error::Error, io, net::IpAddr, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
    sys::SyscallError,
};

/// Why the dataplane could not be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it answered.
        source: io::Error,
    },
    /// `pin_dir` is on another kind of file system.
    #[error(
        "{path} is not on a bpffs, so nothing can be pinned there: mount one \
         (`mount -t bpf bpf <directory>`) and name it in dataplane.pin_dir"
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else's program is attached.
    #[error(
        "{interface} has an XDP program of somebody else ({} mode, id {program_id}), which had does \
         not replace: see whose it is with `bpftool prog show id {program_id}` and take it off, or set \
         dataplane.mode = \"tc\", which does without XDP",
        if *.native { "native" } else { "generic" }
    )]
    ForeignXdp {
        /// The interface.
        interface: String,
        /// Of the program, 0 if the kernel does not tell (several programs).
        program_id: u32,
        /// In the driver.
        native: bool,
    },
    /// Another `had` has the interface.
    #[error(
        "{interface} has the ingress program (id {program_id}) of another had: one that runs, or that was \
         killed and had another dataplane.pin_dir. Stop it; if it no longer runs, start it once with \
         its own configuration and stop it"
    )]
    OtherHad {
        /// The interface.
        interface: String,
        /// Of the program.
        program_id: u32,
    },
    /// Mode `auto`, and nothing worked.
    #[error("{xdp}. And tc: {tc}")]
    NoHook {
        /// Why not XDP.
        xdp: Box<DataplaneError>,
        /// Why not tc.
        tc: Box<DataplaneError>,
    },
    /// A bond in native mode.
    #[error(
        "{interface} is a bond, where native XDP sees the ports instead of the bond: set \
         dataplane.mode = \"auto\" or \"generic\""
    )]
    NativeBond {
        /// The interface.
        interface: String,
    },
    /// A VLAN's interface in native mode.
    #[error(
        "{interface} is a VLAN's interface, where XDP is native only if the interface below runs it and \
         sees the tags, but: {why}. Set dataplane.mode = \"auto\" or \"generic\""
    )]
    NativeVlan {
        /// The interface.
        interface: String,
        /// Why not.
        why: String,
    },
    /// No such slot.
    #[error("instance slot {slot} does not exist: there are {slots}")]
    NoSlot {
        /// The slot.
        slot: u32,
        /// How many there are.
        slots: u32,
    },
    /// Packets on two paths could not be told apart.
    #[error("path {other} leads to {peer} on the same interface: one of the two has to go")]
    PathTaken {
        /// The peer.
        peer: IpAddr,
        /// The number of the path that leads there.
        other: u32,
    },
    /// The programs that were built in are not what this code expects.
    #[error("the built-in eBPF object has no {what}; the build is broken, build again")]
    Object {
        /// What is missing.
        what: &'static str,
    },
}

impl DataplaneError {
    /// A refusal, with aya's wrapping taken off where the kernel's own answer is inside.
    pub(super) fn kernel(
        what: impl Into<String>,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Kernel {
            what: what.into(),
            source: answer(error),
        }
    }

    /// The kernel's error number, if it was the kernel.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// The innermost `io::Error` with a number, else the whole error as text.
fn answer(error: impl Error + Send + Sync + 'static) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        let found = inner
            .downcast_ref::<io::Error>()
            .or_else(|| syscall(inner).map(|syscall| &syscall.io_error));
        if let Some(number) = found.and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(number);
        }
        cause = inner.source();
    }
    io::Error::other(error)
}

/// aya's transparent errors do not name their inner error as a source.
fn syscall<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a SyscallError> {
    if let Some(ProgramError::SyscallError(syscall)) = error.downcast_ref() {
        return Some(syscall);
    }
    if let Some(MapError::SyscallError(syscall)) = error.downcast_ref() {
        return Some(syscall);
    }
    if let Some(EbpfError::MapError(MapError::SyscallError(syscall))) = error.downcast_ref() {
        return Some(syscall);
    }
    if let Some(LinkError::SyscallError(syscall)) = error.downcast_ref() {
        return Some(syscall);
    }
    error.downcast_ref()
}

//! The dataplane as the daemon sees it: load or adopt the programs, attach them, read and write maps.

use std::{io, net::Ipv4Addr, path::PathBuf};

use ha_common::{
    MonoNs,
    abi::{Event, InstanceConfig, Reason, Received},
    gate::{Epoch, Lease},
};
use ha_core::InstanceId;

/// What to do about the dataplane, from `dataplane.mode` and `dataplane.pin_dir`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which attach modes to try.
    pub mode: Mode,
    /// A directory on a bpffs, private to this daemon; `None` = nothing is pinned, and the gate does
    /// not survive SIGKILL.
    pub pin_dir: Option<PathBuf>,
}

/// `dataplane.mode`, without `off`: then there is no dataplane at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native, else generic.
    Auto,
    /// Native or an error.
    Native,
    /// Generic or an error.
    Generic,
}

/// How the programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `true`: in the driver (native); `false`: generic.
    pub native: bool,
    /// Whether the egress guard is a tcx link (else a clsact filter).
    pub tcx: bool,
    /// Whether the links were found pinned and adopted.
    pub adopted: bool,
}

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
}

/// The loaded programs and their maps.
pub struct Dataplane {}

impl Dataplane {
    /// Loads the programs; adopts the maps that an earlier daemon left pinned.
    pub fn open(options: &Options) -> Result<Self, DataplaneError> {
        let _ = options;
        unimplemented!()
    }

    /// Attaches to an interface, or adopts the pinned links and puts the new programs under them.
    pub fn attach(&mut self, name: &str, ifindex: u32) -> Result<Attachment, DataplaneError> {
        let _ = (name, ifindex);
        unimplemented!()
    }

    /// Takes the programs off an interface.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let _ = ifindex;
        unimplemented!()
    }

    /// Writes an instance's configuration, VIPs and allowed unicast senders, replacing earlier ones.
    pub fn set_instance(
        &mut self,
        id: InstanceId,
        config: &InstanceConfig,
        vips: &[Ipv4Addr],
        senders: &[Ipv4Addr],
    ) -> Result<(), DataplaneError> {
        let _ = (id, config, vips, senders);
        unimplemented!()
    }

    /// Forgets an instance; closes its gate first.
    pub fn clear_instance(&mut self, id: InstanceId) -> Result<(), DataplaneError> {
        let _ = id;
        unimplemented!()
    }

    /// Lets the kernel report silence of `down_ns`; 0 = no longer.
    pub fn watch(&mut self, id: InstanceId, down_ns: u64) -> Result<(), DataplaneError> {
        let _ = (id, down_ns);
        unimplemented!()
    }

    /// Whether [`Self::watch`] works on this kernel.
    pub fn has_watch(&self) -> bool {
        unimplemented!()
    }

    /// The epoch word of an instance, as found or last written.
    pub fn epoch(&self, id: InstanceId) -> Epoch {
        let _ = id;
        unimplemented!()
    }

    /// Writes the epoch word: one store into the mapped map.
    pub fn set_epoch(&self, id: InstanceId, epoch: Epoch) {
        let _ = (id, epoch);
        unimplemented!()
    }

    /// Writes a lease word: one store into the mapped map.
    pub fn set_lease(&self, id: InstanceId, slot: usize, lease: Lease) {
        let _ = (id, slot, lease);
        unimplemented!()
    }

    /// Whether the gate is open at `now`, by the words in the maps.
    pub fn gate_open(&self, id: InstanceId, now: MonoNs) -> bool {
        let _ = (id, now);
        unimplemented!()
    }

    /// What XDP received for an instance.
    pub fn received(&self, id: InstanceId) -> Received {
        let _ = id;
        unimplemented!()
    }

    /// The ring buffer's descriptor, for epoll.
    pub fn events_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        unimplemented!()
    }

    /// The next event, if any.
    pub fn next_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// Each verdict's counter, summed over the CPUs.
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        unimplemented!()
    }

    /// Detaches everywhere and removes every pin.
    pub fn close(self) -> Result<(), DataplaneError> {
        unimplemented!()
    }
}

/// An XDP program that passes everything (`pass`), for the switch-side ends of a test lab.
#[cfg(feature = "lab")]
pub static PASS_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/had-pass"));

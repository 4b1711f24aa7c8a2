//! The words that kernel and daemon share through mapped maps: epochs, leases, what was received.
//!
//! The one file of the dataplane with `unsafe`.

#![expect(unsafe_code, reason = "memory that the kernel shares")]

use std::{
    hint::spin_loop,
    mem::offset_of,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use ha_common::{
    Address, MonoNs,
    abi::{Gate, LeaseCell, MAX_INSTANCES, Received, bfd},
    gate::{Epoch, Lease, MAX_LEASES},
    lease::{Rank, Standing},
};
use ha_core::InstanceId;
use rustix::mm::{MapFlags, ProtFlags};

use super::DataplaneError;

/// Bytes of a cell: each of the maps' values is one cache line, but a path's state, which is several.
pub(super) const CELL: usize = 64;
pub(super) const WORD: usize = size_of::<u64>();
/// A program writes what an advert said in some nanoseconds; after as many readings it was held up.
const READS: u32 = 1_000;

const _: () = {
    assert!(size_of::<Gate>() == CELL);
    assert!(size_of::<LeaseCell>() == CELL);
    assert!(size_of::<Received>() == CELL);
    assert!(size_of::<bfd::Received>() == CELL);
};

/// A mapped array map of cells.
pub(super) struct Cells {
    start: NonNull<AtomicU64>,
    cells: usize,
}

// SAFETY: the mapping is owned, stays where it is, and is only read and written as atomics.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    pub(super) fn map(what: &str, map: impl AsFd, cells: usize) -> Result<Self, DataplaneError> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                cells * CELL,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map,
                0,
            )
        }
        .map_err(|error| DataplaneError::kernel(format!("mapping {what}"), error))?;
        let start = NonNull::new(start.cast()).ok_or(DataplaneError::Object { what: "mapping" })?;
        Ok(Self { start, cells })
    }

    /// The word at a byte offset within a cell; `None` for a cell that does not exist.
    fn word(&self, cell: usize, offset: usize) -> Option<&AtomicU64> {
        if cell >= self.cells || offset >= CELL {
            return None;
        }
        let index = cell * (CELL / WORD) + offset / WORD;
        // SAFETY: within the mapping, which lives as long as `self`; a page boundary is aligned for
        // words; the other writers (programs, one instruction each) write whole words.
        Some(unsafe { self.start.add(index).as_ref() })
    }

    pub(super) fn load(&self, cell: usize, offset: usize) -> u64 {
        self.word(cell, offset)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes `new` if the word is `expected`, with a full barrier. `Err`: what it was instead.
    pub(super) fn compare_exchange(
        &self,
        cell: usize,
        offset: usize,
        expected: u64,
        new: u64,
    ) -> Result<(), u64> {
        let word = self.word(cell, offset).ok_or(0_u64)?;
        word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
    }

    pub(super) fn store(&self, cell: usize, offset: usize, value: u64) {
        if let Some(word) = self.word(cell, offset) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nothing borrows from it any longer. It fails only for arguments
        // that were never mapped.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.cells * CELL) };
    }
}

/// The maps. A slot that does not exist reads as zero and swallows what is written.
pub(super) struct Words {
    gates: Cells,
    leases: Cells,
    received: Cells,
    sessions: Cells,
}

impl Words {
    pub(super) fn map(
        gates: impl AsFd,
        leases: impl AsFd,
        received: impl AsFd,
        sessions: impl AsFd,
    ) -> Result<Self, DataplaneError> {
        let instances = MAX_INSTANCES as usize;
        Ok(Self {
            gates: Cells::map("GATES", gates, instances)?,
            leases: Cells::map("LEASES", leases, instances * MAX_LEASES)?,
            received: Cells::map("RECEIVED", received, instances)?,
            sessions: Cells::map("BFD_RECEIVED", sessions, bfd::MAX_SESSIONS as usize)?,
        })
    }

    pub(super) fn epoch(&self, id: InstanceId) -> Epoch {
        Epoch::from_word(self.gates.load(id.0 as usize, offset_of!(Gate, epoch)))
    }

    /// Writes a raised epoch. After 32,767 of them one comes round that may have been superseded long
    /// ago: that is forgotten first. The programs supersede the epoch that they find, which is another.
    pub(super) fn set_epoch(&self, id: InstanceId, epoch: Epoch) {
        if self.superseded(id) == epoch && self.epoch(id) != epoch {
            let offset = offset_of!(Gate, superseded);
            self.gates
                .store(id.0 as usize, offset, Epoch::NONE.to_word());
        }
        let offset = offset_of!(Gate, epoch);
        self.gates.store(id.0 as usize, offset, epoch.to_word());
    }

    pub(super) fn superseded(&self, id: InstanceId) -> Epoch {
        Epoch::from_word(self.gates.load(id.0 as usize, offset_of!(Gate, superseded)))
    }

    pub(super) fn standing(&self, id: InstanceId) -> Standing {
        Standing::from_word(self.gates.load(id.0 as usize, offset_of!(Gate, standing)))
    }

    pub(super) fn set_candidate_until(&self, id: InstanceId, until: MonoNs) {
        let offset = offset_of!(Gate, candidate_until_ns);
        self.gates.store(id.0 as usize, offset, until.0);
    }

    pub(super) fn set_standing(&self, id: InstanceId, standing: Standing) {
        let offset = offset_of!(Gate, standing);
        self.gates.store(id.0 as usize, offset, standing.to_word());
    }

    pub(super) fn set_rank(&self, id: InstanceId, rank: Rank) {
        let offset = offset_of!(Gate, rank);
        self.gates.store(id.0 as usize, offset, rank.to_word());
    }

    /// Writes a lease if the present one is `expected`. Whether it was.
    pub(super) fn exchange_lease(
        &self,
        id: InstanceId,
        slot: usize,
        expected: Lease,
        lease: Lease,
    ) -> bool {
        let offset = offset_of!(LeaseCell, word);
        self.leases
            .compare_exchange(
                lease_cell(id, slot),
                offset,
                expected.to_word(),
                lease.to_word(),
            )
            .is_ok()
    }

    pub(super) fn lease(&self, id: InstanceId, slot: usize) -> Lease {
        let cell = lease_cell(id, slot);
        Lease::from_word(self.leases.load(cell, offset_of!(LeaseCell, word)))
    }

    pub(super) fn set_lease(&self, id: InstanceId, slot: usize, lease: Lease) {
        let cell = lease_cell(id, slot);
        let offset = offset_of!(LeaseCell, word);
        self.leases.store(cell, offset, lease.to_word());
    }

    /// What was said is of one advert; nothing while XDP writes it.
    pub(super) fn received(&self, id: InstanceId) -> Received {
        let load = |offset| self.received.load(id.0 as usize, offset);
        let mut received = Received {
            last_ns: load(offset_of!(Received, last_ns)),
            adverts: load(offset_of!(Received, adverts)),
            window_ns: load(offset_of!(Received, window_ns)),
            window_events: load(offset_of!(Received, window_events)),
            ..Received::default()
        };
        for _ in 0..READS {
            let sequence = load(offset_of!(Received, sequence));
            let last_word = load(offset_of!(Received, last_word));
            let sender = offset_of!(Received, sender);
            let sender = Address::from_words([load(sender), load(sender + WORD)]);
            if sequence.is_multiple_of(2) && sequence == load(offset_of!(Received, sequence)) {
                received.last_word = last_word;
                received.sender = sender;
                break;
            }
            spin_loop();
        }
        received
    }

    /// What a BFD session received. The stamp is read first: the packet may be a later one, whose event is
    /// about to come.
    pub(super) fn session_received(&self, slot: u32) -> bfd::Received {
        let load = |offset| self.sessions.load(slot as usize, offset);
        let packet = offset_of!(bfd::Received, packet);
        bfd::Received {
            last_ns: load(offset_of!(bfd::Received, last_ns)),
            packet: [0, WORD, 2 * WORD].map(|offset| load(packet + offset)),
            packets: load(offset_of!(bfd::Received, packets)),
            window_ns: load(offset_of!(bfd::Received, window_ns)),
            window_events: load(offset_of!(bfd::Received, window_events)),
            ..bfd::Received::default()
        }
    }

    /// Clears what a BFD session received.
    pub(super) fn forget_session(&self, slot: u32) {
        for offset in (0..CELL).step_by(WORD) {
            self.sessions.store(slot as usize, offset, 0);
        }
    }

    /// Clears an instance's leases and what it received. The epoch stays: it only ever rises; and so does the
    /// sequence, for a program may be writing.
    pub(super) fn forget(&self, id: InstanceId) {
        for slot in 0..MAX_LEASES {
            self.set_lease(id, slot, Lease::default());
        }
        let kept = offset_of!(Received, sequence);
        for offset in (0..CELL).step_by(WORD).filter(|offset| *offset != kept) {
            self.received.store(id.0 as usize, offset, 0);
        }
    }

    /// Clears what was received last, so that the next advert is the first one; the count stays.
    pub(super) fn forget_heard(&self, id: InstanceId) {
        for offset in [
            offset_of!(Received, last_word),
            offset_of!(Received, last_ns),
        ] {
            self.received.store(id.0 as usize, offset, 0);
        }
    }
}

/// No cell at all for a slot that is none.
pub(super) fn lease_cell(id: InstanceId, slot: usize) -> usize {
    if slot < MAX_LEASES {
        id.0 as usize * MAX_LEASES + slot
    } else {
        usize::MAX
    }
}

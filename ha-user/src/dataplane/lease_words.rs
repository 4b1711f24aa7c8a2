//! The words of promises and paths, in mapped maps.

use std::{mem::offset_of, os::fd::AsFd};

use ha_common::{
    MonoNs, Nanos,
    abi::{
        MAX_INSTANCES,
        lease::{MAX_PATHS, PathState, PromiseCell, RTT_BUCKETS},
    },
    gate::MAX_LEASES,
    lease::{Promise, RoundTrips},
};
use ha_core::InstanceId;

use super::{
    DataplaneError,
    words::{CELL, Cells, WORD, lease_cell},
};

/// Cells of a path's state.
const PATH_CELLS: usize = size_of::<PathState>() / CELL;

const _: () = {
    assert!(size_of::<PromiseCell>() == CELL);
    assert!(size_of::<PathState>() == PATH_CELLS * CELL);
};

/// The two maps. What does not exist reads as zero and swallows what is written.
pub(super) struct LeaseWords {
    promises: Cells,
    paths: Cells,
}

impl LeaseWords {
    pub(super) fn map(promises: impl AsFd, paths: impl AsFd) -> Result<Self, DataplaneError> {
        let instances = MAX_INSTANCES as usize;
        Ok(Self {
            promises: Cells::map("PROMISES", promises, instances * MAX_LEASES)?,
            paths: Cells::map("PATH_STATE", paths, MAX_PATHS as usize * PATH_CELLS)?,
        })
    }

    pub(super) fn promise(&self, id: InstanceId, peer: usize) -> Promise {
        let offset = offset_of!(PromiseCell, word);
        Promise::from_word(self.promises.load(lease_cell(id, peer), offset))
    }

    /// Writes a promise if the present one is `expected`. Whether it was.
    pub(super) fn exchange_promise(
        &self,
        id: InstanceId,
        peer: usize,
        expected: Promise,
        promise: Promise,
    ) -> bool {
        let offset = offset_of!(PromiseCell, word);
        let (expected, promise) = (expected.to_word(), promise.to_word());
        self.promises
            .compare_exchange(lease_cell(id, peer), offset, expected, promise)
            .is_ok()
    }

    /// Writes a promise, and forgets what its peer asked. What leads to the peer may be an earlier daemon's, whose
    /// programs grant meanwhile: the promise must cover that.
    pub(super) fn reset(&self, id: InstanceId, peer: usize, promise: Promise) {
        let cell = lease_cell(id, peer);
        for offset in (0..CELL).step_by(WORD) {
            let value = if offset == offset_of!(PromiseCell, word) {
                promise.to_word()
            } else {
                0
            };
            self.promises.store(cell, offset, value);
        }
    }

    pub(super) fn held_at(&self, id: InstanceId, peer: usize) -> MonoNs {
        let offset = offset_of!(PromiseCell, held_ns);
        MonoNs(self.promises.load(lease_cell(id, peer), offset))
    }

    pub(super) fn heard_at(&self, path: u32) -> MonoNs {
        MonoNs(self.path_word(path, offset_of!(PathState, heard_ns)))
    }

    pub(super) fn mac(&self, path: u32) -> u64 {
        self.path_word(path, offset_of!(PathState, mac))
    }

    pub(super) fn their_challenge(&self, path: u32) -> u64 {
        self.path_word(path, offset_of!(PathState, their_challenge))
    }

    pub(super) fn round_trips(&self, path: u32) -> RoundTrips {
        RoundTrips {
            longest: Nanos(self.path_word(path, offset_of!(PathState, rtt_high_ns))),
            before: Nanos(self.path_word(path, offset_of!(PathState, rtt_before_ns))),
            window: self.path_word(path, offset_of!(PathState, rtt_window)),
        }
    }

    pub(super) fn path_state(&self, path: u32) -> PathState {
        let load = |offset| self.path_word(path, offset);
        let mut rtts = [0; RTT_BUCKETS];
        for (index, bucket) in rtts.iter_mut().enumerate() {
            *bucket = load(offset_of!(PathState, rtts) + index * WORD);
        }
        PathState {
            heard_ns: load(offset_of!(PathState, heard_ns)),
            mac: load(offset_of!(PathState, mac)),
            boot: load(offset_of!(PathState, boot)),
            last_sent: load(offset_of!(PathState, last_sent)),
            met_ns: load(offset_of!(PathState, met_ns)),
            challenge: load(offset_of!(PathState, challenge)),
            their_challenge: load(offset_of!(PathState, their_challenge)),
            echoes: load(offset_of!(PathState, echoes)),
            answers: load(offset_of!(PathState, answers)),
            rtt_ns: load(offset_of!(PathState, rtt_ns)),
            rtt_high_ns: load(offset_of!(PathState, rtt_high_ns)),
            bad_tags: load(offset_of!(PathState, bad_tags)),
            old: load(offset_of!(PathState, old)),
            strangers: load(offset_of!(PathState, strangers)),
            rtts,
            rtt_before_ns: load(offset_of!(PathState, rtt_before_ns)),
            rtt_window: load(offset_of!(PathState, rtt_window)),
        }
    }

    pub(super) fn forget_path(&self, path: u32) {
        for offset in (0..size_of::<PathState>()).step_by(WORD) {
            if let Some((cell, offset)) = place(path, offset) {
                self.paths.store(cell, offset, 0);
            }
        }
    }

    fn path_word(&self, path: u32, offset: usize) -> u64 {
        place(path, offset).map_or(0, |(cell, offset)| self.paths.load(cell, offset))
    }
}

/// The cell of a path's word, and the offset in it.
fn place(path: u32, offset: usize) -> Option<(usize, usize)> {
    let cell = path as usize * PATH_CELLS + offset / CELL;
    (path < MAX_PATHS).then_some((cell, offset % CELL))
}

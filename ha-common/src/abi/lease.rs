//! Layouts of the maps for leases: paths, what was heard on them, what was promised.

use super::{Event, EventKind};
use crate::{
    Address, MonoNs, Nanos,
    gate::{Epoch, MAX_LEASES},
    lease::{Ask, Rank},
};

/// Paths of a node.
pub const MAX_PATHS: u32 = 64;

/// Instances that a path can lead to: each VRID in each family of adverts.
pub const PATH_INSTANCES: u32 = 512;

/// A request for a longer lease than so many times the longest of an instance's own paths is refused: the
/// promise at a start covers what an earlier run may have granted.
pub const LONGEST_LEASES: u64 = 4;

const PEER_MASK: u32 = 7;

/// Key of `PATHS`: where a packet of a path comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PathKey {
    /// The peer's address.
    pub peer: Address,
    /// Interface index.
    pub ifindex: u32,
    /// Zero.
    pub _pad: u32,
}

impl PathKey {
    /// The key of one path.
    #[must_use]
    pub const fn new(ifindex: u32, peer: Address) -> Self {
        Self {
            peer,
            ifindex,
            _pad: 0,
        }
    }
}

/// Value of `PATH_CONFIG`, written by the daemon only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PathConfig {
    /// This node's address on it.
    pub local: Address,
    /// The peer's.
    pub peer: Address,
    /// The key of its tags, as two little-endian words.
    pub key: [u64; 2],
    /// 1: packets carry a tag under the key; 0: they carry none.
    pub keyed: u64,
    /// This node, as in packets.
    pub node: u64,
    /// This node's boot, as in packets.
    pub boot: u64,
}

/// The index in `PATH_INSTANCES` of an instance on a path.
#[must_use]
pub const fn path_instance(path: u32, vrid: u8, family: u8) -> u32 {
    path * PATH_INSTANCES + vrid as u32 * 2 + (family == 6) as u32
}

/// Value of `PATH_INSTANCES`: to which instance a packet's entry belongs, and which of its peers sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PathInstance(pub u32);

impl PathInstance {
    /// An instance's slot, and the peer's index.
    #[must_use]
    pub const fn new(slot: u32, peer: u32) -> Self {
        Self((slot + 1) << 8 | peer & PEER_MASK)
    }

    /// Slot and peer, if there is such an instance.
    #[must_use]
    pub const fn get(self) -> Option<(u32, u32)> {
        match (self.0 >> 8).checked_sub(1) {
            Some(slot) => Some((slot, self.0 & PEER_MASK)),
            None => None,
        }
    }
}

/// Buckets of a round trip's histogram: four to an octave, from 1 µs to 67 ms.
pub const RTT_BUCKETS: usize = 64;

const RTT_LEAST_LOG: u32 = 10;

/// The bucket of a round trip.
#[must_use]
#[inline(always)]
pub const fn rtt_bucket(rtt: Nanos) -> usize {
    let mut log = 0;
    let mut rest = rtt.0;
    // By hand: BPF has no instruction that counts zeroes.
    let mut step = 32;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            log += step;
        }
        step /= 2;
    }
    if log < RTT_LEAST_LOG {
        return 0;
    }
    let quarter = (rtt.0 >> (log - 2)) & 3;
    let bucket = (log - RTT_LEAST_LOG) as usize * 4 + quarter as usize;
    if bucket < RTT_BUCKETS {
        bucket
    } else {
        RTT_BUCKETS - 1
    }
}

/// The first round trip beyond a bucket.
#[must_use]
pub const fn rtt_bound(bucket: usize) -> Nanos {
    let next = bucket as u64 + 1;
    Nanos((4 + next % 4) << (next / 4 + RTT_LEAST_LOG as u64 - 2))
}

/// Value of `PATH_STATE`, in a map that user space has mapped; written by XDP, but where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PathState {
    /// When the last packet of the peer came that was whole, of any kind.
    pub heard_ns: u64,
    /// The peer's MAC address, in the low 48 bits.
    pub mac: u64,
    /// The boot whose echoes are answered.
    pub boot: u64,
    /// The send time of the last one that was.
    pub last_sent: u64,
    /// When that one came.
    pub met_ns: u64,
    /// What an echo of another boot must carry; 0 = none was drawn yet.
    pub challenge: u64,
    /// What this node's echoes must carry, as the peer said last.
    pub their_challenge: u64,
    /// Echoes answered.
    pub echoes: u64,
    /// Answers to this node's echoes.
    pub answers: u64,
    /// The last round trip.
    pub rtt_ns: u64,
    /// The longest one of the present window ([`crate::lease::RoundTrips`]).
    pub rtt_high_ns: u64,
    /// Packets whose tag was wrong, or there or not there where it should not be.
    pub bad_tags: u64,
    /// Echoes that came after a later one.
    pub old: u64,
    /// Echoes of a boot that was not known.
    pub strangers: u64,
    /// How many round trips were how long ([`rtt_bucket`]).
    pub rtts: [u64; RTT_BUCKETS],
    /// The longest round trip of the window before.
    pub rtt_before_ns: u64,
    /// Which window is the present one.
    pub rtt_window: u64,
}

/// Value of `PROMISES`, one cache line, at `instance × MAX_LEASES + peer`, in a map that user space has mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PromiseCell {
    /// A [`crate::lease::Promise`]; changed by compare-and-exchange only, by both sides.
    pub word: u64,
    /// The latest send time of a request that was granted.
    pub granted_sent: u64,
    /// The latest send time of a release.
    pub released_sent: u64,
    /// What the peer asked last, as [`AskWord`].
    pub ask: u64,
    /// When its last request to hold the instance came.
    pub held_ns: u64,
    /// The boot of the peer that the send times belong to.
    pub boot: u64,
    /// Start of the event budget's window.
    pub window_ns: u64,
    /// Events reported in that window.
    pub window_events: u64,
}

/// Value of `LEASE_CONFIG`: what concerns an instance's leases, written by the daemon only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LeaseConfig {
    /// The longest lease that is granted, in nanoseconds; 0 = the instance takes no part in leases.
    pub longest_ns: u64,
    /// For how long this node listens once more after it was held up, in nanoseconds.
    pub again_ns: u64,
    /// Bit n: the address of peer n is greater than this node's.
    pub greater: u64,
}

/// What a peer asked for an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct AskWord(pub u64);

impl AskWord {
    /// Packs it: of which peer, what, with which epoch and rank.
    #[must_use]
    pub const fn new(peer: u32, ask: Ask, epoch: Epoch, rank: Rank) -> Self {
        Self((peer as u64 & 7) << 59 | (ask as u64) << 56 | epoch.to_word() << 40 | rank.to_word())
    }

    /// The peer's index.
    #[must_use]
    pub const fn peer(self) -> usize {
        (self.0.to_be_bytes()[0] >> 3) as usize & 7
    }

    /// What was asked.
    #[must_use]
    pub const fn ask(self) -> Ask {
        match Ask::from_u8(self.0.to_be_bytes()[0] & 7) {
            Some(ask) => ask,
            None => Ask::Nothing,
        }
    }

    /// With which rank.
    #[must_use]
    pub const fn rank(self) -> Rank {
        Rank::from_word(self.0)
    }
}

impl Event {
    /// An event that concerns a peer's request.
    #[must_use]
    pub const fn of_lease(kind: EventKind, instance: u32, at: MonoNs, word: AskWord) -> Self {
        Self {
            kind: kind as u32,
            instance,
            stamp_ns: at.0,
            word: word.0,
            made_ns: at.0,
            sender: Address::UNSPECIFIED,
        }
    }

    /// What the peer asked.
    #[must_use]
    pub const fn ask(&self) -> AskWord {
        AskWord(self.word)
    }
}

const _: () = {
    assert!(MAX_LEASES == PEER_MASK as usize + 1);
    assert!(size_of::<PathInstance>() == 4);
};

pinned!(PathKey: 24 { peer: 0, ifindex: 16, _pad: 20 });
pinned!(PathConfig: 72 {
    local: 0,
    peer: 16,
    key: 32,
    keyed: 48,
    node: 56,
    boot: 64,
});
pinned!(PathState: 640 {
    heard_ns: 0,
    mac: 8,
    boot: 16,
    last_sent: 24,
    met_ns: 32,
    challenge: 40,
    their_challenge: 48,
    echoes: 56,
    answers: 64,
    rtt_ns: 72,
    rtt_high_ns: 80,
    bad_tags: 88,
    old: 96,
    strangers: 104,
    rtts: 112,
    rtt_before_ns: 624,
    rtt_window: 632,
});
pinned!(PromiseCell: 64 {
    word: 0,
    granted_sent: 8,
    released_sent: 16,
    ask: 24,
    held_ns: 32,
    boot: 40,
    window_ns: 48,
    window_events: 56,
});
pinned!(LeaseConfig: 24 { longest_ns: 0, again_ns: 8, greater: 16 });

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_place_is_no_instance() {
        assert_eq!(PathInstance::default().get(), None);
        for (slot, peer) in [(0, 0), (0, 7), (1022, 3)] {
            assert_eq!(PathInstance::new(slot, peer).get(), Some((slot, peer)));
        }
        assert_eq!(path_instance(63, 255, 6), MAX_PATHS * PATH_INSTANCES - 1);
        assert_ne!(path_instance(1, 51, 4), path_instance(1, 51, 6));
    }

    #[test]
    fn ask_word_keeps_what_it_was_given() {
        let rank = Rank {
            position: 0xfedc_ba98,
            priority: 254,
        };
        for ask in [
            Ask::Nothing,
            Ask::Hold,
            Ask::Candidate,
            Ask::Release,
            Ask::Resume,
        ] {
            let word = AskWord::new(7, ask, Epoch::LAST, rank);
            assert_eq!((word.peer(), word.ask(), word.rank()), (7, ask, rank));
        }
    }

    proptest! {
        #[test]
        fn a_round_trip_is_below_its_bucket_s_bound(nanos in 0_u64..60_000_000) {
            let bucket = rtt_bucket(Nanos(nanos));
            prop_assert!(Nanos(nanos) < rtt_bound(bucket));
            prop_assert!(bucket == 0 || Nanos(nanos) >= rtt_bound(bucket - 1));
        }
    }

    #[test]
    fn the_last_bucket_holds_whatever_is_longer() {
        assert_eq!(rtt_bucket(Nanos::from_secs(100)), RTT_BUCKETS - 1);
        assert_eq!(rtt_bucket(Nanos(u64::MAX)), RTT_BUCKETS - 1);
    }
}

//! Layout of the map of this node's own addresses to which its peers send.

/// Own addresses, at most.
pub const MAX_LOCALS: u32 = 2_048;

/// Events per own address and [`EVENT_WINDOW_NS`](super::EVENT_WINDOW_NS) about packets that came in by another
/// interface: what each of them asks for is one frame.
pub const LOCAL_EVENT_BUDGET: u64 = 4;

/// Value of `LOCALS`, whose key is the address, written by the daemon; the programs count events in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LocalAddress {
    /// The interface that has it, by its index.
    pub ifindex: u32,
    /// The network's mask there.
    pub mask: [u8; 4],
    /// Start of the event budget's window.
    pub window_ns: u64,
    /// Events reported in that window.
    pub window_events: u64,
}

impl LocalAddress {
    /// With an unused budget.
    #[must_use]
    pub const fn new(ifindex: u32, mask: [u8; 4]) -> Self {
        Self {
            ifindex,
            mask,
            window_ns: 0,
            window_events: 0,
        }
    }

    /// Whether an address is in its network.
    #[must_use]
    #[inline(always)]
    pub const fn has_neighbour(&self, own: [u8; 4], other: [u8; 4]) -> bool {
        let differs = u32::from_ne_bytes(own) ^ u32::from_ne_bytes(other);
        differs & u32::from_ne_bytes(self.mask) == 0
    }
}

pinned!(LocalAddress: 24 { ifindex: 0, mask: 4, window_ns: 8, window_events: 16 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_in_the_same_network() {
        let own = [10, 0, 1, 7];
        let in_net = |mask, other| LocalAddress::new(1, mask).has_neighbour(own, other);
        assert!(in_net([255, 255, 255, 0], [10, 0, 1, 200]));
        assert!(!in_net([255, 255, 255, 0], [10, 0, 2, 7]));
        assert!(in_net([255, 255, 252, 0], [10, 0, 2, 7]));
        assert!(!in_net([255, 255, 255, 0], [0; 4]), "a probe's sender");
        assert!(!in_net([255; 4], [10, 0, 1, 8]), "it has no network");
    }
}

//! This node's own addresses to which its peers send.
//!
//! Linux answers ARP for them by any interface. A peer that has the MAC address of another one sends its adverts
//! and echoes past the programs of the right one, and both nodes are Active. So no other interface answers for them to
//! their own network; and who sends to it all the same, by what it learned before, makes an event: the daemon
//! tells it where the address is.

use ha_common::{
    Address, MonoNs,
    abi::{
        Event, EventKind,
        local::{LOCAL_EVENT_BUDGET, LocalAddress},
    },
    wire::{
        arp::{self, Arp},
        ipv4,
    },
};

use crate::{budget::Budget, gate, maps};

/// The TTL of packets that only a neighbour sends (RFC 5082).
const NEIGHBOURS_TTL: u8 = 255;

/// Whether a neighbour asks for an own address by another interface than the one that has it. Where the question is
/// not from the address's network, that interface may not be where it would be heard.
#[inline(always)]
pub(crate) fn is_asked_elsewhere(arp: &Arp, ifindex: u32) -> bool {
    if arp.operation != arp::REQUEST || arp.sender_ip == arp.target_ip {
        return false;
    }
    match local(arp.target_ip) {
        Some(local) => {
            local.ifindex != ifindex && local.has_neighbour(arp.target_ip, arp.sender_ip)
        }
        None => false,
    }
}

/// Whether a neighbour's packet to an own address came in by another interface than the one that has it; then
/// the daemon is told.
#[inline(always)]
pub(crate) fn came_elsewhere(header: &ipv4::Header, ifindex: u32) -> bool {
    let own = Address::v4(header.destination);
    if header.ttl != NEIGHBOURS_TTL {
        return false;
    }
    let Some(local) = maps::LOCALS.get_ptr_mut(own) else {
        return false;
    };
    // SAFETY: field addresses within a map value.
    let (there, budget) = unsafe {
        let budget = Budget {
            window_ns: &raw mut (*local).window_ns,
            events: &raw mut (*local).window_events,
        };
        ((*local).ifindex, budget)
    };
    if there == ifindex {
        return false;
    }
    let now = gate::now();
    if budget.allows_of(LOCAL_EVENT_BUDGET, now) {
        report(own, ifindex, now);
    }
    true
}

#[inline(always)]
fn report(own: Address, ifindex: u32, now: MonoNs) {
    maps::report(Event {
        kind: EventKind::Elsewhere as u32,
        instance: 0,
        stamp_ns: now.0,
        word: u64::from(ifindex),
        made_ns: now.0,
        sender: own,
    });
}

#[inline(always)]
fn local(address: [u8; 4]) -> Option<LocalAddress> {
    // SAFETY: the value is copied at once; of what the daemon may replace meanwhile each field is one word.
    unsafe { maps::LOCALS.get(Address::v4(address)) }.copied()
}

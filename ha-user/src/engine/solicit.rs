//! Asking the unicast peers for their MAC addresses when an interface has become usable.
//!
//! The kernel of a peer that sent adverts while this node was away asks for this node's MAC address, and asks
//! again after a second only (`retrans_time_ms`): by then this node would have taken over from a peer that it
//! could not hear. A question from here tells that kernel at once, for a question names its sender (RFC 826,
//! RFC 4861 section 7.2.3); its answer ends the same wait in this node's kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ha_common::{
    MonoNs,
    wire::{arp, ndp},
};
use ha_core::{InstanceId, InterfaceCondition};

use super::shell::Shell;
use crate::{net::links::Link, sys::clock};

/// How many times, an advert interval apart: a switch may not forward at once, and all of them are before the
/// Active_Down_Interval ends.
const TIMES: u8 = 3;

/// The questions that are still to be asked.
#[derive(Default)]
pub(super) struct Solicitations {
    waiting: BTreeMap<InstanceId, Waiting>,
}

struct Waiting {
    due: MonoNs,
    left: u8,
}

impl Solicitations {
    /// Asks an instance's peers, from now on.
    pub(super) fn begin(&mut self, id: InstanceId) {
        let waiting = Waiting {
            due: clock::now(),
            left: TIMES,
        };
        self.waiting.insert(id, waiting);
    }

    /// Asks them no more.
    pub(super) fn end(&mut self, id: InstanceId) {
        self.waiting.remove(&id);
    }

    /// When the next ones are to be asked.
    pub(super) fn next_due(&self) -> Option<MonoNs> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }
}

impl Shell {
    /// Asks what is due, each peer once however many instances have it.
    pub(super) fn solicit(&mut self) {
        if self.solicitations.waiting.is_empty() {
            return;
        }
        let now = clock::now();
        let mut questions = BTreeSet::new();
        let seats = &self.seats;
        self.solicitations.waiting.retain(|id, waiting| {
            if waiting.due > now {
                return true;
            }
            let Some(seat) = seats.iter().find(|seat| seat.id == *id) else {
                return false;
            };
            if let Some(InterfaceCondition::Ready { source }) = seat.condition {
                let interface = seat.config.interface.as_str();
                let peers = seat.config.peers.iter();
                questions.extend(peers.map(|peer| (interface, source, *peer)));
            }
            waiting.left -= 1;
            waiting.due = now.after(seat.config.advert_interval);
            waiting.left > 0
        });
        for (interface, source, peer) in questions {
            self.ask_for(interface, source, peer);
        }
    }

    fn ask_for(&self, interface: &str, source: IpAddr, peer: IpAddr) {
        let (Some(interface), Some(link)) = (
            self.interfaces.get(interface),
            self.links.table().by_name(interface),
        ) else {
            return;
        };
        let Some(port) = interface.port.as_ref().filter(|_| is_on_link(link, peer)) else {
            return;
        };
        // A question that could not be sent is like one that was lost: the kernel asks by itself.
        let _ = match (source, peer) {
            (IpAddr::V4(source), IpAddr::V4(peer)) => {
                port.send_arp(&arp::request(source.octets(), link.mac, peer.octets()))
            }
            (IpAddr::V6(source), IpAddr::V6(peer)) => {
                port.send_ndp(&ndp::solicitation(source.into(), link.mac, peer.into()))
            }
            _ => Ok(()),
        };
    }
}

/// Whether packets to a peer go to it directly, and not by a router.
fn is_on_link(link: &Link, peer: IpAddr) -> bool {
    let is_link_local = matches!(peer, IpAddr::V6(peer) if peer.is_unicast_link_local());
    is_link_local || link.addresses.iter().any(|net| net.contains(&peer))
}

//! Addresses on their way to an interface or off it: a few at a time, so that a thousand of them delay no
//! advert. The kernel takes some ten microseconds for each, and longer where others change addresses too.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::IpAddr,
    sync::Arc,
};

use ha_common::Nanos;
use ha_core::InstanceId;
use ipnet::IpNet;

use crate::net::netlink::AddressLane;

/// How long one turn of the engine thread may change addresses.
pub(super) const BUDGET: Nanos = Nanos::from_millis(1);

/// Addresses in one request: together well below the budget.
const STEP: usize = 16;

/// Which way.
pub(super) enum Aim {
    PutOn {
        /// The interface's addresses that are no VIPs.
        others: Vec<IpNet>,
        /// Those that get a local route of ours if they are of IPv6.
        routed: BTreeSet<IpNet>,
    },
    TakeOff,
}

/// One list of addresses.
pub(super) struct Chore {
    pub(super) aim: Aim,
    pub(super) instance: InstanceId,
    pub(super) name: Arc<str>,
    pub(super) interface: String,
    pub(super) ifindex: u32,
    /// A reload asks for it, and not the engine.
    pub(super) by_reload: bool,
    /// What the event about it names; empty = there is none.
    pub(super) told: Vec<IpNet>,
    pub(super) left: VecDeque<IpNet>,
    /// Requests that failed, and the first error.
    pub(super) failed: Vec<IpNet>,
    pub(super) error: Option<io::Error>,
    /// The first error about a route, without which an address comes into use later.
    pub(super) unrouted: Option<io::Error>,
    /// Those of them that lead to the slot whose gate never opens.
    pub(super) guarded: BTreeSet<IpAddr>,
}

impl Chore {
    pub(super) fn is_done(&self) -> bool {
        let given_up = self.error.is_some() && matches!(self.aim, Aim::PutOn { .. });
        self.left.is_empty() || given_up
    }

    /// Changes the next few. Returns the addresses of IPv6 that are on the interface now, and that the kernel
    /// will tell of later.
    pub(super) fn step(&mut self, lane: &mut AddressLane) -> Vec<IpAddr> {
        let count = self.left.len().min(STEP);
        let batch: Vec<IpNet> = self.left.drain(..count).collect();
        let result = match &self.aim {
            Aim::PutOn { others, routed } => {
                let mut ours = batch.clone();
                ours.retain(|vip| routed.contains(vip));
                if let Err(error) = lane.add_routes(self.ifindex, &ours) {
                    self.unrouted.get_or_insert(error);
                }
                lane.add(self.ifindex, &batch, others)
            }
            Aim::TakeOff => lane.remove(self.ifindex, &batch).map(|()| Vec::new()),
        };
        match result {
            Ok(mut added) => {
                added.retain(|vip| vip.addr().is_ipv6());
                added.iter().map(IpNet::addr).collect()
            }
            Err(error) => {
                self.failed.extend(batch);
                self.error.get_or_insert(error);
                Vec::new()
            }
        }
    }
}

/// What is to be done, in this order.
#[derive(Default)]
pub(super) struct Chores {
    queue: VecDeque<Chore>,
}

impl Chores {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, chore: Chore) {
        self.queue.push_back(chore);
    }

    pub(super) fn first(&mut self) -> Option<&mut Chore> {
        self.queue.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Chore> {
        self.queue.pop_front()
    }

    /// Those that take addresses off.
    pub(super) fn removals(&mut self) -> impl Iterator<Item = &mut Chore> {
        let takes_off = |chore: &&mut Chore| matches!(chore.aim, Aim::TakeOff);
        self.queue.iter_mut().filter(takes_off)
    }

    /// The one that puts an instance's addresses on.
    pub(super) fn addition(&self, id: InstanceId) -> Option<&Chore> {
        let is_it = |chore: &&Chore| chore.instance == id && matches!(chore.aim, Aim::PutOn { .. });
        self.queue.iter().find(is_it)
    }

    /// Puts an instance's addresses on no more.
    pub(super) fn cancel_addition(&mut self, id: InstanceId) {
        self.queue
            .retain(|chore| chore.instance != id || matches!(chore.aim, Aim::TakeOff));
    }

    /// Leaves addresses on an interface: somebody has them by now.
    pub(super) fn keep(&mut self, ifindex: u32, vips: &[IpNet]) {
        if self.queue.is_empty() {
            return;
        }
        let kept: BTreeSet<IpAddr> = vips.iter().map(IpNet::addr).collect();
        for chore in self.removals().filter(|chore| chore.ifindex == ifindex) {
            chore.left.retain(|vip| !kept.contains(&vip.addr()));
        }
    }
}

//! What the engine thread acts with: interfaces, instances, sockets, the dataplane.

mod act;
mod announce;
mod gate;
mod interfaces;
mod locals;
mod seats;
mod tracking;

pub(super) use self::{locals::Locals, tracking::TrackedInterfaces};

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use ha_common::{MonoNs, Nanos, abi::AdvertWord, wire::vrrp::MAX_PACKET_LEN};
use ha_core::{Input, InstanceId, State, Transition};

use super::{
    channels::{Channels, World},
    chores::Chores,
    debts::Debts,
    outbox::{Level, Outbox},
    paths::{Paths, Surroundings},
    plan::Plan,
    seat::Seat,
    solicit::Solicitations,
};
use crate::{
    config::LeaseChannel,
    dataplane::{Attachment, Dataplane},
    net::{links::Links, netlink::AddressLane, port::Port},
    sys::clock,
};

/// How long until a failed attach, or a failed removal of VIPs, is tried again.
const RETRY: Nanos = Nanos::from_secs(1);

/// An interface that an instance or a channel names.
#[derive(Default)]
pub(super) struct Interface {
    /// 0 while it is not there.
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
    /// The slave by which its bond sent and received last.
    active_slave: Option<u32>,
    /// Whether its MAC address, or that of an instance's VIPs, is another one than before.
    pub(super) moved: bool,
    /// Whether this node forwards IPv6 there.
    pub(super) router: bool,
    pub(super) port: Option<Port>,
    /// Whether the port has the sockets and groups of IPv6 that the instances need.
    pub(super) has_groups: bool,
    pub(super) attachment: Option<Attachment>,
    /// Why nothing is attached.
    pub(super) error: Option<String>,
}

/// Everything that the engine thread acts with.
pub(super) struct Shell {
    pub(super) dataplane: Option<Dataplane>,
    pub(super) lane: AddressLane,
    pub(super) links: Links,
    pub(super) interfaces: BTreeMap<String, Interface>,
    pub(super) seats: Vec<Seat>,
    pub(super) channels: Channels,
    pub(super) paths: Paths,
    /// The channels for leases.
    pub(super) lease_channels: Vec<LeaseChannel>,
    pub(super) out: Outbox,
    /// Addresses that are being put on and taken off.
    pub(super) chores: Chores,
    /// Until when this turn may do that; `None` = it did not begin to.
    pub(super) work_until: Option<MonoNs>,
    /// Addresses that could not be taken off.
    pub(super) debts: Debts,
    /// Own addresses to which peers send.
    pub(super) locals: Locals,
    /// Peers whose MAC addresses are asked for.
    pub(super) solicitations: Solicitations,
    /// Of bonds: how many slaves they must be able to use, where that is configured.
    pub(super) min_up_slaves: BTreeMap<String, u32>,
    /// The interfaces that are tracked.
    pub(super) tracked: TrackedInterfaces,
    /// Interfaces, by index, that are to be let go of.
    pub(super) unused: BTreeSet<u32>,
    /// When to try again what failed.
    pub(super) retry_at: Option<MonoNs>,
    /// The engine has handed everything over.
    pub(super) finished: bool,
    /// Sockets to be watched were opened or closed (mode `off`).
    pub(super) ports_changed: bool,
    pub(super) buffer: Box<[u8; MAX_PACKET_LEN]>,
}

impl Shell {
    /// The paths, with what echoes are made of; `None` without a dataplane.
    fn with_paths<T>(
        &mut self,
        send: impl FnOnce(&mut Paths, &Surroundings<'_>) -> T,
    ) -> Option<T> {
        let world = Surroundings {
            dataplane: self.dataplane.as_ref()?,
            interfaces: &self.interfaces,
            seats: &self.seats,
            errors: RefCell::default(),
        };
        let result = send(&mut self.paths, &world);
        for error in world.errors.into_inner() {
            self.out.log(Level::Warn, error);
        }
        Some(result)
    }

    /// An instance's place in the list: as long as no reload changed their order, its slot.
    pub(super) fn index(&self, id: InstanceId) -> Option<usize> {
        let slot = usize::try_from(id.0).ok()?;
        match self.seats.get(slot) {
            Some(seat) if seat.id == id => Some(slot),
            _ => self.seats.iter().position(|seat| seat.id == id),
        }
    }

    pub(super) fn seat_mut(&mut self, id: InstanceId) -> Option<&mut Seat> {
        let index = self.index(id)?;
        self.seats.get_mut(index)
    }

    /// What the last advert said.
    pub(super) fn last_word(&self, id: InstanceId) -> AdvertWord {
        match &self.dataplane {
            Some(dataplane) => AdvertWord(dataplane.received(id).last_word),
            None => self
                .index(id)
                .map_or(AdvertWord(0), |index| self.seats[index].said.word),
        }
    }

    fn report(&mut self, transition: &Transition) {
        if let Some(seat) = self.seat_mut(transition.instance) {
            seat.state = transition.to;
            seat.active_since = (transition.to == State::Active).then_some(transition.at);
        }
        let sentence = format!(
            "{} is {}: {}",
            transition.name, transition.to, transition.cause
        );
        self.out.transition(
            transition.at,
            &transition.name.as_str().into(),
            (transition.from.name(), transition.to.name()),
            sentence,
        );
    }

    /// Takes in a plan's paths.
    pub(super) fn configure_paths(&mut self, plan: &Plan) {
        self.lease_channels.clone_from(&plan.lease_channels);
        self.paths
            .configure(plan, self.dataplane.as_mut(), &mut self.out);
    }

    /// The channels, the interfaces, and what the channels act with.
    pub(super) fn channels(&mut self) -> (&mut Channels, &BTreeMap<String, Interface>, World<'_>) {
        let world = World {
            dataplane: self.dataplane.as_mut(),
            out: &mut self.out,
        };
        (&mut self.channels, &self.interfaces, world)
    }

    pub(super) fn retry_soon(&mut self) {
        let at = clock::now().after(RETRY);
        self.retry_at = Some(self.retry_at.map_or(at, |set| set.min(at)));
    }

    /// Tries again what failed: attaching, and removing VIPs.
    pub(super) fn retry(&mut self, inputs: &mut Vec<Input>) {
        self.retry_at = None;
        self.pay_debts();
        self.let_go();
        let refused: Vec<InstanceId> = self
            .seats
            .iter()
            .filter(|seat| seat.refused)
            .map(|seat| seat.id)
            .collect();
        for id in refused {
            self.configure(id);
        }
        self.follow_links(inputs);
    }
}

//! The virtual addresses on the interfaces: put on, taken off, and owed when that failed.
//!
//! No packet for an owed address passes as long as there is a dataplane: where an instance has the
//! address, that one's gate decides; else it leads to a slot whose gate never opens.

use std::{collections::BTreeSet, net::IpAddr};

use ha_core::{Input, InstanceId};
use ipnet::IpNet;

use super::{
    chores::{Aim, BUDGET, Chore},
    outbox::Level,
    seat::in_words,
    shell::Shell,
};
use crate::{events::Kind, sys::clock};

impl Shell {
    /// Puts an instance's VIPs on its interface: as many as this turn has time for, the others in later
    /// ones.
    pub(super) fn add_vips(&mut self, id: InstanceId) -> Option<Input> {
        let index = self.index(id)?;
        let told = if self.seats[index].holds_vips {
            Vec::new()
        } else {
            self.seats[index].removable()
        };
        match self.put_vips(index, told, false) {
            Ok(()) => self.work(),
            Err(error) => Some(Input::VipsAdded {
                instance: id,
                result: Err(error),
            }),
        }
    }

    /// Has a seat's VIPs put on its interface; those that are there stay. The event names `told`.
    pub(super) fn put_vips(
        &mut self,
        index: usize,
        told: Vec<IpNet>,
        by_reload: bool,
    ) -> Result<(), String> {
        let seat = &mut self.seats[index];
        seat.holds_vips = true;
        let Some(link) = self.links.table().by_name(&seat.config.interface) else {
            return Err(format!("there is no interface {}", seat.config.interface));
        };
        let ifindex = link.ifindex;
        seat.vips_on = Some(ifindex);
        let vips = self.vip_addresses();
        let others: Vec<IpNet> = link
            .addresses
            .iter()
            .filter(|net| !vips.contains(&net.addr()))
            .copied()
            .collect();
        let seat = &self.seats[index];
        // What may stay on the interface when the daemon lets go of it gets no route that would outlive it;
        // and the addresses of a VRF's port are not in the table that ours would go to.
        let routed = if seat.is_owner() || link.master.is_some() {
            BTreeSet::new()
        } else {
            seat.removable().into_iter().collect()
        };
        self.debts.forgive(ifindex, &seat.config.vips);
        self.chores.cancel_addition(seat.id);
        self.chores.keep(ifindex, &seat.config.vips);
        self.chores.push(Chore {
            aim: Aim::PutOn { others, routed },
            instance: seat.id,
            name: seat.name.clone(),
            interface: seat.config.interface.clone(),
            ifindex,
            by_reload,
            told,
            left: seat.config.vips.iter().copied().collect(),
            failed: Vec::new(),
            error: None,
            unrouted: None,
            guarded: BTreeSet::new(),
        });
        Ok(())
    }

    /// Every VIP that may be on an interface.
    fn vip_addresses(&self) -> BTreeSet<IpAddr> {
        let mut addresses = self.configured_addresses();
        addresses.extend(self.debts.iter().map(|debt| debt.vip.addr()));
        addresses
    }

    fn configured_addresses(&self) -> BTreeSet<IpAddr> {
        self.seats
            .iter()
            .flat_map(|seat| &seat.config.vips)
            .map(IpNet::addr)
            .collect()
    }

    /// Whether another instance than the one at `index` holds an address on the same interface.
    pub(super) fn is_held_beside(&self, index: usize, vip: &IpNet) -> bool {
        let seat = &self.seats[index];
        self.seats.iter().any(|other| {
            other.id != seat.id
                && other.holds_vips
                && other.config.interface == seat.config.interface
                && other.config.vips.contains(vip)
        })
    }

    /// Takes an instance's VIPs off its interface, a few at a time, or notes that they are owed.
    pub(super) fn remove_vips(&mut self, id: InstanceId) {
        let Some(index) = self.index(id) else {
            return;
        };
        self.chores.cancel_addition(id);
        let vips = self.seats[index].removable();
        let held = std::mem::take(&mut self.seats[index].holds_vips);
        let told = if held { vips.clone() } else { Vec::new() };
        self.take_vips(index, &vips, told, false);
    }

    /// Has addresses taken off the interface that they were put on, whatever it is called by now; one that
    /// is gone took them along.
    pub(super) fn take_vips(
        &mut self,
        index: usize,
        vips: &[IpNet],
        told: Vec<IpNet>,
        by_reload: bool,
    ) {
        let seat = &self.seats[index];
        let named = || self.links.table().by_name(&seat.config.interface);
        // The kernel has no interface 0, and what is not there is off.
        let ifindex = seat.vips_on.or_else(|| Some(named()?.ifindex));
        self.chores.push(Chore {
            aim: Aim::TakeOff,
            instance: seat.id,
            name: seat.name.clone(),
            interface: seat.config.interface.clone(),
            ifindex: ifindex.unwrap_or(0),
            by_reload,
            told,
            left: ifindex.map_or_else(Default::default, |_| vips.iter().copied().collect()),
            failed: Vec::new(),
            error: None,
            unrouted: None,
            guarded: BTreeSet::new(),
        });
    }

    /// Changes addresses for as long as this turn may; an outcome that the engine waits for comes at once.
    pub(super) fn work(&mut self) -> Option<Input> {
        if self.chores.is_empty() {
            return None;
        }
        let end = *self
            .work_until
            .get_or_insert_with(|| clock::now().after(BUDGET));
        while clock::now() < end
            && let Some(chore) = self.chores.first()
        {
            if !chore.is_done() {
                let unseen = chore.step(&mut self.lane);
                let instance = chore.instance;
                if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == instance) {
                    seat.unseen.extend(unseen);
                }
            }
            if chore.is_done()
                && let Some(chore) = self.chores.pop()
                && let Some(outcome) = self.conclude(chore)
            {
                return Some(outcome);
            }
        }
        None
    }

    /// Says what came of it, and gives the engine's answer.
    fn conclude(&mut self, chore: Chore) -> Option<Input> {
        let how = if chore.by_reload { " by a reload" } else { "" };
        let (kind, verb) = match chore.aim {
            Aim::PutOn { .. } => (Kind::VipsAdded, "put on"),
            Aim::TakeOff => (Kind::VipsRemoved, "taken off"),
        };
        if chore.error.is_none() && !chore.told.is_empty() {
            let sentence = format!("{} {verb} {}{how}", in_words(&chore.told), chore.interface);
            self.out.event(clock::now(), &chore.name, kind, sentence);
        }
        if let Some(error) = &chore.unrouted {
            let text = format!(
                "{}: packets to its IPv6 addresses may be lost until the kernel has their routes: {error}",
                chore.name
            );
            self.out.log(Level::Warn, text);
        }
        match (&chore.aim, &chore.error) {
            (Aim::PutOn { .. }, Some(error)) if chore.by_reload => {
                let text = format!(
                    "{}: {} could not be put on its interface: {error}",
                    chore.name,
                    in_words(&chore.told)
                );
                self.out.log(Level::Error, text);
                None
            }
            (Aim::PutOn { .. }, error) => Some(Input::VipsAdded {
                instance: chore.instance,
                result: error
                    .as_ref()
                    .map_or(Ok(()), |error| Err(error.to_string())),
            }),
            (Aim::TakeOff, error) => {
                if let Some(error) = error {
                    self.owe(&chore, error);
                }
                let failed = |address: &IpAddr| {
                    let mut failed = chore.failed.iter();
                    failed.any(|vip| vip.addr() == *address)
                };
                self.release(chore.guarded.into_iter().filter(|one| !failed(one)));
                None
            }
        }
    }

    fn owe(&mut self, chore: &Chore, error: &std::io::Error) {
        self.debts
            .add(chore.ifindex, &chore.interface, &chore.failed);
        let text = format!(
            "{}: {} could not be taken off {}, to be tried again: {error}",
            chore.name,
            in_words(&chore.failed),
            chore.interface
        );
        self.out.log(Level::Error, text);
        self.guard_owed();
        self.retry_soon();
    }

    /// Closes the way to what is owed, or still waits to be taken off, and no instance has. To be called
    /// before an instance lets go of an address in the dataplane.
    pub(super) fn guard_owed(&mut self) {
        if self.dataplane.is_none() || (self.debts.is_empty() && self.chores.is_empty()) {
            return;
        }
        let configured = self.configured_addresses();
        let is_orphan = |address: &IpAddr| !configured.contains(address);
        let mut orphans: BTreeSet<IpAddr> = self
            .debts
            .iter()
            .map(|debt| debt.vip.addr())
            .filter(is_orphan)
            .collect();
        for chore in self.chores.removals() {
            let left = chore.left.iter().map(IpNet::addr).filter(is_orphan);
            chore.guarded.extend(left);
            orphans.extend(&chore.guarded);
        }
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        for address in orphans {
            if let Err(error) = dataplane.close_vip(address) {
                let text = format!("{address} stays on its interface without a gate: {error}");
                self.out.log(Level::Error, text);
            }
        }
    }

    /// Opens the way to what is off its interface.
    fn release(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        for address in addresses {
            if let Err(error) = dataplane.release_vip(address) {
                let text = format!("{address}: the dataplane keeps it closed: {error}");
                self.out.log(Level::Error, text);
            }
        }
    }

    /// Tries again what is owed.
    pub(super) fn pay_debts(&mut self) {
        let Self { debts, lane, .. } = self;
        let paid = debts.pay(|debt| lane.remove(debt.ifindex, &[debt.vip]).is_ok());
        for debt in &paid {
            let text = format!("{} was taken off {} at last", debt.vip, debt.interface);
            self.out.log(Level::Info, text);
        }
        self.release(paid.iter().map(|debt| debt.vip.addr()));
        if !self.debts.is_empty() {
            self.retry_soon();
        }
    }
}

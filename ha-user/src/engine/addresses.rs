//! The virtual addresses on the interfaces: put on, taken off, and owed when that failed.
//!
//! An address that could not be taken off stays behind its (closed) gate until it is gone, whatever
//! becomes of its instance: the dataplane lets go of it last.

use std::{io, net::Ipv4Addr};

use ha_core::InstanceId;
use ipnet::Ipv4Net;

use super::{
    outbox::Level,
    seat::{Seat, in_words},
    shell::Shell,
};
use crate::{events::Kind, sys::clock};

impl Shell {
    /// Puts an instance's VIPs on its interface.
    pub(super) fn add_vips(&mut self, id: InstanceId) -> Option<Result<(), String>> {
        let index = self.index(id)?;
        let result = self.put_vips(index);
        let seat = &mut self.seats[index];
        let vips = seat.removable();
        if result.is_ok() && !seat.holds_vips && !vips.is_empty() {
            let sentence = format!("{} put on {}", in_words(&vips), seat.config.interface);
            self.out
                .event(clock::now(), &seat.name, Kind::VipsAdded, sentence);
        }
        seat.holds_vips = true;
        let Seat { config, owed, .. } = seat;
        owed.retain(|vip| !config.vips.contains(vip));
        Some(result)
    }

    /// Puts a seat's VIPs on its interface; those that are there stay.
    pub(super) fn put_vips(&mut self, index: usize) -> Result<(), String> {
        let seat = &self.seats[index];
        let Some(link) = self.links.table().by_name(&seat.config.interface) else {
            return Err(format!("there is no interface {}", seat.config.interface));
        };
        let others: Vec<Ipv4Net> = link
            .addresses
            .iter()
            .filter(|net| !self.is_vip(net.addr()))
            .copied()
            .collect();
        let ifindex = link.ifindex;
        self.lane
            .add(ifindex, &self.seats[index].config.vips, &others)
            .map_err(|error| error.to_string())
    }

    fn is_vip(&self, address: Ipv4Addr) -> bool {
        self.seats
            .iter()
            .flat_map(Seat::guarded)
            .any(|vip| vip.addr() == address)
    }

    /// Takes an instance's VIPs off its interface, or notes that they are owed.
    pub(super) fn remove_vips(&mut self, id: InstanceId) {
        let Some(index) = self.index(id) else {
            return;
        };
        let vips = self.seats[index].removable();
        let result = self.take_vips(index, &vips);
        let seat = &mut self.seats[index];
        let held = std::mem::take(&mut seat.holds_vips);
        match result {
            Ok(()) if held && !vips.is_empty() => {
                let sentence = format!("{} taken off {}", in_words(&vips), seat.config.interface);
                self.out
                    .event(clock::now(), &seat.name, Kind::VipsRemoved, sentence);
            }
            Ok(()) => {}
            Err(error) => self.owe(index, &vips, &error),
        }
    }

    /// Takes addresses off a seat's interface; an interface that is gone took them along.
    pub(super) fn take_vips(&mut self, index: usize, vips: &[Ipv4Net]) -> io::Result<()> {
        let seat = &self.seats[index];
        match self.links.table().by_name(&seat.config.interface) {
            Some(link) => self.lane.remove(link.ifindex, vips),
            None => Ok(()),
        }
    }

    /// Notes addresses that could not be taken off.
    pub(super) fn owe(&mut self, index: usize, vips: &[Ipv4Net], error: &io::Error) {
        let seat = &self.seats[index];
        let text = format!(
            "{}: {} could not be taken off {}, to be tried again; no packet for it passes: {error}",
            seat.name,
            in_words(vips),
            seat.config.interface
        );
        self.out.log(Level::Error, text);
        self.add_debts(index, vips);
    }

    /// Whoever is configured with an owed address by now answers for it: at once, if it holds it.
    fn add_debts(&mut self, index: usize, vips: &[Ipv4Net]) {
        for vip in vips {
            let heir = self.heir(index, vip);
            let seat = &mut self.seats[heir.unwrap_or(index)];
            let held = heir.is_some() && seat.holds_vips;
            if !held && !seat.owed.contains(vip) {
                seat.owed.push(*vip);
            }
        }
        self.retry_soon();
    }

    fn heir(&self, index: usize, vip: &Ipv4Net) -> Option<usize> {
        let debtor = &self.seats[index];
        self.seats.iter().position(|seat| {
            seat.id != debtor.id
                && !seat.ended
                && seat.config.interface == debtor.config.interface
                && seat.config.vips.contains(vip)
        })
    }

    /// Tries again what is owed, and forgets the instances that stayed for that alone.
    pub(super) fn take_owed(&mut self) {
        for index in 0..self.seats.len() {
            let owed = std::mem::take(&mut self.seats[index].owed);
            let (mine, inherited): (Vec<Ipv4Net>, Vec<Ipv4Net>) = owed
                .into_iter()
                .partition(|vip| self.heir(index, vip).is_none());
            if !inherited.is_empty() {
                self.add_debts(index, &inherited);
            }
            if mine.is_empty() {
                continue;
            }
            if self.take_vips(index, &mine).is_err() {
                self.seats[index].owed = mine;
                self.retry_soon();
                continue;
            }
            let seat = &self.seats[index];
            let sentence = format!("{} taken off {}", in_words(&mine), seat.config.interface);
            self.out
                .event(clock::now(), &seat.name, Kind::VipsRemoved, sentence);
            if !seat.ended {
                self.configure(seat.id);
            }
        }
        self.forget_ended();
    }

    /// Takes the instances that have ended out of the dataplane, unless they owe addresses.
    pub(super) fn forget_ended(&mut self) {
        let over: Vec<InstanceId> = self
            .seats
            .iter()
            .filter(|seat| seat.ended && seat.owed.is_empty())
            .map(|seat| seat.id)
            .collect();
        for id in over {
            self.forget(id);
        }
    }

    /// Takes an instance out of the dataplane, and its seat away.
    pub(super) fn forget(&mut self, id: InstanceId) {
        self.seats.retain(|seat| seat.id != id);
        if let Some(dataplane) = &mut self.dataplane
            && let Err(error) = dataplane.clear_instance(id)
        {
            let text = format!("a removed instance stays in the dataplane's maps: {error}");
            self.out.log(Level::Error, text);
        }
    }

    /// The addresses that could not be taken off, by interface.
    pub(super) fn owed(&self) -> Vec<(String, Ipv4Net)> {
        self.seats
            .iter()
            .flat_map(|seat| {
                seat.owed
                    .iter()
                    .map(|vip| (seat.config.interface.clone(), *vip))
            })
            .collect()
    }
}

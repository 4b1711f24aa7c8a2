//! The virtual addresses on the interfaces: put on, taken off, and owed when that failed.
//!
//! No packet for an owed address passes as long as there is a dataplane: where an instance has the
//! address, that one's gate decides; else it leads to a slot whose gate never opens.

use std::{collections::BTreeSet, net::IpAddr};

use ha_core::InstanceId;
use ipnet::IpNet;

use super::{outbox::Level, seat::in_words, shell::Shell};
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
        Some(result)
    }

    /// Puts a seat's VIPs on its interface; those that are there stay.
    pub(super) fn put_vips(&mut self, index: usize) -> Result<(), String> {
        let seat = &self.seats[index];
        let Some(link) = self.links.table().by_name(&seat.config.interface) else {
            return Err(format!("there is no interface {}", seat.config.interface));
        };
        let others: Vec<IpNet> = link
            .addresses
            .iter()
            .filter(|net| !self.is_vip(net.addr()))
            .copied()
            .collect();
        let ifindex = link.ifindex;
        let seat = &mut self.seats[index];
        seat.vips_on = Some(ifindex);
        self.debts.forgive(ifindex, &seat.config.vips);
        self.lane
            .add(ifindex, &seat.config.vips, &others)
            .map_err(|error| error.to_string())
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.is_configured(address) || self.debts.iter().any(|debt| debt.vip.addr() == address)
    }

    fn is_configured(&self, address: IpAddr) -> bool {
        self.seats
            .iter()
            .flat_map(|seat| &seat.config.vips)
            .any(|vip| vip.addr() == address)
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

    /// Takes an instance's VIPs off its interface, or notes that they are owed.
    pub(super) fn remove_vips(&mut self, id: InstanceId) {
        let Some(index) = self.index(id) else {
            return;
        };
        let vips = self.seats[index].removable();
        let held = std::mem::take(&mut self.seats[index].holds_vips);
        if self.take_vips(index, &vips) && held && !vips.is_empty() {
            let seat = &self.seats[index];
            let sentence = format!("{} taken off {}", in_words(&vips), seat.config.interface);
            self.out
                .event(clock::now(), &seat.name, Kind::VipsRemoved, sentence);
        }
    }

    /// Takes addresses off the interface that they were put on, whatever it is called by now; one that is
    /// gone took them along. Whether they are off; else they are owed.
    pub(super) fn take_vips(&mut self, index: usize, vips: &[IpNet]) -> bool {
        let seat = &self.seats[index];
        let named = || self.links.table().by_name(&seat.config.interface);
        let Some(ifindex) = seat.vips_on.or_else(|| Some(named()?.ifindex)) else {
            return true;
        };
        let Err(error) = self.lane.remove(ifindex, vips) else {
            return true;
        };
        self.debts.add(ifindex, &seat.config.interface, vips);
        let text = format!(
            "{}: {} could not be taken off {}, to be tried again: {error}",
            seat.name,
            in_words(vips),
            seat.config.interface
        );
        self.out.log(Level::Error, text);
        self.guard_owed();
        self.retry_soon();
        false
    }

    /// Closes the way to what is owed and no instance has. To be called before an instance lets go of an
    /// address in the dataplane.
    pub(super) fn guard_owed(&mut self) {
        let orphans: BTreeSet<IpAddr> = self
            .debts
            .iter()
            .map(|debt| debt.vip.addr())
            .filter(|address| !self.is_configured(*address))
            .collect();
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

    /// Tries again what is owed.
    pub(super) fn pay_debts(&mut self) {
        let Self { debts, lane, .. } = self;
        let paid = debts.pay(|debt| lane.remove(debt.ifindex, &[debt.vip]).is_ok());
        for debt in paid {
            let text = format!("{} was taken off {} at last", debt.vip, debt.interface);
            self.out.log(Level::Info, text);
            if let Some(dataplane) = &mut self.dataplane
                && let Err(error) = dataplane.release_vip(debt.vip.addr())
            {
                let text = format!("{}: the dataplane keeps it closed: {error}", debt.vip);
                self.out.log(Level::Error, text);
            }
        }
        if !self.debts.is_empty() {
            self.retry_soon();
        }
    }
}

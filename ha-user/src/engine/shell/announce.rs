//! Gratuitous ARP and unsolicited neighbour advertisements.

use std::net::IpAddr;

use ha_common::wire::{arp, ndp};
use ha_core::InstanceId;

use super::Shell;
use crate::{events::Kind, sys::clock};

impl Shell {
    /// Sends one gratuitous ARP or unsolicited neighbour advertisement for each of
    /// `count` VIPs, from the `first` on.
    pub(super) fn announce(
        &mut self,
        id: InstanceId,
        first: u32,
        count: u32,
    ) -> Option<Result<(), String>> {
        let index = self.index(id)?;
        let seat = &mut self.seats[index];
        let Some(interface) = self.interfaces.get(&seat.config.interface) else {
            return Some(Err(format!(
                "there is no interface {}",
                seat.config.interface
            )));
        };
        let Some(port) = &interface.port else {
            return Some(Err(format!("{} has no socket", seat.config.interface)));
        };
        let mac = seat.virtual_mac().unwrap_or(interface.mac);
        let mut result = Ok(());
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let is_last = seat.config.vips.len().saturating_sub(first) <= count;
        for vip in seat.config.vips.iter().skip(first).take(count) {
            let sent = match vip.addr() {
                IpAddr::V4(address) => port.send_arp(&arp::announcement(address.octets(), mac)),
                IpAddr::V6(address) => {
                    port.send_ndp(&ndp::announcement(address.into(), mac, interface.router))
                }
            };
            if let Err(error) = sent {
                result = Err(format!("{}: {error}", vip.addr()));
            }
        }
        if result.is_ok() && is_last && !std::mem::replace(&mut seat.announced, true) {
            let sentence = format!(
                "{} announced by {}",
                seat.vips_in_words(),
                seat.announcement_in_words()
            );
            self.out
                .event(clock::now(), &seat.name, Kind::Announced, sentence);
        }
        Some(result)
    }
}

//! The interfaces that instances and channels name: attached to where they appear, let go of where they are
//! gone or no longer named.

use std::{collections::BTreeSet, net::IpAddr};

use ha_core::Input;

use super::{Interface, Shell};
use crate::{
    dataplane::{Attachment, Dataplane, Hook},
    engine::{outbox::Level, seat::Seat},
    net::{links::Link, port::Port},
};

impl Shell {
    /// Reads what changed on the interfaces; whether anything did.
    pub(in crate::engine) fn update_links(&mut self) -> bool {
        self.links.update().unwrap_or_else(|error| {
            let text = format!("the interfaces cannot be watched: {error}");
            self.out.log(Level::Error, text);
            false
        })
    }

    /// Compares the interfaces with what is attached, and tells what changed for the engine.
    pub(in crate::engine) fn follow_links(&mut self, inputs: &mut Vec<Input>) {
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        for name in names {
            self.follow_link(&name);
            self.follow_place(&name, inputs);
        }
        self.make_room();
        let found = self.found();
        for index in 0..self.seats.len() {
            self.follow_seat(index, &found, inputs);
        }
        self.follow_tracked(inputs);
        let (channels, interfaces, mut world) = self.channels();
        if channels.follow(interfaces, &mut world) {
            self.retry_soon();
        }
        let Self {
            paths,
            interfaces,
            seats,
            dataplane,
            out,
            ..
        } = self;
        if paths.follow(interfaces, seats, dataplane.as_mut(), out) {
            self.retry_soon();
        }
        self.follow_locals();
    }

    fn follow_link(&mut self, name: &str) {
        let link = self.links.table().by_name(name).cloned();
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        let found = link.as_ref().map_or(0, |link| link.ifindex);
        let gone = interface.ifindex;
        if gone != 0 && gone != found {
            *interface = Interface::default();
            self.ports_changed = true;
            // Renamed, it has the VIPs until the engine has let go of them.
            self.unused.insert(gone);
            self.retry_soon();
            self.out
                .log(Level::Warn, format!("interface {name} is gone"));
        }
        let Some(link) = link else {
            return;
        };
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        // What guards the VIPs is in place before the programs are, so that no VIP is without its gate.
        if (interface.ifindex, interface.mac) != (link.ifindex, link.mac) {
            interface.moved = interface.ifindex == link.ifindex;
            interface.ifindex = link.ifindex;
            interface.mac = link.mac;
            self.configure_all(name);
        }
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        if interface.port.is_none() {
            match open(&mut self.dataplane, &link) {
                Ok((port, attachment)) => {
                    self.out
                        .log(Level::Info, attached(name, attachment.as_ref()));
                    interface.port = Some(port);
                    interface.has_groups = false;
                    interface.attachment = attachment;
                    interface.error = None;
                    self.ports_changed = true;
                }
                Err(error) => {
                    if interface.error.as_ref() != Some(&error) {
                        self.out.log(Level::Error, format!("{name}: {error}"));
                    }
                    interface.error = Some(error);
                    self.retry_soon();
                    return;
                }
            }
        }
        self.follow_stations(name);
        self.follow_v6(name);
    }

    /// Lets the interface take frames to the instances' virtual MAC addresses, also while another node is Active: so
    /// a card's filter need not be changed in the middle of a take-over.
    fn follow_stations(&mut self, name: &str) {
        let here = self
            .seats
            .iter()
            .filter(|seat| seat.config.interface == name);
        let mut wanted: BTreeSet<[u8; 6]> = here.filter_map(Seat::virtual_mac).collect();
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        let Some(port) = &mut interface.port else {
            return;
        };
        let native = interface
            .attachment
            .is_some_and(|attachment| attachment.hook == Hook::Native);
        let refused = self.links.table().why_no_virtual_mac(name, native);
        let refused = refused.filter(|_| !wanted.is_empty());
        if refused.is_some() {
            wanted.clear();
        }
        let heard = port.hear_stations(&wanted);
        let failed = heard.is_err();
        let error = refused
            .map(str::to_owned)
            .or(heard.err().map(|error| error.to_string()))
            .map(|error| format!("`virtual_mac` does not work here: {error}"));
        if interface.error != error {
            if let Some(error) = &error {
                self.out.log(Level::Error, format!("{name}: {error}"));
            }
            interface.error = error;
        }
        if failed {
            self.retry_soon();
        }
    }

    /// Tells the engine of an interface that the network finds elsewhere than before: its bond sends and receives
    /// by another slave, or its MAC address is another one.
    fn follow_place(&mut self, name: &str, inputs: &mut Vec<Input>) {
        let links = self.links.table();
        let (Some(interface), Some(link)) = (self.interfaces.get_mut(name), links.by_name(name))
        else {
            return;
        };
        let mut moved = std::mem::take(&mut interface.moved);
        if let Some(active) = link.active_slave() {
            let before = interface.active_slave.replace(active);
            if before.is_some_and(|before| before != active) {
                moved = true;
                let slave = links.by_index(active).map_or("?", |slave| &slave.name);
                self.out
                    .log(Level::Warn, format!("{name}: its bond goes on by {slave}"));
            }
        }
        if moved {
            let here = self
                .seats
                .iter()
                .filter(|seat| seat.config.interface == name);
            inputs.extend(here.map(|seat| Input::Reattached { instance: seat.id }));
        }
    }

    /// Opens the sockets of IPv6 where an instance needs them, and joins the groups of the VIPs.
    fn follow_v6(&mut self, name: &str) {
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        let Some(port) = interface.port.as_mut().filter(|_| !interface.has_groups) else {
            return;
        };
        let here = || {
            self.seats
                .iter()
                .filter(|seat| seat.config.interface == name)
        };
        let vips = here()
            .flat_map(|seat| &seat.config.vips)
            .filter_map(|vip| match vip.addr() {
                IpAddr::V6(vip) => Some(vip),
                IpAddr::V4(_) => None,
            });
        let opened = !port.has_v6();
        let result = if here().any(|seat| seat.config.uses_v6())
            || self.paths.peers_on(name).any(|peer| peer.is_ipv6())
        {
            port.open_v6()
        } else {
            Ok(())
        };
        self.ports_changed |= opened && port.has_v6();
        match result.and_then(|()| port.hear_solicitations(vips)) {
            Ok(()) => interface.has_groups = true,
            Err(error) => {
                let text = format!("{name}: not everything of IPv6 can be heard: {error}");
                self.out.log(Level::Error, text);
                self.retry_soon();
            }
        }
    }

    /// Lets the sockets hold what waits for the peers' MAC addresses.
    fn make_room(&mut self) {
        for (name, interface) in &mut self.interfaces {
            let Some(port) = &mut interface.port else {
                continue;
            };
            let here = self
                .seats
                .iter()
                .filter(|seat| seat.config.interface == *name);
            let peers = here.flat_map(|seat| seat.config.peers.iter().copied());
            let peers = peers.chain(self.paths.peers_on(name)).collect();
            if let Err(error) = port.make_room(name, &peers) {
                let text = format!(
                    "{name}: while the kernel asks for a peer's MAC address, packets to the others may not leave: \
                     {error}"
                );
                self.out.log(Level::Warn, text);
            }
        }
    }

    /// Drops the interfaces that neither instance nor channel names any more, and takes in new ones.
    pub(in crate::engine) fn match_interfaces(&mut self) {
        let wanted: Vec<String> = self
            .seats
            .iter()
            .map(|seat| seat.config.interface.as_str())
            .chain(self.channels.interfaces())
            .chain(self.paths.interfaces())
            .map(str::to_owned)
            .collect();
        let unused: Vec<String> = self
            .interfaces
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for name in unused {
            let gone = self.interfaces.remove(&name).unwrap_or_default();
            self.ports_changed = true;
            self.unused.insert(gone.ifindex);
        }
        for name in wanted {
            self.interfaces.entry(name).or_default().has_groups = false;
        }
        self.let_go();
    }

    /// Takes the programs off the interfaces that nothing names any more, but for those on which an
    /// address is owed.
    pub(super) fn let_go(&mut self) {
        let Self {
            unused,
            interfaces,
            debts,
            ..
        } = self;
        let used = |ifindex: u32| interfaces.values().any(|one| one.ifindex == ifindex);
        unused.retain(|ifindex| !used(*ifindex));
        for ifindex in unused.extract_if(.., |ifindex| !debts.concern(*ifindex)) {
            // One that is gone took its programs along; what is left are pins.
            if let Some(dataplane) = &mut self.dataplane
                && let Err(error) = dataplane.detach(ifindex)
            {
                let text = format!("interface {ifindex} could not be let go of: {error}");
                self.out.log(Level::Warn, text);
            }
        }
    }
}

fn open(
    dataplane: &mut Option<Dataplane>,
    link: &Link,
) -> Result<(Port, Option<Attachment>), String> {
    let attachment = match dataplane {
        Some(dataplane) => Some(
            dataplane
                .attach(&link.name, link.ifindex)
                .map_err(|error| format!("the dataplane could not be attached: {error}"))?,
        ),
        None => None,
    };
    let port = Port::open(link.ifindex, dataplane.is_none())
        .map_err(|error| format!("the sockets could not be opened: {error}"))?;
    Ok((port, attachment))
}

fn attached(name: &str, attachment: Option<&Attachment>) -> String {
    match attachment {
        None => format!("{name}: adverts by sockets alone, no gate"),
        Some(attachment) => format!(
            "{name}: {} {}, egress guard by {}",
            match attachment.hook {
                Hook::Native => "XDP in native mode",
                Hook::Generic => "XDP in generic mode",
                Hook::Tc => "tc ingress",
            },
            if attachment.adopted {
                "adopted"
            } else {
                "attached"
            },
            if attachment.tcx { "tcx" } else { "clsact" },
        ),
    }
}

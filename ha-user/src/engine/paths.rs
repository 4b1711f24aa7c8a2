//! The paths on which leases are asked for and granted: each instance's own LAN, and channels of kind `lease`.
//!
//! The kernel answers the peers and takes their answers; here only this node's own echoes are sent. While the
//! peer's MAC address is known from its packets, they leave as whole frames: a neighbour entry that died while
//! a cable was cut would delay them by seconds.

mod echo;
mod guards;
mod identity;
mod line;
mod packet;
mod peers;
mod way;

use std::{collections::BTreeMap, net::IpAddr};

use ha_common::{MonoNs, abi::lease::MAX_PATHS};
use ha_core::PathId;
use socket2::Socket;

use self::{
    echo::Packets,
    guards::guards,
    identity::{boot_id, hash},
    line::Line,
    way::{Way, channel_way, lan_ways},
};
pub(super) use self::{echo::Surroundings, peers::Contact};
use super::{
    outbox::{Level, Outbox},
    plan::Plan,
    seat::Seat,
    shell::Interface,
};
use crate::{control::report::PathReport, dataplane::Dataplane, net::links::Table, sys::clock};

/// Every path.
pub(super) struct Paths {
    lines: Vec<Line>,
    /// This node and its boot, as in packets.
    node: u64,
    boot: u64,
    /// The kernel's name for it.
    boot_id: Option<String>,
    packets: Packets,
    /// So that the kernel answers no echo of an unknown path with an ICMP error.
    guards: Vec<Socket>,
    frame: Box<[u8; 2048]>,
}

impl Paths {
    /// Without a single one.
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            node: 0,
            boot: 0,
            boot_id: None,
            packets: Packets::default(),
            guards: Vec::new(),
            frame: Box::new([0; 2048]),
        }
    }

    /// The interfaces that they use.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.way.interface.as_str())
    }

    /// This node's addresses on those that are set up, with their interfaces.
    pub(super) fn locals(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        let lines = self.lines.iter();
        lines.filter_map(|line| Some((line.way.interface.as_str(), line.place?.1)))
    }

    /// The peers of those on the interface.
    pub(super) fn peers_on(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        let here = self.lines.iter();
        here.filter(move |line| line.way.interface == interface)
            .map(|line| line.way.peer)
    }

    /// Takes in what a plan needs; paths that stay what they are keep their numbers.
    pub(super) fn configure(
        &mut self,
        plan: &Plan,
        mut dataplane: Option<&mut Dataplane>,
        out: &mut Outbox,
    ) {
        let boot = self.boot_id.get_or_insert_with(|| boot_id(out));
        let (node, boot) = (hash(&plan.node), hash(&format!("{}\n{boot}", plan.node)));
        if (self.node, self.boot) != (node, boot) {
            (self.node, self.boot) = (node, boot);
            for line in &mut self.lines {
                line.place = None;
            }
        }
        let mut wanted: Vec<(String, Way)> = Vec::new();
        let mut want = |name: &str, way: Way| {
            if !wanted.iter().any(|(_, known)| *known == way) {
                wanted.push((name.to_owned(), way));
            }
        };
        for seat in &plan.seats {
            for way in lan_ways(&seat.instance) {
                want(&seat.instance.interface, way);
            }
        }
        for channel in &plan.lease_channels {
            want(&channel.name, channel_way(channel));
        }
        let is_kept = |line: &Line| wanted.iter().any(|(_, way)| *way == line.way);
        for line in self.lines.extract_if(.., |line| !is_kept(line)) {
            if let Some(dataplane) = dataplane.as_deref_mut()
                && let Err(error) = dataplane.clear_path(line.id.0)
            {
                out.log(Level::Error, format!("path {} stays: {error}", line.name));
            }
        }
        for (name, way) in wanted {
            if let Some(line) = self.lines.iter_mut().find(|line| line.way == way) {
                line.name = name;
                continue;
            }
            let free = (0..MAX_PATHS).find(|id| self.lines.iter().all(|line| line.id.0 != *id));
            let Some(id) = free else {
                let text = format!("there are more than {MAX_PATHS} paths: {name} is not used");
                out.log(Level::Error, text);
                continue;
            };
            self.lines.push(Line {
                id: PathId(id),
                name,
                way,
                place: None,
                up: None,
                since: clock::now(),
                sought: MonoNs::ZERO,
                sent: 0,
                error: None,
            });
        }
        if !self.lines.is_empty() && self.guards.is_empty() {
            self.guards = guards(out);
        }
    }

    /// Follows the interfaces and this node's addresses. Whether something failed that is to be tried again.
    pub(super) fn follow(
        &mut self,
        interfaces: &BTreeMap<String, Interface>,
        seats: &[Seat],
        dataplane: Option<&mut Dataplane>,
        out: &mut Outbox,
    ) -> bool {
        let Some(dataplane) = dataplane else {
            return false;
        };
        let mut failed = false;
        let places: Vec<_> = self
            .lines
            .iter()
            .map(|line| line.place_on(interfaces, seats))
            .collect();
        // What another path may get goes first.
        for (line, place) in self.lines.iter_mut().zip(&places) {
            if line.place.is_some() && line.place != *place {
                failed |= !line.move_to(None, dataplane, (self.node, self.boot), out);
            }
        }
        for (line, place) in self.lines.iter_mut().zip(places) {
            if line.place != place {
                failed |= !line.move_to(place, dataplane, (self.node, self.boot), out);
            }
        }
        failed
    }

    fn line(&self, way: &Way) -> Option<&Line> {
        self.lines.iter().find(|line| line.way == *way)
    }

    /// A path works, or no longer does.
    pub(super) fn report_change(
        &mut self,
        path: PathId,
        up: bool,
        heard_at: MonoNs,
        out: &mut Outbox,
    ) {
        let Some(line) = self.lines.iter_mut().find(|line| line.id == path) else {
            return;
        };
        let now = clock::now();
        let word = |up| if up { "up" } else { "down" };
        let states = (word(line.up == Some(true)), word(up));
        line.up = Some(up);
        line.since = now;
        let peer = line.way.peer;
        let sentence = if up {
            format!("the path to {peer} works")
        } else if heard_at == MonoNs::ZERO {
            format!("nothing is heard from {peer} on this path")
        } else {
            format!(
                "nothing was heard from {peer} on this path for {}",
                now.since(heard_at)
            )
        };
        out.channel(now, &line.name.as_str().into(), states, sentence);
    }

    /// Every path's number.
    pub(super) fn ids(&self) -> impl Iterator<Item = PathId> {
        self.lines.iter().map(|line| line.id)
    }

    /// For `hactl status`.
    pub(super) fn report(
        &self,
        dataplane: Option<&Dataplane>,
        links: &Table,
        now: MonoNs,
    ) -> Vec<PathReport> {
        self.lines
            .iter()
            .map(|line| line.report(dataplane, links, now))
            .collect()
    }
}

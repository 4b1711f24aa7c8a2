//! One path: where it is set up, and how it does.

use std::{collections::BTreeMap, net::IpAddr};

use ha_common::{MonoNs, Nanos};
use ha_core::PathId;

use super::way::{Way, lan_ways};
use crate::{
    control::report::PathReport,
    dataplane::{Dataplane, PathSettings},
    engine::{
        outbox::{Level, Outbox},
        seat::Seat,
        shell::Interface,
    },
    net::links::{Link, Table},
    sys::clock,
};

/// One path.
pub(super) struct Line {
    pub(super) id: PathId,
    /// The channel's name; the interface's, of a LAN.
    pub(super) name: String,
    pub(super) way: Way,
    /// Interface index and this node's address as the dataplane knows them; `None` while it is not set up.
    pub(super) place: Option<(u32, IpAddr)>,
    pub(super) up: Option<bool>,
    pub(super) since: MonoNs,
    /// When the peer's MAC address was asked for last.
    pub(super) sought: MonoNs,
    pub(super) sent: u64,
    pub(super) error: Option<String>,
}

impl Line {
    /// Where it is to be set up; `None` while its interface is not ready, or has no address for it.
    pub(super) fn place_on(
        &self,
        interfaces: &BTreeMap<String, Interface>,
        seats: &[Seat],
    ) -> Option<(u32, IpAddr)> {
        let ifindex = interfaces
            .get(&self.way.interface)
            .filter(|interface| interface.port.is_some())
            .map(|interface| interface.ifindex)?;
        let shares = |seat: &&Seat| {
            seat.source.is_some() && lan_ways(&seat.config).any(|way| way == self.way)
        };
        let local = self
            .way
            .local
            .or_else(|| seats.iter().find(shares)?.source)?;
        (ifindex != 0).then_some((ifindex, local))
    }

    /// Whether it works, as far as that can be told at once: the engine looks when an echo is due.
    fn is_up(&self, heard_at: Option<MonoNs>, links: &Table) -> Option<bool> {
        if !links.by_name(&self.way.interface).is_some_and(Link::usable) {
            return Some(false);
        }
        let heard = heard_at.is_some_and(|at| at >= self.since);
        self.up.or(heard.then_some(true))
    }

    /// Sets it up, or takes it off. Whether that was done.
    pub(super) fn move_to(
        &mut self,
        place: Option<(u32, IpAddr)>,
        dataplane: &mut Dataplane,
        (node, boot): (u64, u64),
        out: &mut Outbox,
    ) -> bool {
        let result = match place {
            Some((ifindex, local)) => dataplane.set_path(
                self.id.0,
                &PathSettings {
                    ifindex,
                    local,
                    peer: self.way.peer,
                    key: self.way.key,
                    node,
                    boot,
                },
            ),
            None => dataplane.clear_path(self.id.0),
        };
        match result {
            Ok(()) => {
                self.place = place;
                true
            }
            Err(error) => {
                out.log(Level::Error, format!("path {}: {error}", self.name));
                false
            }
        }
    }

    /// For `hactl status`.
    pub(super) fn report(
        &self,
        dataplane: Option<&Dataplane>,
        links: &Table,
        now: MonoNs,
    ) -> PathReport {
        let state = dataplane.map(|dataplane| dataplane.path_state(self.id.0));
        let heard_at = dataplane.map(|dataplane| dataplane.path_heard(self.id.0).0);
        let heard_at = heard_at.filter(|at| *at != MonoNs::ZERO);
        let rtt = |permille: u64| {
            let rtts = state.as_ref().map(|state| state.rtts)?;
            percentile(&rtts, permille).map(|rtt| rtt.0 / 1_000)
        };
        PathReport {
            name: self.name.clone(),
            interface: self.way.interface.clone(),
            local: self.place.map(|(_, local)| local),
            peer: self.way.peer,
            interval_us: self.way.times.interval.0 / 1_000,
            multiplier: self.way.times.multiplier,
            keyed: self.way.key.is_some(),
            up: self.is_up(heard_at, links),
            last_heard_us: heard_at.map(|at| now.since(at).0 / 1_000),
            since: clock::rfc3339(self.since),
            echoes_sent: self.sent,
            echoes_answered: state.map_or(0, |state| state.echoes),
            answers: state.map_or(0, |state| state.answers),
            strangers: state.map_or(0, |state| state.strangers),
            bad_tags: state.map_or(0, |state| state.bad_tags),
            rtt_last_us: state
                .filter(|state| state.answers > 0)
                .map(|state| state.rtt_ns / 1_000),
            rtt_median_us: rtt(500),
            rtt_p99_us: rtt(990),
            error: self.error.clone(),
        }
    }
}

/// The round trip below which so many of a thousand are.
fn percentile(rtts: &[u64], permille: u64) -> Option<Nanos> {
    let total: u64 = rtts.iter().sum();
    let rank = (total * permille).div_ceil(1_000);
    let mut seen = 0;
    let bucket = rtts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    (total > 0)
        .then_some(bucket)
        .flatten()
        .map(ha_common::abi::lease::rtt_bound)
}

//! What the tokio side asks for.

use std::{net::IpAddr, sync::Arc};

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Input, InstanceId, RolesConfig, State, Target,
    tracking::{Reading, Source},
};

use super::Driver;
use crate::{
    control::report::{ExplainReport, SwitchoverReport},
    engine::{Command, seat::Seat, status, tracking},
    events::Kind,
    sys::clock,
};

/// Intervals after which a take-over has happened even if priority 0 was lost: the Active_Down_Interval is
/// shorter (RFC 9568 section 6.1).
const LONGEST_WAIT: u64 = 4;
/// VRRPv2's Skew_Time of up to a second, and time for a busy node.
const SLACK: Nanos = Nanos::from_secs(3);

impl Driver {
    pub(super) fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            // An answer nobody waits for any more is dropped.
            match command {
                Command::Status(reply) => {
                    self.follow_links();
                    self.look_for_warnings();
                    self.look_again();
                    let report =
                        status::report(&self.engine, &self.shell, &self.vitals, clock::now());
                    let _ = reply.send(report);
                }
                Command::Explain { instance, reply } => {
                    self.look_again();
                    let _ = reply.send(self.explain(&instance));
                }
                Command::Switchover { target, to, reply } => {
                    let _ = reply.send(self.switch_over(&target, to.as_deref()));
                }
                Command::Counters(reply) => {
                    let _ = reply.send(status::counters(&self.shell));
                }
                Command::Reload { plan, reply } => {
                    let _ = reply.send(self.reload(&plan));
                }
                Command::Checked {
                    check,
                    health,
                    count,
                    why,
                } => self.handle(Input::Tracked {
                    source: Source::Check(check),
                    reading: Reading { health, count, why },
                }),
                Command::Confirmed {
                    check,
                    round,
                    result,
                } => self.handle(Input::Confirmed {
                    source: Source::Check(check),
                    round,
                    result,
                }),
                Command::RolesPromoted {
                    group,
                    round,
                    result,
                } => self.handle(Input::RolesPromoted {
                    group,
                    round,
                    result,
                }),
                Command::RolesDemoted {
                    group,
                    round,
                    result,
                } => self.handle(Input::RolesDemoted {
                    group,
                    round,
                    result,
                }),
                Command::Prospect { group, prospect } => {
                    self.handle(Input::Prospect { group, prospect });
                }
                Command::RolesProgress { group, text } => {
                    self.handle(Input::RolesProgress { group, text });
                }
                Command::Mode(mode) => self.handle(Input::Mode(mode)),
                Command::Tracked(reply) => {
                    self.follow_links();
                    let report = tracking::report(&self.engine, &self.shell.seats);
                    let _ = reply.send(report);
                }
                Command::Mute {
                    check,
                    lasts,
                    end,
                    reply,
                } => {
                    let _ = reply.send(self.mute(check, lasts, end));
                }
                Command::Ping(reply) => {
                    let _ = reply.send(());
                }
                Command::Shutdown => {
                    self.handed_over = self
                        .shell
                        .seats
                        .iter()
                        .any(|seat| speaking(seat.state) || seat.state == State::Demoting);
                    self.handle(Input::Shutdown);
                    let (channels, _, mut world) = self.shell.channels();
                    channels.disable(&mut world);
                }
            }
        }
    }

    /// Hands in what the maps hold by now.
    fn look_again(&mut self) {
        self.feed_stamps();
        let ids: Vec<InstanceId> = self.shell.seats.iter().map(|seat| seat.id).collect();
        for id in ids {
            self.read_leases(id);
        }
        self.act();
    }

    fn mute(&mut self, check: String, lasts: Option<Nanos>, end: bool) -> Result<(), String> {
        let name: Arc<str> = check.as_str().into();
        let source = Source::Check(check);
        let tracked = self.engine.tracked();
        let Some(before) = tracked.iter().find(|one| one.source == source) else {
            let names: Vec<String> = tracked
                .iter()
                .filter(|one| matches!(one.source, Source::Check(_)))
                .map(|one| one.source.to_string())
                .collect();
            return Err(format!(
                "there is no {source}. There is: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            ));
        };
        let until = match lasts {
            _ if end => None,
            Some(lasts) => Some(clock::now().after(lasts)),
            None => Some(MonoNs(u64::MAX)),
        };
        if until.is_none() && before.muted_until.is_none() {
            return Ok(());
        }
        let now = clock::now();
        let sentence = match until {
            None => format!("{source} counts again"),
            Some(MonoNs(u64::MAX)) => {
                format!("an operator muted {source}: it counts for nothing until it is unmuted")
            }
            Some(until) => format!(
                "an operator muted {source}: it counts for nothing until {}",
                clock::rfc3339(until)
            ),
        };
        self.shell.out.event(now, &name, Kind::Check, sentence);
        self.handle(Input::Mute { source, until });
        Ok(())
    }

    fn explain(&self, name: &str) -> Result<ExplainReport, String> {
        self.engine
            .status(clock::now())
            .into_iter()
            .find(|status| status.name == name)
            .map(|status| {
                let seat = self
                    .shell
                    .seats
                    .iter()
                    .find(|seat| seat.id == status.instance);
                let mut sentences = status.explanation;
                if self.shell.dataplane.is_none() {
                    sentences.push(
                        "There is no gate: if this node hangs while it is Active, it goes on speaking for the addresses."
                            .to_owned(),
                    );
                }
                sentences.extend(seat.map(Seat::in_words));
                ExplainReport {
                    name: status.name,
                    state: status.state.name().to_owned(),
                    sentences,
                }
            })
            .ok_or_else(|| self.unknown("instance", name))
    }

    fn unknown(&self, what: &str, name: &str) -> String {
        let names: Vec<&str> = self.shell.seats.iter().map(|seat| &*seat.name).collect();
        let mut message = format!(
            "there is no {what} \"{name}\". Instances: {}",
            names.join(", ")
        );
        if !self.vitals.groups.is_empty() {
            message.push_str(&format!("; groups: {}", self.vitals.groups.join(", ")));
        }
        message
    }

    fn switch_over(&mut self, name: &str, to: Option<&str>) -> Result<SwitchoverReport, String> {
        let group = self.vitals.groups.iter().position(|group| group == name);
        let seat = self.shell.seats.iter().find(|seat| &*seat.name == name);
        let (target, group) = match (group, seat) {
            (Some(group), _) => (Target::Group(group), Some(group)),
            (None, Some(seat)) => (Target::Instance(seat.id), seat.config.group),
            (None, None) => return Err(self.unknown("group or instance", name)),
        };
        let members: Vec<&Seat> = self
            .shell
            .seats
            .iter()
            .filter(|seat| match group {
                Some(group) => seat.config.group == Some(group),
                None => &*seat.name == name,
            })
            .collect();
        if let Some(to) = to {
            let wanted: Option<IpAddr> = to.parse().ok();
            if !members
                .iter()
                .all(|seat| wanted.is_some_and(|wanted| seat.config.peers == [wanted]))
            {
                return Err(format!(
                    "--to is possible only with the address of the sole configured peer, which takes over anyway; {name} has {}. Leave --to out",
                    peers(&members)
                ));
            }
        }
        let is = |state| members.iter().any(|seat| seat.state == state);
        let limits = group.and_then(|group| self.limits.get(self.vitals.groups.get(group)?));
        if is(State::Demoting) || limits.is_some() && is(State::Promoting) && !is(State::Active) {
            let what = if is(State::Demoting) {
                "is being handed over already"
            } else {
                "is being taken over by this node at present, and cannot be moved before that is done"
            };
            return Err(format!("{name} {what}: `hactl explain` says how far it is"));
        }
        if !members.iter().any(|seat| speaking(seat.state)) {
            let state = members.first().map_or(State::Initialize, |seat| seat.state);
            let active = self
                .engine
                .status(clock::now())
                .into_iter()
                .find(|status| members.iter().any(|seat| seat.id == status.instance))
                .and_then(|status| Some((status.active_peer?, status.active_is_foreign)));
            return Err(match active {
                Some((peer, false)) => format!(
                    "{name} is {state} on this node; {peer} is Active: run `hactl switchover {name}` there"
                ),
                Some((peer, true)) => format!(
                    "{name} is {state} on this node; {peer} is Active, and no had: end its VRRP daemon there, as by `systemctl stop keepalived`, and this node takes over"
                ),
                None => format!(
                    "{name} is {state} on this node, and no other node was heard to be Active: `hactl explain` says why"
                ),
            });
        }
        let released: Vec<&Seat> = members
            .into_iter()
            .filter(|seat| speaking(seat.state))
            .collect();
        let longest = released
            .iter()
            .map(|seat| seat.config.advert_interval)
            .max();
        let report = SwitchoverReport {
            settled_within_ms: longest
                .unwrap_or(Nanos::ZERO)
                .times(LONGEST_WAIT)
                .plus(SLACK)
                .plus(limits.map_or(Nanos::ZERO, longest_handover))
                .0
                / 1_000_000,
            released: released.iter().map(|seat| seat.name.to_string()).collect(),
        };
        self.handle(Input::Switchover(target));
        Ok(report)
    }
}

fn speaking(state: State) -> bool {
    matches!(state, State::Active | State::Promoting)
}

/// From the demotion of roles here, graceful or in the end forced, to their promotion there.
fn longest_handover(limits: &RolesConfig) -> Nanos {
    limits.longest_departure().plus(limits.promote_limit)
}

fn peers(members: &[&Seat]) -> String {
    let mut peers: Vec<String> = members
        .iter()
        .flat_map(|seat| &seat.config.peers)
        .map(ToString::to_string)
        .collect();
    peers.sort_unstable();
    peers.dedup();
    match peers.as_slice() {
        [] => "no configured peers (multicast)".to_owned(),
        [peer] => format!("the peer {peer}"),
        peers => format!("the peers {}", peers.join(", ")),
    }
}

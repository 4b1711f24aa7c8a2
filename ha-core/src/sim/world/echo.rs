//! Echoes on the paths between the nodes, and what the kernels make of them.

use std::{format, vec::Vec};

use ha_common::{
    MonoNs,
    lease::{Ask, Look, Rank, RoundTrips, Standing, Vigil},
};

use super::super::{
    grants::{Entry, Header},
    leases::{Fate, Packet},
};
use super::{Event, Word, World, id};
use crate::{LeaseViews, PathId};

/// A path from one node to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// 0 is the LAN, on which adverts go, too.
    pub(crate) link: usize,
}

/// An echo, or its answer.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    pub(crate) way: Way,
    pub(crate) answer: bool,
    pub(crate) header: Header,
    pub(crate) entries: Vec<Entry>,
}

/// What a node's kernel knows of a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathWords {
    pub(crate) heard_at: MonoNs,
    pub(crate) round_trips: RoundTrips,
}

impl World {
    /// The other nodes in the order of their lease slots.
    pub(crate) fn peer(node: usize, slot: usize) -> usize {
        if slot < node { slot } else { slot + 1 }
    }

    /// The lease slot of a node at another one.
    pub(crate) fn slot(node: usize, peer: usize) -> usize {
        if peer < node { peer } else { peer - 1 }
    }

    fn way(&self, node: usize, path: PathId) -> Way {
        let links = self.scenario.links;
        let number = path.0 as usize;
        Way {
            from: node,
            to: Self::peer(node, number / links),
            link: number % links,
        }
    }

    fn path(&mut self, node: usize, peer: usize, link: usize) -> &mut PathWords {
        let index = Self::slot(node, peer) * self.scenario.links + link;
        &mut self.nodes[node].paths[index]
    }

    /// What the words of an instance's leases hold.
    pub(crate) fn views(&self, node: usize, instance: usize) -> Option<LeaseViews> {
        let machine = &self.nodes[node];
        let kernel = &machine.kernels[instance];
        let grants = kernel.grants.as_ref()?;
        let mut views = LeaseViews::default();
        let links = self.scenario.links;
        for (slot, view) in views.iter_mut().enumerate().take(grants.peers.len()) {
            let paths = &machine.paths[slot * links..(slot + 1) * links];
            let heard = paths.iter().map(|path| path.heard_at).max();
            *view = grants.view(slot, kernel.epoch, heard.unwrap_or_default());
        }
        Some(views)
    }

    /// Sends an echo with what every instance asks for.
    pub(crate) fn send_echo(&mut self, node: usize, path: PathId, round: MonoNs) {
        for kernel in &mut self.nodes[node].kernels {
            if let Some(grants) = &mut kernel.grants {
                grants.candidate_until = round.after(grants.slowest);
            }
        }
        let way = self.way(node, path);
        let entries = (0..self.scenario.instances).filter_map(|instance| {
            let kernel = &self.nodes[node].kernels[instance];
            let grants = kernel.grants.as_ref()?;
            let ask = match grants.told {
                Standing::Bystander => return None,
                Standing::Candidate => Ask::Candidate,
                Standing::Active => Ask::Hold,
                Standing::Lapsed => Ask::Resume,
            };
            Some(Entry {
                instance,
                ask,
                epoch: kernel.epoch,
                rank: grants.rank,
                granted: false,
            })
        });
        let entries = entries.collect();
        self.send_entries(way, round, entries);
    }

    /// Tells every peer on every path that an instance was let go of.
    pub(crate) fn send_release(&mut self, node: usize, instance: usize, round: MonoNs) {
        let kernel = &self.nodes[node].kernels[instance];
        let entry = Entry {
            instance,
            ask: Ask::Release,
            epoch: kernel.epoch,
            rank: Rank::default(),
            granted: false,
        };
        for path in 0..self.nodes[node].paths.len() {
            let way = self.way(node, PathId(u32::try_from(path).unwrap_or(u32::MAX)));
            self.send_entries(way, round, std::vec![entry]);
        }
    }

    fn send_entries(&mut self, way: Way, round: MonoNs, entries: Vec<Entry>) {
        let machine = &self.nodes[way.from];
        let Some(lease) = machine.plan.lease_of(way.link, self.scenario.links) else {
            return;
        };
        let header = Header {
            boot: machine.boot,
            sent: round,
            lease,
        };
        if !entries.is_empty() {
            let words: Vec<_> = entries
                .iter()
                .map(|entry| format!("vr{} {:?}", entry.instance, entry.ask))
                .collect();
            self.say(|| {
                format!(
                    "node{} -> node{} on link{}: {}",
                    way.from,
                    way.to,
                    way.link,
                    words.join(", ")
                )
            });
        }
        self.transmit_echo(Echo {
            way,
            answer: false,
            header,
            entries,
        });
    }

    fn transmit_echo(&mut self, echo: Echo) {
        let Way { from, to, link } = echo.way;
        let cut = self.cuts[link][from][to];
        let in_a_row = self.echoes_lost[from][to];
        let spared = self
            .scenario
            .pace
            .longest_loss
            .is_some_and(|longest| in_a_row >= longest);
        let lost = cut || (self.rng.chance(self.loss_permille) && !spared);
        self.echoes_lost[from][to] = if lost { in_a_row + 1 } else { 0 };
        let copies = if lost {
            0
        } else {
            1 + u64::from(self.rng.chance(self.scenario.pace.duplicate_permille))
        };
        let (low, high) = self.scenario.pace.delay;
        for _ in 0..copies {
            let at = self.now + self.rng.between(low, high);
            self.at(at, Event::Echo(echo.clone()));
        }
        // Whether it passes is known when it arrives: at a machine that stands still it may be lost.
        self.traffic.push(Packet {
            from,
            to,
            sent: self.now,
            fate: if lost { Fate::Lost } else { Fate::Sent },
        });
        if lost && !echo.entries.is_empty() {
            self.say(|| format!("node{from} -> node{to} on link{link}: lost"));
        }
    }

    pub(super) fn deliver_echo(&mut self, echo: Echo) {
        let Way { from, to, link } = echo.way;
        let machine = &mut self.nodes[to];
        let frozen = self.now < machine.frozen_until;
        if frozen && machine.keeps_packets && machine.powered {
            machine.waiting.push(echo);
            return;
        }
        if !machine.powered || !machine.attached || frozen {
            self.traffic.push(Packet {
                from,
                to,
                sent: self.now,
                fate: Fate::Lost,
            });
            return;
        }
        self.traffic.push(Packet {
            from,
            to,
            sent: self.now,
            fate: Fate::Arrived(self.now),
        });
        let now = self.clock(to);
        let path = self.path(to, from, link);
        path.heard_at = path.heard_at.max(now);
        if echo.answer {
            self.take_answer(&echo, now);
        } else {
            self.answer_echo(echo, now);
        }
    }

    fn answer_echo(&mut self, mut echo: Echo, now: MonoNs) {
        let Way { from, to, link } = echo.way;
        let slot = Self::slot(to, from);
        for entry in &mut echo.entries {
            let instance = entry.instance;
            self.look(to, instance);
            let kernel = &mut self.nodes[to].kernels[instance];
            let Some((grants, gate)) = kernel.grants_and_gate() else {
                continue;
            };
            let outcome = grants.answer(slot, &echo.header, entry, gate, now);
            entry.granted = outcome.granted;
            self.look(to, instance);
            let ask = entry.ask;
            if outcome.yielded {
                self.say(|| format!("node{to} vr{instance} its kernel yields to node{from}"));
                let word = Word::Yielded {
                    instance,
                    peer: slot,
                };
                self.tell(to, word);
            } else if !outcome.granted && matches!(ask, Ask::Hold | Ask::Candidate | Ask::Resume) {
                self.say(|| format!("node{to} vr{instance} refuses node{from}"));
            }
            if outcome.released {
                let word = Word::Released {
                    instance,
                    peer: slot,
                    at: now,
                };
                self.tell(to, word);
            }
            if outcome.news {
                let word = Word::Asked {
                    instance,
                    peer: slot,
                    ask,
                };
                self.tell(to, word);
            }
            if outcome.granted {
                self.arm_promise(to, instance);
            }
        }
        echo.way = Way {
            from: to,
            to: from,
            link,
        };
        echo.answer = true;
        self.transmit_echo(echo);
    }

    fn take_answer(&mut self, echo: &Echo, now: MonoNs) {
        let Way { from, to, link } = echo.way;
        if echo.header.boot != self.nodes[to].boot {
            return;
        }
        let round_trip = now.since(echo.header.sent);
        let path = self.path(to, from, link);
        path.round_trips = path.round_trips.taken(round_trip, echo.header.lease, now);
        let slot = Self::slot(to, from);
        for entry in echo.entries.iter().filter(|entry| entry.granted) {
            let instance = entry.instance;
            self.look(to, instance);
            let kernel = &mut self.nodes[to].kernels[instance];
            let epoch = kernel.epoch;
            let Some(grants) = &mut kernel.grants else {
                continue;
            };
            grants.grant(slot, &echo.header, entry, epoch, now);
            let announces = matches!(grants.standing, Standing::Candidate | Standing::Lapsed);
            self.look(to, instance);
            if announces {
                self.tell(to, Word::Answered);
            }
        }
    }

    /// Starts the silence timer, unless it runs.
    fn arm_promise(&mut self, node: usize, instance: usize) {
        let late = self.rng.between(0, self.scenario.pace.step_max / 4);
        let now = self.clock(node);
        let machine = &mut self.nodes[node];
        let Some(grants) = &mut machine.kernels[instance].grants else {
            return;
        };
        if grants.armed {
            return;
        }
        grants.armed = true;
        let vigil = Vigil::begin(grants.promised_until(), now);
        self.keep_vigil(node, instance, vigil, late);
    }

    /// The timer's next look comes so many nanoseconds `late`.
    fn keep_vigil(&mut self, node: usize, instance: usize, vigil: Vigil, late: u64) {
        let machine = &mut self.nodes[node];
        let Some(grants) = &mut machine.kernels[instance].grants else {
            return;
        };
        grants.vigil = vigil;
        grants.timer += 1;
        let timer = grants.timer;
        let due = machine.plan.clock.when(vigil.due).max(self.now);
        self.at(
            due + late,
            Event::Promise {
                node,
                instance,
                timer,
            },
        );
    }

    /// The silence timer of an instance's promises.
    pub(super) fn promise_ends(&mut self, node: usize, instance: usize, timer: u64) {
        let machine = &self.nodes[node];
        if self.now < machine.frozen_until {
            let again = machine.frozen_until;
            self.at(
                again,
                Event::Promise {
                    node,
                    instance,
                    timer,
                },
            );
            return;
        }
        let now = self.clock(node);
        let own_stall = self.mutations.own_stall;
        let machine = &mut self.nodes[node];
        let Some(grants) = &mut machine.kernels[instance].grants else {
            return;
        };
        if grants.timer != timer || grants.is_acting() {
            grants.armed = false;
            return;
        }
        let vigil = Vigil {
            due: if own_stall { now } else { grants.vigil.due },
            ..grants.vigil
        };
        match vigil.look(grants.promised_until(), grants.slowest, now) {
            Look::Wait(next) => self.keep_vigil(node, instance, next, 0),
            Look::HeldUp(next) => {
                self.say(|| format!("node{node} vr{instance} kernel was held up"));
                self.keep_vigil(node, instance, next, 0);
            }
            Look::Silence => {
                grants.armed = false;
                self.say(|| format!("node{node} vr{instance} kernel reports that nobody asks"));
                self.tell(node, Word::LeaseSilence { instance });
            }
        }
    }

    /// An input for each path of a node.
    pub(crate) fn path_inputs(&self, node: usize) -> Vec<crate::Input> {
        let paths = self.nodes[node].paths.iter().enumerate();
        paths
            .map(|(index, words)| crate::Input::PathHeard {
                path: PathId(u32::try_from(index).unwrap_or(u32::MAX)),
                heard_at: words.heard_at,
                round_trip: words.round_trips.of_late(),
            })
            .collect()
    }

    /// Hands in what the words of the leases hold.
    pub(crate) fn read_leases(&mut self, node: usize) {
        let now = self.clock(node);
        for instance in 0..self.scenario.instances {
            let Some(views) = self.views(node, instance) else {
                continue;
            };
            if let Some(process) = &mut self.nodes[node].process {
                process.read_leases(id(instance), &views, now);
            }
        }
    }
}

//! Promoting: competing for the leases, until every peer has granted one or is silent.

use alloc::vec::Vec;

use ha_common::{MonoNs, Nanos, lease::Standing};

use super::{Leases, Phase};
use crate::{
    config::{Alone, PathId},
    event::Action,
    instance::{Claim, Departure, Instance, Verdict},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

/// Announcements of a candidate on every path, at least.
const ANNOUNCEMENTS: u32 = 3;

/// A candidate that is neither granted nor alone for this many leases gives up.
const PATIENCE: u64 = 4;

impl Leases {
    /// Forgets the echoes of the stay before.
    pub(super) fn begin(&mut self, now: MonoNs) {
        self.stood_at = now;
        self.decide_at = None;
        for way in self.peers.iter_mut().flat_map(|peer| &mut peer.ways) {
            way.sent = None;
            way.tried = 0;
            way.announced = 0;
        }
    }

    /// How long a refusal can be on its way. One that is longer on its way than a lease comes from a peer that
    /// could not hold one either; and the longest round trip may be that of an echo during which a node was held
    /// up, long ago at the pace of hellos.
    fn round_trip(&self) -> Nanos {
        self.peers
            .iter()
            .flat_map(|peer| &peer.ways)
            .map(|way| match way.round_trip {
                Some(longest) => longest
                    .times(2)
                    .max(Nanos(way.interval.0 / 8))
                    .min(way.lease),
                None => way.lease,
            })
            .max()
            .unwrap_or_default()
    }

    /// Whether every peer was told often enough: on every path, unless nothing can be sent on it and there
    /// is another one.
    fn is_announced(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.ways.iter().all(|way| way.tried >= ANNOUNCEMENTS)
                && peer.ways.iter().any(|way| way.announced >= ANNOUNCEMENTS)
        })
    }

    /// Whether the echo before this one of `round` is so old that nothing counts any more that was asked with it.
    fn is_forgotten(&self, path: PathId, round: MonoNs) -> bool {
        let mut ways = self.peers.iter().flat_map(|peer| &peer.ways);
        ways.any(|way| {
            way.id == path && way.sent.is_some_and(|sent| sent.after(way.lease) <= round)
        })
    }

    pub(super) fn gives_up_at(&self) -> MonoNs {
        self.stood_at.after(self.slowest_lease().times(PATIENCE))
    }
}

impl Instance {
    /// Elected: the peers' promises come first.
    pub(crate) fn compete(&mut self, calls: bool, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.phase = Phase::Promised;
        leases.resumes = false;
        leases.begin(now);
        self.calls = calls;
        if calls {
            // A lower one lets go when it hears this; its kernel closes its gate at once.
            self.send(self.priority, now, out);
            self.timers
                .set(Timer::Advert, now.after(self.config.advert_interval));
        }
        out.push(Action::Act {
            instance: self.config.id,
        });
    }

    /// Whether every promise was turned into "this node acts".
    pub(crate) fn acted(
        &mut self,
        result: Result<(), MonoNs>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if self.state != State::Promoting || leases.phase != Phase::Promised {
            return Verdict::Stay;
        }
        match result {
            Ok(()) => {
                leases.phase = Phase::Announcing;
                leases.begin(now);
                out.push(Action::Stand {
                    instance: self.config.id,
                    standing: Standing::Candidate,
                });
                self.timers.set(Timer::Candidate, leases.gives_up_at());
                Verdict::Stay
            }
            Err(until) if self.calls => {
                let due = until.max(now.after(self.config.advert_interval));
                self.timers.set(Timer::Candidate, due);
                Verdict::Stay
            }
            Err(_) => Verdict::Leave(Departure::silently(Cause::Promised)),
        }
    }

    /// An echo left, or could not.
    pub(crate) fn echo_sent(
        &mut self,
        path: PathId,
        round: MonoNs,
        left: bool,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let round_trip = self.leases.as_ref().map(Leases::round_trip);
        let (Some(leases), Some(round_trip)) = (&mut self.leases, round_trip) else {
            return Verdict::Stay;
        };
        if round < leases.stood_at {
            return Verdict::Stay;
        }
        // While roles are on their way, its leases' end is.
        let competes = self.state == State::Promoting && !self.roles.are_under_way();
        if competes && leases.is_forgotten(path, round) {
            // This node was held up: whoever heard it has forgotten, and may have answered meanwhile.
            leases.phase = Phase::Announcing;
            leases.begin(round);
            self.timers.set(Timer::Candidate, leases.gives_up_at());
        }
        let ways = leases.peers.iter_mut().flat_map(|peer| &mut peer.ways);
        for way in ways.filter(|way| way.id == path) {
            way.tried += 1;
            if left {
                way.announced += 1;
                way.sent = Some(round);
            }
        }
        if competes
            && leases.phase == Phase::Announcing
            && leases.decide_at.is_none()
            && leases.is_announced()
        {
            let decide_at = now.after(round_trip);
            leases.decide_at = Some(decide_at);
            self.timers.set(Timer::Candidate, decide_at);
        }
        match self.state {
            State::Promoting | State::Demoting => self.consider_candidacy(now, out),
            State::Active => {
                self.go_on_alone(now, out);
                Verdict::Stay
            }
            _ => Verdict::Stay,
        }
    }

    /// A longer round trip than before, or a shorter one.
    pub(crate) fn measured(&mut self, path: PathId, round_trip: Option<Nanos>) {
        let ways = self.leases.iter_mut().flat_map(|leases| &mut leases.peers);
        for way in ways.flat_map(|peer| &mut peer.ways) {
            if way.id == path {
                way.round_trip = round_trip;
            }
        }
    }

    /// The promise that was in the way has run out, or every refusal that there is has come.
    pub(crate) fn candidate_due(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &self.leases else {
            return Verdict::Stay;
        };
        if self.state == State::Promoting && leases.phase == Phase::Promised {
            return self.losers_gone(now, out);
        }
        if self.state != State::Promoting || leases.phase != Phase::Announcing {
            return Verdict::Stay;
        }
        if now < leases.gives_up_at() {
            self.timers.set(Timer::Candidate, leases.gives_up_at());
            return self.consider_candidacy(now, out);
        }
        let refuses = leases.peers.iter().find(|peer| peer.view.deadline <= now);
        let cause = match refuses {
            Some(peer) if peer.view.heard_at < leases.stood_at => Cause::Alone {
                without: peer.address,
            },
            Some(peer) => Cause::NotGranted { by: peer.address },
            None => return self.consider_candidacy(now, out),
        };
        Verdict::Leave(Departure {
            to: State::Backup,
            cause,
            farewell: self.sent.is_some(),
        })
    }

    /// A candidate may speak when every peer has granted, or was not heard since it began to announce
    /// itself and had the time to answer. Who was heard shortly before is alive, unless it let go: it may have
    /// gone on alone while its echoes were lost, as the announcements may be by now. So it counts as silent
    /// only when it would itself count this node as that.
    pub(super) fn consider_candidacy(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if leases.phase == Phase::Promised {
            return Verdict::Stay;
        }
        if leases.phase == Phase::Won && self.roles.are_under_way() {
            self.go_on_alone(now, out);
            return Verdict::Open;
        }
        let decided = leases.decide_at.is_some_and(|at| at <= now);
        #[cfg(feature = "sim")]
        let decided = decided || self.mutations.unannounced;
        let serves = leases.alone == Alone::Serve;
        let missing: Vec<(usize, bool)> = (0..)
            .zip(&leases.peers)
            .filter(|(_, peer)| peer.view.deadline <= now)
            .map(|(index, peer)| {
                let released = self.claim == Some(Claim::Released(peer.address));
                // What came while it was held up it has not heard.
                let listened = !leases.resumes || leases.stood_at.after(peer.longest_hold()) <= now;
                #[cfg(feature = "sim")]
                let listened = listened || self.mutations.resume_unlistened;
                let silent = released || peer.is_silent(now) && listened;
                (index, silent && peer.view.heard_at < leases.stood_at)
            })
            .collect();
        for (index, silent) in &missing {
            if decided && serves && *silent {
                self.renew_alone(*index, now, out);
            }
        }
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if !missing.is_empty() {
            return Verdict::Stay;
        }
        if leases.phase == Phase::Announcing {
            leases.phase = Phase::Won;
            self.timers.stop(Timer::Candidate);
            if !self.calls {
                self.send(self.priority, now, out);
                self.timers
                    .set(Timer::Advert, now.after(self.config.advert_interval));
            }
        }
        Verdict::Open
    }

    /// Whether the leases allow to open.
    pub(crate) fn leases_allow(&self, now: MonoNs) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.phase == Phase::Won && leases.deadline() > now)
    }

    /// Speaks from now on.
    pub(crate) fn open_by_leases(&mut self, now: MonoNs, out: &mut Outbox) {
        out.push(Action::Stand {
            instance: self.config.id,
            standing: Standing::Active,
        });
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.resumes = false;
        let deadline = leases.deadline();
        self.gate = Some(deadline);
        self.timers.set(Timer::Gate, deadline);
        self.arm_alone(now);
    }

    /// A loser need not be outlived any more, since it asks: now the promises are what is waited for.
    pub(crate) fn await_promises(&mut self, now: MonoNs) {
        if let Some(leases) = &self.leases
            && leases.phase == Phase::Promised
        {
            let due = leases.promised_until().max(now);
            self.timers.set(Timer::Candidate, due);
        }
    }

    /// After a loser's end was noticed: takes what it held, if its promise allows.
    pub(crate) fn losers_gone(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        self.await_losers(now);
        let waits = self
            .leases
            .as_ref()
            .is_some_and(|leases| leases.phase == Phase::Promised);
        if waits && !self.contested {
            out.push(Action::Act {
                instance: self.config.id,
            });
            return Verdict::Stay;
        }
        Verdict::Open
    }
}

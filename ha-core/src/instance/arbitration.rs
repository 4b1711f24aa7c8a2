//! Where nothing at all is heard from the other nodes: are they dead, or is this node cut off? An arbitrator, such as
//! a gateway that answers, cannot tell who is to serve, and never decides that this node is. It only says no: who
//! does not reach it is cut off, and does not serve.
//!
//! What is known of it from before is no answer: it may be as cut off as the other nodes since. So it is asked anew.

use alloc::{format, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

use super::{Claim, Departure, Instance, Verdict, lease::Leases};
use crate::{
    event::{Action, ChannelState},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    tracking::{Advisor, Source},
};

/// For how long a node counts as alive that was heard: those that hold nothing are heard once a second.
const HEARD: Nanos = Nanos::from_secs(3);

/// Beyond the check's timeout, until a question counts as lost and is asked again.
const LOST: Nanos = Nanos::from_secs(1);

/// The longest between an answer that settles nothing and the next question.
const LONGEST_PAUSE: Nanos = Nanos::from_secs(1);

/// What an arbitrator said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Answer {
    /// It was not asked.
    #[default]
    None,
    /// It was asked, and has not answered.
    Asked { round: MonoNs },
    /// Asked then, it was reached, or not.
    Given {
        round: MonoNs,
        at: MonoNs,
        result: Result<(), String>,
    },
}

/// An arbitrator of an instance.
#[derive(Clone, Debug)]
struct Arbitrator {
    advisor: Advisor,
    answer: Answer,
}

impl Arbitrator {
    /// What is wrong with it, by what it said since then and by what its check says; `None`: neither says so.
    fn fault(&self, since: MonoNs) -> Option<&str> {
        let said = match &self.answer {
            Answer::Given { round, at, result } if *round >= since => Some((*at, result)),
            _ => None,
        };
        match (said, &self.advisor.fault) {
            // What was found later is known better.
            (Some((at, Ok(()))), Some((down_at, _))) if *down_at < at => None,
            (_, Some((_, why))) => Some(why),
            (Some((_, Err(why))), None) => Some(why),
            (_, None) => None,
        }
    }

    /// Whether it said yes since then, and nothing has been wrong with it after that.
    fn agrees(&self, since: MonoNs) -> bool {
        let said_yes = |answer: &Answer| matches!(answer, Answer::Given { round, result: Ok(()), .. } if *round >= since);
        said_yes(&self.answer) && self.fault(since).is_none()
    }

    /// When it is to be asked about the silence since then; `None`: it agrees, and its check too.
    fn due(&self, since: MonoNs, patience: Nanos) -> Option<MonoNs> {
        let pause = self.advisor.interval.min(LONGEST_PAUSE);
        match &self.answer {
            Answer::Asked { round } if *round >= since => {
                Some(round.after(self.advisor.timeout).after(patience))
            }
            Answer::Given { round, at, result } if *round >= since => {
                let settled = result.is_ok() && self.advisor.fault.is_none();
                (!settled).then(|| at.after(pause))
            }
            Answer::None | Answer::Asked { .. } | Answer::Given { .. } => Some(MonoNs::ZERO),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arbitrators {
    all: Vec<Arbitrator>,
}

impl Arbitrators {
    /// Takes in which there are, and what is wrong with them; whether there are others than before.
    pub(super) fn match_advisors(&mut self, advisors: Vec<Advisor>) -> bool {
        let mut before = core::mem::take(&mut self.all);
        let changed = before.len() != advisors.len();
        for advisor in advisors {
            let mut known = before.iter();
            let known = known.position(|one| one.advisor.source == advisor.source);
            let answer = known.map(|at| before.swap_remove(at).answer);
            self.all.push(Arbitrator {
                advisor,
                answer: answer.unwrap_or_default(),
            });
        }
        changed || !before.is_empty()
    }
}

impl Instance {
    /// Since when nothing is heard, as far as it is known.
    fn unheard_since(&self) -> MonoNs {
        let leases = self.leases.as_ref();
        let heard = leases.map_or(MonoNs::ZERO, Leases::heard_at);
        self.silent_from().max(heard)
    }

    /// Backup: whether it claims what fell silent, and hears nobody else.
    fn needs_arbitration(&self, now: MonoNs) -> bool {
        matches!(self.claim, Some(Claim::Silence | Claim::Dead(_))) && !self.hears_others(now)
    }

    /// Whether every arbitrator that has to agree with its claim does.
    pub(super) fn arbitrators_agree(&self, now: MonoNs) -> bool {
        if !self.needs_arbitration(now) {
            return true;
        }
        let since = self.unheard_since();
        self.arbitrators.all.iter().all(|one| one.agrees(since))
    }

    /// Asks those that did not say yes since somebody was heard last: at once, again after a pause, and again where
    /// an answer was lost.
    pub(super) fn ask_arbitrators(&mut self, now: MonoNs, out: &mut Outbox) {
        let since = self.unheard_since();
        #[cfg(not(feature = "sim"))]
        let patience = LOST;
        #[cfg(feature = "sim")]
        let patience = if self.mutations.ask_once {
            Nanos(u64::MAX)
        } else {
            LOST
        };
        for one in &mut self.arbitrators.all {
            if one.due(since, patience).is_some_and(|due| due <= now) {
                one.answer = Answer::Asked { round: now };
                out.push(Action::Confirm {
                    source: one.advisor.source.clone(),
                    round: now,
                });
            }
        }
        let all = self.arbitrators.all.iter();
        match all.filter_map(|one| one.due(since, patience)).min() {
            Some(due) => self.timers.set(Timer::Arbitrate, due),
            None => self.timers.stop(Timer::Arbitrate),
        }
    }

    /// It is time to ask again, unless another node was heard meanwhile.
    pub(super) fn arbitration_due(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let is_open = match self.state {
            State::Active => self.hears_nobody(now),
            State::Backup => self.needs_arbitration(now),
            _ => false,
        };
        if is_open {
            self.ask_arbitrators(now, out);
        }
        if self.claims(now) {
            Verdict::Claim
        } else {
            Verdict::Stay
        }
    }

    /// A channel is up again: what an arbitrator said before belongs to another silence.
    pub(super) fn forget_answers(&mut self) {
        for one in &mut self.arbitrators.all {
            one.answer = Answer::None;
        }
    }

    /// An arbitrator was reached, or was not.
    pub(crate) fn confirmed(
        &mut self,
        source: &Source,
        round: MonoNs,
        result: &Result<(), String>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let mut all = self.arbitrators.all.iter_mut();
        let asked = Answer::Asked { round };
        let Some(one) = all.find(|one| one.advisor.source == *source && one.answer == asked) else {
            return Verdict::Stay;
        };
        one.answer = Answer::Given {
            round,
            at: now,
            result: result.clone(),
        };
        let claim = self.arbitration_due(now, out);
        match (self.state, result) {
            (State::Active, _) => self.isolated(now).map_or(Verdict::Stay, Verdict::Leave),
            (State::Promoting, Err(why)) if self.needs_arbitration(now) => {
                let (by, why) = (source.clone(), why.clone());
                Verdict::Leave(Departure::to_backup(Cause::Isolated { by, why }))
            }
            (State::Backup, Err(why)) if !self.arbitrators_agree(now) => {
                self.stay_isolated(source, why, out);
                Verdict::Stay
            }
            _ => claim,
        }
    }

    /// Says once for each stay why it does not take over.
    fn stay_isolated(&mut self, source: &Source, why: &str, out: &mut Outbox) {
        if matches!(self.cause, Cause::Isolated { .. }) {
            return;
        }
        let cause = Cause::Isolated {
            by: source.clone(),
            why: String::from(why),
        };
        self.note(format!("stays Backup: {cause}"), out);
        self.cause = cause;
    }

    /// Active, without the other nodes and without an arbitrator: it lets go.
    pub(super) fn isolated(&self, now: MonoNs) -> Option<Departure> {
        if self.state != State::Active || !self.hears_nobody(now) {
            return None;
        }
        let since = self.unheard_since();
        self.arbitrators.all.iter().find_map(|one| {
            let why = String::from(one.fault(since)?);
            let by = one.advisor.source.clone();
            Some(Departure::to_backup(Cause::Isolated { by, why }))
        })
    }

    /// Active: whether nothing comes from any other node, as far as that can be known: adverts do not tell.
    pub(super) fn hears_nobody(&self, now: MonoNs) -> bool {
        let leases = self.leases.as_ref();
        let known = leases.is_some() || self.channels.contains(&ChannelState::Dead);
        known
            && !self.channels.contains(&ChannelState::Up)
            && leases.is_none_or(|leases| leases.all_silent(now))
    }

    /// Backup: whether another node is heard than the one that fell silent, since that did.
    fn hears_others(&self, now: MonoNs) -> bool {
        let leases = self.leases.as_ref();
        self.channels.contains(&ChannelState::Up)
            || leases
                .is_some_and(|leases| leases.hears_beside_asker(self.silent_from(), HEARD, now))
    }

    /// What its arbitrators have to do with its state, in a sentence.
    pub(crate) fn arbitration(&self, now: MonoNs) -> Option<String> {
        if self.state != State::Backup || self.arbitrators_agree(now) {
            return None;
        }
        let since = self.unheard_since();
        let mut all = self.arbitrators.all.iter();
        let one = all.find(|one| !one.agrees(since))?;
        let source = &one.advisor.source;
        Some(match one.fault(since) {
            Some(why) => format!(
                "Nothing is heard from the other nodes, and {source} is down: {why}. So this node may be cut off, and does not take over."
            ),
            None => format!(
                "Nothing is heard from the other nodes: it asks whether {source} is up before it takes over."
            ),
        })
    }
}

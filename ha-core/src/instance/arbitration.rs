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
    tracking::Source,
};

/// For how long a node counts as alive that was heard: those that hold nothing are heard once a second.
const HEARD: Nanos = Nanos::from_secs(3);

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
        result: Result<(), String>,
    },
}

impl Answer {
    /// What it said since then.
    fn since(&self, then: MonoNs) -> Option<&Result<(), String>> {
        match self {
            Self::Given { round, result } if *round >= then => Some(result),
            Self::None | Self::Asked { .. } | Self::Given { .. } => None,
        }
    }
}

/// An arbitrator of an instance.
#[derive(Clone, Debug)]
struct Arbitrator {
    source: Source,
    /// Since when its check says that it is down, and why.
    fault: Option<(MonoNs, String)>,
    answer: Answer,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arbitrators {
    all: Vec<Arbitrator>,
}

impl Arbitrators {
    /// Takes in which there are, and what is wrong with them; whether there are others than before.
    pub(super) fn match_sources(
        &mut self,
        sources: Vec<(Source, Option<(MonoNs, String)>)>,
    ) -> bool {
        let mut before = core::mem::take(&mut self.all);
        let changed = before.len() != sources.len();
        for (source, fault) in sources {
            let known = before.iter().position(|one| one.source == source);
            let answer = known.map(|at| before.swap_remove(at).answer);
            self.all.push(Arbitrator {
                source,
                fault,
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

    /// Whether every arbitrator that has to agree with its claim does.
    pub(super) fn arbitrators_agree(&self, now: MonoNs) -> bool {
        if !matches!(self.claim, Some(Claim::Silence | Claim::Dead(_))) || self.hears_others(now) {
            return true;
        }
        let since = self.unheard_since();
        let agrees = |one: &Arbitrator| matches!(one.answer.since(since), Some(Ok(())));
        self.arbitrators.all.iter().all(agrees)
    }

    /// Asks those that did not say yes since somebody was heard last, and are not being asked.
    pub(super) fn ask_arbitrators(&mut self, now: MonoNs, out: &mut Outbox) {
        let since = self.unheard_since();
        for one in &mut self.arbitrators.all {
            let asked = matches!(one.answer, Answer::Asked { round } if round >= since);
            if asked || matches!(one.answer.since(since), Some(Ok(()))) {
                continue;
            }
            one.answer = Answer::Asked { round: now };
            out.push(Action::Confirm {
                source: one.source.clone(),
                round: now,
            });
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
        let Some(one) = all.find(|one| one.source == *source && one.answer == asked) else {
            return Verdict::Stay;
        };
        one.answer = Answer::Given {
            round,
            result: result.clone(),
        };
        match (self.state, result) {
            (State::Active, _) => self.isolated(now).map_or(Verdict::Stay, Verdict::Leave),
            (State::Backup, Ok(())) if self.claims(now) => Verdict::Claim,
            (State::Backup, Err(why)) if !self.arbitrators_agree(now) => {
                self.stay_isolated(source, why, out);
                Verdict::Stay
            }
            _ => Verdict::Stay,
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
            let why = match (&one.answer, &one.fault) {
                // What was asked later is known better.
                (
                    Answer::Given {
                        round,
                        result: Ok(()),
                    },
                    Some((at, _)),
                ) if at < round => return None,
                (_, Some((_, why))) => why,
                (answer, None) => answer.since(since)?.as_ref().err()?,
            };
            let why = why.clone();
            let by = one.source.clone();
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

    /// Backup: whether another node is heard than the one that fell silent.
    fn hears_others(&self, now: MonoNs) -> bool {
        let leases = self.leases.as_ref();
        self.channels.contains(&ChannelState::Up)
            || leases.is_some_and(|leases| leases.hears_beside_asker(HEARD, now))
    }

    /// What its arbitrators have to do with its state, in a sentence.
    pub(crate) fn arbitration(&self, now: MonoNs) -> Option<String> {
        if self.state != State::Backup || self.arbitrators_agree(now) {
            return None;
        }
        let since = self.unheard_since();
        let open = |one: &&Arbitrator| !matches!(one.answer.since(since), Some(Ok(())));
        let one = self.arbitrators.all.iter().find(open)?;
        let source = &one.source;
        Some(match &one.answer {
            Answer::Given {
                result: Err(why), ..
            } => format!(
                "Nothing is heard from the other nodes, and {source} is down: {why}. So this node may be cut off, and does not take over."
            ),
            _ => format!(
                "Nothing is heard from the other nodes: it asks whether {source} is up before it takes over."
            ),
        })
    }
}

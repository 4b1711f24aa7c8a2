//! What the engine knows of the roles of one group.

use alloc::{format, string::String};

use ha_common::{MonoNs, Nanos};

use crate::{
    config::GroupConfig,
    event::Action,
    instance::Roles,
    outbox::Outbox,
    roles::{BACKSTOP, Manner, Prospect, RolesConfig},
    status::Span,
};

/// How far they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// None of them is promoted.
    Free,
    Promoting {
        round: MonoNs,
    },
    Promoted,
    Demoting {
        round: MonoNs,
        manner: Manner,
    },
    /// The demotion that began then has not ended: nothing is known of them before it does.
    Overdue {
        round: MonoNs,
    },
}

/// The roles of one group.
#[derive(Debug)]
pub(crate) struct GroupRoles {
    pub(super) name: String,
    limits: RolesConfig,
    pub(super) stage: Stage,
    prospect: Option<Prospect>,
    /// What is being done, in words.
    progress: Option<String>,
    /// They are to be demoted, and not promoted again before the next reload.
    pub(super) vacated: bool,
    /// The last round; each is later than the one before.
    round: MonoNs,
    /// When what is under way is given up.
    pub(super) due: Option<MonoNs>,
}

impl GroupRoles {
    pub(in crate::engine) fn new(group: &GroupConfig) -> Option<Self> {
        Some(Self {
            name: group.name.clone(),
            limits: group.roles?,
            stage: Stage::Free,
            prospect: None,
            progress: None,
            vacated: false,
            round: MonoNs::ZERO,
            due: None,
        })
    }

    /// After a reload: what is under way keeps its time.
    pub(super) fn reconfigure(&mut self, limits: RolesConfig) {
        self.limits = limits;
        self.vacated = false;
    }

    /// As the instances of its group see them.
    pub(super) fn seen(&self) -> Roles {
        match self.stage {
            Stage::Free if self.is_eligible().is_err() => Roles::Barred,
            Stage::Free => Roles::Free,
            Stage::Promoting { .. } => Roles::Promoting,
            Stage::Promoted => Roles::Promoted,
            Stage::Demoting { .. } => Roles::Demoting,
            Stage::Overdue { .. } => Roles::Barred,
        }
    }

    /// Whether they could be promoted.
    pub(super) fn is_eligible(&self) -> Result<(), String> {
        if self.vacated {
            return Err(String::from("a reload changes its group"));
        }
        match &self.prospect {
            None => Err(String::from(
                "they have not been looked at yet since the daemon started",
            )),
            Some(prospect) => prospect.eligible.clone(),
        }
    }

    pub(super) fn position(&self) -> u32 {
        let known = self.prospect.as_ref();
        known.map_or(0, |prospect| prospect.position)
    }

    pub(super) fn expect(&mut self, prospect: Prospect) {
        self.prospect = Some(prospect);
    }

    pub(in crate::engine) fn progress(&mut self, text: String) {
        self.progress = Some(text);
    }

    /// Whether the daemon waits for them before it ends.
    pub(in crate::engine) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Free | Stage::Overdue { .. })
    }

    pub(super) fn promote(&mut self, unplanned: bool, now: MonoNs, out: &mut Outbox) {
        let round = self.begin(self.limits.promote_limit, now);
        self.stage = Stage::Promoting { round };
        out.push(Action::PromoteRoles {
            group: self.name.clone(),
            round,
            unplanned,
        });
    }

    /// Has them demoted, unless that is under way in this manner or a harder one.
    pub(super) fn demote(&mut self, manner: Manner, now: MonoNs, out: &mut Outbox) {
        match self.stage {
            Stage::Free | Stage::Overdue { .. } => return,
            Stage::Demoting { manner: before, .. } if before >= manner => return,
            Stage::Promoting { .. } | Stage::Promoted | Stage::Demoting { .. } => {}
        }
        let round = self.begin(self.limits.demotion(manner), now);
        self.stage = Stage::Demoting { round, manner };
        out.push(Action::DemoteRoles {
            group: self.name.clone(),
            round,
            manner,
        });
    }

    fn begin(&mut self, limit: Nanos, now: MonoNs) -> MonoNs {
        self.round = now.max(self.round.after(Nanos(1)));
        self.due = Some(now.after(limit).after(BACKSTOP));
        self.progress = None;
        self.round
    }

    /// What is under way has ended.
    pub(super) fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.due = None;
        self.progress = None;
    }

    /// Why a promotion is given up.
    pub(super) fn not_promoted(&self) -> String {
        let done = self.in_words("");
        format!(
            "its roles were not promoted within {}{done}",
            Span(self.limits.promote_limit)
        )
    }

    /// Why a demotion is given up.
    pub(super) fn not_demoted(&self) -> String {
        let done = self.in_words("");
        let limit = match self.stage {
            Stage::Demoting { manner, .. } => self.limits.demotion(manner),
            _ => self.limits.forced_limit,
        };
        format!("its roles were not demoted within {}{done}", Span(limit))
    }

    fn in_words(&self, otherwise: &str) -> String {
        match &self.progress {
            Some(text) => format!(": {text}"),
            None => String::from(otherwise),
        }
    }

    /// What they have to do with an instance that takes no part in an election, in a sentence.
    pub(crate) fn beside(&self) -> Option<String> {
        Some(match self.stage {
            Stage::Free => match self.is_eligible() {
                Ok(()) => return None,
                Err(why) => {
                    format!("It does not take over: its roles cannot be promoted: {why}.")
                }
            },
            Stage::Promoting { .. } | Stage::Promoted => return None,
            Stage::Demoting { .. } => format!(
                "It does not take over before its roles are demoted{}.",
                self.in_words("")
            ),
            Stage::Overdue { .. } => format!(
                "It does not take over: {}, and it is not known whether they are.",
                self.not_demoted()
            ),
        })
    }

    /// What they have to do with an instance that is elected, in a sentence.
    pub(crate) fn during(&self, now: MonoNs) -> Option<String> {
        let left = Span(self.due.map_or(Nanos::ZERO, |due| due.since(now)));
        let done = self.in_words("");
        Some(match self.stage {
            Stage::Free => String::from(
                "Its roles are promoted, and its addresses added, as soon as no other node can act any more.",
            ),
            Stage::Promoting { .. } => {
                format!(
                    "Its roles are being promoted{done}; it gives up if that takes another {left}."
                )
            }
            Stage::Demoting {
                manner: Manner::Graceful,
                ..
            } => format!(
                "Its roles are being demoted{done}; it goes on here if that fails, and does not wait for longer than another {left}."
            ),
            Stage::Demoting { .. } => format!(
                "Its roles are being demoted{done}; no other node takes over meanwhile, for another {left} at most."
            ),
            Stage::Promoted | Stage::Overdue { .. } => return None,
        })
    }
}

//! Between what conductors say (`ha_core::plan`) and what passes on the link.

use ha_common::MonoNs;
use ha_core::{
    Mode,
    plan::{self, Ask, Grant},
};

use super::message::{GroupWord, Handover, Position, Stance, SyncAsk, SyncGrant, Wish};

const MODES: [Mode; 3] = [Mode::ActiveStandby, Mode::Maintenance, Mode::Standalone];

impl GroupWord {
    /// What a group's conductor says, for the link.
    #[must_use]
    pub fn of(group: &str, word: &plan::GroupWord) -> Self {
        // Each field, so that a new one cannot be forgotten here. Who speaks stands in the hello.
        let plan::GroupWord {
            node: _,
            epoch,
            stance,
            mode,
            eligible,
            position,
            endpoint,
            history,
            ask,
            renounces,
            grant,
            wish,
            consent,
            handover,
            alone_since,
        } = word;
        Self {
            group: group.to_owned(),
            epoch: *epoch,
            stance: (*stance).into(),
            mode: mode.name().to_owned(),
            eligible: eligible.is_ok(),
            why: eligible.as_ref().err().cloned().unwrap_or_default(),
            position: position.as_ref().map(Into::into),
            endpoint: endpoint.clone(),
            history: history.clone(),
            ask: ask.map(|ask| SyncAsk {
                sent_at: ask.sent_at.0,
                epoch: ask.epoch,
            }),
            renounces: *renounces,
            grant: grant.map(|grant| SyncGrant {
                asked_at: grant.asked_at.0,
                epoch: grant.epoch,
            }),
            wish: wish.map(|wish| Wish {
                asked_at: wish.asked_at.0,
                epoch: wish.epoch,
                priority: wish.priority,
            }),
            consent: consent.map(|consent| SyncGrant {
                asked_at: consent.asked_at.0,
                epoch: consent.epoch,
            }),
            handover: handover.as_ref().map(Into::into),
            alone_since: *alone_since,
        }
    }

    /// What a node's conductor said, for this node's. `None` where a later release says of itself what this one has no word
    /// for: nothing is concluded from half of it.
    #[must_use]
    pub fn said_by(self, node: &str) -> Option<plan::GroupWord> {
        let mode = MODES.into_iter().find(|mode| mode.name() == self.mode)?;
        Some(plan::GroupWord {
            node: node.to_owned(),
            epoch: self.epoch,
            stance: self.stance.known()?,
            mode,
            eligible: if self.eligible { Ok(()) } else { Err(self.why) },
            position: self.position.map(Into::into),
            endpoint: self.endpoint,
            history: self.history,
            ask: self.ask.map(|ask| Ask {
                sent_at: MonoNs(ask.sent_at),
                epoch: ask.epoch,
            }),
            renounces: self.renounces,
            grant: self.grant.map(|grant| Grant {
                asked_at: MonoNs(grant.asked_at),
                epoch: grant.epoch,
            }),
            wish: self.wish.map(|wish| plan::Wish {
                asked_at: MonoNs(wish.asked_at),
                epoch: wish.epoch,
                priority: wish.priority,
            }),
            consent: self.consent.map(|consent| plan::Consent {
                asked_at: MonoNs(consent.asked_at),
                epoch: consent.epoch,
            }),
            handover: self.handover.map(Into::into),
            alone_since: self.alone_since,
        })
    }
}

impl From<plan::Stance> for Stance {
    fn from(stance: plan::Stance) -> Self {
        match stance {
            plan::Stance::Unsettled => Self::Unsettled,
            plan::Stance::Standby => Self::Standby,
            plan::Stance::Promoting => Self::Promoting,
            plan::Stance::Primary => Self::Primary,
            plan::Stance::Demoting => Self::Demoting,
        }
    }
}

impl Stance {
    const fn known(self) -> Option<plan::Stance> {
        Some(match self {
            Self::Unsettled => plan::Stance::Unsettled,
            Self::Standby => plan::Stance::Standby,
            Self::Promoting => plan::Stance::Promoting,
            Self::Primary => plan::Stance::Primary,
            Self::Demoting => plan::Stance::Demoting,
            Self::Unknown => return None,
        })
    }
}

impl From<&plan::Handover> for Handover {
    fn from(handover: &plan::Handover) -> Self {
        let plan::Handover {
            epoch,
            position,
            asked,
        } = handover;
        Self {
            epoch: *epoch,
            position: position.as_ref().map(Into::into),
            asked: *asked,
        }
    }
}

impl From<Handover> for plan::Handover {
    fn from(handover: Handover) -> Self {
        Self {
            epoch: handover.epoch,
            position: handover.position.map(Into::into),
            asked: handover.asked,
        }
    }
}

impl From<&plan::Position> for Position {
    fn from(position: &plan::Position) -> Self {
        Self {
            rank: position.rank,
            text: position.text.clone(),
        }
    }
}

impl From<Position> for plan::Position {
    fn from(position: Position) -> Self {
        Self {
            rank: position.rank,
            text: position.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(stance: plan::Stance, mode: Mode) -> plan::GroupWord {
        let position = plan::Position {
            rank: 42,
            text: "0-1-42".to_owned(),
        };
        plan::GroupWord {
            node: "n1".to_owned(),
            epoch: 7,
            stance,
            mode,
            eligible: Err("its data is too old".to_owned()),
            position: Some(position.clone()),
            endpoint: Some("10.0.0.1:3306".to_owned()),
            history: Some("0-1-42,0-2-3".to_owned()),
            ask: Some(Ask {
                sent_at: MonoNs(u64::MAX),
                epoch: 7,
            }),
            renounces: true,
            grant: Some(Grant {
                asked_at: MonoNs(3),
                epoch: 8,
            }),
            wish: Some(plan::Wish {
                asked_at: MonoNs(4),
                epoch: 9,
                priority: 150,
            }),
            consent: Some(plan::Consent {
                asked_at: MonoNs(5),
                epoch: 10,
            }),
            handover: Some(plan::Handover {
                epoch: 6,
                position: Some(position),
                asked: true,
            }),
            alone_since: Some(5),
        }
    }

    fn passed_on(word: &plan::GroupWord) -> Option<plan::GroupWord> {
        let bytes = serde_json::to_vec(&GroupWord::of("db", word)).unwrap();
        let read: GroupWord = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read.group, "db");
        read.said_by("n1")
    }

    #[test]
    fn every_word_comes_over_as_it_was_said() {
        for stance in [
            plan::Stance::Unsettled,
            plan::Stance::Standby,
            plan::Stance::Promoting,
            plan::Stance::Primary,
            plan::Stance::Demoting,
        ] {
            for mode in MODES {
                let said = word(stance, mode);
                assert_eq!(passed_on(&said), Some(said));
            }
        }
        let bare = plan::GroupWord {
            eligible: Ok(()),
            position: None,
            endpoint: None,
            history: None,
            ask: None,
            renounces: false,
            grant: None,
            wish: None,
            consent: None,
            handover: None,
            alone_since: None,
            ..word(plan::Stance::Standby, Mode::ActiveStandby)
        };
        assert_eq!(passed_on(&bare), Some(bare));
    }

    #[test]
    fn nothing_is_concluded_from_what_is_not_known() {
        let said = GroupWord::of("db", &word(plan::Stance::Primary, Mode::Maintenance));
        let with = |change: fn(&mut GroupWord)| {
            let mut said = said.clone();
            change(&mut said);
            said.said_by("n1")
        };
        assert!(with(|_| {}).is_some());
        assert_eq!(with(|said| said.stance = Stance::Unknown), None);
        assert_eq!(with(|said| said.mode = "holiday".to_owned()), None);
    }
}

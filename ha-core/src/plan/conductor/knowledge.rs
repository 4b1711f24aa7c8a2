//! Whether this node may be elected: what is known of its data, and of the others'.

use alloc::{format, string::String, vec::Vec};

use ha_common::MonoNs;

use super::Conductor;
use crate::{
    plan::{
        config::{Durability, RoleKind},
        event::Stance,
        observation::{Observation, Position},
    },
    roles::Mode,
};

impl Conductor {
    /// Whether this node may be elected, or why not.
    pub(super) fn eligible(&self, now: MonoNs) -> Result<(), String> {
        match self.stance {
            Stance::Primary => {
                let objection = self.superseded().or_else(|| self.was_restarted());
                return objection.map_or(Ok(()), Err);
            }
            Stance::Promoting => return Ok(()),
            Stance::Unsettled | Stance::Demoting => {
                return Err("its roles are being demoted".into());
            }
            Stance::Standby => {}
        }
        if self.mode == Mode::Maintenance {
            return Err("this node is in maintenance".into());
        }
        for (role, observation) in self.config.roles.iter().zip(&self.observations) {
            if let Err(why) = &observation.able {
                return Err(format!("{}: {why}", role.name));
            }
        }
        let stands_alone = self.mode == Mode::Standalone && self.alone_since.is_none();
        let accepts_loss = stands_alone || now < self.accepts_loss_until;
        if accepts_loss || self.sole || self.data().is_none() {
            return Ok(());
        }
        self.knows(now)
    }

    /// What the executor of the role found whose data has to be known; `None`: there is no such role.
    pub(super) fn data(&self) -> Option<&Observation> {
        let (index, _) = self.data_role()?;
        self.observations.get(index)
    }

    pub(super) fn data_role(&self) -> Option<(usize, RoleKind)> {
        let mut roles = self.config.roles.iter().map(|role| role.kind).enumerate();
        roles.find(|(_, kind)| kind.needs_knowledge())
    }

    pub(super) fn durability(&self) -> Option<Durability> {
        match self.data_role()? {
            (_, RoleKind::Mysql { durability, .. }) => Some(durability),
            _ => None,
        }
    }

    pub(super) fn position(&self) -> Option<&Position> {
        self.data()?.position.as_ref()
    }

    /// Whether this node's data has all that was acknowledged.
    fn knows(&self, now: MonoNs) -> Result<(), String> {
        let held = match self.durability() {
            Some(Durability::SemiSync) => self.is_member(now),
            _ => now < self.fresh_until,
        };
        if held && self.config.peers <= 1 {
            return Ok(());
        }
        // Of three nodes, one acknowledgement is enough: another standby may have what this one has not.
        let needed = self.config.peers.saturating_sub(usize::from(held));
        if self.consents(now) >= needed {
            return Ok(());
        }
        Err(self.objection(now))
    }

    pub(super) fn is_member(&self, now: MonoNs) -> bool {
        #[cfg(feature = "sim")]
        if self.mutations.eternal_membership {
            return self.member.until() > MonoNs::ZERO;
        }
        now < self.member.until()
    }

    /// As the primary: whether its server was started again behind its back. It may lack what it had acknowledged, and
    /// what is there has to be voted on as that of any standby.
    fn was_restarted(&self) -> Option<String> {
        let (held, found) = (self.held_server?, self.server()?);
        (held != found).then(|| "its server was started again since it was promoted".into())
    }

    /// The incarnation of its database's server, as it was found since the last plan.
    pub(super) fn server(&self) -> Option<u64> {
        let (index, _) = self.data_role()?;
        let seen = self.seen.get(index).is_some_and(|seen| *seen);
        self.observations.get(index).filter(|_| seen)?.incarnation
    }

    /// Why nobody has agreed to this node's promotion.
    fn objection(&self, now: MonoNs) -> String {
        let heard: Vec<_> = self
            .peers
            .iter()
            .filter(|peer| peer.is_fresh(Self::freshness(), now))
            .map(|peer| &peer.word)
            .collect();
        for word in &heard {
            if matches!(word.stance, Stance::Primary | Stance::Promoting) {
                return match &self.refused {
                    Some(why) => format!("it cannot follow {}: {why}", word.node),
                    None => format!(
                        "it is not in sync with {}, which is {}",
                        word.node,
                        word.stance.name()
                    ),
                };
            }
        }
        let missing = self.config.peers.saturating_sub(heard.len());
        if missing > 0 {
            return self.unknown(missing);
        }
        let Some(own) = self.position() else {
            return "how far its data is is not known".into();
        };
        for word in heard {
            match &word.position {
                None => return format!("how far {}'s data is is not known", word.node),
                Some(theirs) if theirs.rank > own.rank => {
                    return format!(
                        "{} has newer data ({} against {})",
                        word.node, theirs.text, own.text
                    );
                }
                Some(_) => {}
            }
        }
        "the other nodes have not agreed to its promotion (yet)".into()
    }

    fn unknown(&self, missing: usize) -> String {
        format!(
            "it is not known whether {} newer data: {missing} of {} not heard, and this node is not in sync with a primary. If that is gone for good: `hactl switchover {} --accept-loss`, or `hactl mode standalone`",
            if self.config.peers == 1 {
                "the other node has"
            } else {
                "other nodes have"
            },
            self.config.peers,
            self.config.group,
        )
    }
}

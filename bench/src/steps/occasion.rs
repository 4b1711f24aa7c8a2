//! What brings a plan about.

use std::time::Duration;

use anyhow::Result;
use ha_common::Nanos;
use ha_core::plan::{
    Durability, Limits, OnFailure, Purpose, RoleConfig, RoleKind, Stance, sequence,
};
use ha_tests::{eventually, mariadb::role};

use super::outcome;
use crate::writes::Stage;

/// How long a primary may take to go on alone.
const SOLO_LIMIT: Duration = Duration::from_secs(20);

/// How long a locked table may keep a server from being demoted.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Occasion {
    /// An operator hands over: the other node is promoted
    PromoteAsked,
    /// The primary's server is killed: the other node is promoted
    PromoteAfterCrash,
    /// An operator hands over: this node is demoted, and goes on if that fails
    HandOver,
    /// An operator sends the primary into maintenance
    Demote,
    /// The same, while a client has locked a table: the server is killed
    DemoteHard,
    /// Somebody ended the standby's replication
    Follow,
    /// The standby is cut off
    GoSolo,
    /// It is there again
    Rejoin,
    /// Somebody forbade writes at the primary
    CorrectPrimary,
    /// Somebody allowed writes at the standby
    CorrectStandby,
}

impl Occasion {
    pub(crate) const ALL: [Self; 10] = [
        Self::PromoteAsked,
        Self::PromoteAfterCrash,
        Self::HandOver,
        Self::Demote,
        Self::DemoteHard,
        Self::Follow,
        Self::GoSolo,
        Self::Rejoin,
        Self::CorrectPrimary,
        Self::CorrectStandby,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PromoteAsked => "promote (asked)",
            Self::PromoteAfterCrash => "promote (after a crash)",
            Self::HandOver => "hand over",
            Self::Demote => "demote",
            Self::DemoteHard => "demote (hard)",
            Self::Follow => "follow",
            Self::GoSolo => "go solo",
            Self::Rejoin => "rejoin",
            Self::CorrectPrimary => "correct (primary)",
            Self::CorrectStandby => "correct (standby)",
        }
    }

    pub(super) const fn purpose(self) -> Purpose {
        match self {
            Self::PromoteAsked | Self::PromoteAfterCrash => Purpose::Promote,
            Self::HandOver => Purpose::HandOver,
            Self::Demote | Self::DemoteHard => Purpose::Demote,
            Self::Follow => Purpose::Follow,
            Self::GoSolo => Purpose::GoSolo,
            Self::Rejoin => Purpose::Rejoin,
            Self::CorrectPrimary | Self::CorrectStandby => Purpose::Correct,
        }
    }

    /// The node that carries the plan out.
    pub(super) const fn acts(self, primary: usize) -> usize {
        match self {
            Self::PromoteAsked | Self::PromoteAfterCrash | Self::Follow | Self::CorrectStandby => {
                1 - primary
            }
            _ => primary,
        }
    }

    /// The plan's steps; of the hard way those that take a failed one's place.
    pub(super) fn steps(self) -> Vec<&'static str> {
        let role = RoleConfig {
            name: "mariadb".to_owned(),
            kind: RoleKind::Mysql {
                durability: Durability::SemiSync,
                master_master: false,
            },
            limits: Limits {
                promote: Nanos::from_secs(10),
                drain: Nanos::from_secs(60),
                demote: Nanos::from_secs(2),
            },
            max_lag: Nanos::from_secs(30),
        };
        let steps = match self {
            Self::CorrectPrimary => sequence::correction(&role, Stance::Primary),
            Self::CorrectStandby => sequence::correction(&role, Stance::Standby),
            _ => sequence::steps(&role, self.purpose()),
        };
        if self == Self::DemoteHard {
            let hard = steps.into_iter().flat_map(|step| match step.failure {
                OnFailure::Instead(hard) => hard,
                _ => Vec::new(),
            });
            return hard.map(|step| step.name).collect();
        }
        steps.into_iter().map(|step| step.name).collect()
    }

    /// Brings it about.
    pub(super) fn provoke(self, stage: &Stage, primary: usize) -> Result<()> {
        let leads = &stage.nodes[primary];
        let servers = &stage.servers.servers;
        match self {
            Self::PromoteAsked | Self::HandOver => {
                leads.hactl(&["switchover", role::GROUP]).map(drop)
            }
            Self::PromoteAfterCrash => servers[primary].strike(),
            Self::Demote => leads.hactl(&["mode", "maintenance"]).map(drop),
            Self::DemoteHard => {
                // It goes with the server, or with the sessions that are ended.
                let mut holder = servers[primary].session()?;
                holder.ask("LOCK TABLES shop.attempts WRITE")?;
                let asked = leads.hactl(&["mode", "maintenance"]);
                // Until its server has ended, or the daemon has.
                let held = eventually(LOCK_LIMIT, "the server is killed", || {
                    Ok(holder.ask("SELECT 1").is_err())
                });
                held.and(asked.map(drop))
            }
            Self::Follow => servers[1 - primary]
                .sql(&["STOP SLAVE", "RESET SLAVE ALL"])
                .map(drop),
            Self::GoSolo => cut(stage, 1 - primary, true),
            Self::Rejoin => {
                cut(stage, 1 - primary, true)?;
                eventually(SOLO_LIMIT, "the primary goes on alone", || {
                    let group = outcome::group(stage, primary)?;
                    let plan = group.plan.as_ref();
                    Ok(plan.is_some_and(|plan| plan.purpose == "go solo" && !plan.under_way))
                })?;
                cut(stage, 1 - primary, false)
            }
            Self::CorrectPrimary => servers[primary]
                .sql(&["SET GLOBAL read_only = 1"])
                .map(drop),
            Self::CorrectStandby => {
                // What is written there is not the primary's: the standby would be refused afterwards, as it should.
                for sampler in &stage.samplers {
                    sampler.pause();
                }
                servers[1 - primary]
                    .sql(&["SET GLOBAL read_only = 0"])
                    .map(drop)
            }
        }
    }

    /// Whatever of it goes on is ended.
    pub(super) fn heal(self, stage: &Stage, primary: usize) -> Result<()> {
        match self {
            Self::Demote | Self::DemoteHard => {
                eventually(SOLO_LIMIT, "the node takes part again", || {
                    let mode = stage.nodes[primary].hactl(&["mode", "active-standby"]);
                    mode.map(|_| true)
                })
            }
            Self::GoSolo | Self::Rejoin => cut(stage, 1 - primary, false),
            _ => Ok(()),
        }
    }
}

fn cut(stage: &Stage, index: usize, off: bool) -> Result<()> {
    let node = &stage.nodes[index];
    node.set_port(role::DIRECT, !off)?;
    if off {
        node.power_off()
    } else {
        node.power_on()
    }
}

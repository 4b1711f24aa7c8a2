//! What a configuration makes of a group's roles.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use ha_common::{Nanos, Priority};
use ha_core::{
    RolesConfig,
    plan::{self, ConductorConfig, Durability, Limits, OnFailure, Purpose, StepSpec, sequence},
    tracking::{Effect, Source, Track},
    vrrp,
};

use super::{Role, Setting};
use crate::config::{self, AfterFailover, Bootstrap, Config, Group, RoleKind};

/// How long a promotion waits to be told where the node before ended, and some time to write and to tell.
const BESIDE: Nanos = Nanos::from_secs(1);
/// Steps that only touch files of this host.
const FILES: Nanos = Nanos::from_secs(5);
/// How long a standby counts as in sync, where its roles do not say.
const SYNC_LEASE: Nanos = Nanos::from_secs(3);

/// Everything about a group's roles: whoever has the same one is not disturbed by a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What its conductor is told.
    pub(super) conductor: ConductorConfig,
    /// Its roles, in order.
    pub(super) roles: Vec<config::Role>,
    /// Where its database can be followed, `address:port`.
    pub(super) endpoint: Option<String>,
    pub(super) priority: Priority,
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
    pub(super) mask_units: bool,
    /// How long a gate stays open that is not renewed.
    pub(super) gate_time: Nanos,
    /// Of a group whose node may go on alone.
    pub(super) arbitrators: Vec<config::Check>,
}

/// Of each group that has roles.
pub(super) fn of(config: &Config) -> Vec<Spec> {
    let groups = config.groups.iter().enumerate();
    groups
        .filter(|(_, group)| !group.roles.is_empty())
        .map(|(index, group)| one(config, index, group))
        .collect()
}

fn one(config: &Config, index: usize, group: &Group) -> Spec {
    let roles = group
        .roles
        .iter()
        .filter_map(|role| config.roles.get(*role));
    let roles: Vec<config::Role> = roles.cloned().collect();
    let members = config.instances.iter();
    let members: Vec<_> = members.filter(|one| one.group == Some(index)).collect();
    let peers = members.iter().map(|one| one.peers.len()).max();
    let (sync_lease, endpoint) = database(&roles).unzip();
    Spec {
        conductor: ConductorConfig {
            group: group.name.clone(),
            node: config.node.name.clone(),
            roles: roles.iter().map(role_config).collect(),
            // By multicast, there may be any number of them; one is usual.
            peers: peers.unwrap_or_default().max(1),
            sync_lease: sync_lease.unwrap_or(SYNC_LEASE),
            after_failover: match config.modes.after_failover {
                AfterFailover::Rejoin => plan::AfterFailover::Rejoin,
                AfterFailover::Maintenance => plan::AfterFailover::Maintenance,
            },
        },
        endpoint,
        priority: members
            .first()
            .map_or(Priority(0), |instance| instance.priority),
        state_dir: config.node.state_dir.clone(),
        runtime_dir: config.node.runtime_dir.clone(),
        mask_units: config.modes.mask_units,
        gate_time: members
            .iter()
            .map(|instance| gate_time(config, instance))
            .max()
            .unwrap_or_default(),
        arbitrators: arbitrators(config, group, &members, &roles),
        roles,
    }
}

/// By adverts, or by leases on the slowest of its paths.
fn gate_time(config: &Config, instance: &config::Instance) -> Nanos {
    let Some(heartbeat) = instance.heartbeat else {
        return vrrp::gate_time(instance.advert_interval);
    };
    let channels = config.lease_channels.iter();
    let channels = channels.filter(|channel| instance.channels.contains(&channel.name));
    channels
        .map(|channel| channel.times.lease())
        .fold(heartbeat.lease(), Nanos::max)
}

/// A role that is fenced.
pub struct Fenced {
    /// Its group's name.
    pub group: String,
    /// Its own.
    pub name: String,
    /// The steps by which it is fenced.
    pub steps: Vec<StepSpec>,
    /// What carries them out.
    pub role: Box<dyn Role>,
}

/// The roles that are fenced.
#[must_use]
pub fn fenced(config: &Config) -> Vec<Fenced> {
    let mut fenced = Vec::new();
    for spec in of(config) {
        for (role, known) in spec.roles.iter().zip(&spec.conductor.roles) {
            let steps = sequence::fence(known);
            if !steps.is_empty() {
                fenced.push(Fenced {
                    group: spec.conductor.group.clone(),
                    name: role.name.clone(),
                    steps,
                    // What the others say is nothing to it.
                    role: super::of(role, spec.setting(role), &Arc::default()),
                });
            }
        }
    }
    fenced
}

/// Whether any role is fenced.
#[must_use]
pub fn any_fenced(config: &Config) -> bool {
    of(config).iter().any(Spec::is_fenced)
}

/// The checks that tell whether this node is cut off, where a role goes by them.
fn arbitrators(
    config: &Config,
    group: &Group,
    members: &[&config::Instance],
    roles: &[config::Role],
) -> Vec<config::Check> {
    let alone = |role: &config::Role| matches!(&role.kind, RoleKind::Galera(galera) if galera.bootstrap == Bootstrap::Alone);
    if !roles.iter().any(alone) {
        return Vec::new();
    }
    let of_members = members.iter().flat_map(|one| &one.track);
    let tracks: Vec<&Track> = of_members.chain(&group.track).collect();
    let arbitrates = |check: &&config::Check| {
        let source = Source::Check(check.name.clone());
        let mut tracks = tracks.iter();
        tracks.any(|track| track.effect == Effect::Arbitrate && track.source == source)
    };
    let checks = config.checks.iter().filter(arbitrates);
    checks.cloned().collect()
}

fn role_config(role: &config::Role) -> plan::RoleConfig {
    let limits = |promote, drain, demote| Limits {
        promote,
        drain,
        demote,
    };
    let (kind, limits) = match &role.kind {
        RoleKind::Binlog(_) => (plan::RoleKind::Binlog, limits(FILES, FILES, FILES)),
        RoleKind::Cron(_) => (plan::RoleKind::Cron, limits(FILES, FILES, FILES)),
        RoleKind::Drbd(drbd) => (
            plan::RoleKind::Drbd,
            limits(drbd.promote_limit, drbd.promote_limit, drbd.demote_limit),
        ),
        RoleKind::Galera(galera) => (
            plan::RoleKind::Galera,
            limits(
                galera.promote_limit,
                galera.drain_limit,
                galera.demote_limit,
            ),
        ),
        RoleKind::Mount(mount) => (
            plan::RoleKind::Mount,
            limits(mount.promote_limit, mount.fsck_limit, mount.demote_limit),
        ),
        RoleKind::Mysql(mysql) => {
            let durability = if mysql.semi_sync {
                Durability::SemiSync
            } else {
                Durability::Async
            };
            let kind = plan::RoleKind::Mysql {
                durability,
                master_master: mysql.master_master,
            };
            (
                kind,
                limits(mysql.promote_limit, mysql.drain_limit, mysql.demote_limit),
            )
        }
        RoleKind::Script(script) => (
            plan::RoleKind::Script,
            limits(
                script.promote_limit,
                script.promote_limit,
                script.demote_limit,
            ),
        ),
        RoleKind::Sync(_) => (plan::RoleKind::Sync, limits(FILES, FILES, FILES)),
        RoleKind::Unit(unit) => (
            plan::RoleKind::Unit,
            limits(unit.start_limit, unit.start_limit, unit.stop_limit),
        ),
    };
    let max_lag = match &role.kind {
        RoleKind::Mysql(mysql) => mysql.max_lag,
        _ => Nanos::ZERO,
    };
    plan::RoleConfig {
        name: role.name.clone(),
        kind,
        limits,
        max_lag,
    }
}

/// What of a database concerns the group: how long a standby counts as in sync, and where its server is followed.
fn database(roles: &[config::Role]) -> Option<(Nanos, String)> {
    roles.iter().find_map(|role| match &role.kind {
        RoleKind::Mysql(mysql) => Some((mysql.sync_lease, mysql.replication_address.to_string())),
        _ => None,
    })
}

impl Spec {
    /// Whether the roles can stay as they are: a priority is only told to scripts.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same_priority = Self {
            priority: other.priority,
            ..self.clone()
        };
        same_priority == *other
    }

    /// What the executor of a role is told.
    pub(super) fn setting(&self, role: &config::Role) -> Setting {
        Setting {
            node: self.conductor.node.clone(),
            group: self.conductor.group.clone(),
            role: role.name.clone(),
            priority: self.priority,
            state_dir: self.state_dir.clone(),
            runtime_dir: self.runtime_dir.clone(),
            mask_units: self.mask_units,
            arbitrators: self.arbitrators.clone(),
            peers: self.conductor.peers,
            database: self.roles.iter().find_map(|role| match &role.kind {
                RoleKind::Mysql(mysql) => Some(mysql.server.clone()),
                _ => None,
            }),
        }
    }

    /// Whether one of the roles is fenced.
    pub(super) fn is_fenced(&self) -> bool {
        let roles = self.conductor.roles.iter();
        roles
            .into_iter()
            .any(|role| !sequence::fence(role).is_empty())
    }

    /// How long a plan takes at most, with every hard way.
    fn longest(&self, purpose: Purpose) -> Nanos {
        sequence::longest(&sequence::plan(&self.conductor.roles, purpose))
    }

    /// How many steps a plan has at most, and one.
    fn steps(&self, purpose: Purpose) -> u64 {
        let steps = sequence::plan(&self.conductor.roles, purpose);
        let instead = steps.iter().map(|(_, step)| match &step.failure {
            OnFailure::Instead(others) => others.len(),
            _ => 0,
        });
        let count = 1 + steps.len() + instead.sum::<usize>();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// How long the engine waits for them: a promotion that fails is taken back first, and so is a hand-over.
    fn limits(&self) -> RolesConfig {
        let promote = self.longest(Purpose::Promote);
        let demote = self.longest(Purpose::Demote);
        let hand_over = self.longest(Purpose::HandOver);
        RolesConfig {
            promote_limit: promote.plus(demote).plus(BESIDE),
            demote_limit: hand_over.plus(promote).plus(demote).plus(BESIDE),
            // Each step may have to wait for a disk that does not take its record.
            forced_limit: demote.plus(BESIDE.times(self.steps(Purpose::Demote))),
        }
    }
}

/// By the group's name: how long the engine waits for its roles at most.
#[must_use]
pub fn limits(config: &Config) -> BTreeMap<String, RolesConfig> {
    let specs = of(config);
    specs
        .iter()
        .map(|spec| (spec.conductor.group.clone(), spec.limits()))
        .collect()
}

/// How long the roles of all groups may take to be demoted, at the end of the daemon: the groups do so side by side.
#[must_use]
pub fn longest_demotion(config: &Config) -> Duration {
    let limits = limits(config);
    let longest = limits.values().map(RolesConfig::longest_demotion).max();
    Duration::from_nanos(longest.unwrap_or_default().0)
}

//! One run. At the Active node a new log is begun, those that are closed are backed up, and what nobody needs is purged;
//! elsewhere only the last of it, for a standby writes what it applies to logs of its own.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, UNIX_EPOCH},
};

use ha_common::Nanos;
use ha_core::data::{
    binlog::{self, BinaryLog, Hold, Keep, Limit, Replica},
    mysql::{Dialect, History},
};

use super::{
    Job, Tools,
    backup::{Files, Source},
    manifest::Manifest,
    server::{Identity, Listed, Logs},
};
use crate::sys::clock;

/// Logs that one run backs up. The next one, which is soon, goes on.
pub(super) const LOGS: usize = 512;
/// A replica that is away for so long is a warning, once logs stay because of it.
const SILENT: Nanos = Nanos::from_secs(60);

/// See the module.
pub(super) struct Run<'a> {
    pub(super) job: &'a Job,
    /// In which this node is Active, if it is.
    pub(super) epoch: Option<u64>,
    /// So many logs are backed up, and the others have to wait.
    pub(super) most: usize,
    pub(super) cancelled: &'a Arc<AtomicBool>,
}

/// What people are told of the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) note: Option<String>,
    pub(super) warning: Option<String>,
    /// Whether it is tried again soon.
    pub(super) failed: bool,
}

/// What came of a run.
#[derive(Default)]
struct Came {
    backed_up: Option<String>,
    count: usize,
    /// Why a log is not backed up.
    unbacked: Option<String>,
    /// Logs that have to wait for the next run.
    waiting: usize,
    purged: usize,
    removed: usize,
    oldest: Option<String>,
    limit: Option<Limit>,
    /// Logs that the server has still though it was told to purge them: it would need them after a crash, for a moment,
    /// or somebody reads them. The next run tries again.
    refused: usize,
    /// The server purges by itself.
    expires: bool,
}

impl Run<'_> {
    pub(super) async fn carry_out(&self, tools: &mut Tools) -> Said {
        let at = clock::rfc3339(clock::now());
        let result = match &mut tools.logs {
            Some(logs) => self.all(logs, &mut tools.files).await,
            None => Err("the group has no database of kind \"mysql\"".to_owned()),
        };
        match result {
            Ok(came) => Said {
                note: Some(format!("last run {at}: {}", self.text(&came))),
                warning: self.warning(&came),
                failed: came.unbacked.is_some() || came.waiting > 0,
            },
            Err(why) => Said {
                note: Some(format!("last run {at}: it failed: {why}")),
                warning: Some(format!("binary logs are not backed up: {why}")),
                failed: true,
            },
        }
    }

    async fn all(&self, logs: &mut Logs, files: &mut Files) -> Result<Came, String> {
        let server = logs.identity().await.map_err(|failure| failure.why)?;
        let listed = match self.epoch {
            Some(_) => listed(logs, server.dialect).await?,
            None => logs.list().await.map_err(|failure| failure.why)?,
        };
        let closed = listed.len().saturating_sub(1);
        let writes = self.epoch.is_some();
        let mut found = files.look(&server.directory, &listed, writes).await?;
        let mut came = Came {
            expires: server.expires,
            ..Came::default()
        };
        let mut begins = Vec::new();
        for log in &listed {
            let place = logs.begins(server.dialect, log).await;
            begins.push(place.map_err(|failure| failure.why)?);
        }
        for (index, (log, source)) in listed.iter().zip(&mut found).take(closed).enumerate() {
            let Some(epoch) = self.epoch else {
                // Whoever is Active has backups of its own logs.
                source.backed_up = true;
                continue;
            };
            if source.backed_up {
                continue;
            }
            if came.count == self.most {
                came.waiting += 1;
                continue;
            }
            let gtids = |index: usize| {
                let place = begins.get(index).cloned().flatten();
                place.map_or_else(String::new, |place| place.to_string())
            };
            let manifest = Manifest {
                gtids_before: gtids(index),
                gtids_after: gtids(index + 1),
                ..self.manifest(&server, log, source, epoch)
            };
            let made = files.back_up(server.dialect, source, manifest, self.cancelled);
            if let Err(why) = made.await {
                came.unbacked = Some(why);
                break;
            }
            source.backed_up = true;
            came.count += 1;
            came.backed_up = Some(log.name.clone());
        }
        let known = listed.iter().zip(&found).zip(begins);
        let known: Vec<BinaryLog> = known
            .map(|((log, source), begins)| BinaryLog {
                name: log.name.clone(),
                begins,
                age: age(source),
                backed_up: source.backed_up,
            })
            .collect();
        self.purge(logs, server.dialect, &known, &mut came).await?;
        let left = logs.list().await.map_err(|failure| failure.why)?;
        logs.forget_others(&left);
        came.oldest = left.first().map(|log| log.name.clone());
        if let Some(age) = self.job.config.keep_backups.filter(|_| writes) {
            came.removed = files.remove(age, wall_s(), &left).await?;
        }
        Ok(came)
    }

    fn manifest(&self, server: &Identity, log: &Listed, source: &Source, epoch: u64) -> Manifest {
        Manifest {
            name: log.name.clone(),
            bytes: log.bytes,
            node: self.job.setting.node.clone(),
            epoch,
            server_id: server.server_id,
            closed_ns: source.modified_ns,
            made_s: wall_s(),
            made: clock::rfc3339(clock::now()),
            ..Manifest::default()
        }
    }

    async fn purge(
        &self,
        logs: &mut Logs,
        dialect: Dialect,
        known: &[BinaryLog],
        came: &mut Came,
    ) -> Result<(), String> {
        let keep = Keep {
            age: self.job.config.keep,
            give_up_replica_after: self.job.config.give_up_replica_after,
        };
        let limit = binlog::limit(known, &self.replicas(dialect), keep);
        if let Some(first) = known.get(limit.logs).filter(|_| limit.logs > 0) {
            logs.purge(&first.name)
                .await
                .map_err(|failure| failure.why)?;
            let left = logs.list().await.map_err(|failure| failure.why)?;
            let is_there = |log: &&BinaryLog| left.iter().any(|one| one.name == log.name);
            let kept = known.iter().take(limit.logs).filter(is_there).count();
            came.purged = limit.logs - kept;
            came.refused = kept;
        }
        came.limit = Some(limit);
        Ok(())
    }

    /// The other nodes' servers, as far as they told of them.
    fn replicas(&self, dialect: Dialect) -> Vec<Replica> {
        let now = clock::now();
        let heard = self.job.neighbours.histories().into_iter();
        let mut replicas: Vec<Replica> = heard
            .map(|(node, told)| Replica {
                node: Some(node),
                silent: now.since(told.as_ref().map_or(self.job.since, |told| told.1)),
                has: told.and_then(|(text, _)| Some(History::parse(dialect, &text).ok()?.place())),
            })
            .collect();
        while replicas.len() < self.job.setting.peers {
            replicas.push(Replica {
                node: None,
                has: None,
                silent: now.since(self.job.since),
            });
        }
        replicas
    }

    fn text(&self, came: &Came) -> String {
        let mut words = Vec::new();
        if self.epoch.is_some() {
            words.push(match (&came.backed_up, &came.unbacked) {
                (Some(name), _) => format!("{} binary logs backed up, up to {name}", came.count),
                (None, Some(_)) => "no binary log backed up".to_owned(),
                (None, None) => "every closed binary log had a backup".to_owned(),
            });
        }
        if came.waiting > 0 {
            words.push(format!("{} have to wait for the next run", came.waiting));
        }
        words.push(format!("{} purged", came.purged));
        if came.refused > 0 {
            words.push(format!("{} kept by the server for now", came.refused));
        }
        if came.removed > 0 {
            words.push(format!("{} old backups removed", came.removed));
        }
        if let (Some(oldest), Some(limit)) = (&came.oldest, &came.limit) {
            let reasons: Vec<String> = limit.held_by.iter().map(Hold::text).collect();
            words.push(format!("{oldest} stays: {}", reasons.join(", ")));
        }
        words.join("; ")
    }

    /// It names no time, so that it is the same as long as nothing changes.
    fn warning(&self, came: &Came) -> Option<String> {
        if let Some(why) = &came.unbacked {
            return Some(format!(
                "binary logs are not backed up, and not purged therefore: {why}"
            ));
        }
        if came.expires {
            return Some(
                "the server purges binary logs by itself as well, also those that a replica needs or that have no backup: set binlog_expire_logs_seconds = 0 on every node"
                    .to_owned(),
            );
        }
        let limit = came.limit.as_ref()?;
        if let Some(node) = limit.given_up.first() {
            return Some(format!(
                "nothing was heard of the replica on {node} for longer than `give_up_replica_after`: logs that it needs are purged, and then it has to be set up anew"
            ));
        }
        let (hold, silent) = limit.held_by.iter().find_map(|hold| match hold {
            Hold::Replica { silent, .. } | Hold::Unknown { silent, .. } => Some((hold, *silent)),
            _ => None,
        })?;
        // What stays for other reasons as well is no matter yet.
        (limit.held_by.iter().all(is_of_replica) && silent >= SILENT).then(|| {
            format!(
                "binary logs are not purged, since {}: start its server and its daemon; if it is away for ever, take it out of the configuration or set `give_up_replica_after`, before the disk is full",
                hold.text()
            )
        })
    }
}

const fn is_of_replica(hold: &Hold) -> bool {
    matches!(hold, Hold::Replica { .. } | Hold::Unknown { .. })
}

/// The server's logs, of which the newest was begun now if there was anything in the one before.
async fn listed(logs: &mut Logs, dialect: Dialect) -> Result<Vec<Listed>, String> {
    let before = logs.list().await.map_err(|failure| failure.why)?;
    if let Some(newest) = before.last() {
        let begins = logs.begins(dialect, newest).await;
        let begins = begins.map_err(|failure| failure.why)?;
        let history = logs.history(dialect).await.map_err(|failure| failure.why)?;
        if begins.is_some_and(|begins| binlog::is_empty(&begins, &history)) {
            return Ok(before);
        }
    }
    logs.rotate().await.map_err(|failure| failure.why)?;
    logs.list().await.map_err(|failure| failure.why)
}

fn age(source: &Source) -> Option<Nanos> {
    let modified = u64::try_from(source.modified_ns).ok()?;
    let now = clock::wall(clock::now()).duration_since(UNIX_EPOCH).ok()?;
    let age = now.saturating_sub(Duration::from_nanos(modified));
    Some(Nanos(u64::try_from(age.as_nanos()).ok()?))
}

fn wall_s() -> u64 {
    let now = clock::wall(clock::now()).duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

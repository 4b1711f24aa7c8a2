//! A node becomes the one that is written to; if need be it goes on as what is left of its cluster.

use ha_common::Nanos;
use ha_core::plan::Order;

use super::{Asked, Failure, GaleraExecutor, Outcome, done, end_of, pause};
use crate::{
    checks::{mysql::session::Session, probed},
    roles::{Pending, neighbours::Gone},
    sys::clock,
};

/// How long a node without its cluster is waited for that may not go on alone: its cluster may be forming anew, and
/// that the other node is gone may not be known yet.
const PATIENCE: Nanos = Nanos::from_secs(3);

/// What the cluster says while it forms anew: not prepared, not committed, waited too long, taken back.
const PASSING: [u16; 4] = [1_047, 1_180, 1_205, 1_213];

/// Makes what is left of a cluster a whole one.
pub(super) const ALONE: &str = "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'";

const TABLE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS had",
    "CREATE TABLE IF NOT EXISTS had.epoch (epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, server_id INT UNSIGNED NOT NULL, since DATETIME(6) NOT NULL) ENGINE=InnoDB",
];

impl GaleraExecutor {
    /// Whether it could be written to.
    pub(super) async fn inspect(&mut self) -> Outcome {
        let node = self.look().await?.node;
        let Err(why) = self.serves(&node) else {
            return Ok(done(match node.place() {
                Some(place) => format!("one of {} in its cluster, at {place}", node.size),
                None => format!("one of {} in its cluster", node.size),
            }));
        };
        if node.is_primary() {
            return Err(why.into());
        }
        self.belonging.may_go_on(&node, clock::now())?;
        Ok(done("has lost its cluster, and may go on alone"))
    }

    /// Until it is in a cluster that commits. That is proved by a write: a cluster that has not noticed yet that a node
    /// died shows nothing of it, and reads what it has.
    pub(super) async fn bootstrap(&mut self, order: &Order) -> Outcome {
        let end = end_of(order);
        let mut lost_at = None;
        let mut is_alone = false;
        loop {
            let node = self.look().await?.node;
            let why = match self.serves(&node) {
                Ok(()) if self.commits(order.epoch).await? => {
                    return Ok(done(if is_alone {
                        "goes on alone: the other node is gone".to_owned()
                    } else {
                        format!("commits, as one of {} in its cluster", node.size)
                    }));
                }
                Ok(()) => "the cluster does not commit".to_owned(),
                Err(why) => why,
            };
            if !node.is_primary() {
                let now = clock::now();
                let gone = match self.belonging.may_go_on(&node, now) {
                    Ok(()) => self.others_are_gone().await,
                    Err(why) => Err(why),
                };
                match gone {
                    Ok(()) => {
                        self.go_on_alone().await?;
                        is_alone = true;
                    }
                    Err(refused) => {
                        let since = *lost_at.get_or_insert(now);
                        if since.after(PATIENCE) <= now {
                            return Err(format!("{why}; {refused}").into());
                        }
                    }
                }
            }
            if !pause(end).await {
                return Err(why.into());
            }
        }
    }

    /// Whoever is silent may be there, and it is this node that is cut off: that is asked now, for what was answered
    /// before the silence says nothing.
    async fn others_are_gone(&mut self) -> Result<(), String> {
        if self.neighbours.are_gone(clock::now())? == Gone::Told {
            return Ok(());
        }
        if self.arbitrators.is_empty() {
            return Err("nothing is heard from the other node, and nobody arbitrates".to_owned());
        }
        for check in &self.arbitrators {
            if let Err(why) = probed(check).await {
                return Err(format!(
                    "nothing is heard from the other node, and check {} fails: {why}",
                    check.name
                ));
            }
        }
        Ok(())
    }

    /// It becomes a cluster of one, of which the other node becomes a part again when it returns.
    async fn go_on_alone(&mut self) -> Result<(), Failure> {
        self.server.ask(ALONE).await.map(drop)
    }

    /// Writes the epoch into the data of all nodes. Where a node has died that takes until the cluster has noticed.
    async fn commits(&mut self, epoch: u64) -> Asked<bool> {
        const NO_DATABASE: u16 = 1_049;
        const NO_TABLE: u16 = 1_146;
        const READ_ONLY: u16 = 1_290;
        let write = format!(
            "REPLACE INTO had.epoch (epoch, server_id, since) VALUES ({epoch}, @@global.server_id, UTC_TIMESTAMP(6))"
        );
        let statements = [write.as_str(), TABLE[0], TABLE[1], write.as_str()];
        for (index, statement) in statements.into_iter().enumerate() {
            match self.server.try_ask(statement).await? {
                Ok(_) if index == 0 => return Ok(true),
                Ok(_) => {}
                Err(NO_DATABASE | NO_TABLE) if index == 0 => {}
                Err(code) if PASSING.contains(&code) => return Ok(false),
                Err(READ_ONLY) => {
                    return Err(
                        "this role's account may not write: grant READ ONLY ADMIN, and all on the database had"
                            .into(),
                    );
                }
                Err(code) => {
                    return Err(format!("the epoch cannot be written (error {code})").into());
                }
            }
        }
        Ok(true)
    }

    /// Everything is applied that any node had committed before.
    pub(super) async fn drain(&mut self) -> Outcome {
        self.server.inquire(&caught_up).await?;
        let node = self.look().await?.node;
        self.serves(&node)?;
        Ok(done(match node.place() {
            Some(place) => format!("has everything, up to {place}"),
            None => "has everything".to_owned(),
        }))
    }

    /// That comes last.
    pub(super) async fn allow_writes(&mut self) -> Outcome {
        let seen = self.look().await?;
        self.serves(&seen.node)?;
        if !seen.read_only {
            return Ok(done("takes writes already"));
        }
        self.server.ask("SET GLOBAL read_only = 0").await?;
        let seen = self.look().await?;
        self.serves(&seen.node)?;
        if seen.read_only {
            return Err("it does not take writes, though that was allowed".into());
        }
        Ok(done("takes writes"))
    }
}

/// A read that waits for what was committed anywhere before.
fn caught_up(session: &mut Session) -> Pending<'_, Result<(), mysql_async::Error>> {
    Box::pin(async {
        session.ask("SET SESSION wsrep_sync_wait = 1").await?;
        session.ask("SELECT COUNT(*) FROM had.epoch").await?;
        session.ask("SET SESSION wsrep_sync_wait = 0").await?;
        Ok(())
    })
}

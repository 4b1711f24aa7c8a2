//! A model of a database server with semi-synchronous replication: what it does to writes, step by step.

use ha_core::plan::{Done, Follows, Observation, Order, Position, Replicas};

/// A write, by its number.
pub(crate) type Write = u32;

#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    pub(crate) alive: bool,
    pub(crate) writable: bool,
    /// What is in its tables and its binary log.
    pub(crate) log: Vec<Write>,
    /// What it has received and not applied.
    pub(crate) relay: Vec<Write>,
    /// Whether it applies what it receives, or is behind.
    pub(crate) applies: bool,
    pub(crate) source: Option<usize>,
    pub(crate) receives: bool,
    pub(crate) acknowledges: bool,
    /// Whether writes wait for a replica, and those that do.
    pub(crate) waits: bool,
    pub(crate) pending: Vec<Write>,
}

impl Database {
    /// A write comes in; whether it is acknowledged at once.
    pub(crate) fn write(&mut self, write: Write) -> bool {
        self.log.push(write);
        if self.waits {
            self.pending.push(write);
        }
        !self.waits
    }

    pub(crate) fn received(&self) -> usize {
        self.log.len() + self.relay.len()
    }

    /// What it lacks of a primary's log comes in.
    pub(crate) fn receive(&mut self, log: &[Write]) {
        self.relay.extend(log.iter().skip(self.received()));
        if self.applies {
            self.apply();
        }
    }

    pub(crate) fn apply(&mut self) {
        self.log.append(&mut self.relay);
    }

    pub(crate) fn has(&self, write: Write) -> bool {
        self.log.contains(&write) || self.relay.contains(&write)
    }

    /// Its process ends. What clients wait for they never hear of.
    pub(crate) fn die(&mut self) {
        self.alive = false;
    }

    /// It starts as a replica: what no replica acknowledged is taken back.
    pub(crate) fn start(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.log.retain(|write| !pending.contains(write));
        self.alive = true;
        self.writable = false;
        self.receives = false;
    }

    pub(crate) fn observe(&self, names: [&str; 2], connected: bool) -> Observation {
        if !self.alive {
            return Observation::unknown("the server does not run");
        }
        let text = self.log.iter().map(u32::to_string).collect::<Vec<_>>();
        Observation {
            runs: Some(true),
            position: Some(Position {
                rank: self.received() as u64,
                text: self.received().to_string(),
            }),
            history: Some(text.join(",")),
            follows: match self.source {
                None => Follows::Nobody,
                Some(source) => Follows::Source {
                    source: format!("{}:3306", names[source]),
                    receives: self.receives && connected,
                    acknowledges: self.acknowledges && connected,
                    lag: None,
                },
            },
            replicas: Some(Replicas {
                acknowledging: 0,
                waiting: u32::try_from(self.pending.len()).expect("a few"),
                solo: !self.waits,
            }),
            ..Observation::of(Some(self.writable), Ok(()))
        }
    }

    /// Carries a step out; `None`: it hangs. The writes that it acknowledged are added to `acknowledged`.
    pub(crate) fn step(
        &mut self,
        order: &Order,
        names: [&str; 2],
        acknowledged: &mut Vec<Write>,
    ) -> Option<Result<Done, String>> {
        let gone = Err("the server does not run".to_owned());
        match order.step {
            "forbid-writes" | "end-sessions" | "settle" if !self.alive => {
                return Some(Ok(Done::default()));
            }
            "kill-server" => self.die(),
            "start-as-replica" => self.start(),
            _ if !self.alive => return Some(gone),
            "inspect" if !self.receives && order.context.source_gone => self.apply(),
            "stop-receiving" => {
                let target = order.context.target.as_ref();
                let target = target.and_then(|text| text.parse::<usize>().ok());
                if target.is_some_and(|target| self.received() < target) && self.source.is_some() {
                    return None;
                }
                self.receives = false;
            }
            "drain" => self.apply(),
            "prove" if !self.relay.is_empty() => return Some(Err("not applied".to_owned())),
            "detach" => {
                self.source = None;
                self.relay.clear();
            }
            "become-primary" => {
                if order.context.solo {
                    self.waits = false;
                    acknowledged.append(&mut self.pending);
                }
                self.writable = true;
            }
            "forbid-writes" => {
                if !self.pending.is_empty() {
                    return None;
                }
                self.writable = false;
            }
            "compare" => {
                let text = order.context.history.clone().unwrap_or_default();
                let theirs: Vec<Write> = text.split(',').flat_map(str::parse).collect();
                if !theirs.starts_with(&self.log) {
                    return Some(Err(format!(
                        "diverged: {:?} is no part of {theirs:?}",
                        self.log
                    )));
                }
            }
            "follow" => {
                let source = order.context.source.as_deref().unwrap_or_default();
                self.source = names.iter().position(|name| source.starts_with(name));
                self.relay.clear();
                self.receives = true;
                self.acknowledges = false;
            }
            "join-sync" => self.acknowledges = true,
            "degrade" => {
                self.waits = false;
                acknowledged.append(&mut self.pending);
            }
            "restore" => self.waits = true,
            _ => {}
        }
        let ends = matches!(order.step, "settle" | "restore");
        Some(Ok(Done {
            position: ends.then(|| Position {
                rank: self.log.len() as u64,
                text: self.log.len().to_string(),
            }),
            ..Done::default()
        }))
    }
}

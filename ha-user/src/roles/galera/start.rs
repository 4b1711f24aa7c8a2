//! A server that was killed is started again: from where its data ends, as a part of its cluster.

use std::process::Stdio;

use ha_core::{data::galera::Place, plan::Order};
use tokio::{process::Command, time::timeout};

use super::{Failure, GaleraExecutor, Outcome, Presence, done, end_of, left, pause};
use crate::{checks::words::clean, config::GaleraRole};

/// What a server says that was asked where its data ends.
const RECOVERED: &str = "WSREP: Recovered position:";

impl GaleraExecutor {
    /// So that nobody can write to it, whatever its files say. To get all data from another node takes as long as it
    /// takes: that is not waited for.
    pub(super) async fn start_server(&mut self, order: &Order) -> Outcome {
        let end = end_of(order);
        let mut was_started = false;
        loop {
            let failure = match self.look().await {
                Ok(seen) if seen.read_only => return Ok(done("runs, and takes no writes")),
                Ok(_) => return self.forbid_writes(order).await,
                Err(failure) => failure,
            };
            match self.process.find().await {
                Presence::Gone if was_started => {
                    return Err("the server was started, and has ended again: see its log".into());
                }
                Presence::Gone | Presence::Returning(_) if !was_started => {
                    if !self.process.can_start() {
                        return Err(failure);
                    }
                    self.server.forget();
                    let from = start_position(&self.config, order).await?;
                    self.process.start(&from).await?;
                    was_started = true;
                }
                _ => {}
            }
            if !pause(end).await {
                return Ok(done("was started, and joins its cluster"));
            }
        }
    }
}

/// A server that is started without systemd does not find out by itself where its data ends, and would begin a
/// history anew with what it has.
async fn start_position(config: &GaleraRole, order: &Order) -> Result<Vec<String>, Failure> {
    if config.process.unit.is_some() {
        return Ok(Vec::new());
    }
    let recovery = recovered(&config.process.start_command);
    let place = match timeout(left(end_of(order)), recovery).await {
        Ok(place) => place?,
        Err(_) => return Err("the server does not say in time where its data ends".into()),
    };
    Ok(place
        .map(|place| format!("--wsrep-start-position={place}"))
        .into_iter()
        .collect())
}

/// The place in what may be followed by a GTID.
pub(super) fn first(text: &str) -> Option<Place> {
    Place::parse(text.split(',').next().unwrap_or_default())
}

/// Where the data of a server ends that does not run; `None`: nowhere, it has none.
pub(super) async fn recovered(command: &[String]) -> Result<Option<Place>, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("there is no `start_command`".into());
    };
    let run = Command::new(program)
        .args(arguments)
        // Else it writes where its data ends into its log.
        .args(["--wsrep-recover", "--skip-log-error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&run.stderr);
    let mut lines = said.lines().rev();
    let told = lines.find_map(|line| line.split_once(RECOVERED));
    match told {
        Some((_, place)) => Ok(first(place)),
        None => {
            let last = said.lines().last().unwrap_or_default();
            Err(format!(
                "the server does not say where its data ends: {}",
                clean(last)
            )
            .into())
        }
    }
}

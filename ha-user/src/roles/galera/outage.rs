//! `hactl db bootstrap`: a cluster of which no node commits any more is begun anew, on the node that has the newest data.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
    time::Duration,
};

use ha_common::Nanos;
use ha_core::data::galera::{Grastate, Obstacle, Place, made_safe, obstacles};
use tokio::{task::spawn_blocking, time::timeout};

use super::{Asked, Failure, READ_ONLY, Seen, look, start::first, start::recovered};
use crate::{
    checks::tool::Tool,
    config::GaleraRole,
    control::report::{BootstrapReport, RemainsReport},
    roles::{
        Neighbours,
        database::{Presence, Process, Server, pause},
    },
    sys::clock,
};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long it may take to find out where its data ends.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long it may take until it is a cluster.
const START: Nanos = Nanos::from_secs(40);
/// Where a packaged server has its data.
const DATA_DIR: &str = "/var/lib/mysql";
/// How Galera's script for units says where the data ends.
const POSITION: &str = "start_position=";

/// What an operator wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Only to see how it is.
    pub dry_run: bool,
    /// What another node alone has may be lost.
    pub accept_loss: bool,
}

/// The node's own server.
enum Own {
    /// It runs, and has lost its cluster.
    Runs,
    /// It has ended.
    Ended,
}

/// Shows where each node's data ends, as far as that is known, and begins the cluster anew if nothing stands against
/// it. Of `expected` other nodes.
///
/// # Errors
///
/// What went wrong, in words.
pub(crate) async fn bootstrap(
    role: &GaleraRole,
    neighbours: &Neighbours,
    expected: usize,
    wish: Wish,
) -> Result<BootstrapReport, String> {
    let outage = Outage {
        role,
        neighbours,
        server: Server::new(&role.server),
        process: Process::new(&role.process, &READ_ONLY),
    };
    let report = outage.carry_out(expected, wish).await;
    report.map_err(|failure| failure.why)
}

struct Outage<'a> {
    role: &'a GaleraRole,
    neighbours: &'a Neighbours,
    server: Server,
    process: Process,
}

impl Outage<'_> {
    async fn carry_out(mut self, expected: usize, wish: Wish) -> Result<BootstrapReport, Failure> {
        let (own, place, mut against) = self.own().await?;
        let others = self.neighbours.remains(clock::now());
        against.extend(obstacles(&place, &others, expected));
        if wish.accept_loss {
            against.retain(|obstacle| !obstacle.may_be_accepted);
        }
        let mut report = BootstrapReport {
            position: place.to_string(),
            others: others
                .iter()
                .map(|other| RemainsReport {
                    node: other.node.clone(),
                    text: other.text(),
                })
                .collect(),
            obstacles: against.into_iter().map(|obstacle| obstacle.why).collect(),
            done: Vec::new(),
        };
        if wish.dry_run || !report.obstacles.is_empty() {
            return Ok(report);
        }
        report.done = self.begin(&own, &place).await?;
        Ok(report)
    }

    /// How this node is, and what that has against it.
    async fn own(&mut self) -> Result<(Own, Place, Vec<Obstacle>), Failure> {
        let no_data =
            || Failure::from("this node has no data of a cluster: it would begin an empty one");
        match self.look().await {
            Ok(seen) => {
                let place = seen.node.place().ok_or_else(no_data)?;
                let against = if seen.node.is_primary() {
                    vec![Obstacle::of_safety(format!(
                        "this node is one of {} in a cluster that is there: nothing is to be begun anew",
                        seen.node.size
                    ))]
                } else {
                    Vec::new()
                };
                Ok((Own::Runs, place, against))
            }
            Err(failure) => {
                match self.process.find().await {
                    Presence::Gone => {}
                    Presence::Running(pid) => {
                        return Err(format!(
                            "this node's server runs (process {pid}) and does not answer ({}): it may be waiting for its cluster. End it first",
                            failure.why
                        )
                        .into());
                    }
                    Presence::Returning(why) | Presence::Unknown(why) => {
                        return Err(format!(
                            "this node's server does not answer ({}), and it is not certain that it has ended: {why}. End it first",
                            failure.why
                        )
                        .into());
                    }
                }
                let (place, against) = self.ended().await?;
                let place = place.ok_or_else(no_data)?;
                // The others are told from now on.
                self.neighbours.note_own(Some(place.clone()));
                Ok((Own::Ended, place, against))
            }
        }
    }

    async fn look(&mut self) -> Asked<Seen> {
        match timeout(ANSWER, self.server.inquire(&look::look)).await {
            Ok(seen) => seen,
            Err(_) => Err("it does not answer".into()),
        }
    }

    /// Where the data ends of a server that has ended.
    async fn ended(&self) -> Result<(Option<Place>, Vec<Obstacle>), Failure> {
        let file = self.state_file();
        let read = spawn_blocking(move || fs::read_to_string(&file).map_err(|error| (file, error)));
        let state = match read.await {
            Ok(Ok(text)) => Grastate::parse(&text),
            Ok(Err((file, error))) => {
                return Err(format!("{} cannot be read: {error}", file.display()).into());
            }
            Err(_) => return Err("the daemon ends".into()),
        };
        let mut against = Vec::new();
        if state.is_incomplete() {
            against.push(Obstacle::of_loss(
                "this node was being given data when its server ended, and may not have all of it",
            ));
        }
        if let Some(place) = state.place() {
            return Ok((Some(place), against));
        }
        let place = match timeout(RECOVERY, self.recovered()).await {
            Ok(place) => place?,
            Err(_) => return Err("the server does not say in time where its data ends".into()),
        };
        Ok((place, against))
    }

    async fn recovered(&self) -> Result<Option<Place>, Failure> {
        if self.role.process.unit.is_none() {
            return recovered(&self.role.process.start_command).await;
        }
        let told = Tool::new("galera_recovery").run(&[]).await?;
        let place = told.lines().find_map(|line| line.split_once(POSITION));
        Ok(place.and_then(|(_, place)| first(place)))
    }

    fn state_file(&self) -> PathBuf {
        let data_dir = self.role.process.data_dir.as_deref();
        data_dir.unwrap_or(Path::new(DATA_DIR)).join("grastate.dat")
    }

    /// It becomes a cluster of one, which the others join when they are started.
    async fn begin(&mut self, own: &Own, place: &Place) -> Result<Vec<String>, Failure> {
        let mut done = Vec::new();
        match own {
            Own::Runs => self.go_on().await?,
            Own::Ended => {
                let file = self.state_file();
                let written =
                    spawn_blocking(move || make_safe(&file).map_err(|error| (file, error)));
                match written.await {
                    Ok(Ok(())) => {}
                    Ok(Err((file, error))) => {
                        return Err(format!("{} cannot be written: {error}", file.display()).into());
                    }
                    Err(_) => return Err("the daemon ends".into()),
                }
                done.push(format!(
                    "grastate.dat says that it is safe to begin at {place}"
                ));
                let position = format!("--wsrep-start-position={place}");
                self.process.start_cluster(&[position]).await?;
                self.server.forget();
            }
        }
        let end = clock::now().after(START);
        loop {
            if let Ok(seen) = self.look().await
                && seen.node.serves(true).is_ok()
            {
                done.push(format!("this node is a cluster of {}", seen.node.size));
                done.push("start the servers of the other nodes now, which join it".to_owned());
                return Ok(done);
            }
            if matches!(own, Own::Ended) && self.process.find().await == Presence::Gone {
                return Err("the server was started, and has ended again: see its log".into());
            }
            if !pause(end).await {
                done.push("the server was started, and is no cluster yet: `hactl roles` shows what becomes of it".to_owned());
                return Ok(done);
            }
        }
    }

    async fn go_on(&mut self) -> Result<(), Failure> {
        self.server.ask(super::survivor::ALONE).await.map(drop)
    }
}

/// The file is there as before, or as it is to be, whatever happens meanwhile.
fn make_safe(file: &Path) -> io::Result<()> {
    let text = made_safe(&fs::read_to_string(file)?);
    let owner = fs::metadata(file)?;
    let beside = file.with_extension("dat.had");
    fs::write(&beside, text)?;
    let made = fs::File::open(&beside)?;
    made.set_permissions(owner.permissions())?;
    fchown(&made, Some(owner.uid()), Some(owner.gid()))?;
    made.sync_all()?;
    fs::rename(&beside, file)
}

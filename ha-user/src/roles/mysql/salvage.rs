//! What a replica had received and not applied when it was stopped, while its source is gone. To start replication would
//! throw it away, so it is read out of the files.

use std::{io, path::PathBuf, process::Stdio};

use ha_core::data::mysql::{Dialect, ServerState};
use tokio::{io::AsyncReadExt as _, process::Command, task::spawn_blocking};

use super::{MysqlExecutor, Outcome, done, look, relay_log, statements::quoted};
use crate::{
    checks::words::clean,
    config::MysqlPlace,
    roles::database::{Asked, Failure},
};

/// Bytes of a complaint that are read.
const COMPLAINT: u64 = 1 << 16;

impl MysqlExecutor {
    /// How far it is shows once it has read that: nobody else may have it.
    pub(super) async fn read_relay_log(&mut self) -> Outcome {
        let state = self.look().await?;
        if !state.read_only {
            return Err("it takes writes".into());
        }
        if state.is_stopped() {
            self.salvage(&state).await
        } else {
            Ok(done("it reads what it has received by itself"))
        }
    }

    /// Whether this run of the server has read what the one before had received.
    pub(super) fn has_salvaged(&self) -> bool {
        self.salvaged.is_some() && self.salvaged == self.server.incarnation()
    }

    pub(super) async fn salvage(&mut self, state: &ServerState) -> Outcome {
        if state.dialect == Dialect::MySql {
            // MySQL keeps its relay log where only the applying thread is started.
            let statements = self.statements().await?;
            self.server.ask(statements.start_applying).await?;
            return Ok(done("what was received is applied"));
        }
        let files = self.relay_logs().await?;
        let gap = !files.is_empty() && self.apply(&files, state).await? == Applied::Nothing;
        let after = self.look().await?;
        if !after.is_stopped() {
            return Err("replication was started by somebody else".into());
        }
        if after.here != state.here {
            let seen = format!(
                "SET GLOBAL gtid_slave_pos = {}",
                quoted(&after.here.to_string())
            );
            self.server.ask(&seen).await?;
        }
        self.salvaged = self.server.incarnation();
        if gap {
            // Whoever sent it has it. The node's claim to everything ended with the server, so it is not promoted by
            // what it once had.
            return Ok(done(format!(
                "its relay log begins after {}, which is all that is here: what was applied last was taken back by its server",
                state.here
            )));
        }
        Ok(done(format!(
            "its relay log is salvaged: from {} to {}",
            state.here, after.here
        )))
    }

    /// From the one on that was being applied.
    async fn relay_logs(&mut self) -> Result<Vec<PathBuf>, Failure> {
        let places = self
            .server
            .ask("SELECT @@global.datadir, @@global.relay_log_info_file, @@global.relay_log_index")
            .await?;
        let dir = PathBuf::from(look::value(&places, 0));
        let (info, index) = (look::value(&places, 1), look::value(&places, 2));
        let read = spawn_blocking(move || relay_log::files(&dir, &info, &index));
        match read.await {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(error)) => Err(format!("the relay log's index cannot be read: {error}").into()),
            Err(_) => Err("the daemon ends".into()),
        }
    }

    /// What is in them and not applied yet, with the GTIDs that it has.
    async fn apply(&mut self, files: &[PathBuf], state: &ServerState) -> Asked<Applied> {
        let mut reader = Command::new("mariadb-binlog");
        if !state.here.is_empty() {
            reader.arg(format!("--start-position={}", state.here));
        }
        reader.args(files);
        let mut reader = spawn(reader.stdin(Stdio::null()).stdout(Stdio::piped())).await?;
        let events = reader.stdout.take().ok_or("mariadb-binlog has no output")?;
        let events: Stdio = events
            .try_into()
            .map_err(|error: io::Error| error.to_string())?;
        let mut writer = Command::new("mariadb");
        let account = account(&self.config.server.place, &self.config.server.user);
        writer.args(account).args(["--batch", "--binary-mode"]);
        if let Some(password) = &self.config.server.password {
            // Only this user and root can read another process's environment.
            writer.env("MYSQL_PWD", password.reveal());
        }
        let mut writer = spawn(writer.stdin(events).stdout(Stdio::null())).await?;
        let (read, written) = tokio::join!(ended(&mut reader), ended(&mut writer));
        written.map_err(|why| format!("what was received cannot be applied: {why}"))?;
        match read {
            // There is nothing in it that is not applied.
            Err(why) if why.contains("never reached expected GTID state") => Ok(Applied::All),
            // A server that crashes takes back what was not yet committed of what it applied, though the log that it
            // came from may be gone.
            Err(why) if why.contains("Binary logs are missing data for domain") => {
                Ok(Applied::Nothing)
            }
            // The server ended while it wrote: of what is incomplete nothing was acknowledged.
            Err(why) if ends_torn(files, &why).await => Ok(Applied::All),
            Err(why) => Err(format!("the relay log cannot be read: {why}").into()),
            Ok(()) => Ok(Applied::All),
        }
    }
}

/// What of a relay log was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    /// All that there is in it.
    All,
    /// Nothing: it begins later than what is here ends.
    Nothing,
}

/// Whether the reader complains of the end of a file, where an event is incomplete.
async fn ends_torn(files: &[PathBuf], complaint: &str) -> bool {
    let Some(offset) = relay_log::offset(complaint) else {
        return false;
    };
    let files = files.to_vec();
    let torn = spawn_blocking(move || relay_log::end_torn(&files, offset).unwrap_or(false));
    torn.await.unwrap_or(false)
}

fn account(place: &MysqlPlace, user: &str) -> Vec<String> {
    let mut account = vec!["--no-defaults".to_owned(), format!("--user={user}")];
    match place {
        MysqlPlace::Socket(path) => account.push(format!("--socket={}", path.display())),
        MysqlPlace::Address(address) => {
            account.push(format!("--host={}", address.ip()));
            account.push(format!("--port={}", address.port()));
        }
    }
    account
}

/// A program that is killed when it is dropped.
async fn spawn(command: &mut Command) -> Result<tokio::process::Child, Failure> {
    command
        .env("LC_ALL", "C")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command
        .spawn()
        .map_err(|error| format!("{name} cannot be run: {error}").into())
}

/// `Err`: what it complains of.
async fn ended(child: &mut tokio::process::Child) -> Result<(), String> {
    let mut said = Vec::new();
    if let Some(complaint) = child.stderr.take() {
        let read = complaint.take(COMPLAINT).read_to_end(&mut said).await;
        read.map_err(|error| error.to_string())?;
    }
    let ended = child.wait().await.map_err(|error| error.to_string())?;
    if ended.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    Err(clean(said.lines().last().unwrap_or_default()))
}

//! Serves the control socket, one task for each connection.
//!
//! Bounded: `CONNECTIONS` at a time, a line of [`protocol::MAX_LINE`] bytes, an answer within
//! [`Request::limit`]. A client that goes away in the middle cancels only its own answer: a command that
//! reached the engine thread is carried out.

mod roles;

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as BlockingStream,
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ha_common::Nanos;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    protocol::{self, MAX_LINE, Request, Response},
    report::{CheckReport, ChecksReport, PreparedReport, ReloadReport, RolesReport, TrackedReport},
};
use crate::{
    checks::Checks,
    engine::{Command, Handle, Unreachable},
    events::History,
    link::Link,
    others,
    roles::{Groups, ModeRequest, Wish, init_replication},
};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a client may say nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Asks the daemon to read its configuration again; answered with what changed, or with the mistakes.
pub type ReloadRequest = oneshot::Sender<Result<ReloadReport, String>>;

/// What the connections need.
#[derive(Debug)]
pub struct Context {
    /// The engine thread.
    pub engine: Handle,
    /// The last events.
    pub history: Arc<Mutex<History>>,
    /// The checks.
    pub checks: Checks,
    /// The link to the other nodes.
    pub link: Link,
    /// What was done about interfaces that no instance names.
    pub others: Arc<Mutex<others::State>>,
    /// The groups that have roles.
    pub groups: Groups,
    /// To the daemon's main task.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// To the daemon's main task.
    pub modes: mpsc::Sender<ModeRequest>,
}

/// Opens the socket: mode 0660, group `had` if there is one. A socket on which nobody listens is
/// replaced.
///
/// # Errors
/// `AddrInUse` when somebody listens on it, and as bind(2), chmod(2), chown(2).
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Ok(metadata) = fs::symlink_metadata(path)
        && metadata.file_type().is_socket()
    {
        if BlockingStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another had listens on it: give this one another api.control",
            ));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    if let Some(gid) = group_id(&fs::read_to_string("/etc/group").unwrap_or_default(), "had") {
        std::os::unix::fs::chown(path, None, Some(gid))?;
    }
    Ok(listener)
}

/// The ID of a group in the text of group(5).
fn group_id(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

/// Serves for ever.
pub async fn serve(listener: UnixListener, context: Arc<Context>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = Arc::clone(&context);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &context).await {
                        debug!(%error, "a control connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "a control connection could not be accepted");
                // Out of descriptors, most likely: give them time to come back.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, context: &Context) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let mut limited = (&mut reader).take(limit);
        let length = timeout(IDLE_LIMIT, limited.read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let complete = line.last() == Some(&b'\n');
        let response = if complete || length < MAX_LINE {
            match protocol::parse(&line) {
                Ok(request) => answer(request, context).await,
                Err(error) => Response::refused(error),
            }
        } else {
            Response::refused(format!("the request is longer than {MAX_LINE} bytes"))
        };
        let mut bytes = serde_json::to_vec(&response)?;
        bytes.push(b'\n');
        timeout(IDLE_LIMIT, writer.write_all(&bytes)).await??;
        if !complete {
            return Ok(());
        }
    }
}

async fn answer(request: Request, context: &Context) -> Response {
    let limit = request.limit();
    match timeout(limit, carry_out(request, context)).await {
        Ok(Ok(result)) => Response::done(result),
        Ok(Err(error)) => Response::refused(error),
        Err(_) => Response::refused(format!(
            "no answer within {} s: the daemon is stopped, starved or busy",
            limit.as_secs()
        )),
    }
}

async fn carry_out(request: Request, context: &Context) -> Result<Value, String> {
    let engine = &context.engine;
    match request {
        Request::Status => {
            let mut report = engine.ask(Command::Status).await.map_err(unreachable)?;
            let others = others::snapshot(&context.others);
            report.dataplane.guarded = others.guarded;
            report.warnings.extend(others.warnings);
            report.warnings.extend(context.link.warnings());
            report.peers = context.link.peers();
            value(report)
        }
        Request::Events { limit } => {
            let history = context
                .history
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            value(history.latest(limit.unwrap_or(usize::MAX)))
        }
        Request::Explain { instance } => value(
            engine
                .ask(|reply| Command::Explain { instance, reply })
                .await
                .map_err(unreachable)??,
        ),
        Request::Switchover { target, to } => {
            let to = match context.groups.preview(&target, to.as_deref()) {
                Some(preview) => roles::allowed(&preview, to)?,
                None => to,
            };
            value(
                engine
                    .ask(|reply| Command::Switchover { target, to, reply })
                    .await
                    .map_err(unreachable)??,
            )
        }
        Request::Preview { target, to } => {
            let preview = context.groups.preview(&target, to.as_deref());
            value(preview.ok_or_else(|| {
                format!("no group with roles is called \"{target}\", nor has such an instance: without roles there is nothing to show beforehand")
            })?)
        }
        Request::AcceptLoss { target } => value(context.groups.accept_loss(&target)?),
        Request::Roles => {
            let mode = roles::mode(context, None).await?;
            value(RolesReport {
                node: mode.node,
                mode: mode.mode,
                groups: context.groups.report(),
            })
        }
        Request::InitReplication { role } => {
            let database = context.groups.database(&role)?;
            let done = init_replication(&database).await?;
            value(PreparedReport { role, done })
        }
        Request::Bootstrap {
            role,
            dry_run,
            accept_loss,
        } => {
            let wish = Wish {
                dry_run,
                accept_loss,
            };
            value(context.groups.bootstrap(&role, wish).await?)
        }
        Request::Mode { set } => value(roles::mode(context, set).await?),
        Request::Reload => {
            let (reply, done) = oneshot::channel();
            let gone = || "the daemon is ending".to_owned();
            context.reload.send(reply).await.map_err(|_| gone())?;
            value(done.await.map_err(|_| gone())??)
        }
        Request::Checks => {
            let tracked = engine.ask(Command::Tracked).await.map_err(unreachable)?;
            value(checks(context.checks.report(), tracked))
        }
        Request::Mute { check, for_ms } => {
            let lasts = for_ms.map(Nanos::from_millis);
            mute(engine, check, lasts, false).await
        }
        Request::Unmute { check } => mute(engine, check, None, true).await,
        Request::Counters => value(engine.ask(Command::Counters).await.map_err(unreachable)??),
    }
}

/// The checks, each with what the engine makes of it.
fn checks(mut checks: Vec<CheckReport>, tracked: Vec<TrackedReport>) -> ChecksReport {
    let (of_checks, interfaces): (Vec<TrackedReport>, Vec<TrackedReport>) =
        tracked.into_iter().partition(|one| one.kind == "check");
    for check in &mut checks {
        check.tracked = of_checks.iter().find(|one| one.name == check.name).cloned();
    }
    ChecksReport { checks, interfaces }
}

async fn mute(
    engine: &Handle,
    check: String,
    lasts: Option<Nanos>,
    end: bool,
) -> Result<Value, String> {
    let report = json!({ "check": check, "muted": !end });
    engine
        .ask(|reply| Command::Mute {
            check,
            lasts,
            end,
            reply,
        })
        .await
        .map_err(unreachable)??;
    Ok(report)
}

fn unreachable(error: Unreachable) -> String {
    error.to_string()
}

fn value(report: impl Serialize) -> Result<Value, String> {
    serde_json::to_value(report).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let text = "root:x:0:\nhadron:x:5:\nhad:x:993:alice,bob\n";
        assert_eq!(group_id(text, "had"), Some(993));
        assert_eq!(group_id(text, "ha"), None);
        assert_eq!(group_id("had:x", "had"), None);
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(listen(&path).unwrap());
        assert!(path.exists(), "a closed socket stays in the file system");
        // A child that another test starts just now has a copy of it, until it is another program.
        let deadline = Instant::now() + Duration::from_secs(10);
        let live = loop {
            match listen(&path) {
                Ok(live) => break live,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }
}

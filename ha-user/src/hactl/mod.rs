//! The control tool: asks, and prints for people or for programs.

mod checks;
mod render;
mod rest;
mod roles;
mod switchover;
mod table;

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use ha_common::Nanos;
use serde::Serialize;
use serde_json::Value;

use self::render::Style;
use crate::{
    cli::{Command, Db, Hactl},
    control::{
        client::{ClientError, ask},
        protocol::Request,
        report::{
            BootstrapReport, ChecksReport, Counters, EventReport, ExplainReport, GroupReport,
            ModeReport, PreparedReport, PreviewReport, ReloadReport, RolesReport, StatusReport,
            SwitchoverReport,
        },
    },
    sys::clock,
};

/// How often `switchover` looks for the new Active router.
const TAKEOVER_STEP: Duration = Duration::from_millis(10);

/// Why `hactl` did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer cannot be printed: {0}")]
    Output(#[from] io::Error),
    #[error("the answer cannot be printed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    NobodyTookOver(String),
    #[error("{0}")]
    NoSuchThing(String),
    #[error("{0}")]
    NotDone(String),
}

/// Runs one command.
#[must_use]
pub fn run(arguments: &Hactl) -> ExitCode {
    let out = io::stdout();
    let style = Style {
        colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    match carry_out(arguments, style, &mut out.lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nothing is left to tell it to when this fails too.
            let _ = writeln!(io::stderr().lock(), "hactl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: &Hactl, style: Style, out: &mut impl Write) -> Result<(), Failure> {
    let socket = &arguments.control;
    let json = arguments.json;
    match &arguments.command {
        Command::Status => {
            let report: StatusReport = ask(socket, Request::Status)?;
            print(out, json, &report, |report| render::status(report, style))
        }
        Command::Events { limit } => {
            let request = Request::Events {
                limit: Some(*limit),
            };
            let report: Vec<EventReport> = ask(socket, request)?;
            print(out, json, &report, |report| render::events(report, style))
        }
        Command::Explain { instance } => {
            let request = Request::Explain {
                instance: instance.clone(),
            };
            let report: ExplainReport = ask(socket, request)?;
            print(out, json, &report, render::explain)
        }
        Command::Switchover {
            target,
            dry_run: true,
            to,
            ..
        } => {
            let request = Request::Preview {
                target: target.clone(),
                to: to.clone(),
            };
            let report: PreviewReport = ask(socket, request)?;
            print(out, json, &report, |report| roles::preview(report, style))?;
            match report.obstacles.is_empty() {
                true => Ok(()),
                false => Err(Failure::NobodyTookOver(format!(
                    "{target} would not be handed over"
                ))),
            }
        }
        Command::Switchover {
            target,
            accept_loss: true,
            ..
        } => {
            let target = target.clone();
            let report: GroupReport = ask(socket, Request::AcceptLoss { target })?;
            print(out, json, &report, roles::accepted)
        }
        Command::Switchover { target, to, .. } => {
            let before = switchover::begin(socket, target)?;
            let request = Request::Switchover {
                target: target.clone(),
                to: to.clone(),
            };
            let report: SwitchoverReport = ask(socket, request)?;
            if let Some(before) = &before {
                switchover::follow(socket, before, json, out)?;
                switchover::watch_promotion(socket, before)?;
            }
            print(out, json, &report, render::switchover)?;
            watch_takeover(socket, &report, json, out)
        }
        Command::Mode { set, force } => {
            if set.as_deref() == Some("maintenance") && !force {
                rest::may(socket)?;
            }
            let report: ModeReport = ask(socket, Request::Mode { set: set.clone() })?;
            print(out, json, &report, roles::mode)
        }
        Command::Roles { group } => {
            let mut report: RolesReport = ask(socket, Request::Roles)?;
            if let Some(name) = group {
                report.groups.retain(|group| group.group == *name);
                if report.groups.is_empty() {
                    return Err(Failure::NoSuchThing(format!(
                        "there is no group \"{name}\" with roles"
                    )));
                }
            }
            print(out, json, &report, |report| roles::overview(report, style))
        }
        Command::Db(Db::InitReplication { role }) => {
            let request = Request::InitReplication { role: role.clone() };
            let report: PreparedReport = ask(socket, request)?;
            print(out, json, &report, |report| report.done.join("\n") + "\n")
        }
        Command::Db(Db::Bootstrap {
            role,
            dry_run,
            accept_loss,
        }) => {
            let request = Request::Bootstrap {
                role: role.clone(),
                dry_run: *dry_run,
                accept_loss: *accept_loss,
            };
            let report: BootstrapReport = ask(socket, request)?;
            print(out, json, &report, |report| roles::bootstrap(report, style))?;
            match report.obstacles.join("; ") {
                why if why.is_empty() => Ok(()),
                why => Err(Failure::NotDone(format!(
                    "the cluster is not begun anew here: {why}"
                ))),
            }
        }
        Command::Reload => {
            let report: ReloadReport = ask(socket, Request::Reload)?;
            print(out, json, &report, |report| render::reload(report, style))
        }
        Command::Checks { check } => {
            let report: ChecksReport = ask(socket, Request::Checks)?;
            match check {
                None => print(out, json, &report, |report| checks::overview(report, style)),
                Some(name) => {
                    let found = report.checks.iter().find(|one| one.name == *name);
                    let found = found.ok_or_else(|| no_check(name, &report))?;
                    print(out, json, found, |found| checks::detail(found, style))
                }
            }
        }
        Command::Mute { check, lasts } => {
            let request = Request::Mute {
                check: check.clone(),
                for_ms: lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
            };
            let report: Value = ask(socket, request)?;
            let until = match lasts {
                Some(lasts) => format!("for {}", humantime::format_duration(*lasts)),
                None => format!("until `hactl unmute {check}`, or a restart"),
            };
            print(out, json, &report, |_| {
                format!("check {check} counts for nothing {until}\n")
            })
        }
        Command::Unmute { check } => {
            let request = Request::Unmute {
                check: check.clone(),
            };
            let report: Value = ask(socket, request)?;
            print(out, json, &report, |_| {
                format!("check {check} counts again\n")
            })
        }
        Command::Counters { all } => {
            let report: Counters = ask(socket, Request::Counters)?;
            print(out, json, &report, |report| render::counters(report, *all))
        }
    }
}

fn no_check(name: &str, report: &ChecksReport) -> Failure {
    let names: Vec<&str> = report.checks.iter().map(|one| one.name.as_str()).collect();
    Failure::NoSuchThing(format!(
        "there is no check \"{name}\". There is: {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    ))
}

fn print<T: Serialize>(
    out: &mut impl Write,
    json: bool,
    report: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        let value: Value = serde_json::to_value(report)?;
        writeln!(out, "{value:#}")?;
    } else {
        write!(out, "{}", text(report))?;
    }
    out.flush()?;
    Ok(())
}

/// Waits until another node is Active for everything that was released.
fn watch_takeover(
    socket: &Path,
    released: &SwitchoverReport,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let deadline = clock::now().after(Nanos::from_millis(released.settled_within_ms));
    while clock::now() < deadline {
        let status: StatusReport = ask(socket, Request::Status)?;
        let mut moved: Vec<&crate::control::report::InstanceReport> = status
            .instances
            .iter()
            .filter(|instance| released.released.contains(&instance.name))
            .collect();
        if moved.iter().all(|instance| instance.active_peer.is_some()) {
            moved.sort_by(|left, right| left.name.cmp(&right.name));
            if !json {
                write!(out, "{}", render::taken_over(&moved))?;
                out.flush()?;
            }
            return Ok(());
        }
        if let Some(back) = moved.iter().find(|instance| instance.state == "active") {
            return Err(Failure::NobodyTookOver(format!(
                "no other node took {} over, and this one is Active again: is had running on another one? There, `hactl explain {}` says why it stays Backup",
                back.name, back.name
            )));
        }
        thread::sleep(TAKEOVER_STEP);
    }
    Err(Failure::NobodyTookOver(format!(
        "{} was released, but no other node was heard to be Active within {} ms: `hactl explain` on the other nodes says why they stay Backup",
        released.released.join(", "),
        released.settled_within_ms
    )))
}

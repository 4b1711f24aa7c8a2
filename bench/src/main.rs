//! Measurements of `had` beside keepalived, in the same run and with the same settings, and the demo.

mod checks;
mod demo;
mod failover;
mod figures;
mod flood;
mod guard;
mod hang;
mod pair;
mod parts;
mod plot;
mod scale;
mod split;
mod steady;
mod steps;
mod usage;
mod writes;
mod xdp;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use ha_common::Nanos;
use ha_tests::clock::span;

/// Measures `had` beside keepalived.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trials of power-off, SIGSTOP, SIGKILL, SIGTERM and switchover, with a client that probes
    Failover {
        /// Trials of each fault for each daemon
        #[arg(long, default_value_t = 30)]
        trials: u32,
        /// Which daemons
        #[arg(long, value_delimiter = ',', default_values = ["had", "keepalived"])]
        systems: Vec<pair::System>,
        /// Which faults
        #[arg(long, value_delimiter = ',', default_values = ["power-off", "sigstop", "sigkill", "sigterm", "switchover"])]
        faults: Vec<failover::Fault>,
        /// Directory for failover.json and failover.svg
        #[arg(long, default_value = "out")]
        out: PathBuf,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// From a service, process or link that fails on the Active node to the other one's first answer
    Checks {
        /// Trials of each cause for each daemon
        #[arg(long, default_value_t = 20)]
        trials: u32,
        /// Which daemons
        #[arg(long, value_delimiter = ',', default_values = ["had-lease", "keepalived"])]
        systems: Vec<pair::System>,
        /// What goes wrong
        #[arg(long, value_delimiter = ',', default_values = ["carrier", "tracked-carrier", "mariadb-killed", "mariadb-hangs", "http-fails", "http-hangs", "process-killed", "gateway", "unit-stopped"])]
        causes: Vec<checks::Cause>,
        /// Between two adverts: a multiple of 10ms [default: 10ms, in a guest 400ms]
        #[arg(long)]
        interval: Option<humantime::Duration>,
        /// Between two heartbeats of had, of which three may be missed [default: had-lease 1ms, in a guest 100ms]
        #[arg(long)]
        heartbeat: Option<humantime::Duration>,
        /// Directory for checks.json
        #[arg(long, default_value = "out")]
        out: PathBuf,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// Faults after which two nodes might speak for the VIP, with a client that asks both all the time
    Split {
        /// Faults of each daemon, each kind by turns
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Which daemons
        #[arg(long, value_delimiter = ',', default_values = ["had-lease", "had", "keepalived"])]
        systems: Vec<pair::System>,
        /// Which faults
        #[arg(long, value_delimiter = ',', default_values = ["sigstop", "sigkill", "one-way"])]
        faults: Vec<split::Fault>,
        /// Between two heartbeats of had-lease, of which three may be missed
        #[arg(long, default_value = "3ms")]
        heartbeat: humantime::Duration,
        /// Directory for split.json, and for the logs of a round in which both nodes answered for too long
        #[arg(long, default_value = "out")]
        out: PathBuf,
        /// Fail when both nodes answered for longer than their bound
        #[arg(long)]
        check: bool,
    },
    /// What a Backup costs that hears adverts each 10 ms, or with --load who takes over without a reason
    Steady {
        /// How long to measure [default: 60, with --load 600]
        #[arg(long)]
        seconds: Option<u32>,
        /// Which daemons [default: had,keepalived, with --load keepalived-no-rt as well]
        #[arg(long, value_delimiter = ',')]
        systems: Option<Vec<pair::System>>,
        /// Count take-overs on a machine that stress-ng keeps busy
        #[arg(long)]
        load: bool,
        /// Between two adverts: a multiple of 10ms
        #[arg(long, requires = "load", default_value = "10ms")]
        interval: humantime::Duration,
        /// Between two heartbeats of had, of which three may be missed, such as 3ms
        #[arg(long, requires = "load")]
        heartbeat: Option<humantime::Duration>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// 255 virtual routers at 10 ms: processor time, wake-ups, memory, and the time until all have moved
    Scale {
        /// How long to measure what they use
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Power-offs of the Active node
        #[arg(long, default_value_t = 5)]
        trials: u32,
        /// Which daemons
        #[arg(long, value_delimiter = ',', default_values = ["had", "keepalived"])]
        systems: Vec<pair::System>,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// ARP requests answered by XDP and by the kernel; take-overs under a flood of adverts, right and forged
    Flood {
        /// How long to flood
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Power-offs of the Active node, with the flood and without
        #[arg(long, default_value_t = 10)]
        trials: u32,
        /// Between two heartbeats, of which three may be missed; 0s: adverts alone, each 10 ms
        #[arg(long, default_value = "3ms")]
        heartbeat: humantime::Duration,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// Nanoseconds per packet on each path through the XDP program, beside an empty program
    Xdp {
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Fail when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// Clients that write to a pair of MariaDB servers while something fails: times, and what became of the writes
    Writes {
        /// Trials of each fault for each promoter
        #[arg(long, default_value_t = 30)]
        trials: u32,
        /// Who promotes
        #[arg(long, value_delimiter = ',', default_values = ["had", "keepalived"])]
        promoters: Vec<writes::Promoter>,
        /// What fails on the node that is written to
        #[arg(long, value_delimiter = ',', default_values = ["mariadb-killed", "power-off", "daemon-frozen", "switchover"])]
        faults: Vec<writes::Fault>,
        /// Clients that insert rows
        #[arg(long, default_value_t = 16)]
        clients: u32,
        /// Rows a second of all of them; 0: as many as the servers take
        #[arg(long, default_value_t = 1_500)]
        rate: u32,
        /// Clients that transfer money between accounts
        #[arg(long, default_value_t = 2)]
        tellers: u32,
        /// Without semi-synchronous replication
        #[arg(long = "async")]
        asynchronous: bool,
        /// The servers' files in memory, and not on the disk of /tmp
        #[arg(long)]
        memory: bool,
        /// The replica begins to apply only so long after the fault what it received before, such as 5s
        #[arg(long)]
        lag: Option<humantime::Duration>,
        /// Between two heartbeats of had, of which three may be missed
        #[arg(long, default_value = "10ms")]
        heartbeat: humantime::Duration,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Fail when a target is missed
        #[arg(long)]
        check: bool,
    },
    /// A pair of MariaDB servers of which one, or its daemon, is killed at each step of each plan: what becomes of the
    /// plan and of the writes
    Steps {
        /// What brings the plans about; all, if none is named
        #[arg(long, value_delimiter = ',')]
        occasions: Vec<steps::Occasion>,
        /// Who is killed
        #[arg(long, value_delimiter = ',', default_values = ["server", "daemon"])]
        faults: Vec<steps::Fault>,
        /// Fail when a plan ends otherwise than it should
        #[arg(long)]
        check: bool,
    },
    /// A take-over step by step, with keepalived's beside it
    Demo {
        /// Take-overs of each daemon
        #[arg(long, default_value_t = 1)]
        trials: u32,
    },
}

fn main() -> Result<()> {
    guard::install()?;
    match Arguments::parse().command {
        Command::Failover {
            trials,
            systems,
            faults,
            out,
            check,
        } => failover::run(trials, &systems, &faults, &out, check),
        Command::Checks {
            trials,
            systems,
            causes,
            interval,
            heartbeat,
            out,
            check,
        } => {
            let usual = if ha_tests::guest::is_here() {
                pair::Timing::IN_GUEST
            } else {
                pair::Timing::ADVERTS
            };
            let timing = pair::Timing {
                interval: interval.map_or(usual.interval, |interval| span(*interval)),
                heartbeat: heartbeat.map_or(usual.heartbeat, |heartbeat| Some(span(*heartbeat))),
            };
            checks::run(trials, &systems, &causes, timing, &out, check)
        }
        Command::Split {
            rounds,
            systems,
            faults,
            heartbeat,
            out,
            check,
        } => split::run(rounds, &systems, &faults, span(*heartbeat), &out, check),
        Command::Steady {
            seconds,
            systems,
            load: true,
            interval,
            heartbeat,
            json,
            check,
        } => {
            let seconds = seconds.unwrap_or(steady::LOAD_SECONDS);
            let systems = systems.unwrap_or_else(|| steady::LOAD_SYSTEMS.to_vec());
            let timing = pair::Timing {
                interval: span(*interval),
                heartbeat: heartbeat.map(|heartbeat| span(*heartbeat)),
            };
            steady::run_loaded(seconds, &systems, timing, json, check)
        }
        Command::Steady {
            seconds,
            systems,
            json,
            check,
            ..
        } => {
            let seconds = seconds.unwrap_or(steady::SECONDS);
            let systems = systems.unwrap_or_else(|| steady::SYSTEMS.to_vec());
            steady::run(seconds, &systems, json, check)
        }
        Command::Scale {
            seconds,
            trials,
            systems,
            json,
            check,
        } => scale::run(seconds, trials, &systems, json.as_deref(), check),
        Command::Flood {
            seconds,
            trials,
            heartbeat,
            json,
            check,
        } => {
            let heartbeat = Some(span(*heartbeat)).filter(|heartbeat| *heartbeat != Nanos::ZERO);
            flood::run(seconds, trials, heartbeat, json.as_deref(), check)
        }
        Command::Xdp { json, check } => xdp::run(json.as_deref(), check),
        Command::Steps {
            occasions,
            faults,
            check,
        } => {
            let all = steps::Occasion::ALL.to_vec();
            let occasions = Some(occasions).filter(|named| !named.is_empty());
            steps::run(&occasions.unwrap_or(all), &faults, check)
        }
        Command::Writes {
            trials,
            promoters,
            faults,
            clients,
            rate,
            tellers,
            asynchronous,
            memory,
            lag,
            heartbeat,
            json,
            check,
        } => {
            use ha_tests::mariadb::{Durability, Load, Storage};
            let options = writes::Options {
                trials,
                promoters,
                faults,
                load: Load {
                    clients,
                    rate,
                    tellers,
                },
                durability: if asynchronous {
                    Durability::Async
                } else {
                    Durability::SemiSync
                },
                storage: if memory {
                    Storage::Memory
                } else {
                    Storage::Disk
                },
                lag: lag.map(Into::into),
                heartbeat: span(*heartbeat),
            };
            writes::run(&options, json.as_deref(), check)
        }
        Command::Demo { trials } => demo::run(trials),
    }
}

/// Writes figures to a file.
fn write_json(file: &Path, figures: &serde_json::Value) -> Result<()> {
    fs::write(file, format!("{figures:#}\n")).with_context(|| format!("writing {}", file.display()))
}

//! The command lines of `had` and `hactl`.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

/// Moves virtual IP addresses between nodes in milliseconds, and lets the kernel see to it that a node
/// that hangs no longer speaks for them.
///
/// Runs in the foreground. SIGTERM hands everything over and ends, SIGHUP reads the file again.
#[derive(Debug, Parser)]
#[command(name = "had", version, max_term_width = 100)]
pub struct Had {
    /// The configuration file (docs/configuration.md).
    #[arg(short, long, value_name = "FILE", default_value = "/etc/had/had.toml")]
    pub config: PathBuf,

    /// Only validate the file: exits 0 when it is valid, else 1 with every mistake, its line and the fix.
    #[arg(long)]
    pub check: bool,

    /// Fences databases when the daemon hangs that started this, whose socket is standard input.
    #[arg(long, hide = true, conflicts_with = "check")]
    pub fence: bool,

    /// Carries bytes between standard input and output and a socket: rsync runs this to reach another node.
    #[arg(long, hide = true, value_name = "SOCK", conflicts_with_all = ["check", "fence"])]
    pub relay: Option<PathBuf>,

    /// How much to log; RUST_LOG, where set, decides instead.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What breaks or endangers service.
    Error,
    /// What somebody should look at.
    Warn,
    /// Each transition, with its reason.
    Info,
    /// What the daemon does in between.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As a directive of `RUST_LOG`.
    #[must_use]
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Shows and controls a running had.
///
/// Exits 0 when it did what was asked for, 1 when not, 2 when the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "hactl", version, max_term_width = 100)]
pub struct Hactl {
    /// The daemon's control socket (api.control).
    #[arg(
        long,
        global = true,
        value_name = "SOCK",
        default_value = "/run/had/control.sock"
    )]
    pub control: PathBuf,

    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hactl` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show this node: dataplane, instances, who is Active.
    Status,
    /// Show the last transitions and what led to them.
    Events {
        /// Show the latest N events (1000 are kept).
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Say why an instance is in its state, sentence by sentence.
    Explain {
        /// The instance's name.
        instance: String,
    },
    /// Hand a group or an instance over to another node.
    ///
    /// Where no other node can take over, this one is Active again after about four advert intervals, in
    /// which nobody serves. A group with roles shows each step, and takes a hand-over back that fails.
    Switchover {
        /// The name of a group or an instance that is Active here.
        #[arg(value_name = "GROUP|INSTANCE")]
        target: String,
        /// The node that is to take over: the address of the sole configured peer, or of a group with roles its name.
        #[arg(long, value_name = "NODE|ADDRESS")]
        to: Option<String>,
        /// Of a group with roles: only show what would be done, and what is in the way; exits 1 if anything is.
        #[arg(long)]
        dry_run: bool,
        /// On a node that is not Active: let it be promoted although another one may have newer data.
        ///
        /// For when the other node is gone for good: what it alone had is lost.
        #[arg(long, conflicts_with_all = ["to", "dry_run"])]
        accept_loss: bool,
    },
    /// Show the node's mode, or set it; it outlives a reboot.
    ///
    /// active-standby: it takes part. maintenance: it hands everything over and takes nothing over; refused as
    /// long as no other node could take its roles over. standalone: it takes part, and no other node does.
    Mode {
        /// active-standby, maintenance or standalone.
        #[arg(value_name = "MODE", value_parser = ["active-standby", "maintenance", "standalone"])]
        set: Option<String>,
        /// Go into maintenance although no other node can take the roles over: nobody serves then.
        #[arg(long, requires = "set")]
        force: bool,
    },
    /// Show the groups that have roles: how they stand, what is or was done with them, and the other nodes.
    Roles {
        /// Show this group alone.
        #[arg(value_name = "GROUP")]
        group: Option<String>,
    },
    /// Prepare databases.
    #[command(subcommand)]
    Db(Db),
    /// Read the configuration again; an invalid file changes nothing.
    Reload,
    /// Show what is watched: services, tracked interfaces, and what they do to which instance.
    Checks {
        /// Show everything about this check: its last probes, and what it printed.
        #[arg(value_name = "CHECK")]
        check: Option<String>,
    },
    /// Let a check count for nothing, as during maintenance of its service.
    ///
    /// It goes on, and `hactl checks` shows what it finds. A restart of had ends it.
    Mute {
        /// The check's name.
        #[arg(value_name = "CHECK")]
        check: String,
        /// For how long, as "10m" or "1h 30m"; otherwise until `hactl unmute`.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Let a check count again.
    Unmute {
        /// The check's name.
        #[arg(value_name = "CHECK")]
        check: String,
    },
    /// Show the dataplane's verdicts, by reason.
    Counters {
        /// Show those of which there were none, too, as --json always does.
        #[arg(long)]
        all: bool,
    },
}

/// What `hactl db` can do.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Prepare this node's server for replication: on each node once, the primary first.
    ///
    /// On the primary the account is made as whom replicas come. On a standby it is looked whether following the
    /// primary would lose anything; had does that by itself then. Nothing is ever overwritten.
    InitReplication {
        /// The name of a role of kind "mysql".
        role: String,
    },
    /// Begin a Galera cluster anew of which no node commits any more, on the node that has the newest data.
    ///
    /// Shows where each node's data ends, as far as that is known: run it with --dry-run on each of them first. It is
    /// refused as long as another node has more, may have, or runs. The other nodes' servers are started afterwards.
    Bootstrap {
        /// The name of a role of kind "galera".
        role: String,
        /// Only show how the nodes are, and what stands against it; exits 1 if anything does.
        #[arg(long)]
        dry_run: bool,
        /// Do it although another node has newer data, or may have: what it alone has is lost.
        #[arg(long)]
        accept_loss: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn help(mut command: clap::Command) -> String {
        command.render_long_help().to_string()
    }

    #[test]
    fn help_of_had() {
        Had::command().debug_assert();
        insta::assert_snapshot!(help(Had::command()));
    }

    #[test]
    fn help_of_hactl() {
        Hactl::command().debug_assert();
        insta::assert_snapshot!(help(Hactl::command()));
    }
}

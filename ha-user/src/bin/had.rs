//! `had`: the daemon.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use ha_user::{cli, daemon, fence, relay};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = cli::Had::parse();
    let result = if arguments.check {
        check(&arguments)
    } else if arguments.fence {
        log_to_stderr(arguments.log_level);
        fence::run(&arguments.config).map_err(anyhow::Error::from)
    } else if let Some(socket) = &arguments.relay {
        relay::run(socket).map_err(anyhow::Error::from)
    } else {
        log_to_stderr(arguments.log_level);
        daemon::run(&arguments.config).map_err(anyhow::Error::from)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each message says everything, causes included. Nothing is left to tell it to when this fails too.
            let _ = writeln!(io::stderr().lock(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &cli::Had) -> anyhow::Result<()> {
    let config = daemon::check(&arguments.config)?;
    for advice in daemon::advice::of(&config) {
        writeln!(io::stderr().lock(), "warning: {advice}")?;
    }
    writeln!(
        io::stdout().lock(),
        "{}: valid, {}",
        arguments.config.display(),
        config.counts()
    )?;
    Ok(())
}

/// Without colours and time stamps under systemd, whose journal has its own.
fn log_to_stderr(level: cli::LogLevel) {
    let wanted = std::env::var("RUST_LOG").ok().map(EnvFilter::try_new);
    let (filter, misunderstood) = match wanted {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level.directive()), Some(error)),
        None => (EnvFilter::new(level.directive()), None),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
    if let Some(error) = misunderstood {
        tracing::warn!("RUST_LOG is not understood, and so ignored: {error}");
    }
}

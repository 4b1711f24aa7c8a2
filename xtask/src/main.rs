//! Everything a person runs, behind one front door: `cargo xtask setup | demo | test | vm-test | vm-run | bench |
//! sim | fuzz`.

#![forbid(unsafe_code)]

mod cargo;
mod fuzz;
mod mysql;
mod packages;
mod setup;
mod shell;
mod vm;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, try, test and measure `had`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find or install what building and testing need
    Setup {
        /// Only say what is missing and how to install it
        #[arg(long)]
        dry_run: bool,
    },
    /// Show a take-over beside keepalived's, in network namespaces (needs root)
    Demo {
        /// Handed to `bench demo`; see `cargo xtask demo -- --help`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run all tests (those in network namespaces need root)
    Test {
        /// Only the tests that need no root and no namespaces
        #[arg(long)]
        unit: bool,
        /// Handed to the test binaries of the integration tests, such as a name to filter by
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the tests that need bonding, VLANs, netem or systemd, on Debian's kernel in a QEMU guest
    VmTest {
        /// Only say which tests there are
        #[arg(long)]
        list: bool,
        /// Seconds after which the guest is ended
        #[arg(long, default_value_t = vm::TIME_LIMIT_SECS)]
        timeout: u64,
        /// Parts of the names of the tests to run; by default all run
        #[arg(last = true)]
        filters: Vec<String>,
    },
    /// Run a command in that guest, which has systemd, such as `target/release/bench checks --causes unit-stopped`
    ///
    /// It runs as root in the checkout's directory and sees this machine's files. What it prints is shown, what it
    /// writes is gone with the guest. Build before what it needs: `cargo build --release`.
    VmRun {
        /// Seconds after which the guest is ended
        #[arg(long, default_value_t = vm::TIME_LIMIT_SECS)]
        timeout: u64,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Measure side by side with keepalived (needs root); see `cargo xtask bench -- --help`
    Bench {
        /// Handed to `bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the election in the simulator; see `cargo xtask sim -- --help`
    Sim {
        /// Handed to `sim`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Look for inputs that break a parser or a rule of the election, with libFuzzer
    Fuzz {
        /// What to fuzz; by default everything, one after the other
        targets: Vec<fuzz::Target>,
        /// How long each
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Run only this input, such as one that broke something
        #[arg(long)]
        input: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Without a backtrace, whatever RUST_BACKTRACE says: these errors are for people.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { dry_run } => {
            setup::meet_needs(if dry_run {
                setup::Mode::DryRun
            } else {
                setup::Mode::Install
            })?;
            setup::mention_load_needs();
            if !dry_run {
                vm::prepare();
                mysql::prepare();
            }
        }
        Command::Demo { args } => {
            setup::meet_needs(setup::Mode::Install)?;
            setup::require_root("the demo makes network namespaces", "demo")?;
            cargo::demo(&args)?;
        }
        Command::Test { unit, args } => {
            setup::meet_needs(setup::Mode::Install)?;
            cargo::test_units()?;
            if !unit {
                setup::require_root("the integration tests make network namespaces", "test")?;
                if args.is_empty() {
                    cargo::test_privileged_units()?;
                    mysql::test_if_possible()?;
                }
                cargo::test_integration(&args)?;
                if args.is_empty() {
                    vm::test_if_possible(Duration::from_secs(vm::TIME_LIMIT_SECS))?;
                }
            }
        }
        Command::VmTest {
            list,
            timeout,
            filters,
        } => {
            setup::meet_needs(setup::Mode::Install)?;
            if list {
                vm::list(&filters)?;
            } else {
                vm::test(&filters, Duration::from_secs(timeout))?;
            }
        }
        Command::VmRun { timeout, command } => {
            setup::meet_needs(setup::Mode::Install)?;
            let code = vm::execute(&command, Duration::from_secs(timeout))?;
            return Ok(ExitCode::from(code));
        }
        Command::Bench { args } => {
            setup::meet_needs(setup::Mode::Install)?;
            setup::require_root("the measurements make network namespaces", "bench")?;
            if args.iter().any(|arg| arg == "--load") {
                setup::meet_load_needs()?;
            }
            cargo::bench(&args)?;
        }
        Command::Sim { args } => cargo::sim(&args)?,
        Command::Fuzz {
            targets,
            seconds,
            input,
        } => {
            setup::meet_needs(setup::Mode::Install)?;
            fuzz::run(&targets, seconds, input.as_deref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

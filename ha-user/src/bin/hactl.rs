//! `hactl`: shows and controls a running `had`.

use std::process::ExitCode;

use clap::Parser as _;
use ha_user::{cli, hactl};

fn main() -> ExitCode {
    hactl::run(&cli::Hactl::parse())
}

//! Building and running the fuzz targets. A compiler of any channel does: what libFuzzer needs of it are
//! LLVM's coverage counters, and those are a pass that can be asked for.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{cargo, target_dir, workspace},
    shell::{self, answer},
};

/// LLVM's SanitizerCoverage as libFuzzer reads it, and what `cargo fuzz` sets for the code.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// A file of `fuzz/fuzz_targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Any bytes as a VRRP or an ARP packet
    Wire,
    /// Any course of events in a simulated cluster
    Engine,
}

impl Target {
    const ALL: [Self; 2] = [Self::Wire, Self::Engine];

    const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Engine => "engine",
        }
    }
}

/// Fuzzes each target for `seconds`, or runs it with `input`.
pub(crate) fn run(targets: &[Target], seconds: u32, input: Option<&Path>) -> Result<()> {
    let triple = host_triple()?;
    let out = target_dir().join("fuzz");
    // Named, so that build scripts and procedural macros are not instrumented.
    shell::run(
        cargo()
            .args(["build", "--release", "--manifest-path=fuzz/Cargo.toml"])
            .arg(format!("--target={triple}"))
            .arg("--target-dir")
            .arg(&out)
            .env("RUSTFLAGS", INSTRUMENTATION),
    )?;
    let targets = if targets.is_empty() {
        &Target::ALL
    } else {
        targets
    };
    for target in targets {
        let name = target.name();
        let mut command = Command::new(out.join(&triple).join("release").join(name));
        command.current_dir(workspace());
        match input {
            Some(input) => command.arg(input),
            None => {
                let corpus = out.join("corpus").join(name);
                fs::create_dir_all(&corpus)
                    .with_context(|| format!("making {}", corpus.display()))?;
                command
                    .arg(format!("-max_total_time={seconds}"))
                    // Longer tapes and packets than the cluster and the wire have choices for.
                    .arg("-max_len=2048")
                    .args(["-timeout=60", "-verbosity=0", "-print_final_stats=1"])
                    .arg(format!("-artifact_prefix={}/{name}-", out.display()))
                    .arg(&corpus)
            }
        };
        shell::run(&mut command).with_context(|| {
            format!(
                "{name}: an input breaks it; run it again with `cargo xtask fuzz {name} --input FILE`"
            )
        })?;
    }
    Ok(())
}

/// What the compiler builds for when it is not told.
fn host_triple() -> Result<String> {
    answer("rustc", &["-vV"])
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("host: "))?;
            Some(line.to_owned())
        })
        .context("rustc does not say what it builds for")
}

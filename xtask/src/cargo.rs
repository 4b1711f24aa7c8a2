//! The cargo commands behind the tasks.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{mysql, shell::run, vm};

/// Unit tests, doc tests and the simulator's short run: nothing that needs root.
pub(crate) fn test_units() -> Result<()> {
    run(cargo().args([
        "test",
        "--package=ha-common",
        "--package=ha-core",
        "--package=ha-user",
        "--package=xtask",
        "--package=ha-bench",
        "--features=ha-core/sim",
    ]))
}

/// Unit tests that need root, or what only root may run; not those of the guest, or with MySQL.
pub(crate) fn test_privileged_units() -> Result<()> {
    run(cargo().args([
        "test",
        "--package=ha-user",
        "--lib",
        "--",
        "--ignored",
        "--skip",
        vm::UNITS_IN_GUEST,
        "--skip",
        mysql::UNITS,
    ]))
}

/// Unit tests and those in the lab with servers of MySQL, which is unpacked below `root`.
pub(crate) fn test_with_mysql(root: &Path) -> Result<()> {
    run(cargo()
        .args(["test", "--package=ha-user", "--lib", mysql::UNITS])
        .args(["--", "--ignored"])
        .env(mysql::ROOT, root))?;
    build_daemon()?;
    run(cargo()
        .args(["test", "--package=ha-tests", "--test=mysql"])
        .args(["--", "--ignored", "--test-threads=1"])
        .env(mysql::ROOT, root))
}

/// The tests in network namespaces, one at a time: each has a bridge, daemons and timers of its own,
/// and on a small machine they would take the processor from one another.
pub(crate) fn test_integration(args: &[String]) -> Result<()> {
    build_daemon()?;
    run(cargo()
        .args(["test", "--package=ha-tests", "--", "--test-threads=1"])
        .args(args))
}

/// What the lab's nodes run.
fn build_daemon() -> Result<()> {
    run(cargo().args(["build", "--package=ha-user", "--bins"]))
}

/// The demo.
pub(crate) fn demo(args: &[String]) -> Result<()> {
    build_bench()?;
    run(bench_command().arg("demo").args(args))
}

/// A measurement.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    build_bench()?;
    run(bench_command().args(args))
}

/// The simulator.
pub(crate) fn sim(args: &[String]) -> Result<()> {
    run(cargo()
        .args([
            "run",
            "--quiet",
            "--release",
            "--package=ha-core",
            "--features=sim",
            "--bin=sim",
        ])
        .arg("--")
        .args(args))
}

fn build_bench() -> Result<()> {
    run(cargo().args([
        "build",
        "--release",
        "--package=ha-user",
        "--bins",
        "--package=ha-bench",
    ]))
}

fn bench_command() -> Command {
    let mut command = Command::new(target_dir().join("release/bench"));
    command.current_dir(workspace());
    command
}

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace());
    command
}

pub(crate) fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// An absolute path: programs are also run in other directories.
pub(crate) fn target_dir() -> PathBuf {
    let path = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    std::path::absolute(&path).unwrap_or(path)
}

//! `cargo xtask vm-test`: the tests that need a kernel with bonding, VLANs, netem, md and DRBD, or systemd, run on
//! Debian's, in a guest of QEMU that has the host's file system, read-only. `cargo xtask vm-run` runs any other command
//! there.

mod guest;
mod initramfs;
mod machine;
mod second;
mod systemd;
mod tools;

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cargo::{cargo, workspace},
    shell::{self, answer},
};
use guest::{END, Guest, REPORT, now};
use initramfs::quoted;
use tools::Tools;

/// Seconds that a guest may run by default, from QEMU's start on: with four idle processors it takes ten to sixteen minutes.
pub(crate) const TIME_LIMIT_SECS: u64 = 2400;

/// What the names of unit tests contain that run in the guest alone.
pub(crate) const UNITS_IN_GUEST: &str = "::in_guest::";

/// A test binary that runs in the guest.
struct Suite {
    /// Its name.
    name: &'static str,
    /// How to build it.
    build: &'static [&'static str],
    /// Where only ignored tests are run, and of them those whose names contain this.
    ignored: Option<&'static str>,
    /// Which of its tests run without a filter: those whose names contain one of these, or all.
    chosen: &'static [&'static str],
    /// Which of these run only where a filter names them: they take minutes.
    on_request: &'static [&'static str],
}

/// The tests of `guest` run nowhere else, nor do some unit tests of the daemon. Those of `xdp` run there again because
/// an older kernel has another verifier and no tcx: what it makes of each kind of packet, and whose filters at tc are,
/// not what takes the guest minutes and depends on no kernel.
const SUITES: [Suite; 3] = [
    Suite {
        name: "ha_user",
        build: &["--package=ha-user", "--lib"],
        ignored: Some(UNITS_IN_GUEST),
        chosen: &[],
        on_request: &[],
    },
    Suite {
        name: "guest",
        build: &["--package=ha-tests", "--test=guest", "--features=guest"],
        ignored: None,
        chosen: &[],
        on_request: &["steps::"],
    },
    Suite {
        name: "xdp",
        build: &["--package=ha-tests", "--test=xdp"],
        ignored: None,
        chosen: &[
            "ingress::",
            "egress::",
            "bfd::verdicts",
            "leases::echoes::what_is_wrong",
            "taken::a_killed_daemon",
            "taken::two_daemons",
            "verifier::",
            "wire::auto",
        ],
        on_request: &[],
    },
];

/// The tests of a suite that are to run.
struct Selection {
    binary: PathBuf,
    args: Vec<String>,
    names: Vec<String>,
}

/// Fetches what a guest is made of, or says why it cannot be had.
pub(crate) fn prepare() {
    if let Err(error) = Tools::meet() {
        println!("setup: the tests will leave out those in a QEMU guest: {error:#}");
    }
}

/// Runs the guest's tests whose names contain one of `filters`.
pub(crate) fn test(filters: &[String], limit: Duration) -> Result<()> {
    let tools = Tools::meet()?;
    run(&tools, filters, limit)
}

/// The same as a part of all tests: where a guest cannot be had, that is said, and no error.
pub(crate) fn test_if_possible(limit: Duration) -> Result<()> {
    match Tools::meet() {
        Ok(tools) => run(&tools, &[], limit),
        Err(error) => {
            let line = "!".repeat(100);
            println!(
                "{line}\nLEFT OUT: the tests on Debian's kernel in a QEMU guest (bonding, VLANs, netem, disk arrays, \
                 DRBD, systemd, the XDP tables on an older kernel)\nwhy: {error:#}\nonce that is mended: cargo xtask vm-test\n{line}"
            );
            Ok(())
        }
    }
}

/// Prints the names of the guest's tests.
pub(crate) fn list(filters: &[String]) -> Result<()> {
    for name in select(filters)?
        .into_iter()
        .flat_map(|selection| selection.names)
    {
        println!("{name}");
    }
    Ok(())
}

fn run(tools: &Tools, filters: &[String], limit: Duration) -> Result<()> {
    shell::run(cargo().args(["build", "--package=ha-user", "--bins"]))?;
    let selections = select(filters)?;
    let count: usize = selections
        .iter()
        .map(|selection| selection.names.len())
        .sum();
    ensure!(count > 0, "no test of the guest has such a name");
    println!(
        "vm-test: {count} tests on Linux {} under QEMU, for at most {} s",
        tools.release(),
        limit.as_secs()
    );
    let started = now();
    let job = job(tools, &tests(&selections));
    let code = Guest::boot(tools, &job, &environment(tools))?.watch(limit)?;
    ensure!(code == 0, "tests failed in the guest");
    println!(
        "vm-test: all {count} tests passed, in {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

/// Runs a command in the guest, in the checkout's directory. Returns its exit code.
pub(crate) fn execute(command: &[String], limit: Duration) -> Result<u8> {
    let tools = Tools::meet()?;
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    println!(
        "vm-run: on Linux {} under QEMU, for at most {} s: {}",
        tools.release(),
        limit.as_secs(),
        command.join(" ")
    );
    let line = format!("{}\ncode=$?\n", words.join(" "));
    Guest::boot(&tools, &job(&tools, &line), &environment(&tools))?.watch(limit)
}

/// The first lines of what a guest runs.
fn environment(tools: &Tools) -> String {
    let programs = quoted(&tools.programs().display().to_string());
    format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{programs}\n\
         export HOME=/root RUST_BACKTRACE=0\n"
    )
}

/// The shell script that the guest runs: `lines`, which set `code`.
fn job(tools: &Tools, lines: &str) -> String {
    format!(
        "{}\
         exec >{REPORT} 2>&1 </dev/null\n\
         cd {} || exit 1\n\
         /run/busybox hostname guest\n\
         echo \"booted Linux $(uname -r)\"\n\
         code=0\n\
         {lines}\
         echo \"{END}$code\"\nsync\n/run/busybox poweroff -f\n",
        environment(tools),
        quoted(&workspace().display().to_string())
    )
}

/// The lines that run tests.
fn tests(selections: &[Selection]) -> String {
    let mut lines = String::new();
    for selection in selections {
        let mut words = vec![quoted(&selection.binary.display().to_string())];
        words.extend(["--test-threads=1", "--nocapture"].map(str::to_owned));
        words.extend(selection.args.iter().map(|arg| quoted(arg)));
        lines.push_str(&format!(
            "{} || code=1
",
            words.join(" ")
        ));
    }
    lines
}

/// The suites, built, with what `filters` leave of each, or without any what is chosen; none that has nothing left.
fn select(filters: &[String]) -> Result<Vec<Selection>> {
    let mut found = Vec::new();
    for suite in &SUITES {
        let binary = build(suite)?;
        let path = binary.to_str().context("a path that is not UTF-8")?;
        let filters = if filters.is_empty() {
            let chosen = suite.chosen.iter().copied();
            let left_out = suite.on_request.iter().flat_map(|part| ["--skip", part]);
            chosen.chain(left_out).map(str::to_owned).collect()
        } else {
            filters.to_vec()
        };
        let mut to_list = vec!["--list", "--format=terse"];
        to_list.extend(suite.ignored.map(|_| "--ignored"));
        to_list.extend(filters.iter().map(String::as_str));
        let list =
            answer(path, &to_list).with_context(|| format!("{path} does not list its tests"))?;
        let mut names: Vec<&str> = list
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .collect();
        let args = match suite.ignored {
            None => filters,
            Some(part) => {
                names.retain(|name| name.contains(part));
                let exactly = ["--ignored", "--exact"].iter().chain(&names);
                exactly.map(|arg| (*arg).to_owned()).collect()
            }
        };
        let names: Vec<String> = names
            .into_iter()
            .map(|name| format!("{}: {name}", suite.name))
            .collect();
        if !names.is_empty() {
            found.push(Selection {
                binary,
                args,
                names,
            });
        }
    }
    Ok(found)
}

/// Builds a suite and returns its executable.
fn build(suite: &Suite) -> Result<PathBuf> {
    let name = suite.name;
    let output = cargo()
        .args(["test", "--no-run"])
        .args(suite.build)
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building the test {name} failed");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|message| {
            message["reason"] == "compiler-artifact"
                && message["target"]["name"] == name
                && message["profile"]["test"] == true
        })
        .and_then(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo does not say where the test {name} is"))
}

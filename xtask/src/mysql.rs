//! MySQL for the tests of its dialect. Debian has it in `sid` alone, so it comes from there with all that it needs, the C
//! library included, and is unpacked below `target`; nothing is installed, nor apt's configuration changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{self, target_dir},
    packages,
    shell::{answer, run},
};

/// What the names of the unit tests contain.
pub(crate) const UNITS: &str = "::of_mysql::";
/// The variable by which they are told where it is.
pub(crate) const ROOT: &str = "HAD_TEST_MYSQL";

const PACKAGE: &str = "mysql-server-core";
const SUITE: &str = "sid";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// By which it is known to be there.
const PROGRAM: &str = "usr/sbin/mysqld";

/// Fetches it, or says why it cannot be had.
pub(crate) fn prepare() {
    if let Err(error) = meet() {
        println!("setup: the tests will leave out those with MySQL: {error:#}");
    }
}

/// Runs these tests; where MySQL cannot be had that is said, and no error.
pub(crate) fn test_if_possible() -> Result<()> {
    match meet() {
        Ok(root) => cargo::test_with_mysql(&root),
        Err(error) => {
            let line = "!".repeat(100);
            println!(
                "{line}\nLEFT OUT: the tests of databases with servers of MySQL (those with MariaDB ran)\nwhy: {error:#}\n{line}"
            );
            Ok(())
        }
    }
}

/// Finds it, or gets it through apt.
fn meet() -> Result<PathBuf> {
    let directory = target_dir().join("mysql");
    let root = directory.join("root");
    if !root.join(PROGRAM).exists() {
        let work = directory.join(format!("of-{}", std::process::id()));
        packages::unpack(
            &work,
            &root,
            "MySQL",
            |to| download(&work.join("apt"), to),
            |new| {
                let there = new.join(PROGRAM).exists();
                anyhow::ensure!(there, "the package {PACKAGE} has no {PROGRAM}");
                Ok(())
            },
        )?;
    }
    Ok(root)
}

/// With an apt of its own, for which nothing is installed, below `home`.
fn download(home: &Path, to: &Path) -> Result<()> {
    let archive = archive()?;
    let lists = home.join("lists");
    fs::create_dir_all(lists.join("partial"))
        .with_context(|| format!("making {}", lists.display()))?;
    let sources = home.join("sources.list");
    let source = format!("deb [signed-by={KEYRING}] {archive} {SUITE} main\n");
    fs::write(&sources, source).with_context(|| format!("writing {}", sources.display()))?;
    let status = home.join("status");
    fs::write(&status, "").with_context(|| format!("writing {}", status.display()))?;
    let apt = || {
        let mut command: Command = packages::apt_get();
        for (key, place) in [
            ("Dir::Etc::sourcelist", sources.as_path()),
            ("Dir::Etc::sourceparts", Path::new("-")),
            ("Dir::State::lists", &lists),
            ("Dir::State::status", &status),
            ("Dir::Cache", home),
            ("Dir::Cache::archives", to),
        ] {
            command.arg("-o").arg(format!("{key}={}", place.display()));
        }
        command.args(["-o", "Debug::NoLocking=1", "-o", "Acquire::Languages=none"]);
        command
    };
    run(apt().arg("update")).context("what Debian has in sid cannot be read")?;
    run(apt().args([
        "install",
        "-y",
        "--no-install-recommends",
        "--download-only",
        PACKAGE,
    ]))
}

/// Where this machine gets Debian from.
fn archive() -> Result<String> {
    let targets = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
        "Component: main",
    ];
    let known = answer("apt-get", &targets).unwrap_or_default();
    let archive = known
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    archive
        .map(str::to_owned)
        .context("apt knows no archive of Debian here")
}

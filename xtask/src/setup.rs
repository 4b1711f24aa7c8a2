//! Finds or installs what building and testing need. Each need says what it wants, how to see whether
//! it is met, and the commands that meet it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::shell::{answer, bounded, run};

/// Seconds for one download or one compilation of a tool.
const INSTALL_LIMIT_SECS: u32 = 1_500;
/// Seconds for asking rustup's servers for a toolchain; where they cannot be reached, Debian's
/// compiler is used instead.
const RUSTUP_LIMIT_SECS: u32 = 300;
/// The release of bpf-linker that goes with the pinned aya.
const BPF_LINKER: &str = "0.13";
/// The LLVM that bpf-linker is built for: not older than the one in either compiler for eBPF.
const LLVM: &str = "22";

/// Debian packages that the tests, measurements and fuzz targets use, each with a file by which it is
/// known.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("g++", "c++"),
    ("iproute2", "ip"),
    ("iputils-ping", "ping"),
    ("ethtool", "ethtool"),
    ("nftables", "nft"),
    ("keepalived", "keepalived"),
    ("procps", "ps"),
    ("frr", "vtysh"),
    ("bird2", "bird"),
    ("tshark", "tshark"),
    ("mariadb-server", "mariadbd"),
    ("dbus-daemon", "dbus-daemon"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("drbd-utils", "drbdsetup"),
    ("rsync", "rsync"),
    ("glusterfs-server", "glusterd"),
];

/// What only `bench steady --load` uses.
const LOAD_PACKAGES: &[(&str, &str)] = &[("stress-ng", "stress-ng")];

/// Those of them that bring a service, which is nobody's but the tests' to run, and its unit.
const SERVICES: &[(&str, &str)] = &[
    ("frr", "frr.service"),
    ("bird2", "bird.service"),
    ("mariadb-server", "mariadb.service"),
    ("glusterfs-server", "glusterd.service"),
];

/// What Debian's packages ask before they start a service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What [`meet_needs`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Install what is missing.
    Install,
    /// Only say what is missing.
    DryRun,
}

/// Meets every need, or says with which commands to meet it.
pub(crate) fn meet_needs(mode: Mode) -> Result<()> {
    let mut installer = Installer {
        mode,
        apt_updated: false,
        installed: Vec::new(),
    };
    let toolchain = installer.ebpf_compiler()?;
    installer.bpf_linker()?;
    installer.packages(TEST_PACKAGES, "the tests")?;
    match installer.installed.as_slice() {
        [] => println!("setup: everything is here (eBPF compiler: {toolchain})"),
        installed => println!("setup: installed {}", installed.join(", ")),
    }
    Ok(())
}

/// Says what `bench steady --load` needs besides, if it is missing: nothing else does.
pub(crate) fn mention_load_needs() {
    let missing = missing(LOAD_PACKAGES);
    if !missing.is_empty() {
        println!(
            "setup: only `cargo xtask bench steady --load` also needs {}: apt-get install {}",
            missing.join(", "),
            missing.join(" ")
        );
    }
}

/// Meets what `bench steady --load` needs besides.
pub(crate) fn meet_load_needs() -> Result<()> {
    let mut installer = Installer {
        mode: Mode::Install,
        apt_updated: false,
        installed: Vec::new(),
    };
    installer.packages(LOAD_PACKAGES, "measurements under load")
}

/// An error that says how to become root, unless we are.
pub(crate) fn require_root(why: &str, task: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("{why}, which needs root: run `sudo --preserve-env=PATH,HOME cargo xtask {task}`")
}

fn is_root() -> bool {
    answer("id", &["-u"]).as_deref() == Some("0")
}

/// rustup's name for Debian's compiler, once it is linked.
const DEBIAN_TOOLCHAIN: &str = "debian";

/// Whether a toolchain is there, with the source of `core`, which is built for the BPF target.
fn has_core_source(toolchain: &str) -> bool {
    answer("rustup", &["run", toolchain, "rustc", "--print", "sysroot"]).is_some_and(|root| {
        Path::new(&root)
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
    })
}

/// The nightly that `ha-ebpf/rust-toolchain.toml` pins.
fn pinned_nightly() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ha-ebpf/rust-toolchain.toml");
    let pin =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    pin.lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{} names no channel", path.display()))
}

struct Installer {
    mode: Mode,
    apt_updated: bool,
    installed: Vec<String>,
}

impl Installer {
    fn ebpf_compiler(&mut self) -> Result<String> {
        if answer("rustup", &["--version"]).is_none() {
            bail!(
                "rustup is missing: it selects the compilers. Install it from your distribution or \
                 from https://rustup.rs, then run this again."
            );
        }
        let nightly = pinned_nightly()?;
        for toolchain in [nightly.as_str(), DEBIAN_TOOLCHAIN] {
            if has_core_source(toolchain) {
                return Ok(toolchain.to_owned());
            }
        }
        let by_rustup =
            format!("rustup toolchain install {nightly} --profile minimal --component rust-src");
        let by_apt = "apt-get install rustc-web cargo-web rust-web-src && \
                      rustup toolchain link debian /usr";
        if self.mode == Mode::DryRun {
            bail!("no compiler for eBPF: run `{by_rustup}`, or on Debian `{by_apt}`");
        }
        println!("setup: a compiler for eBPF is missing; trying rustup's {nightly}");
        let args = by_rustup.split(' ').skip(1).collect::<Vec<_>>();
        let outcome = run(&mut bounded(RUSTUP_LIMIT_SECS, "rustup", &args));
        if outcome.is_ok() && has_core_source(&nightly) {
            self.installed.push(format!("{nightly} with rust-src"));
            return Ok(nightly);
        }
        println!("setup: {nightly} cannot be had here; trying Debian's compiler");
        self.apt_install(&["rustc-web", "cargo-web", "rust-web-src"])
            .and_then(|()| {
                run(Command::new("rustup").args(["toolchain", "link", DEBIAN_TOOLCHAIN, "/usr"]))
            })
            .with_context(|| format!("no compiler for eBPF: run `{by_rustup}` or `{by_apt}`"))?;
        if !has_core_source(DEBIAN_TOOLCHAIN) {
            bail!("Debian's rustc is installed, but without the source of core: run `{by_apt}`");
        }
        Ok(DEBIAN_TOOLCHAIN.to_owned())
    }

    fn bpf_linker(&mut self) -> Result<()> {
        if answer("bpf-linker", &["--version"]).is_some() {
            return Ok(());
        }
        let packages = [format!("llvm-{LLVM}-dev"), format!("libpolly-{LLVM}-dev")];
        let prefix = format!("/usr/lib/llvm-{LLVM}");
        let install = format!(
            "cargo install bpf-linker --locked --version ^{BPF_LINKER} --no-default-features \
             --features llvm-{LLVM}"
        );
        let by_hand = format!(
            "apt-get install {}, then LLVM_PREFIX={prefix} PATH={prefix}/bin:$PATH {install} (where \
             there is no such package: LLVM {LLVM} from https://apt.llvm.org)",
            packages.join(" ")
        );
        if self.mode == Mode::DryRun {
            bail!("bpf-linker is missing: {by_hand}");
        }
        println!("setup: bpf-linker is missing; building it for LLVM {LLVM}");
        if !Path::new(&prefix).join("include/llvm-c").exists() {
            self.apt_install(&[&packages[0], &packages[1]])
                .with_context(|| format!("bpf-linker cannot be built: {by_hand}"))?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let args = install.split(' ').skip(1).collect::<Vec<_>>();
        run(bounded(INSTALL_LIMIT_SECS, "cargo", &args)
            .env("LLVM_PREFIX", &prefix)
            .env("PATH", format!("{prefix}/bin:{path}")))
        .with_context(|| format!("bpf-linker cannot be built: {by_hand}"))?;
        if answer("bpf-linker", &["--version"]).is_none() {
            bail!("bpf-linker was installed, but is not on PATH: add cargo's bin directory to it");
        }
        self.installed.push("bpf-linker".to_owned());
        Ok(())
    }

    fn packages(&mut self, packages: &[(&str, &str)], user: &str) -> Result<()> {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(", ");
        let by_hand = format!("apt-get install {}", missing.join(" "));
        if self.mode == Mode::DryRun {
            bail!("{user} need {names}: {by_hand}");
        }
        self.apt_install(&missing).with_context(|| {
            format!("{user} need {names}; run `{by_hand}` or what your distribution calls these")
        })
    }

    fn apt_install(&mut self, packages: &[&str]) -> Result<()> {
        if answer("apt-get", &["--version"]).is_none() {
            bail!("this is no Debian or Ubuntu (no apt-get)");
        }
        if !is_root() {
            bail!(
                "installing packages needs root: `sudo apt-get install {}`",
                packages.join(" ")
            );
        }
        if !self.apt_updated {
            run(&mut bounded(
                INSTALL_LIMIT_SECS,
                "apt-get",
                &["-q", "update"],
            ))?;
            self.apt_updated = true;
        }
        let mut args = vec!["-q", "install", "-y", "--no-install-recommends"];
        args.extend(packages);
        {
            let _no_service_starts = Policy::deny()?;
            run(bounded(INSTALL_LIMIT_SECS, "apt-get", &args)
                .env("DEBIAN_FRONTEND", "noninteractive"))?;
        }
        for (_, unit) in SERVICES.iter().filter(|(name, _)| packages.contains(name)) {
            // Nor at the next boot. Without systemd there is no unit.
            let _ = answer("systemctl", &["disable", unit]);
        }
        self.installed
            .extend(packages.iter().map(|&package| package.to_owned()));
        Ok(())
    }
}

/// While it lives, no package starts a service. Where the machine has a policy of its own, that decides.
struct Policy {
    ours: bool,
}

impl Policy {
    fn deny() -> Result<Self> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")?;
                Ok(Self { ours: true })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(Self { ours: false })
            }
            Err(error) => Err(error).with_context(|| format!("making {POLICY}")),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            // Nothing can be done about a failure here; the file says what it does.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// The packages whose program is not there.
fn missing<'a>(packages: &[(&'a str, &str)]) -> Vec<&'a str> {
    packages
        .iter()
        .filter(|(_, program)| !on_path(program))
        .map(|&(package, _)| package)
        .collect()
}

/// Whether a program is on PATH or where Debian keeps those for root.
fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(program).exists())
}

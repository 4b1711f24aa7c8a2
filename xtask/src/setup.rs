//! Finds or installs what building and testing need. Each need says what it wants, how to see whether
//! it is met, and the commands that meet it.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::shell::{answer, bounded, run};

/// Seconds for one download or one compilation of a tool.
const INSTALL_LIMIT_SECS: u32 = 1_500;
/// Seconds for asking rustup's servers for a toolchain; where they cannot be reached, Debian's
/// compiler is used instead.
const RUSTUP_LIMIT_SECS: u32 = 300;
/// The release of bpf-linker that goes with the pinned aya.
const BPF_LINKER: &str = "0.13";

/// Debian packages that the tests and measurements use, each with a file by which it is known.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("keepalived", "keepalived"),
    ("procps", "ps"),
];

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
    installer.bpf_linker(toolchain)?;
    installer.test_packages()?;
    match installer.installed.as_slice() {
        [] => println!(
            "setup: everything is here (eBPF compiler: {})",
            toolchain.name()
        ),
        installed => println!("setup: installed {}", installed.join(", ")),
    }
    Ok(())
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

/// A compiler that can build `core` for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EbpfToolchain {
    Nightly,
    Debian,
}

impl EbpfToolchain {
    /// rustup's name for it.
    const fn name(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Debian => "debian",
        }
    }

    /// Whether it is there, with the source of `core`.
    fn is_ready(self) -> bool {
        answer(
            "rustup",
            &["run", self.name(), "rustc", "--print", "sysroot"],
        )
        .is_some_and(|root| {
            Path::new(&root)
                .join("lib/rustlib/src/rust/library/core/Cargo.toml")
                .exists()
        })
    }

    /// Its LLVM's major version, which bpf-linker must match.
    fn llvm_major(self) -> Option<String> {
        let version = answer("rustup", &["run", self.name(), "rustc", "-vV"])?;
        let llvm = version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))?;
        Some(llvm.split('.').next()?.to_owned())
    }
}

struct Installer {
    mode: Mode,
    apt_updated: bool,
    installed: Vec<String>,
}

impl Installer {
    fn ebpf_compiler(&mut self) -> Result<EbpfToolchain> {
        if answer("rustup", &["--version"]).is_none() {
            bail!(
                "rustup is missing: it selects the compilers. Install it from your distribution or \
                 from https://rustup.rs, then run this again."
            );
        }
        for toolchain in [EbpfToolchain::Nightly, EbpfToolchain::Debian] {
            if toolchain.is_ready() {
                return Ok(toolchain);
            }
        }
        let by_rustup = "rustup toolchain install nightly --profile minimal --component rust-src";
        let by_apt = "apt-get install rustc-web cargo-web rust-web-src && \
                      rustup toolchain link debian /usr";
        if self.mode == Mode::DryRun {
            bail!("no compiler for eBPF: run `{by_rustup}`, or on Debian `{by_apt}`");
        }
        println!("setup: a compiler for eBPF is missing; trying rustup's nightly");
        let nightly = run(&mut bounded(
            RUSTUP_LIMIT_SECS,
            "rustup",
            &[
                "toolchain",
                "install",
                "nightly",
                "--profile",
                "minimal",
                "--component",
                "rust-src",
            ],
        ));
        if nightly.is_ok() && EbpfToolchain::Nightly.is_ready() {
            self.installed
                .push("rustup's nightly with rust-src".to_owned());
            return Ok(EbpfToolchain::Nightly);
        }
        println!("setup: no nightly with rust-src can be had here; trying Debian's compiler");
        self.apt_install(&["rustc-web", "cargo-web", "rust-web-src"])
            .and_then(|()| {
                run(Command::new("rustup").args(["toolchain", "link", "debian", "/usr"]))
            })
            .with_context(|| format!("no compiler for eBPF: run `{by_rustup}` or `{by_apt}`"))?;
        if !EbpfToolchain::Debian.is_ready() {
            bail!("Debian's rustc is installed, but without the source of core: run `{by_apt}`");
        }
        Ok(EbpfToolchain::Debian)
    }

    fn bpf_linker(&mut self, toolchain: EbpfToolchain) -> Result<()> {
        if answer("bpf-linker", &["--version"]).is_some() {
            return Ok(());
        }
        let major = toolchain
            .llvm_major()
            .context("rustc does not say which LLVM it has")?;
        let packages = [format!("llvm-{major}-dev"), format!("libpolly-{major}-dev")];
        let prefix = format!("/usr/lib/llvm-{major}");
        let feature = format!("llvm-{major}");
        let by_hand = format!(
            "apt-get install {} {}, then LLVM_PREFIX={prefix} PATH={prefix}/bin:$PATH cargo install \
             bpf-linker --version '^{BPF_LINKER}' --no-default-features --features {feature}",
            packages[0], packages[1]
        );
        if self.mode == Mode::DryRun {
            bail!("bpf-linker is missing: {by_hand}");
        }
        println!("setup: bpf-linker is missing; building it for LLVM {major}");
        let version = format!("^{BPF_LINKER}");
        let mut args = vec!["install", "bpf-linker", "--locked", "--version", &version];
        let mut path = std::env::var("PATH").unwrap_or_default();
        if self.apt_install(&[&packages[0], &packages[1]]).is_ok() {
            args.extend(["--no-default-features", "--features", &feature]);
            path = format!("{prefix}/bin:{path}");
        } else {
            println!("setup: no LLVM {major} from apt; trying bpf-linker's usual install");
        }
        run(bounded(INSTALL_LIMIT_SECS, "cargo", &args)
            .env("LLVM_PREFIX", &prefix)
            .env("PATH", path))
        .with_context(|| format!("bpf-linker cannot be installed: {by_hand}"))?;
        if answer("bpf-linker", &["--version"]).is_none() {
            bail!("bpf-linker was installed, but is not on PATH: add cargo's bin directory to it");
        }
        self.installed.push("bpf-linker".to_owned());
        Ok(())
    }

    fn test_packages(&mut self) -> Result<()> {
        let missing: Vec<&str> = TEST_PACKAGES
            .iter()
            .filter(|(_, program)| !on_path(program))
            .map(|&(package, _)| package)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let by_hand = format!("apt-get install {}", missing.join(" "));
        if self.mode == Mode::DryRun {
            bail!("the tests need {}: {by_hand}", missing.join(", "));
        }
        self.apt_install(&missing).with_context(|| {
            format!(
                "the tests need {}; run `{by_hand}` or what your distribution calls these",
                missing.join(", ")
            )
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
        run(bounded(INSTALL_LIMIT_SECS, "apt-get", &args).env("DEBIAN_FRONTEND", "noninteractive"))?;
        self.installed
            .extend(packages.iter().map(|&package| package.to_owned()));
        Ok(())
    }
}

/// Whether a program is on PATH or where Debian keeps those for root.
fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(program).exists())
}

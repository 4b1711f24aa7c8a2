//! Compiles the eBPF programs with whichever toolchain here can: the nightly that
//! `ha-ebpf/rust-toolchain.toml` pins, else Debian's compiler, linked as the rustup toolchain `debian`
//! (`cargo xtask setup` installs one of them). `HAD_EBPF_TOOLCHAIN` names another one to use.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../ha-ebpf");
    let toolchain = toolchain(&root_dir)?;
    // Debian's compiler is a stable one: this lets it build `core`. A nightly ignores it.
    // And aya-build passes each line of its cargo on as a warning: only real ones are to be seen.
    // SAFETY: a build script's main thread, before any other thread exists.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    aya_build::build_ebpf(
        [Package {
            name: "ha-ebpf",
            root_dir: root_dir
                .to_str()
                .context("the path of ha-ebpf is not UTF-8")?,
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )
}

fn toolchain(root_dir: &Path) -> Result<String> {
    println!("cargo:rerun-if-env-changed=HAD_EBPF_TOOLCHAIN");
    if let Ok(chosen) = env::var("HAD_EBPF_TOOLCHAIN") {
        return Ok(chosen);
    }
    let pin = fs::read_to_string(root_dir.join("rust-toolchain.toml"))?;
    let pinned = pin
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .context("ha-ebpf/rust-toolchain.toml names no channel")?;
    for candidate in [pinned, "debian"] {
        if has_core_source(candidate) {
            return Ok(candidate.to_owned());
        }
    }
    bail!(
        "no compiler here can build the eBPF programs: it takes {pinned} with rust-src, or Debian's \
         rustc-web with rust-web-src. Run `cargo xtask setup`."
    )
}

fn has_core_source(toolchain: &str) -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        // Asking must not start a download.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
}

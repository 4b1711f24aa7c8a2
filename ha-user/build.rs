//! Compiles the eBPF programs with whichever toolchain here can: a nightly with `rust-src`, else
//! Debian's compiler, linked as the rustup toolchain `debian` (`cargo xtask setup` links it).
//! `HAD_EBPF_TOOLCHAIN=debian` (or `nightly`) chooses one of the two.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root_dir = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../ha-ebpf");
    let root_dir = root_dir
        .to_str()
        .context("the path of ha-ebpf is not UTF-8")?;
    let toolchain = toolchain()?;
    if matches!(toolchain, Toolchain::Custom(_)) {
        // SAFETY: a build script's main thread, before any other thread exists.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    aya_build::build_ebpf(
        [Package {
            name: "ha-ebpf",
            root_dir,
            ..Package::default()
        }],
        toolchain,
    )
}

fn toolchain() -> Result<Toolchain<'static>> {
    println!("cargo:rerun-if-env-changed=HAD_EBPF_TOOLCHAIN");
    match env::var("HAD_EBPF_TOOLCHAIN").as_deref() {
        Ok("nightly") => return Ok(Toolchain::Nightly),
        Ok("debian") => return Ok(Toolchain::Custom("debian")),
        Ok(other) => bail!("HAD_EBPF_TOOLCHAIN is `{other}`; it takes `nightly` or `debian`"),
        Err(_) => {}
    }
    if has_core_source("nightly") {
        Ok(Toolchain::Nightly)
    } else if has_core_source("debian") {
        Ok(Toolchain::Custom("debian"))
    } else {
        bail!(
            "no compiler here can build the eBPF programs: it takes a nightly with rust-src, or \
             Debian's rustc-web with rust-web-src. Run `cargo xtask setup`."
        )
    }
}

fn has_core_source(toolchain: &str) -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
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

//! What a guest is made of: QEMU, Debian's kernel, busybox and mdadm, and systemd. They come as Debian's packages and
//! are unpacked below `target`, so nothing is installed, removed or started on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo::target_dir, packages, shell::answer, vm::systemd};

/// Debian's package that depends on its newest kernel.
const KERNEL: &str = "linux-image-amd64";
const BUSYBOX: &str = "busybox-static";
const QEMU: &str = "qemu-system-x86";
/// Installed, it would watch this machine's own arrays and put itself into its initramfs.
const MDADM: &str = "mdadm";
/// Prefix of a directory that belongs to one process; its id follows.
const OWN: &str = "process-";

const QEMU_PROGRAM: &str = "qemu-system-x86_64";

/// Where Debian's packages have programs for root: a directory, or a link to one.
const PROGRAMS: &str = "sbin";

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The root below which the packages are unpacked.
    root: PathBuf,
    /// The kernel's release, as `uname -r` says it in the guest.
    release: String,
    /// The root below which systemd's packages are unpacked, where the machine has none of its own.
    systemd: Option<PathBuf>,
}

impl Tools {
    /// Finds them, or gets them through apt.
    pub(crate) fn meet() -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the guest's kernel is for x86-64, which this machine is not"
        );
        ensure!(
            answer("setpriv", &["--version"]).is_some(),
            "setpriv is missing, by which no guest outlives its test run: apt-get install util-linux"
        );
        remove_stale()?;
        let root = directory().join("tools");
        let has_qemu = answer(QEMU_PROGRAM, &["--version"]).is_some()
            || root.join("usr/bin").join(QEMU_PROGRAM).exists();
        let has_mdadm = root.join(PROGRAMS).join(MDADM).exists();
        if root.exists() && !(has_qemu && has_mdadm) {
            // The machine had a QEMU of its own, and has it no more; or they are those of an earlier version.
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        if !root.exists() {
            unpack(&root)?;
        }
        Ok(Self {
            release: release(&root)?,
            systemd: systemd::meet()?,
            root,
        })
    }

    /// The kernel's release.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The kernel's image.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The kernel's modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// What the guest has of systemd beside the machine's files, if anything.
    pub(crate) fn systemd(&self) -> Option<&Path> {
        self.systemd.as_deref()
    }

    /// busybox, which needs no library.
    pub(crate) fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    /// Where the guest finds programs that the machine need not have.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join(PROGRAMS)
    }

    /// QEMU, which ends when we do, however that comes: the unpacked one, where the machine had none of its own
    /// when the tools were fetched.
    pub(crate) fn qemu(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        let unpacked = self.root.join("usr/bin").join(QEMU_PROGRAM);
        if !unpacked.exists() {
            command.arg(QEMU_PROGRAM);
            return command;
        }
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries = libraries.map(|path| self.root.join(path).display().to_string());
        command
            .arg(unpacked)
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .env(
                "QEMU_MODULE_DIR",
                self.root.join("usr/lib/x86_64-linux-gnu/qemu"),
            );
        for firmware in ["qemu", "seabios"] {
            command
                .arg("-L")
                .arg(self.root.join("usr/share").join(firmware));
        }
        command
    }
}

/// Where everything of the guest lane is.
pub(crate) fn directory() -> PathBuf {
    target_dir().join("vm")
}

/// What of that is this process's and goes with it.
pub(crate) fn own_directory() -> PathBuf {
    directory().join(format!("{OWN}{}", std::process::id()))
}

/// Removes what processes left that were killed.
fn remove_stale() -> Result<()> {
    for entry in fs::read_dir(directory()).into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(owner) = name.and_then(|name| name.strip_prefix(OWN)) else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Gets the packages and unpacks them to `root`.
fn unpack(root: &Path) -> Result<()> {
    packages::unpack(
        &own_directory(),
        root,
        "Debian's kernel, busybox, mdadm and QEMU",
        download,
        |new| {
            let release = release(new)?;
            packages::quietly(
                Command::new(new.join("bin/busybox"))
                    .arg("depmod")
                    .arg("-b")
                    .arg(new)
                    .arg(&release),
            )
        },
    )
}

fn download(to: &Path) -> Result<()> {
    let depends = answer("apt-cache", &["depends", "--important", KERNEL]).unwrap_or_default();
    let kernel = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("apt knows no package {KERNEL}"))?;
    // Their dependencies are for systems that boot from a disk; busybox has none, and mdadm's libraries are also
    // those of util-linux, which is here.
    packages::download(&[kernel, BUSYBOX, MDADM], to)?;
    if answer(QEMU_PROGRAM, &["--version"]).is_some() {
        return Ok(());
    }
    packages::download_with_needs(&[QEMU], to)
}

/// The release of the only kernel that is there.
fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let mut entries =
        fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.file_name().to_string_lossy().into_owned()),
        _ => bail!(
            "{} should hold the modules of one kernel: remove {} and run this again",
            modules.display(),
            root.display()
        ),
    }
}

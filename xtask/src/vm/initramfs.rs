//! The small file system from which a guest boots: busybox, the modules by which it finds the host's file
//! system, and what it has to do.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo::{target_dir, workspace},
    vm::{systemd, tools::Tools},
};

/// The first process, a shell script.
const INIT: &str = include_str!("init.sh");

/// What it needs before it sees the host's file system.
const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
];

/// Makes the file system in `dir`, for a guest that runs `job`, a shell script. Returns its archive.
pub(crate) fn make(tools: &Tools, job: &str, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("initramfs");
    let modules = root.join("lib/modules").join(tools.release());
    for directory in [&root.join("bin"), &modules] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::copy(tools.busybox(), root.join("bin/busybox")).context("copying busybox")?;
    copy_modules(&tools.modules(), &modules)?;
    fs::write(root.join("settings"), settings(tools)?)?;
    fs::write(root.join("job"), job)?;
    let units = root.join("units");
    fs::create_dir(&units)?;
    for (name, text) in systemd::UNITS {
        fs::write(units.join(name), text)?;
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = dir.join("initramfs.cpio");
    pack(tools, &root, &archive)?;
    Ok(archive)
}

/// Where the script finds things on the host.
fn settings(tools: &Tools) -> Result<String> {
    let directories = [workspace(), target_dir()]
        .map(|path| path.canonicalize().map(|path| path.display().to_string()));
    let mut unique = BTreeSet::new();
    for directory in directories {
        let directory = directory?;
        ensure!(
            !directory.contains(':'),
            "{directory}: a path with a colon cannot be told to the guest"
        );
        unique.insert(directory);
    }
    let directories: Vec<String> = unique.into_iter().collect();
    let systemd = match tools.systemd() {
        Some(root) => root.canonicalize()?.display().to_string(),
        None => String::new(),
    };
    Ok(format!(
        "RELEASE={}\nDIRECTORIES={}\nMODULES={}\nSYSTEMD={}\n",
        quoted(tools.release()),
        quoted(&directories.join(":")),
        quoted(&tools.modules().canonicalize()?.display().to_string()),
        quoted(&systemd),
    ))
}

/// A word that a shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Copies [`MODULES`] and what they need, with the index by which `modprobe` finds them.
fn copy_modules(from: &Path, to: &Path) -> Result<()> {
    let index = fs::read_to_string(from.join("modules.dep")).context("reading modules.dep")?;
    for file in needed(&index) {
        let copy = to.join(&file);
        if let Some(directory) = copy.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::copy(from.join(&file), &copy).with_context(|| format!("copying {file}"))?;
    }
    fs::write(to.join("modules.dep"), index)?;
    Ok(())
}

/// The files of [`MODULES`] and of what they need. A module that is not there is part of the kernel.
fn needed(index: &str) -> BTreeSet<String> {
    index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(file, _)| {
            let name = file.rsplit('/').next().unwrap_or_default();
            MODULES.iter().any(|module| {
                name.strip_prefix(module)
                    .is_some_and(|rest| rest.starts_with(".ko"))
            })
        })
        .flat_map(|(file, needs)| std::iter::once(file).chain(needs.split_whitespace()))
        .map(str::to_owned)
        .collect()
}

fn pack(tools: &Tools, root: &Path, archive: &Path) -> Result<()> {
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting find")?;
    let names = find.stdout.take().context("find has an output")?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(archive)?;
    let packed = Command::new(tools.busybox())
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(names)
        .stdout(file)
        .stderr(Stdio::null())
        .status()
        .context("starting cpio")?;
    let found = find.wait()?;
    ensure!(
        packed.success() && found.success(),
        "packing {}: find: {found}, cpio: {packed}",
        archive.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_with_what_it_needs() {
        let index = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                     kernel/net/9p/9pnet.ko.xz:\n\
                     kernel/net/9p/9pnet_xen.ko.xz: kernel/net/9p/9pnet.ko.xz\n";
        let files: Vec<String> = needed(index).into_iter().collect();
        assert_eq!(
            files,
            [
                "kernel/fs/9p/9p.ko.xz",
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz"
            ]
        );
    }

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}

//! systemd and the system's bus for the guest: the machine's own, or Debian's packages, unpacked, which the guest then
//! has above the machine's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{packages, vm::tools};

const PACKAGES: [&str; 2] = ["systemd", "dbus"];

/// The files by which they are known, each in one of these places.
const FILES: [&[&str]; 4] = [
    &["/usr/lib/systemd/systemd", "/lib/systemd/systemd"],
    &[
        "/usr/lib/systemd/system/dbus.service",
        "/lib/systemd/system/dbus.service",
    ],
    &["/usr/bin/dbus-daemon"],
    &["/usr/share/dbus-1/system.conf"],
];

/// The units of the guest, beside those of the bus: systemd looks for others in /run/systemd/system and
/// /run/guest/packaged alone, so nothing of the machine's starts.
pub(super) const UNITS: [(&str, &str); 6] = [
    ("guest.target", include_str!("units/guest.target")),
    ("job.service", include_str!("units/job.service")),
    // Units need these by default.
    ("sysinit.target", EMPTY),
    ("basic.target", EMPTY),
    ("sockets.target", EMPTY),
    ("shutdown.target", EMPTY),
];

const EMPTY: &str = "[Unit]\nDefaultDependencies=no\n";

/// Finds it, or gets it through apt. Returns the root below which it is unpacked, if the machine has none.
pub(super) fn meet() -> Result<Option<PathBuf>> {
    let root = tools::directory().join("systemd");
    let here = FILES
        .iter()
        .all(|places| places.iter().any(|file| Path::new(file).exists()));
    if here {
        if root.exists() {
            // It was installed since.
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        return Ok(None);
    }
    if !root.exists() {
        packages::unpack(
            &tools::own_directory(),
            &root,
            "systemd and D-Bus",
            |to| packages::download_with_needs(&PACKAGES, to),
            |_| Ok(()),
        )?;
    }
    Ok(Some(root))
}

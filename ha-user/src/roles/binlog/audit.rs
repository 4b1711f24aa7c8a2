//! What `had --check` looks at: whether backups can be made, and would help.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use rustix::fs::{Access, access};

use crate::{
    checks::tool::is_installed,
    config::{BinlogRole, ServerProcess},
};

/// Whichever of them is the server's.
const TOOLS: [&str; 2] = ["mariadb-binlog", "mysqlbinlog"];

/// A sentence for each thing that should be otherwise.
pub(crate) fn findings(role: &BinlogRole, process: Option<&ServerProcess>) -> Vec<String> {
    let mut found = Vec::new();
    if !TOOLS.iter().any(|tool| is_installed(tool)) {
        found.push(format!(
            "neither {} is installed: without it no backup is checked, and none is made",
            TOOLS.join(" nor ")
        ));
    }
    let data = process.and_then(|process| process.data_dir.as_deref());
    found.extend(of_directory(&role.directory, data));
    if role.keep_backups.is_some_and(|backups| backups < role.keep) {
        found.push(
            "`keep_backups` is shorter than `keep`: backups of logs that the server still has are kept all the same"
                .to_owned(),
        );
    }
    found
}

fn of_directory(directory: &Path, data: Option<&Path>) -> Option<String> {
    let shown = directory.display();
    let there = match fs::metadata(directory) {
        Ok(there) if there.is_dir() => there,
        Ok(_) => return Some(format!("{shown} is no directory")),
        Err(error) => {
            return Some(format!(
                "there is no directory {shown} for backups ({error}): make it, or mount what it lies on"
            ));
        }
    };
    if let Err(error) = access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        return Some(format!("backups cannot be written to {shown}: {error}"));
    }
    let data = fs::metadata(data?).ok()?;
    (data.dev() == there.dev()).then(|| {
        format!(
            "backups in {shown} are on the same file system as the server's data: they are lost with it, and fill it up"
        )
    })
}

#[cfg(test)]
mod tests {
    use ha_common::Nanos;

    use super::*;

    #[test]
    fn a_directory_that_is_not_there_or_on_the_same_disk_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut role = BinlogRole {
            directory: dir.path().join("missing"),
            every: Nanos::from_secs(60),
            keep: Nanos::from_secs(60),
            keep_backups: Some(Nanos::from_secs(59)),
            give_up_replica_after: None,
        };
        let found = findings(&role, None).join("\n");
        assert!(found.contains("there is no directory"), "{found}");
        assert!(found.contains("shorter than `keep`"), "{found}");
        dir.path().clone_into(&mut role.directory);
        role.keep_backups = None;
        assert_eq!(findings(&role, None), Vec::<String>::new());
        let process = ServerProcess {
            data_dir: Some(dir.path().to_owned()),
            ..ServerProcess::default()
        };
        let found = findings(&role, Some(&process)).join("\n");
        assert!(found.contains("on the same file system"), "{found}");
        role.directory = dir.path().join("file");
        fs::write(&role.directory, "").unwrap();
        let found = findings(&role, None).join("\n");
        assert!(found.contains("is no directory"), "{found}");
    }
}

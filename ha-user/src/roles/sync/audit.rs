//! What `had --check` looks at: whether files can be copied.

use std::path::PathBuf;

use super::{ground::Directory, rsync::program};
use crate::config::SyncRole;

/// A sentence for each thing that should be otherwise.
pub(crate) fn findings(role: &SyncRole) -> Vec<String> {
    let mut found: Vec<String> = program().err().into_iter().collect();
    let wrong = |path: &PathBuf| Directory::find(path).err();
    found.extend(role.paths.iter().filter_map(wrong));
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ha_common::Nanos;

    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let role = SyncRole {
            paths: vec![dir.path().to_owned(), missing.clone()],
            exclude: Vec::new(),
            every: Nanos::from_secs(600),
        };
        let found = findings(&role).join("\n");
        let told = format!("there is no directory {}", missing.display());
        assert!(found.contains(&told), "{found}");
        fs::write(&missing, "").unwrap();
        let found = findings(&role).join("\n");
        assert!(found.contains(&missing.display().to_string()), "{found}");
    }
}

//! What `had --check` looks at: whether files can be copied.

use std::fs;

use super::rsync::program;
use crate::{checks::words, config::SyncRole};

/// A sentence for each thing that should be otherwise.
pub(crate) fn findings(role: &SyncRole) -> Vec<String> {
    let mut found: Vec<String> = program().err().into_iter().collect();
    for path in &role.paths {
        let shown = path.display();
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => found.push(format!("{shown} is no directory")),
            Err(error) => found.push(format!(
                "there is no directory {shown} ({}): make it on all nodes, or mount what it lies on",
                words::of_io(&error)
            )),
        }
    }
    found
}

#[cfg(test)]
mod tests {
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
        assert!(found.contains("is no directory"), "{found}");
    }
}

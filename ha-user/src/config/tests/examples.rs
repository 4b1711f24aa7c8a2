//! The set-ups in docs/examples.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::parse;
use crate::{config::Config, daemon::advice::of_tracking, net::links::Table};

fn examples() -> Vec<(String, Config)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut examples = Vec::new();
    // A key that is read has to be there.
    let own = tempfile::tempdir().expect("a directory");
    let key = own.path().join("link.key");
    fs::write(&key, "5a".repeat(32)).expect("a key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its permissions");
    let key = key.to_str().expect("a path");
    let password = own.path().join("repl.password");
    fs::write(&password, "secret").expect("a password");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("its permissions");
    let password = password.to_str().expect("a path");
    for entry in fs::read_dir(dir).expect("docs/examples") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("an example");
        let text = text
            .replace("/etc/had/link.key", key)
            .replace("/etc/had/repl.password", password);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        examples.push((name.into_owned(), parse(&text)));
    }
    examples.sort_by(|left, right| left.0.cmp(&right.0));
    examples
}

/// What is watched and promoted in each: nothing that warrants a warning.
#[test]
fn every_example_is_valid() {
    let mut lines = String::new();
    for (name, config) in examples() {
        assert_eq!(of_tracking(&config, &Table::default()), [""; 0], "{name}");
        let kinds: Vec<&str> = config
            .checks
            .iter()
            .map(|check| check.kind.name())
            .collect();
        let roles: Vec<&str> = config.roles.iter().map(|role| role.kind.name()).collect();
        lines.push_str(&format!(
            "{name}: {}; roles: {}\n",
            kinds.join(", "),
            roles.join(", ")
        ));
    }
    insta::assert_snapshot!(lines);
}

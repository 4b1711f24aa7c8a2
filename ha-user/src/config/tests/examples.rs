//! The set-ups in docs/examples.

use std::{fs, path::Path};

use super::parse;
use crate::{config::Config, daemon::advice::of_tracking, net::links::Table};

fn examples() -> Vec<(String, Config)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut examples = Vec::new();
    for entry in fs::read_dir(dir).expect("docs/examples") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("an example");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        examples.push((name.into_owned(), parse(&text)));
    }
    examples.sort_by(|left, right| left.0.cmp(&right.0));
    examples
}

/// What is watched in each, and what it does: nothing that warrants a warning.
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
        lines.push_str(&format!("{name}: {}\n", kinds.join(", ")));
    }
    insta::assert_snapshot!(lines);
}

//! What the documents name is there.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All functions below a directory of sources, as `file::name`; of a `mod.rs` the directory's name counts, and of what lies
/// in a directory that one's as well.
fn functions(dir: &Path, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let holders = [path.file_stem(), dir.file_name()];
            let holders = holders.map(|holder| holder.unwrap_or_default().to_string_lossy());
            for rest in text.split("fn ").skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = end.and_then(|end| rest.get(..end)).unwrap_or_default();
                names.extend(holders.iter().map(|holder| format!("{holder}::{name}")));
            }
        }
    }
    Ok(())
}

#[test]
fn the_tests_that_are_said_to_prove_something_exist() -> io::Result<()> {
    let mut names = BTreeSet::new();
    for dir in ["ha-core/src", "ha-core/tests", "ha-user/src", "tests/tests"] {
        functions(&root().join(dir), &mut names)?;
    }
    let text = fs::read_to_string(root().join("docs/proof.md"))?;
    // What stands between backquotes.
    let words = text.split('`').skip(1).step_by(2);
    let tests: Vec<&str> = words
        .filter(|word| word.contains("::") && *word != "file::test")
        .collect();
    assert!(tests.len() > 40, "{tests:?}");
    for test in tests {
        assert!(names.contains(test), "{test} does not exist");
    }
    Ok(())
}

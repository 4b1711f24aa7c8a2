//! With real files.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use ha_core::check::Observation;
use tokio::time::timeout;

use super::FileProbe;
use crate::{
    checks::probe::Probe as _,
    config::{self, CheckKind},
};

const LONG: Duration = Duration::from_secs(10);

fn probe(path: &Path, keys: &str) -> FileProbe {
    let path = path.display();
    match config::kind_of(&format!("kind = \"file\"\npath = \"{path}\"\n{keys}")) {
        CheckKind::File(file) => FileProbe::new(&file),
        other => panic!("{other:?}"),
    }
}

async fn result(probe: &mut FileProbe) -> Result<String, String> {
    timeout(LONG, probe.probe()).await.expect("an answer")
}

async fn news(probe: &mut FileProbe) {
    let news = timeout(LONG, probe.watch()).await.expect("news");
    assert!(matches!(news, Observation::Suspect(_)), "{news:?}");
}

async fn no_news(probe: &mut FileProbe) {
    timeout(Duration::from_millis(50), probe.watch())
        .await
        .expect_err("no news");
}

#[tokio::test]
async fn a_file_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ready");
    let shown = path.display();
    let (mut here, mut away) = (probe(&path, ""), probe(&path, "expect = \"absent\""));
    assert_eq!(
        result(&mut here).await,
        Err(format!("{shown} is not there"))
    );
    assert_eq!(result(&mut away).await, Ok(format!("{shown} is not there")));
    no_news(&mut here).await;
    // Others in its directory are none of its business.
    fs::write(dir.path().join("ready2"), "").unwrap();
    no_news(&mut here).await;
    fs::write(&path, "").unwrap();
    news(&mut here).await;
    news(&mut away).await;
    assert_eq!(result(&mut here).await, Ok(format!("{shown} is there")));
    assert_eq!(result(&mut away).await, Err(format!("{shown} is there")));
    // Its end, by another name.
    drain(&mut here).await;
    fs::rename(&path, dir.path().join("ready3")).unwrap();
    news(&mut here).await;
    assert_eq!(
        result(&mut here).await,
        Err(format!("{shown} is not there"))
    );
    fs::rename(dir.path().join("ready3"), &path).unwrap();
    news(&mut here).await;
    assert!(result(&mut here).await.is_ok());
    fs::remove_file(&path).unwrap();
    news(&mut here).await;
    assert!(result(&mut here).await.is_err());
    // A link that leads nowhere is no file.
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(result(&mut here).await.is_err());
}

/// Takes what is left of earlier events.
async fn drain(probe: &mut FileProbe) {
    while timeout(Duration::from_millis(50), probe.watch())
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn what_stands_in_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mode");
    let shown = path.display();
    let mut contains = probe(&path, "contains = \"Primary\"");
    let mut content = probe(&path, "content = \"Primary\"");
    fs::write(&path, "non-Primary\n").unwrap();
    assert_eq!(
        result(&mut contains).await,
        Ok(format!("{shown} contains \"Primary\""))
    );
    assert_eq!(
        result(&mut content).await,
        Err(format!("{shown} says something else than \"Primary\""))
    );
    // It changes when its writer is done.
    let mut file = File::create(&path).unwrap();
    file.write_all(b" Primary").unwrap();
    no_news(&mut content).await;
    file.write_all(b"\n").unwrap();
    drop(file);
    news(&mut content).await;
    assert_eq!(
        result(&mut content).await,
        Ok(format!("{shown} says \"Primary\""))
    );
    fs::write(&path, "").unwrap();
    assert_eq!(
        result(&mut contains).await,
        Err(format!("{shown} does not contain \"Primary\""))
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(
        result(&mut contains).await,
        Err(format!("{shown} cannot be read: Is a directory"))
    );
}

#[tokio::test]
async fn a_number_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("load");
    let shown = path.display();
    let mut number = probe(&path, "expect = \"number\"");
    assert_eq!(
        result(&mut number).await,
        Err(format!("{shown} is not there"))
    );
    for (text, count) in [("7\n", 7), (" -254", -254), ("+3", 3)] {
        fs::write(&path, text).unwrap();
        assert_eq!(
            result(&mut number).await,
            Ok(format!("{shown} says {count}"))
        );
        assert_eq!(number.count(), count);
    }
    for text in ["", "255", "1.5", "seven", "1 2"] {
        fs::write(&path, text).unwrap();
        assert_eq!(
            result(&mut number).await,
            Err(format!("{shown} says no number from -254 to 254"))
        );
    }
}

#[tokio::test]
async fn a_directory_that_comes_later_or_anew_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("below");
    let path = below.join("ready");
    let mut here = probe(&path, "");
    assert_eq!(
        result(&mut here).await,
        Err(format!("{} is not there", path.display()))
    );
    fs::create_dir(&below).unwrap();
    result(&mut here).await.unwrap_err();
    fs::write(&path, "").unwrap();
    news(&mut here).await;
    result(&mut here).await.unwrap();
    drain(&mut here).await;
    // The directory goes, with the file in it, and another one comes.
    fs::rename(&below, dir.path().join("old")).unwrap();
    news(&mut here).await;
    result(&mut here).await.unwrap_err();
    fs::create_dir(&below).unwrap();
    result(&mut here).await.unwrap_err();
    drain(&mut here).await;
    fs::remove_file(dir.path().join("old/ready")).unwrap();
    no_news(&mut here).await;
    fs::write(&path, "").unwrap();
    news(&mut here).await;
    result(&mut here).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    // Below a file there is none.
    let mut away = probe(&file.join("x"), "expect = \"absent\"");
    let words = result(&mut away).await.unwrap();
    assert!(
        words.contains("; changes are found by the next probe only"),
        "{words}"
    );
    let link = dir.path().join("circle");
    std::os::unix::fs::symlink("circle", &link).unwrap();
    let mut circle = probe(&link, "expect = \"absent\"");
    let words = result(&mut circle).await.unwrap_err();
    assert!(
        words.contains("cannot be looked at: Too many levels"),
        "{words}"
    );
}

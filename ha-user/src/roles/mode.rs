//! The node's mode, which outlives a reboot: `<state_dir>/mode.json`.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ha_core::Mode;
use serde::{Deserialize, Serialize};

/// Every mode.
pub const MODES: [Mode; 3] = [Mode::ActiveStandby, Mode::Maintenance, Mode::Standalone];

/// Grows with every change that an older daemon could not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    mode: String,
}

/// Why the mode is not known. It says what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node's mode cannot be read from {}: {why}. It may be in maintenance, so had does not start. Correct the file, or remove it: the mode is active-standby then",
    path.display()
)]
pub struct ModeError {
    path: PathBuf,
    why: String,
}

/// The mode of that name.
#[must_use]
pub fn named(name: &str) -> Option<Mode> {
    MODES.into_iter().find(|mode| mode.name() == name)
}

/// The mode that was set last; `active-standby`, where none ever was.
///
/// # Errors
/// When there is a file and it cannot be read or understood.
pub fn load(state_dir: &Path) -> Result<Mode, ModeError> {
    let path = file(state_dir);
    let failed = |why: String| ModeError {
        path: path.clone(),
        why,
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mode::default()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    if written.version != VERSION {
        return Err(failed(format!("its version is {}", written.version)));
    }
    named(&written.mode).ok_or_else(|| failed(format!("\"{}\" is no mode", written.mode)))
}

/// Writes it down, in one piece and to the disk.
///
/// # Errors
/// As write(2), fsync(2) and rename(2).
pub fn save(state_dir: &Path, mode: Mode) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let target = file(state_dir);
    let draft = target.with_extension("new");
    let written = Written {
        version: VERSION,
        mode: mode.name().to_owned(),
    };
    let mut out = File::create(&draft)?;
    serde_json::to_writer(&mut out, &written)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    fs::rename(&draft, &target)?;
    File::open(state_dir)?.sync_all()
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("mode.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_that_was_set_last_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("new/state");
        assert_eq!(load(&state).unwrap(), Mode::ActiveStandby);
        for mode in MODES {
            save(&state, mode).unwrap();
            assert_eq!(load(&state).unwrap(), mode);
            assert_eq!(named(mode.name()), Some(mode));
        }
    }

    #[test]
    fn a_mode_that_cannot_be_read_is_not_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            r#"{"version":1,"mode":"asleep"}"#,
            r#"{"version":2,"mode":"maintenance"}"#,
        ] {
            fs::write(file(dir.path()), text).unwrap();
            let error = load(dir.path()).unwrap_err().to_string();
            assert!(error.contains("mode.json"), "{error}");
        }
    }
}

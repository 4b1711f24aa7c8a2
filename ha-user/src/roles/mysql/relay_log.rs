//! MariaDB's files of what a replica received.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes of an event before its content, of which four from the tenth on are its length.
const HEADER: usize = 19;

/// The files of the index from the one on that the applying thread was at.
pub(super) fn files(dir: &Path, info: &str, index: &str) -> io::Result<Vec<PathBuf>> {
    let applied = fs::read_to_string(dir.join(info))?;
    // The first line is the number of lines.
    let current = applied.lines().nth(1).unwrap_or_default();
    let index = fs::read_to_string(dir.join(index))?;
    let files = index.lines().filter(|line| !line.is_empty());
    Ok(files
        .skip_while(|file| *file != current)
        .map(|file| dir.join(file))
        .collect())
}

/// Where in a file mariadb-binlog could not go on, as it complains.
pub(super) fn offset(complaint: &str) -> Option<u64> {
    let (_, rest) = complaint.split_once("Could not read entry at offset ")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether the event that begins there is longer than what the file still has.
pub(super) fn ends_torn(file: &Path, offset: u64) -> io::Result<bool> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    let Some(rest) = size.checked_sub(offset).filter(|rest| *rest > 0) else {
        return Ok(false);
    };
    let mut header = [0; HEADER];
    file.seek(SeekFrom::Start(offset))?;
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
        other => other?,
    }
    let [.., a, b, c, d, _, _, _, _, _, _] = header;
    Ok(u64::from(u32::from_le_bytes([a, b, c, d])) > rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_torn_where_the_file_ends_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.000001");
        let mut event = [0; 40];
        event[9] = 40;
        let [first, second] = [event, event];
        let write = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
        write(&[first, second].concat());
        assert!(!ends_torn(&path, 40).unwrap(), "it is whole");
        assert!(!ends_torn(&path, 80).unwrap(), "there is none");
        for length in [1, HEADER, 39] {
            write(&[&first[..], &second[..length]].concat());
            assert!(ends_torn(&path, 40).unwrap(), "{length} bytes of it");
        }
        // Something else in the middle.
        write(&[&first[..], &[0; 40]].concat());
        assert!(!ends_torn(&path, 40).unwrap());
    }

    #[test]
    fn the_reader_says_where() {
        let said =
            "ERROR: Could not read entry at offset 70056: Error in log format or read error.";
        assert_eq!(offset(said), Some(70_056));
        assert_eq!(offset("ERROR: something else"), None);
    }
}

//! MariaDB's files of what a replica received.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes before the first event.
const MAGIC: u64 = 4;
/// Bytes of an event before its content, of which four from the tenth on are its length.
const HEADER: usize = 19;

/// The files of the index from the one on that the applying thread was at. A server that was not told a name for its
/// relay logs does not say where the index is: `index` is empty, and it lies beside them.
pub(super) fn files(dir: &Path, info: &str, index: &str) -> io::Result<Vec<PathBuf>> {
    let applied = fs::read_to_string(dir.join(info))?;
    // The first line is the number of lines.
    let current = applied.lines().nth(1).unwrap_or_default();
    if current.is_empty() {
        return Ok(Vec::new());
    }
    let index = match index {
        "" => Path::new(current).with_extension("index"),
        named => PathBuf::from(named),
    };
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

/// How the events of a file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the file.
    Whole,
    /// The last one, which begins there, is incomplete, or was never written: a server that ends while it writes leaves
    /// a part of it, and a loss of power zeros.
    Torn(u64),
    /// There is something else.
    Damaged,
}

/// Whether the event that begins there is the incomplete last one of a file, and every other one of them all is whole.
pub(super) fn end_torn(files: &[PathBuf], offset: u64) -> io::Result<bool> {
    let mut torn = false;
    for file in files {
        match end(file)? {
            End::Whole => {}
            End::Torn(at) if at == offset => torn = true,
            End::Torn(_) | End::Damaged => return Ok(false),
        }
    }
    Ok(torn)
}

fn end(file: &Path) -> io::Result<End> {
    let mut file = BufReader::new(File::open(file)?);
    let size = file.get_ref().metadata()?.len();
    let mut at = MAGIC;
    file.seek(SeekFrom::Start(at))?;
    while at < size {
        let rest = size - at;
        let mut header = [0; HEADER];
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(End::Torn(at)),
            other => other?,
        }
        let [.., a, b, c, d, _, _, _, _, _, _] = header;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        if length > rest {
            return Ok(End::Torn(at));
        }
        if header == [0; HEADER] {
            let zeros = file
                .bytes()
                .try_fold(true, |zeros, byte| byte.map(|byte| zeros && byte == 0))?;
            return Ok(if zeros { End::Torn(at) } else { End::Damaged });
        }
        let Some(content) = length.checked_sub(HEADER as u64) else {
            return Ok(End::Damaged);
        };
        file.seek_relative(i64::try_from(content).unwrap_or(i64::MAX))?;
        at += length;
    }
    Ok(End::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: u8) -> Vec<u8> {
        let mut event = vec![7; usize::from(length)];
        event[9..13].copy_from_slice(&[length, 0, 0, 0]);
        event
    }

    #[test]
    fn only_the_last_event_of_a_file_may_be_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.000001");
        let ends = |parts: &[&[u8]]| {
            fs::write(
                &path,
                [&[0xfe, b'b', b'i', b'n'][..], &parts.concat()].concat(),
            )
            .unwrap();
            end(&path).unwrap()
        };
        let (first, second) = (event(40), event(60));
        assert_eq!(ends(&[&first, &second]), End::Whole);
        for length in [1, HEADER, 59] {
            assert_eq!(
                ends(&[&first, &second[..length]]),
                End::Torn(44),
                "{length}"
            );
        }
        assert_eq!(ends(&[&first, &[0; 100]]), End::Torn(44), "a loss of power");
        assert_eq!(ends(&[&first, &[0; 30], &second]), End::Damaged);
        assert_eq!(
            ends(&[&first, &[9; 9], &[3, 0, 0, 0], &[9; 20]]),
            End::Damaged
        );

        ends(&[&first, &second[..30]]);
        let whole = dir.path().join("relay.000002");
        fs::write(&whole, [&[0; 4][..], &first].concat()).unwrap();
        let both = [path, whole];
        assert!(end_torn(&both, 44).unwrap());
        assert!(
            !end_torn(&both, 4).unwrap(),
            "it complains of something else"
        );
        assert!(!end_torn(&both[1..], 44).unwrap());
    }

    #[test]
    fn the_reader_says_where() {
        let said =
            "ERROR: Could not read entry at offset 70056: Error in log format or read error.";
        assert_eq!(offset(said), Some(70_056));
        assert_eq!(offset("ERROR: something else"), None);
    }
}

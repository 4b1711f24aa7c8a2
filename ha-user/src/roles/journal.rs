//! A group's journal: what its roles have gone through, on disk before it happens.
//!
//! One record a line, as JSON, in `<state_dir>/roles/<group>.journal`. A line without an end was being written when the
//! machine failed, and counts for nothing. Anything else that cannot be read is not passed over: what it said may be
//! that this node has the only copy of what was acknowledged.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ha_core::plan::{Purpose, Record, Recovered, Stance, recover};
use serde::{Deserialize, Serialize};

/// Beyond this it is written anew, with what its oldest records come to in the place of these.
const LONGEST: u64 = 256 * 1024;
/// Records that stay then, for people.
const KEPT: usize = 200;
/// More than that no journal of ours ever has.
const ABSURD: u64 = 64 * 1024 * 1024;

/// How often, and how far apart, somebody else's lock is looked at before it counts.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// An open journal, which no other daemon uses meanwhile.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last whole record ends.
    length: u64,
}

/// Why a journal cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk does not let it be.
    #[error(
        "the journal {} cannot be {what}: {source}. Without it no role is promoted: see to the file system of node.state_dir",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon has it open.
    #[error(
        "the journal {} is used by another had: give each its own node.state_dir",
        .0.display()
    )]
    Taken(PathBuf),
    /// It is not what was written.
    #[error(
        "the journal {} cannot be understood in line {line}: {why}. It says how this node's roles stood, so had does not begin a new one by itself. If this node's data is not needed, or known to be whole, move the file away and start again: the roles are demoted first then",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// A record, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Begin {
        epoch: u64,
        purpose: String,
    },
    Step {
        epoch: u64,
        role: String,
        step: String,
    },
    End {
        epoch: u64,
        stance: String,
        sole: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    Heard {
        epoch: u64,
    },
    Alone {
        epoch: u64,
        here: bool,
    },
}

const PURPOSES: [Purpose; 7] = [
    Purpose::Promote,
    Purpose::HandOver,
    Purpose::Demote,
    Purpose::Follow,
    Purpose::GoSolo,
    Purpose::Rejoin,
    Purpose::Correct,
];
const STANCES: [Stance; 5] = [
    Stance::Unsettled,
    Stance::Standby,
    Stance::Promoting,
    Stance::Primary,
    Stance::Demoting,
];

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        match record.clone() {
            Record::Begin { epoch, purpose } => Self::Begin {
                epoch,
                purpose: purpose.name().to_owned(),
            },
            Record::Step { epoch, role, step } => Self::Step { epoch, role, step },
            Record::End {
                epoch,
                stance,
                sole,
                failed,
            } => Self::End {
                epoch,
                stance: stance.name().to_owned(),
                sole,
                failed,
            },
            Record::Heard { epoch } => Self::Heard { epoch },
            Record::Alone { epoch, here } => Self::Alone { epoch, here },
        }
    }
}

impl Line {
    fn record(self) -> Result<Record, String> {
        Ok(match self {
            Self::Begin { epoch, purpose } => Record::Begin {
                epoch,
                purpose: PURPOSES
                    .into_iter()
                    .find(|known| known.name() == purpose)
                    .ok_or_else(|| format!("\"{purpose}\" is no plan"))?,
            },
            Self::Step { epoch, role, step } => Record::Step { epoch, role, step },
            Self::End {
                epoch,
                stance,
                sole,
                failed,
            } => Record::End {
                epoch,
                stance: STANCES
                    .into_iter()
                    .find(|known| known.name() == stance)
                    .ok_or_else(|| format!("nothing stands \"{stance}\""))?,
                sole,
                failed,
            },
            Self::Heard { epoch } => Record::Heard { epoch },
            Self::Alone { epoch, here } => Record::Alone { epoch, here },
        })
    }
}

impl Journal {
    /// Opens the journal of a group, and what it comes to. One that was not there begins.
    pub(super) fn open(state_dir: &Path, group: &str) -> Result<(Self, Recovered), JournalError> {
        let directory = state_dir.join("roles");
        let path = directory.join(format!("{group}.journal"));
        let failed = |what: &'static str| {
            let path = path.clone();
            move |source| JournalError::Io { path, what, source }
        };
        fs::create_dir_all(&directory).map_err(failed("made"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("opened"))?;
        lock(&file, &path)?;
        // That it is there must be on disk as well.
        for directory in [Some(&*directory), directory.parent()]
            .into_iter()
            .flatten()
        {
            sync_directory(directory).map_err(failed("made"))?;
        }
        let mut journal = Self {
            path: path.clone(),
            file,
            length: 0,
        };
        let records = journal.read()?;
        journal
            .cut_off()
            .map_err(failed("cut after its last record"))?;
        let found = recover(records.iter());
        if journal.length > LONGEST {
            journal.shorten(&records).map_err(failed("shortened"))?;
        }
        Ok((journal, found))
    }

    fn read(&mut self) -> Result<Vec<Record>, JournalError> {
        let path = self.path.clone();
        let failed = |source| JournalError::Io {
            path: path.clone(),
            what: "read",
            source,
        };
        if self.file.metadata().map_err(failed)?.len() > ABSURD {
            return Err(failed(io::Error::other("it is far too long")));
        }
        let mut bytes = Vec::new();
        self.file.rewind().map_err(failed)?;
        self.file.read_to_end(&mut bytes).map_err(failed)?;
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            let parsed = serde_json::from_slice::<Line>(line.trim_ascii())
                .map_err(|error| error.to_string())
                .and_then(Line::record);
            let record = parsed.map_err(|why| JournalError::Unreadable {
                path: path.clone(),
                line: records.len() + 1,
                why,
            })?;
            records.push(record);
            rest = after;
        }
        self.length = length(bytes.len() - rest.len());
        Ok(records)
    }

    /// Takes off what is behind the last whole record.
    fn cut_off(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Writes records, to the disk: all of them, or none.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        // What an earlier write that failed has left.
        self.cut_off()?;
        let text = text(records)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.length += length(text.len());
        if self.length > LONGEST {
            // It is on disk; that it is too long is no reason to fail.
            if let Ok(records) = self.read() {
                let _ = self.shorten(&records);
            }
        }
        Ok(())
    }

    /// Writes it anew, in one piece: what the oldest records come to, and the latest ones.
    fn shorten(&mut self, records: &[Record]) -> io::Result<()> {
        let (old, kept) = records.split_at(records.len().saturating_sub(KEPT));
        let found = recover(old.iter());
        let mut all = text(&summary(&found))?;
        all.extend(text(kept)?);
        let draft = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&draft)?;
        file.lock()?;
        file.write_all(&all)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        self.file = file;
        self.length = length(all.len());
        match self.path.parent() {
            Some(directory) => sync_directory(directory),
            None => Ok(()),
        }
    }
}

/// What records come to, as records.
fn summary(found: &Recovered) -> Vec<Record> {
    let mut summary = vec![Record::End {
        epoch: found.epoch,
        stance: found.stance,
        sole: found.sole,
        failed: None,
    }];
    if found.heeded > 0 {
        summary.push(Record::Alone {
            epoch: found.heeded,
            here: false,
        });
    }
    summary.extend(
        found
            .alone_since
            .map(|epoch| Record::Alone { epoch, here: true }),
    );
    summary
}

/// A process that somebody is just starting has the file open until it has become its program, also when the daemon
/// that opened it is gone.
fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => thread::sleep(LOCK_AGAIN),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(source)) => {
                let path = path.to_owned();
                let what = "locked";
                return Err(JournalError::Io { path, what, source });
            }
        }
    }
    Err(JournalError::Taken(path.to_owned()))
}

fn text(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, &Line::from(record))?;
        text.push(b'\n');
    }
    Ok(text)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Result<(Journal, Recovered), JournalError> {
        Journal::open(dir, "db")
    }

    fn begin(epoch: u64) -> Record {
        Record::Begin {
            epoch,
            purpose: Purpose::Promote,
        }
    }

    fn end(epoch: u64, stance: Stance) -> Record {
        Record::End {
            epoch,
            stance,
            sole: stance == Stance::Primary,
            failed: None,
        }
    }

    fn file(dir: &Path) -> PathBuf {
        dir.join("roles/db.journal")
    }

    #[test]
    fn what_is_written_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, found) = open(dir.path()).unwrap();
        assert_eq!((found.epoch, found.stance), (0, Stance::Unsettled));
        let all: Vec<Record> = PURPOSES
            .into_iter()
            .map(|purpose| Record::Begin { epoch: 3, purpose })
            .chain(STANCES.map(|stance| end(3, stance)))
            .chain([
                Record::Step {
                    epoch: 3,
                    role: "data".to_owned(),
                    step: "drain".to_owned(),
                },
                Record::Heard { epoch: 4 },
                Record::Alone {
                    epoch: 4,
                    here: false,
                },
                Record::End {
                    epoch: 5,
                    stance: Stance::Primary,
                    sole: true,
                    failed: Some("a \"word\"\n".to_owned()),
                },
            ])
            .collect();
        for record in &all {
            journal.append(std::slice::from_ref(record)).unwrap();
        }
        drop(journal);
        let (mut journal, found) = open(dir.path()).unwrap();
        let expected = Recovered {
            epoch: 5,
            stance: Stance::Primary,
            sole: true,
            alone_since: None,
            heeded: 4,
        };
        assert_eq!(found, expected);
        assert_eq!(journal.read().unwrap(), all);
    }

    #[test]
    fn a_torn_record_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path()).unwrap();
        journal
            .append(&[begin(1), end(1, Stance::Primary)])
            .unwrap();
        drop(journal);
        let whole = fs::read(file(dir.path())).unwrap();
        let next = text(&[begin(2)]).unwrap();
        for cut in 0..next.len() {
            for zeros in [0, 7] {
                let mut torn = whole.clone();
                torn.extend(&next[..cut]);
                torn.extend(vec![0; zeros]);
                fs::write(file(dir.path()), torn).unwrap();
                let (mut journal, found) = open(dir.path()).unwrap();
                assert_eq!((found.epoch, found.stance), (1, Stance::Primary), "{cut}");
                journal.append(&[begin(9)]).unwrap();
                drop(journal);
                let (_, found) = open(dir.path()).unwrap();
                assert_eq!((found.epoch, found.stance), (9, Stance::Promoting));
            }
        }
    }

    #[test]
    fn what_cannot_be_understood_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("roles")).unwrap();
        let good = String::from_utf8(text(&[begin(1)]).unwrap()).unwrap();
        for (bad, line) in [
            (format!("{good}garbage\n{good}"), 2),
            (format!("{good}\n"), 2),
            (good.replace("promote", "dance"), 1),
            (good.replace("begin", "song"), 1),
            ("\0\0\0\n".to_owned(), 1),
        ] {
            fs::write(file(dir.path()), &bad).unwrap();
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("in line {line}:")), "{error}");
            assert_eq!(fs::read_to_string(file(dir.path())).unwrap(), bad);
        }
    }

    #[test]
    fn it_does_not_grow_for_ever_and_comes_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path()).unwrap();
        let alone = [(3, true), (4, false), (6, true)];
        let alone = alone.map(|(epoch, here)| Record::Alone { epoch, here });
        journal.append(&alone).unwrap();
        journal.append(&[end(7, Stance::Primary)]).unwrap();
        let step = Record::Step {
            epoch: 7,
            role: "data".to_owned(),
            step: "drain".to_owned(),
        };
        let many = vec![step; 2_000];
        for _ in 0..10 {
            journal.append(&many).unwrap();
        }
        assert!(fs::metadata(file(dir.path())).unwrap().len() <= LONGEST);
        drop(journal);
        let (_journal, found) = open(dir.path()).unwrap();
        let expected = Recovered {
            epoch: 7,
            stance: Stance::Primary,
            sole: true,
            alone_since: Some(6),
            heeded: 4,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn two_daemons_do_not_share_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path()).unwrap();
        let again = || matches!(open(dir.path()), Err(JournalError::Taken(_)));
        assert!(again());
        journal.shorten(&[begin(1)]).unwrap();
        assert!(again());
        drop(journal);
        assert_eq!(open(dir.path()).unwrap().1.stance, Stance::Promoting);
    }
}

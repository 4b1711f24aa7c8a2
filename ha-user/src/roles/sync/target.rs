//! A standby: fetches what changed from the Active node, and from nobody else.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    Job, Said,
    ground::{Directory, replace},
    rsync::{self, Copy},
    words::{Answer, Ask, Have, hear, say},
};
use crate::{
    checks::{ScriptRuns, words::of_io},
    link::Stream,
    roles::neighbours::Leader,
    sys::clock,
};

/// Between two looks who is Active.
const LOOK: Duration = Duration::from_millis(50);
/// After what went wrong: twice as long each time, up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How long the other node may take to say whether it sends a directory: longer than it looks for it.
const READY_LIMIT: Duration = Duration::from_secs(40);
/// Until what is gone wrong is worth a warning: a take-over, or a restart of the other daemon, takes no longer.
const PASSING: Duration = Duration::from_secs(10);
/// How long there may be nobody to copy of until that is worth one.
const ALONE: Duration = Duration::from_secs(60);
/// A tenth of a disk is left free.
const ROOM: u64 = 10;
/// Promotions of which is kept what they replaced.
const KEPT: usize = 5;

/// How far the copies are, as it outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Copied {
    /// By directory, of whom it was copied as a whole, last; or this node itself, where it has served it since.
    whole: BTreeMap<PathBuf, Origin>,
    /// Of whom a directory is being copied, or was when that was broken off: some files may be new and others old.
    parts: BTreeMap<PathBuf, Origin>,
    /// When this node itself served last.
    own: Option<Origin>,
}

impl Copied {
    /// Of whom there is only a part.
    fn parts_of(&self) -> Option<String> {
        let mut parts = self.parts.values();
        parts.next().map(|origin| origin.node.clone())
    }

    /// The last that this node has, of anybody.
    fn latest(&self) -> Option<&Origin> {
        let all = self.whole.values().chain(self.parts.values());
        all.chain(&self.own).max_by_key(|origin| origin.epoch)
    }
}

/// The file that says so, and in which promotion of this node: what was begun before another one is not written any more.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<u64>);

/// A node, as it was Active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    node: String,
    epoch: u64,
}

/// See the module. It ends with this, and rsync with it.
pub(super) struct Target(JoinHandle<()>);

impl Drop for Target {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Target {
    pub(super) fn start(job: &Arc<Job>) -> Self {
        Self(tokio::spawn(Arc::clone(job).follow()))
    }
}

impl Job {
    /// Follows whoever is Active, for ever.
    async fn follow(self: Arc<Self>) {
        let mut runs = self.runs.lock().await;
        let mut without = Instant::now();
        loop {
            let Some(leader) = self.neighbours.leader() else {
                let said = Said::note("no other node is Active of which this one could copy");
                let passes = without.elapsed() < ALONE;
                self.say(if passes { said } else { said.warning() });
                sleep(LOOK).await;
                continue;
            };
            // What is under way ends with it.
            tokio::select! {
                () = self.follow_one(&leader, &mut runs) => {}
                () = self.until_another_leads(&leader) => {}
            }
            without = Instant::now();
        }
    }

    /// Follows one node, and tries again what goes wrong.
    async fn follow_one(&self, leader: &Leader, runs: &mut ScriptRuns) {
        let mut trouble = Trouble::default();
        loop {
            let Err(why) = self.copy_changes(leader, runs, &mut trouble).await;
            self.bear(leader, &why, &mut trouble).await;
        }
    }

    /// Says what is wrong, and waits until it is to be tried again.
    async fn bear(&self, leader: &Leader, why: &str, trouble: &mut Trouble) {
        let since = *trouble.since.get_or_insert_with(Instant::now);
        let said = Said::note(&format!(
            "not everything is copied from {}: {why}",
            leader.node
        ));
        let passes = since.elapsed() < PASSING;
        self.say(if passes { said } else { said.warning() });
        sleep(trouble.pause).await;
        trouble.pause = (trouble.pause * 2).min(LONGEST);
    }

    async fn until_another_leads(&self, leader: &Leader) {
        while self.neighbours.leader().as_ref() == Some(leader) {
            sleep(LOOK).await;
        }
    }

    /// Copies what changes, as long as there is a stream that says so.
    async fn copy_changes(
        &self,
        leader: &Leader,
        runs: &mut ScriptRuns,
        trouble: &mut Trouble,
    ) -> Result<Infallible, String> {
        // One that was given up has to be gone.
        runs.ended().await?;
        let ask = Ask::Changes {
            epoch: leader.epoch,
        };
        let mut stream = self.ask(leader, &ask).await?;
        let mut change = None;
        loop {
            say(&mut stream.writer, &Have { change }).await?;
            let number = match hear(&mut stream.reader).await? {
                Answer::Change { number } => number,
                answer => return Err(unlike(answer)),
            };
            self.say(Said::note(&format!("copies from {}", leader.node)));
            match self.copy_all(leader, runs).await {
                Ok(()) => {
                    *trouble = Trouble::default();
                    change = Some(number);
                    self.say(Said::note(&format!("has everything of {}", leader.node)));
                }
                // It goes on with the change that it has: there is a newer one at once.
                Err(why) => self.bear(leader, &why, trouble).await,
            }
        }
    }

    async fn ask(&self, leader: &Leader, ask: &Ask) -> Result<Stream, String> {
        let link = self.neighbours.link().ok_or("there is no link")?;
        let setting = &self.setting;
        let stream = link.ask(&leader.node, &setting.group, &setting.role);
        let mut stream = stream.await?;
        say(&mut stream.writer, ask).await?;
        Ok(stream)
    }

    /// Copies each directory that can be; what is wrong with one does not concern another.
    async fn copy_all(&self, leader: &Leader, runs: &mut ScriptRuns) -> Result<(), String> {
        let promotion = self.notes.promotion();
        let mut copied = self.copied().await?;
        if let Some(later) = copied.latest()
            && later.epoch > leader.epoch
        {
            return Err(format!(
                "it is Active in epoch {}, and this node has what {} had in epoch {}: if that counts no more, remove {}",
                leader.epoch,
                later.node,
                later.epoch,
                self.copied_file().display()
            ));
        }
        let (kept, mut wrong) = (self.kept(leader), None);
        for path in &self.config.paths {
            let mut turn = Turn {
                leader,
                path,
                kept: &kept,
                promotion,
                copied: &mut copied,
            };
            if let Err(why) = self.copy(&mut turn, runs).await {
                wrong = wrong.or(Some(format!("{}: {why}", path.display())));
            }
        }
        self.tell_kept(leader).await;
        wrong.map_or(Ok(()), Err)
    }

    /// Copies a directory.
    async fn copy(&self, turn: &mut Turn<'_>, runs: &mut ScriptRuns) -> Result<(), String> {
        let (leader, path) = (turn.leader, turn.path);
        let origin = Origin {
            node: leader.node.clone(),
            epoch: leader.epoch,
        };
        // What this node has otherwise than the one before has perhaps nobody else.
        let goes_on = turn.copied.whole.get(path) == Some(&origin);
        let broken_off = turn.copied.parts.contains_key(path);
        let (named, ground) = (path.to_owned(), Arc::clone(&self.ground));
        let all_kept = (!goes_on).then(|| self.all_kept());
        let opened = spawn_blocking(move || {
            let directory = Directory::open(&named, &ground)?;
            if let Some(all_kept) = all_kept {
                make_room(&all_kept)?;
            }
            let swept = if broken_off {
                directory.sweep()
            } else {
                Ok(())
            };
            let filled = swept.and_then(|()| directory.has_something());
            Ok::<_, String>((directory, filled.map_err(|error| of_io(&error))?))
        });
        let (directory, filled) = opened.await.map_err(|_| "the daemon ends")??;
        let ask = Ask::Files {
            epoch: leader.epoch,
            path: path.to_owned(),
        };
        let mut stream = self.ask(leader, &ask).await?;
        let answer = timeout(READY_LIMIT, hear(&mut stream.reader)).await;
        match answer.map_err(|_| "it does not say whether it sends it")?? {
            Answer::Ready => {}
            answer => return Err(unlike(answer)),
        }
        let prepared = spawn_blocking(move || {
            let drafts = directory.prepare()?;
            Ok::<_, io::Error>((directory, drafts))
        });
        let prepared = prepared.await.map_err(|_| "the daemon ends")?;
        let (directory, drafts) = prepared.map_err(|error| of_io(&error))?;
        if !filled {
            turn.copied.whole.remove(path);
        }
        turn.copied.parts.insert(path.to_owned(), origin.clone());
        self.note_copied(turn.copied, turn.promotion).await?;
        let kept = (!goes_on).then(|| turn.kept.join(flat(path)));
        let copy = Copy {
            directory: &directory,
            drafts: &drafts,
            exclude: &self.config.exclude,
            kept: kept.as_deref(),
            socket: self.temporary("socket"),
        };
        let received = rsync::receive(stream, &copy, runs).await;
        let cleared = spawn_blocking(move || directory.clear()).await;
        received?;
        let cleared = cleared.map_err(|_| "the daemon ends")?;
        cleared.map_err(|error| of_io(&error))?;
        turn.copied.parts.remove(path);
        turn.copied.whole.insert(path.to_owned(), origin);
        self.note_copied(turn.copied, turn.promotion).await
    }

    /// Where that goes which this node has otherwise than the one that was promoted: a directory for each try.
    fn kept(&self, leader: &Leader) -> PathBuf {
        let now = clock::wall(clock::now()).duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        let all = self.all_kept().join(leader.epoch.to_string());
        all.join(format!("{now}-from-{}", flat(Path::new(&leader.node))))
    }

    fn all_kept(&self) -> PathBuf {
        let setting = &self.setting;
        setting.state_dir.join("kept").join(&setting.role)
    }

    /// Says so where something was kept, by whatever try, and lets go of what was long ago.
    async fn tell_kept(&self, leader: &Leader) {
        let (all, epoch) = (self.all_kept(), leader.epoch);
        let kept = all.join(epoch.to_string());
        let shown = kept.display().to_string();
        let there = spawn_blocking(move || {
            forget(&all, epoch);
            kept.exists()
        });
        if there.await.unwrap_or(false) && self.told.swap(epoch, Ordering::Relaxed) != epoch {
            let (role, node) = (&self.setting.role, &leader.node);
            tracing::warn!(
                "role {role}: what this node had otherwise than {node} is kept in {shown}"
            );
        }
    }

    /// Notes that this node itself has what counts from now on: what anybody had before is not copied any more, and what
    /// it has itself is kept when it copies again. Returns the directories of which it has a part, and never had
    /// everything.
    pub(super) async fn note_own(&self, epoch: u64) -> Result<Vec<PathBuf>, String> {
        let (file, notes) = (self.copied_file(), Arc::clone(&self.notes));
        let (node, paths) = (self.setting.node.clone(), self.config.paths.clone());
        let noted = spawn_blocking(move || {
            // What cannot be read says nothing, and is not to keep the node from serving.
            let mut copied = read(&file).unwrap_or_default();
            let own = Origin { node, epoch };
            let mut never_whole = Vec::new();
            for path in paths {
                if copied.parts.contains_key(&path) && !copied.whole.contains_key(&path) {
                    never_whole.push(path);
                } else {
                    copied.whole.insert(path, own.clone());
                }
            }
            copied.own = Some(own);
            notes.write_promoted(&file, &copied)?;
            Ok::<_, String>((never_whole, copied.parts_of()))
        });
        let (never_whole, parts_of) = noted.await.map_err(|_| "the daemon ends")??;
        self.parts(parts_of);
        Ok(never_whole)
    }

    /// Takes back what a promotion noted that came to nothing. It may have got so far that somebody wrote here: what this
    /// node has is kept when it copies again.
    pub(super) async fn note_before(&self, mut before: Copied) -> Result<(), String> {
        for origin in before.whole.values_mut() {
            origin.node.clone_from(&self.setting.node);
        }
        let (file, notes) = (self.copied_file(), Arc::clone(&self.notes));
        let written = spawn_blocking(move || notes.write_promoted(&file, &before)).await;
        written.map_err(|_| "the daemon ends")?
    }

    /// Where that is noted.
    pub(super) fn copied_file(&self) -> PathBuf {
        self.setting.file("copied")
    }

    /// How far the copies were when that was noted last.
    pub(super) async fn copied(&self) -> Result<Copied, String> {
        let file = self.copied_file();
        let read = spawn_blocking(move || read(&file)).await;
        read.map_err(|_| "the daemon ends")?
    }

    async fn note_copied(&self, copied: &Copied, promotion: u64) -> Result<(), String> {
        let (file, notes, copied) = (self.copied_file(), Arc::clone(&self.notes), copied.clone());
        self.parts(copied.parts_of());
        let written = spawn_blocking(move || notes.write(&file, &copied, promotion)).await;
        written.map_err(|_| "the daemon ends")?
    }
}

/// A directory's turn to be copied.
struct Turn<'a> {
    leader: &'a Leader,
    path: &'a Path,
    /// Where that goes which is replaced.
    kept: &'a Path,
    /// [`Notes::promotion`] when it began.
    promotion: u64,
    copied: &'a mut Copied,
}

/// What goes wrong with one node.
struct Trouble {
    since: Option<Instant>,
    pause: Duration,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            since: None,
            pause: AGAIN,
        }
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often this node has been promoted, or has taken that back.
    fn promotion(&self) -> u64 {
        *self.lock()
    }

    fn write(&self, file: &Path, copied: &Copied, promotion: u64) -> Result<(), String> {
        let now = self.lock();
        if *now != promotion {
            return Err("this node was promoted meanwhile".to_owned());
        }
        put(file, copied)
    }

    fn write_promoted(&self, file: &Path, copied: &Copied) -> Result<(), String> {
        let mut now = self.lock();
        *now += 1;
        put(file, copied)
    }
}

fn put(file: &Path, copied: &Copied) -> Result<(), String> {
    if read(file).is_ok_and(|before| before == *copied) {
        return Ok(());
    }
    let text = serde_json::to_vec(copied).map_err(|error| error.to_string())?;
    replace(file, &text)
}

/// Makes the directory of what is replaced, where there is room for it: what is kept is not to take the daemon's own.
fn make_room(all: &Path) -> Result<(), String> {
    let failed = |error: &io::Error| format!("{}: {}", all.display(), of_io(error));
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(all).map_err(|error| failed(&error))?;
    let disk = rustix::fs::statvfs(all).map_err(|error| failed(&error.into()))?;
    if disk.f_bavail < disk.f_blocks / ROOM {
        return Err(format!(
            "the disk of {} is nearly full, and what is replaced has to be kept there: make room",
            all.display()
        ));
    }
    Ok(())
}

/// An answer that was not asked for.
fn unlike(answer: Answer) -> String {
    match answer {
        Answer::Refused { why } => why,
        _ => "it answers otherwise than this release understands".to_owned(),
    }
}

fn read(file: &Path) -> Result<Copied, String> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| format!("{} cannot be read ({error}): remove it", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Copied::default()),
        Err(error) => Err(format!("{}: {}", file.display(), of_io(&error))),
    }
}

/// A directory's name made of a path, of which no other one has the same: the configuration takes none with `%`.
fn flat(path: &Path) -> String {
    let text = path.display().to_string();
    text.trim_start_matches('/').replace('/', "%")
}

/// Lets go of what was kept of all but the last promotions, and never of what was kept now.
fn forget(all: &Path, now: u64) {
    let Ok(entries) = fs::read_dir(all) else {
        return;
    };
    // By when they were made: epochs begin anew where everything does.
    let mut known: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let epoch: u64 = entry.file_name().to_str()?.parse().ok()?;
            let made = entry.metadata().and_then(|about| about.modified()).ok()?;
            (epoch != now).then_some((made, epoch))
        })
        .collect();
    known.sort_unstable_by(|one, other| other.cmp(one));
    for (_, epoch) in known.into_iter().skip(KEPT - 1) {
        // It is tried again after the next one.
        let _ = fs::remove_dir_all(all.join(epoch.to_string()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Copies everything once from a node that is Active in an epoch.
    pub(in super::super) async fn follow(job: &Job, node: &str, epoch: u64) -> Result<(), String> {
        let leader = Leader {
            node: node.to_owned(),
            epoch,
        };
        let mut runs = job.runs.lock().await;
        job.copy_all(&leader, &mut runs).await
    }

    #[test]
    fn what_the_last_promotions_replaced_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        // Epochs began anew after the greatest.
        for (age, epoch) in [9, 10, 11, 100, 1, 2].into_iter().rev().enumerate() {
            let kept = dir.path().join(epoch.to_string());
            fs::create_dir_all(kept.join("1-from-n2/rules")).unwrap();
            let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age as u64);
            fs::File::open(&kept).unwrap().set_modified(made).unwrap();
        }
        fs::create_dir(dir.path().join("else")).unwrap();
        forget(dir.path(), 2);
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["1", "10", "100", "11", "2", "else"]);
    }
}

//! A standby: fetches what changed from the Active node, and from nobody else.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
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
const LONGEST: Duration = Duration::from_secs(30);
/// Until what is gone wrong is worth a warning: a take-over, or a restart of the other daemon, takes no longer.
const PASSING: Duration = Duration::from_secs(10);
/// Promotions of which is kept what they replaced.
const KEPT: usize = 5;

/// How far the copies are, as it outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Copied {
    /// By directory, of whom it was copied as a whole, last; or this node itself, where it has served it since.
    whole: BTreeMap<PathBuf, Origin>,
    /// Of whom something is being copied, or was when that was broken off: some files may be new and others old.
    parts_of: Option<Origin>,
    /// When this node itself served last.
    own: Option<Origin>,
}

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
        loop {
            let Some(leader) = self.neighbours.leader() else {
                self.say(Said::note("no other node is Active"));
                sleep(LOOK).await;
                continue;
            };
            // What is under way ends with it.
            tokio::select! {
                () = self.follow_one(&leader, &mut runs) => {}
                () = self.until_another_leads(&leader) => {}
            }
        }
    }

    /// Follows one node, and tries again what goes wrong.
    async fn follow_one(&self, leader: &Leader, runs: &mut ScriptRuns) {
        let mut since = None;
        let mut pause = AGAIN;
        loop {
            let mut copied = false;
            let Err(why) = self.copy_changes(leader, runs, &mut copied).await;
            if copied {
                (since, pause) = (None, AGAIN);
            }
            let since = *since.get_or_insert_with(Instant::now);
            let said = Said::note(&format!("nothing is copied from {}: {why}", leader.node));
            let passes = since.elapsed() < PASSING;
            self.say(if passes { said } else { said.warning() });
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn until_another_leads(&self, leader: &Leader) {
        while self.neighbours.leader().as_ref() == Some(leader) {
            sleep(LOOK).await;
        }
    }

    /// Copies what changes as long as all goes well. Says whether everything was copied at least once.
    async fn copy_changes(
        &self,
        leader: &Leader,
        runs: &mut ScriptRuns,
        copied: &mut bool,
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
            self.copy_all(leader, runs).await?;
            *copied = true;
            change = Some(number);
            self.say(Said::note(&format!("has everything of {}", leader.node)));
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
        let origin = Origin {
            node: leader.node.clone(),
            epoch: leader.epoch,
        };
        let mut copied = self.copied().await?;
        let whole = copied.whole.values();
        let known = whole.chain(&copied.parts_of).chain(&copied.own);
        if let Some(later) = known.max_by_key(|known| known.epoch)
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
        copied.parts_of = Some(origin.clone());
        self.note_copied(&copied).await?;
        let (kept, mut wrong) = (self.kept(leader), None);
        for path in &self.config.paths {
            // What this node has otherwise than the one before has perhaps nobody else.
            let goes_on = copied.whole.get(path) == Some(&origin);
            let kept = (!goes_on).then(|| kept.join(flat(path)));
            match self.copy(leader, path, kept.as_deref(), runs).await {
                Ok(()) => drop(copied.whole.insert(path.clone(), origin.clone())),
                Err(why) => wrong = wrong.or(Some(format!("{}: {why}", path.display()))),
            }
        }
        if wrong.is_none() {
            copied.parts_of = None;
        }
        self.note_copied(&copied).await?;
        self.tell_kept(leader).await;
        wrong.map_or(Ok(()), Err)
    }

    async fn copy(
        &self,
        leader: &Leader,
        path: &Path,
        kept: Option<&Path>,
        runs: &mut ScriptRuns,
    ) -> Result<(), String> {
        let (named, ground) = (path.to_owned(), Arc::clone(&self.ground));
        let all_kept = kept.map(|_| self.all_kept());
        let opened = spawn_blocking(move || {
            let directory = Directory::open(&named, &ground)?;
            let mut private = fs::DirBuilder::new();
            private.recursive(true).mode(0o700);
            let made = all_kept.map_or(Ok(()), |all| private.create(all));
            let prepared = made.and_then(|()| directory.prepare());
            prepared.map_err(|error| of_io(&error))?;
            Ok::<_, String>(directory)
        });
        let directory = opened.await.map_err(|_| "the daemon ends")??;
        let ask = Ask::Files {
            epoch: leader.epoch,
            path: path.to_owned(),
        };
        let mut stream = self.ask(leader, &ask).await?;
        match hear(&mut stream.reader).await? {
            Answer::Ready => {}
            answer => return Err(unlike(answer)),
        }
        let copy = Copy {
            directory: &directory,
            exclude: &self.config.exclude,
            kept,
            socket: self.temporary("socket"),
        };
        let received = rsync::receive(stream, &copy, runs).await;
        let swept = spawn_blocking(move || directory.sweep()).await;
        received?;
        swept
            .map_err(|_| "the daemon ends")?
            .map_err(|error| of_io(&error))
    }

    /// Where that goes which this node has otherwise than the one that was promoted: a directory for each try.
    fn kept(&self, leader: &Leader) -> PathBuf {
        let now = clock::wall(clock::now()).duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        let all = self.all_kept().join(leader.epoch.to_string());
        all.join(format!("{now}-from-{}", leader.node))
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
    /// it has itself is kept when it copies again. Returns how far the copies were, and the directories of which it has
    /// never had everything, but for those of which it has never copied anything.
    pub(super) async fn note_own(&self, epoch: u64) -> Result<(Copied, Vec<PathBuf>), String> {
        let mut copied = self.copied().await?;
        let before = copied.clone();
        let broken_off = copied.parts_of.is_some();
        let own = Origin {
            node: self.setting.node.clone(),
            epoch,
        };
        let mut never_whole = Vec::new();
        for path in &self.config.paths {
            if broken_off && !copied.whole.contains_key(path) {
                never_whole.push(path.clone());
            } else {
                copied.whole.insert(path.clone(), own.clone());
            }
        }
        copied.own = Some(own);
        self.note_copied(&copied).await?;
        Ok((before, never_whole))
    }

    /// Where that is noted.
    pub(super) fn copied_file(&self) -> PathBuf {
        self.setting.file("copied")
    }

    /// How far the copy was when that was noted last.
    async fn copied(&self) -> Result<Copied, String> {
        let file = self.copied_file();
        let read = spawn_blocking(move || read(&file)).await;
        read.map_err(|_| "the daemon ends")?
    }

    pub(super) async fn note_copied(&self, copied: &Copied) -> Result<(), String> {
        let (file, copied) = (self.copied_file(), copied.clone());
        let parts_of = copied.parts_of.as_ref();
        self.parts(parts_of.map(|origin| origin.node.clone()));
        let written = spawn_blocking(move || {
            if read(&file).is_ok_and(|before| before == copied) {
                return Ok(());
            }
            let text = serde_json::to_vec(&copied).map_err(|error| error.to_string())?;
            replace(&file, &text)
        });
        written.await.map_err(|_| "the daemon ends")?
    }
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
        // Of what cannot be read nothing is known: then everything is kept that is replaced.
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Copied::default()),
        Err(error) => Err(format!("{}: {error}", file.display())),
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

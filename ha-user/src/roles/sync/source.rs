//! The Active node: notices what changes, and sends it to standbys that ask for it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    Job, duration,
    ground::{Directory, Ground},
    rsync::serve,
    words::{Answer, Ask, Have, hear, say},
};
use crate::{
    checks::{Blocking, words::of_io},
    link::{Incoming, Stream, Writer},
};

/// What changes together is sent together.
const SETTLE: Duration = Duration::from_millis(100);
/// Until what cannot be watched is tried again, and taken to have changed.
const BLIND: Duration = Duration::from_secs(10);
/// How long directories may be searched for others; a disk may hang.
const WATCH_LIMIT: Duration = Duration::from_secs(30);
/// How long a look at a directory may take, and how many of one may be out.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
const LOOKS: usize = 4;
/// Streams that are served at a time.
const STREAMS: usize = 16;
/// How long who asks may take to say what for.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long a demotion waits until the standbys have what changed last.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);

/// The watches, and what is wrong where not all are there.
type Watched = Result<(RecommendedWatcher, Option<String>), String>;
/// One search at a time, for it may hang.
type Watching = Blocking<Watched>;

/// See the module. It ends with this.
pub(super) struct Source {
    pub(super) epoch: u64,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What both tasks know, and every stream.
struct Shared {
    job: Arc<Job>,
    epoch: u64,
    /// Directories of which this node has got a part only, and nothing before.
    never_whole: Vec<PathBuf>,
    /// The number of the last change.
    change: watch::Sender<u64>,
    /// Something changed that has no number yet.
    dirty: AtomicBool,
    changed: Notify,
    /// One of the directories is no longer the one that is watched.
    replaced: AtomicBool,
    standbys: Mutex<Standbys>,
    /// By directory, how many look at it.
    looks: Mutex<BTreeMap<PathBuf, usize>>,
    trouble: Mutex<Trouble>,
}

/// What somebody should see to.
#[derive(Default)]
struct Trouble {
    /// Why changes are not seen at once.
    watching: Option<String>,
    /// Why directories are not sent.
    sending: BTreeMap<PathBuf, String>,
}

/// By the number of its stream, who has which change.
#[derive(Default)]
struct Standbys {
    next: u64,
    known: BTreeMap<u64, (String, Option<u64>)>,
}

impl Source {
    /// Begins to serve, as the Active node of an epoch.
    pub(super) fn start(job: &Arc<Job>, epoch: u64, never_whole: Vec<PathBuf>) -> Self {
        let shared = Arc::new(Shared {
            job: Arc::clone(job),
            epoch,
            never_whole,
            change: watch::Sender::new(1),
            dirty: AtomicBool::new(false),
            changed: Notify::new(),
            replaced: AtomicBool::new(false),
            looks: Mutex::default(),
            standbys: Mutex::default(),
            trouble: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&shared).serve());
        Self {
            epoch,
            shared,
            task,
        }
    }

    /// Waits until every standby that is connected has all that changed, for a while; in words how far that went.
    pub(super) async fn flush(&self) -> String {
        let shared = &self.shared;
        // What was written a moment ago is told in a moment; where nothing tells, anything may have been.
        sleep(LOOK).await;
        if shared.trouble().watching.is_some() {
            shared.dirty.store(true, Ordering::SeqCst);
        }
        shared.number();
        let last = *shared.change.borrow();
        let deadline = Instant::now() + FLUSH_LIMIT;
        loop {
            let lacking = shared.lacking(last);
            if shared.standbys().known.is_empty() {
                return "no other node asks for the files".to_owned();
            }
            if lacking.is_empty() {
                return "the other nodes have everything".to_owned();
            }
            if Instant::now() >= deadline {
                return format!("{} may lack what changed last", lacking.join(" and "));
            }
            sleep(LOOK).await;
        }
    }

    /// Who has what.
    pub(super) fn note(&self) -> String {
        let shared = &self.shared;
        let last = *shared.change.borrow();
        let lacking = shared.lacking(last);
        let standbys = shared.standbys();
        let mut nodes: Vec<&str> = standbys.known.values().map(|(node, _)| &**node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.is_empty() {
            "no other node asks for the files".to_owned()
        } else if lacking.is_empty() {
            format!("{} has everything", nodes.join(" and "))
        } else {
            format!("{} lacks what changed last", lacking.join(" and "))
        }
    }

    /// What somebody should see to.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble();
        let Trouble { watching, sending } = &*trouble;
        sending.values().next().or(watching.as_ref()).cloned()
    }
}

impl Shared {
    fn standbys(&self) -> MutexGuard<'_, Standbys> {
        self.standbys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<PathBuf, usize>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what changed a number, if something did.
    fn number(&self) {
        // In this order: what changes from here on gets another one.
        if self.dirty.swap(false, Ordering::SeqCst) {
            self.change.send_modify(|number| *number += 1);
        }
    }

    /// Who does not have this change, of those that are connected.
    fn lacking(&self, change: u64) -> Vec<String> {
        let standbys = self.standbys();
        let behind = standbys
            .known
            .values()
            .filter(|(_, has)| has.is_none_or(|has| has < change));
        behind.map(|(node, _)| node.clone()).collect()
    }

    fn note_change(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    async fn serve(self: Arc<Self>) {
        // What is left of a copy that this node's promotion ended is nobody's.
        let left = self.job.parts_of().is_some();
        let shared = Arc::clone(&self);
        let sweep = async move {
            if left {
                let _ = spawn_blocking(move || shared.sweep()).await;
            }
        };
        tokio::join!(sweep, Arc::clone(&self).count(), self.answer());
    }

    fn sweep(&self) {
        for path in &self.job.config.paths {
            let swept = Directory::open(path, &self.job.ground)
                .and_then(|directory| directory.sweep().map_err(|error| of_io(&error)));
            if let Err(why) = swept {
                let role = &self.job.setting.role;
                tracing::warn!("role {role}: {}: {why}", path.display());
            }
        }
    }

    /// Numbers changes as they come, and one for all that may have been missed now and then.
    async fn count(self: Arc<Self>) {
        let every = duration(self.job.config.every);
        let (mut watching, mut watches) = (Watching::new(), None);
        loop {
            // They end with the directories that they are on, which may have been made anew. Two of each would count twice.
            drop(watches.take());
            watches = self.watch(&mut watching).await;
            self.dirty.store(true, Ordering::SeqCst);
            self.number();
            let blind = self.trouble().watching.is_some();
            let again = Instant::now() + if blind { every.min(BLIND) } else { every };
            loop {
                tokio::select! {
                    () = self.changed.notified() => {
                        sleep(SETTLE).await;
                        self.number();
                        let replaced = self.replaced.swap(false, Ordering::SeqCst);
                        if replaced || !blind && self.trouble().watching.is_some() {
                            break;
                        }
                    }
                    () = sleep_until(again) => break,
                }
            }
        }
    }

    async fn watch(self: &Arc<Self>, watching: &mut Watching) -> Option<RecommendedWatcher> {
        let shared = Arc::clone(self);
        let call = watching.call("the search for directories to watch", move || {
            watch(&shared)
        });
        let late = format!("it has taken more than {} s", WATCH_LIMIT.as_secs());
        let (watches, why) = match timeout(WATCH_LIMIT, call).await {
            Ok(Ok(Ok((watches, why)))) => (Some(watches), why),
            Ok(Ok(Err(why)) | Err(why)) => (None, Some(why)),
            Err(_) => (None, Some(late)),
        };
        self.trouble().watching = why.map(|why| blind(&why));
        watches
    }

    async fn answer(self: Arc<Self>) {
        let Some(link) = self.job.neighbours.link() else {
            return;
        };
        let setting = &self.job.setting;
        let mut incoming = link.answer(&setting.group, &setting.role);
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                Some(asked) = incoming.recv() => {
                    if streams.len() < STREAMS {
                        streams.spawn(Arc::clone(&self).hear(asked));
                    }
                }
                Some(_) = streams.join_next(), if !streams.is_empty() => {}
                // Another one answers by now.
                else => return,
            }
        }
    }

    /// One stream, to its end.
    async fn hear(self: Arc<Self>, asked: Incoming) {
        let Incoming { node, mut stream } = asked;
        let deadline = Instant::now() + ASK_LIMIT;
        let Ok(Ok(ask)) = timeout_at(deadline, hear::<Ask>(&mut stream.reader)).await else {
            return;
        };
        let (Ask::Changes { epoch } | Ask::Files { epoch, .. }) = &ask;
        if *epoch != self.epoch {
            let own = self.epoch;
            let why = format!("this node is Active in epoch {own}, and {epoch} is asked for");
            return refuse(&mut stream.writer, why).await;
        }
        let served = match ask {
            Ask::Changes { .. } => self.inform(node.clone(), stream).await,
            Ask::Files { path, .. } => self.send(stream, path).await,
        };
        // The other node says what is wrong with it, where somebody should see to it.
        if let Err(why) = served {
            tracing::debug!("role {}: {node}: {why}", self.job.setting.role);
        }
    }

    /// Tells a standby of each change that it does not have, for as long as it listens.
    async fn inform(&self, node: String, stream: Stream) -> Result<(), String> {
        let Stream {
            mut reader,
            mut writer,
        } = stream;
        let standby = Standby::new(self, node);
        let mut changes = self.change.subscribe();
        loop {
            let Have { change: has } = hear(&mut reader).await?;
            standby.has(has);
            let new = |change: &u64| has.is_none_or(|has| *change > has);
            let number = tokio::select! {
                change = changes.wait_for(new) => *change.map_err(|_| "this node ends")?,
                // It waits for the answer: whatever comes is its end.
                _ = reader.read() => return Ok(()),
            };
            say(&mut writer, &Answer::Change { number }).await?;
        }
    }

    async fn send(self: &Arc<Self>, mut stream: Stream, path: PathBuf) -> Result<(), String> {
        if !self.job.config.paths.contains(&path) {
            let why = format!(
                "{} is no path of this role here: write the same ones on all nodes",
                path.display()
            );
            refuse(&mut stream.writer, why).await;
            return Ok(());
        }
        if self.never_whole.contains(&path) {
            let why = format!(
                "this node has never had everything of {}: hand the group over to one that has, or, if there is none, remove {} here and restart had",
                path.display(),
                self.job.copied_file().display()
            );
            self.trouble().sending.insert(path, why.clone());
            refuse(&mut stream.writer, why).await;
            return Ok(());
        }
        let fit = match self.look_for(&path) {
            Some(look) => timeout(LOOK_LIMIT, look)
                .await
                .unwrap_or_else(|_| hangs(&path)),
            None => hangs(&path),
        };
        let directory = match fit {
            Ok(directory) => {
                self.trouble().sending.remove(&path);
                directory
            }
            Err(why) => {
                self.trouble().sending.insert(path, why.clone());
                refuse(&mut stream.writer, why).await;
                return Ok(());
            }
        };
        say(&mut stream.writer, &Answer::Ready).await?;
        serve(stream, &directory, &self.job.temporary("conf")).await
    }
}

impl Shared {
    /// Looks whether a directory may be sent. `None`: too many looks at it have not come back.
    fn look_for(
        self: &Arc<Self>,
        path: &Path,
    ) -> Option<impl Future<Output = Result<Directory, String>> + use<>> {
        let look = Look::begin(self, path)?;
        let looked = spawn_blocking(move || {
            let found = fit(&look.path, &look.shared.job.ground);
            drop(look);
            found
        });
        Some(async {
            looked
                .await
                .unwrap_or_else(|_| Err("the daemon ends".to_owned()))
        })
    }
}

fn hangs(path: &Path) -> Result<Directory, String> {
    Err(format!(
        "a look at {} does not come back: its disk may hang",
        path.display()
    ))
}

/// A look at a directory, which may hang.
struct Look {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Look {
    fn begin(shared: &Arc<Shared>, path: &Path) -> Option<Self> {
        let mut looks = shared.looks();
        let count = looks.entry(path.to_owned()).or_default();
        let may = *count < LOOKS;
        *count += usize::from(may);
        may.then(|| Self {
            shared: Arc::clone(shared),
            path: path.to_owned(),
        })
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(count) = self.shared.looks().get_mut(&self.path) {
            *count -= 1;
        }
    }
}

/// A standby that listens.
struct Standby<'a> {
    shared: &'a Shared,
    number: u64,
    node: String,
}

impl<'a> Standby<'a> {
    fn new(shared: &'a Shared, node: String) -> Self {
        let number = {
            let mut standbys = shared.standbys();
            standbys.next += 1;
            standbys.next
        };
        let standby = Self {
            shared,
            number,
            node,
        };
        standby.has(None);
        standby
    }

    fn has(&self, change: Option<u64>) {
        let known = (self.node.clone(), change);
        self.shared.standbys().known.insert(self.number, known);
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        self.shared.standbys().known.remove(&self.number);
    }
}

async fn refuse(writer: &mut Writer, why: String) {
    // Who does not hear it has gone.
    let _ = say(writer, &Answer::Refused { why }).await;
}

/// Opens a directory that may be sent.
fn fit(path: &Path, ground: &Ground) -> Result<Directory, String> {
    let directory = Directory::open(path, ground)?;
    let shown = path.display();
    match directory.has_something() {
        Ok(true) => Ok(directory),
        Ok(false) => Err(format!(
            "{shown} is empty on the Active node, and nothing is removed from the others for that: empty it there yourself, if that is meant"
        )),
        Err(error) => Err(format!("{shown}: {}", of_io(&error))),
    }
}

/// Why changes are not seen at once.
fn blind(why: &str) -> String {
    format!("changes are not seen at once: {why}")
}

/// Watches all directories that can be, and says what is wrong with another one. Who calls it has the watches, which end
/// with them.
fn watch(shared: &Arc<Shared>) -> Watched {
    let told = Arc::clone(shared);
    let tell = move |event: notify::Result<notify::Event>| match event {
        Ok(event) if !is_change(event.kind) => {}
        Ok(event) => {
            let goes = matches!(
                event.kind,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            );
            let is_whole = |path| told.job.config.paths.contains(path);
            if goes && event.paths.iter().any(is_whole) {
                told.replaced.store(true, Ordering::SeqCst);
            }
            told.note_change();
        }
        Err(error) => {
            told.trouble().watching = Some(blind(&in_words(&error)));
            told.note_change();
        }
    };
    // rsync copies a link as one, wherever it leads.
    let settings = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(tell, settings).map_err(|error| in_words(&error))?;
    let mut wrong = None;
    for path in &shared.job.config.paths {
        let watched = watcher.watch(path, RecursiveMode::Recursive);
        let why = |error| format!("{}: {}", path.display(), in_words(&error));
        wrong = wrong.or(watched.err().map(why));
    }
    Ok((watcher, wrong))
}

fn in_words(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "there are more directories than may be watched: raise the sysctl fs.inotify.max_user_watches".to_owned()
        }
        notify::ErrorKind::Io(error) => of_io(error),
        _ => error.to_string(),
    }
}

/// Reading is none; nor are writes before the file is closed.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}

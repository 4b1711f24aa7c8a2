//! What the nodes say to each other beside adverts and leases: who they are, how they are, and what the conductors of
//! their groups have to settle.
//!
//! Each path (`config::LinkPath`) has one TCP connection, encrypted and authenticated by Noise with a key that all nodes
//! have. Every message goes out on each path that works, with a number; the other node takes the first one that comes, so
//! that a path that is cut costs no time. Everything is bounded: what waits to be sent (newer states replace older ones),
//! what is taken in, how fast, and from how many who have not proved yet that they have the key.
//!
//! It is the slow side's: nothing here is near the engine thread, and what it sends goes behind everything else.

mod board;
mod door;
mod frame;
mod hub;
pub mod message;
mod noise;
mod pace;
mod path;
mod queue;
mod session;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod window;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ha_common::MonoNs;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub(crate) use self::stream::{Incoming, PIECE, Reader, Stream, Writer};
use self::{
    door::{Door, Guest},
    hub::Hub,
    message::{Message, StreamAsk},
    path::{CONNECT_LIMIT, Path},
    session::{Session, ended},
    socket::Place,
};
use crate::{
    config::{Config, Family, Link as LinkConfig, LinkPath},
    control::report::PeerReport,
    engine,
};

/// The protocol's version: two nodes must have the same. It changes with what an older release could not understand at all.
pub const VERSION: u16 = 1;

/// Messages of other nodes that may wait for the daemon.
const MESSAGES: usize = 256;
/// At least so much time between two reports that say something new.
const CALM: Duration = Duration::from_millis(5);

/// To whom a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other node.
    All,
    /// The one of this name.
    Node(String),
}

/// A message of another node: each comes once, whatever the number of paths. With [`Message::Hello`] a path begins to work.
#[derive(Clone, Debug, PartialEq)]
pub struct FromPeer {
    /// Its name.
    pub node: String,
    /// The run of its daemon: another number after each start.
    pub boot: u64,
    /// The name of the path on which it came first.
    pub path: Arc<str>,
    /// What it says.
    pub message: Message,
    /// When it came.
    pub received_at: MonoNs,
}

/// The link to the other nodes. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Link {
    hub: Arc<Hub>,
    running: Arc<Mutex<Running>>,
}

/// The tasks; they end with this.
#[derive(Debug, Default)]
struct Running {
    config: Option<LinkConfig>,
    vips: Arc<BTreeSet<IpAddr>>,
    /// Whether other nodes may ask for streams.
    streams: bool,
    paths: BTreeMap<LinkPath, (mpsc::Sender<Session>, Task)>,
    doors: BTreeMap<Threshold, (Vec<LinkPath>, Task)>,
    reporter: Option<Task>,
}

/// What the paths of one door have in common.
type Threshold = (String, Option<IpAddr>, u8);

/// Ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// A node's link, which has no paths yet, and where the messages of other nodes come. Who does not read them loses those
    /// that do not fit.
    #[must_use]
    pub fn start(
        node: &str,
        news: mpsc::Sender<engine::Message>,
    ) -> (Self, mpsc::Receiver<FromPeer>) {
        let (to_daemon, from_peers) = mpsc::channel(MESSAGES);
        let link = Self {
            hub: Arc::new(Hub::new(node, to_daemon, news)),
            running: Arc::default(),
        };
        (link, from_peers)
    }

    /// Begins, ends and replaces paths until they are those of a configuration. One that stayed as it was keeps its
    /// connection.
    pub fn configure(&self, config: &Config) {
        self.hub.configure(config);
        let paths = config.link_paths();
        // They matter only where this node's own address has to be told from them.
        let instances = config.instances.iter();
        let vips = instances
            .filter(|_| paths.iter().any(|path| path.local.is_none()))
            .flat_map(|instance| instance.vips.iter().map(ipnet::IpNet::addr));
        let streams = config.roles.iter().any(|role| role.kind.has_streams());
        self.follow(config.link.as_ref(), vips.collect(), streams, &paths);
    }

    fn follow(
        &self,
        config: Option<&LinkConfig>,
        vips: BTreeSet<IpAddr>,
        streams: bool,
        paths: &[LinkPath],
    ) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let same = running.config.as_ref() == config && *running.vips == vips;
        if !same || running.streams != streams {
            // Tasks that are gone first leave their ports to those that come.
            *running = Running::default();
            running.config = config.cloned();
            running.vips = Arc::new(vips);
            running.streams = streams;
        }
        running.follow(&self.hub, paths);
    }

    /// The nodes to which there is a connection and that have a group.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<String> {
        self.hub.members(group)
    }

    /// Tells the other nodes this one's mode.
    pub fn set_mode(&self, mode: &str) {
        self.hub.set_mode(mode);
    }

    /// Tells the other nodes the state of an instance.
    pub fn note_instance(&self, name: &str, state: &str) {
        self.hub.note_instance(name, state);
    }

    /// Sends a message on every path that works, without waiting; whether there is one.
    pub fn send(&self, to: &To, message: &Message) -> bool {
        self.hub.send(to, message)
    }

    /// From now on the streams that other nodes ask a role for come here.
    pub(crate) fn answer(&self, group: &str, role: &str) -> mpsc::Receiver<Incoming> {
        self.hub.answer(group, role)
    }

    /// Asks a role of another node for a stream, on the first path on which it connects. That the other node has such a
    /// role is not known before it has sent something.
    ///
    /// # Errors
    /// In words, why there is none.
    pub(crate) async fn ask(&self, node: &str, group: &str, role: &str) -> Result<Stream, String> {
        let (config, vips) = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            (running.config.clone(), Arc::clone(&running.vips))
        };
        let mut why = format!("there is no link to {node}");
        let Some(config) = config else {
            return Err(why);
        };
        for path in self.hub.paths_to(node) {
            let ask = StreamAsk {
                node: self.hub.hello.node.clone(),
                group: group.to_owned(),
                role: role.to_owned(),
            };
            match connect(&path, &vips, &config, ask).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => why = format!("{node} at {}: {failed}", path.peer),
            }
        }
        Err(why)
    }

    /// The other nodes as the link knows them.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerReport> {
        self.hub.peers()
    }

    /// What somebody should see to.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.hub.warnings()
    }
}

impl Running {
    fn follow(&mut self, hub: &Arc<Hub>, wanted: &[LinkPath]) {
        hub.keep(wanted);
        self.paths.retain(|path, _| wanted.contains(path));
        let Some(config) = self.config.clone() else {
            return;
        };
        let mut doors: BTreeMap<Threshold, Vec<LinkPath>> = BTreeMap::new();
        for path in wanted {
            let family = Family::of(path.peer).number();
            let threshold = (path.interface.clone(), path.local, family);
            doors.entry(threshold).or_default().push(path.clone());
            if !self.paths.contains_key(path) {
                let (to_path, incoming) = mpsc::channel(1);
                let task = Path {
                    hub: Arc::clone(hub),
                    config: config.clone(),
                    path: path.clone(),
                    vips: Arc::clone(&self.vips),
                    incoming,
                };
                let task = Task::spawn(task.keep());
                self.paths.insert(path.clone(), (to_path, task));
            }
        }
        self.doors
            .retain(|threshold, (paths, _)| doors.get(threshold) == Some(paths));
        for (threshold, paths) in doors {
            if self.doors.contains_key(&threshold) {
                continue;
            }
            let guests = paths.iter().filter_map(|path| {
                let (to_path, _) = self.paths.get(path)?;
                Some(Guest {
                    path: path.clone(),
                    to_path: to_path.clone(),
                })
            });
            let door = Door {
                hub: Arc::clone(hub),
                config: config.clone(),
                vips: Arc::clone(&self.vips),
                guests: guests.collect(),
                streams: self.streams,
            };
            let task = Task::spawn(door.keep());
            self.doors.insert(threshold, (paths, task));
        }
        if self.reporter.is_none() {
            self.reporter = Some(Task::spawn(report(Arc::clone(hub))));
        }
    }
}

async fn connect(
    path: &LinkPath,
    vips: &BTreeSet<IpAddr>,
    config: &LinkConfig,
    ask: StreamAsk,
) -> Result<Stream, String> {
    let place = Place::find(path, vips).await?;
    let connected = timeout(CONNECT_LIMIT, place.connect(path.peer, config.port)).await;
    let stream = connected.map_err(|_| "it does not answer")?;
    let stream = stream.map_err(|error| ended(&error))?;
    let asked = Session::ask(stream, &config.key, ask).await;
    asked.map_err(|unfit| unfit.why)
}

/// Reports as often as it is to be, and at once when there is something new.
async fn report(hub: Arc<Hub>) {
    loop {
        let report = hub.report();
        let each = Duration::from_millis(report.every_ms);
        hub.send(&To::All, &Message::Report(report));
        sleep(CALM).await;
        tokio::select! {
            () = hub.changed.notified() => {}
            () = sleep(each.saturating_sub(CALM)) => {}
        }
    }
}

//! Where the link's tasks, and the rest of the daemon, meet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ha_common::MonoNs;
use tokio::sync::{Notify, mpsc};

use super::{
    FromPeer, To,
    board::{Board, Trouble},
    message::{Hello, InstanceState, Message, NodeReport, StreamAsk},
    queue::Queue,
    stream::{Incoming, Stream},
};
use crate::{
    config::{Config, LinkPath},
    control::report::PeerReport,
    engine::{Level, Message as News},
    events::{Event, Kind},
    sys::clock,
};

/// How often a node reports that has groups with roles, and how often one that has none.
const EACH_MS: (u64, u64) = (100, 1_000);

/// Streams that may wait for who answers.
const STREAMS: usize = 8;

/// The link, as its tasks see it.
#[derive(Debug)]
pub(super) struct Hub {
    /// What this node says first on each connection.
    pub(super) hello: Hello,
    board: Mutex<Board>,
    own: Mutex<NodeReport>,
    /// Who answers who asks for a stream: by group and role.
    answerers: Mutex<BTreeMap<(String, String), mpsc::Sender<Incoming>>>,
    /// This node's report says something new, or there is somebody new to say it to.
    pub(super) changed: Notify,
    to_daemon: mpsc::Sender<FromPeer>,
    news: mpsc::Sender<News>,
}

impl Hub {
    pub(super) fn new(
        node: &str,
        to_daemon: mpsc::Sender<FromPeer>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            hello: Hello {
                node: node.to_owned(),
                boot: fastrand::u64(1..),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            board: Mutex::default(),
            own: Mutex::new(NodeReport {
                mode: "active-standby".to_owned(),
                every_ms: EACH_MS.1,
                instances: Vec::new(),
            }),
            answerers: Mutex::default(),
            changed: Notify::new(),
            to_daemon,
            news,
        }
    }

    /// The nodes to which there is a connection and that have a group.
    pub(super) fn members(&self, group: &str) -> Vec<String> {
        self.board().members(group)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, NodeReport> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node reports at present.
    pub(super) fn report(&self) -> NodeReport {
        self.own().clone()
    }

    /// Changes what this node reports.
    fn change(&self, change: impl FnOnce(&mut NodeReport)) {
        let mut own = self.own();
        let before = own.clone();
        change(&mut own);
        if *own != before {
            self.changed.notify_one();
        }
    }

    /// The instances of a configuration; what is known of those that stay is kept.
    pub(super) fn configure(&self, config: &Config) {
        self.change(|own| {
            let known = std::mem::take(&mut own.instances);
            let instances = config.instances.iter().map(|instance| {
                let known = known.iter().find(|known| known.name == instance.name);
                let group = instance.group.and_then(|group| config.groups.get(group));
                InstanceState {
                    name: instance.name.clone(),
                    group: group.map(|group| group.name.clone()),
                    state: known.map_or_else(|| "initialize".to_owned(), |one| one.state.clone()),
                    priority: instance.priority.0,
                }
            });
            own.instances = instances.collect();
            let has_roles = config.groups.iter().any(|group| !group.roles.is_empty());
            own.every_ms = if has_roles { EACH_MS.0 } else { EACH_MS.1 };
        });
    }

    pub(super) fn set_mode(&self, mode: &str) {
        self.change(|own| mode.clone_into(&mut own.mode));
    }

    pub(super) fn note_instance(&self, name: &str, state: &str) {
        self.change(|own| {
            let mut instances = own.instances.iter_mut();
            if let Some(instance) = instances.find(|instance| instance.name == name) {
                state.clone_into(&mut instance.state);
            }
        });
    }

    /// A connection is there.
    pub(super) fn connect(&self, path: &LinkPath, hello: &Hello) -> Arc<Queue> {
        let now = clock::now();
        let queue = self.board().connect(path, hello, now);
        let sentence = format!(
            "the link to {} at {} works over {}",
            hello.node, path.peer, path.interface
        );
        self.tell(path, Some(("down", "up")), sentence);
        self.hand_on(FromPeer {
            node: hello.node.clone(),
            boot: hello.boot,
            path: path.name.as_str().into(),
            message: Message::Hello(hello.clone()),
            received_at: now,
        });
        self.changed.notify_one();
        queue
    }

    /// A connection is no more.
    pub(super) fn disconnect(&self, path: &LinkPath, queue: &Arc<Queue>, hello: &Hello, why: &str) {
        if self.board().disconnect(path, queue, why) {
            let sentence = format!(
                "the link to {} at {} does not work over {}: {why}",
                hello.node, path.peer, path.interface
            );
            self.tell(path, Some(("up", "down")), sentence);
        }
    }

    /// There is no connection.
    pub(super) fn miss(&self, path: &LinkPath, why: &str) {
        self.board().note_trouble(path, Trouble::plain(why));
    }

    /// What is at the peer's address was refused, or refuses this node.
    pub(super) fn trouble(&self, path: &LinkPath, why: &str) {
        let is_to_be_told = {
            let mut board = self.board();
            board.note_trouble(path, Trouble::refusal(why));
            board.count_refused(path);
            board.is_to_be_told(path, clock::now())
        };
        if is_to_be_told {
            let sentence = format!("no link to what is at {}: {why}", path.peer);
            self.tell(path, None, sentence);
        }
    }

    /// What is at the peer's address broke off before it had proved anything.
    pub(super) fn count_refused(&self, path: &LinkPath) {
        self.board().count_refused(path);
    }

    /// A message came.
    pub(super) fn receive(
        &self,
        path: &LinkPath,
        from: &Hello,
        number: u64,
        message: Message,
        received_at: MonoNs,
    ) {
        let mut board = self.board();
        if board.receive(path, from.boot, number, &message, received_at) {
            // With the lock held, so that two paths cannot hand on in another order than the board took it in.
            self.hand_on(FromPeer {
                node: from.node.clone(),
                boot: from.boot,
                path: path.name.as_str().into(),
                message,
                received_at,
            });
        }
    }

    /// From now on these streams come to who has this.
    pub(super) fn answer(&self, group: &str, role: &str) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(STREAMS);
        let mut answerers = self
            .answerers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        answerers.retain(|_, answerer| !answerer.is_closed());
        answerers.insert((group.to_owned(), role.to_owned()), sender);
        receiver
    }

    /// Somebody asks for a stream. Where nobody answers it ends.
    pub(super) fn bring(&self, stream: Stream, ask: StreamAsk) {
        let answerers = self
            .answerers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(answerer) = answerers.get(&(ask.group, ask.role)) {
            let _ = answerer.try_send(Incoming {
                node: ask.node,
                stream,
            });
        }
    }

    /// The paths with a connection to a node.
    pub(super) fn paths_to(&self, node: &str) -> Vec<LinkPath> {
        self.board().paths_to(node)
    }

    /// To whoever waits for it. Who does not keep up loses some: every state is said again, every question has a limit.
    fn hand_on(&self, message: FromPeer) {
        let _ = self.to_daemon.try_send(message);
    }

    /// Sends to other nodes; whether there is a connection to one.
    pub(super) fn send(&self, to: &To, message: &Message) -> bool {
        let Ok(bytes) = serde_json::to_vec(message) else {
            return false;
        };
        let topic = message.topic();
        let sent = self.board().send(to, topic.as_ref(), &bytes);
        sent.unwrap_or_else(|| {
            self.news(News::Log {
                level: Level::Warn,
                text: format!(
                    "link: a message of {} bytes is too long, and was not sent",
                    bytes.len()
                ),
            });
            false
        })
    }

    /// Keeps these paths, and no others.
    pub(super) fn keep(&self, paths: &[LinkPath]) {
        self.board().keep(paths);
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.board().warnings()
    }

    pub(super) fn peers(&self) -> Vec<PeerReport> {
        self.board().peers(clock::now())
    }

    fn tell(
        &self,
        path: &LinkPath,
        states: Option<(&'static str, &'static str)>,
        sentence: String,
    ) {
        self.news(News::Event(Event {
            at: clock::now(),
            instance: path.name.as_str().into(),
            kind: Kind::Link,
            states,
            sentence,
        }));
    }

    fn news(&self, news: News) {
        // Where the daemon is that far behind, it has more to tell than this.
        let _ = self.news.try_send(news);
    }
}

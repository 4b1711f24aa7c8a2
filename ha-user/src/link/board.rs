//! What is known of the paths and of the other nodes, behind one lock that nobody holds for long.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ha_common::{MonoNs, Nanos};

use super::{
    To, frame,
    message::{Hello, Message, NodeReport, Topic},
    queue::Queue,
    window::Window,
};
use crate::{
    config::LinkPath,
    control::report::{LinkPathReport, PeerReport},
};

/// Topics of one node that are told apart: one for each group, and its report.
const TOPICS: usize = 512;
/// Until refusals on a path are told again.
const TELL_AGAIN: Nanos = Nanos::from_secs(60);

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// The number of the last message.
    number: u64,
    paths: BTreeMap<LinkPath, Path>,
    nodes: BTreeMap<String, Node>,
}

/// One path.
#[derive(Debug, Default)]
struct Path {
    /// Its connection, while there is one.
    queue: Option<Arc<Queue>>,
    /// Who was last heard on it, and when.
    node: Option<String>,
    last_heard: Option<MonoNs>,
    /// Why there is no connection.
    trouble: Option<Trouble>,
    /// How often what is at the peer's address was refused, or refused this node; and when that was told last.
    refused: u64,
    told: Option<MonoNs>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    why: String,
    /// Whether somebody should see to it.
    is_refusal: bool,
}

impl Trouble {
    /// It will pass by itself.
    pub(super) fn plain(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            is_refusal: false,
        }
    }

    /// One end refused the other.
    pub(super) fn refusal(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            is_refusal: true,
        }
    }
}

/// Another node.
#[derive(Debug)]
struct Node {
    hello: Hello,
    window: Window,
    latest: HashMap<Topic, u64>,
    report: Option<NodeReport>,
}

impl Board {
    /// Keeps these paths, and no others.
    pub(super) fn keep(&mut self, paths: &[LinkPath]) {
        self.paths.retain(|path, _| paths.contains(path));
        for path in paths {
            self.paths.entry(path.clone()).or_default();
        }
        self.forget_nodes();
    }

    /// Forgets nodes to which no path leads any more.
    fn forget_nodes(&mut self) {
        let paths = &self.paths;
        let leads = |name: &String| paths.values().any(|path| path.node.as_ref() == Some(name));
        self.nodes.retain(|name, _| leads(name));
    }

    /// A connection is there. Those of an earlier boot of the same node, and one on the same path, are no more.
    pub(super) fn connect(&mut self, path: &LinkPath, hello: &Hello, now: MonoNs) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        let known = self.nodes.get(&hello.node);
        if known.is_none_or(|node| node.hello.boot != hello.boot) {
            let ended = format!("{} was started again", hello.node);
            let earlier = self
                .paths
                .values_mut()
                .filter(|path| path.node.as_ref() == Some(&hello.node));
            for queue in earlier.filter_map(|path| path.queue.take()) {
                queue.close(&ended);
            }
            let node = Node {
                hello: hello.clone(),
                window: Window::default(),
                latest: HashMap::new(),
                report: None,
            };
            self.nodes.insert(hello.node.clone(), node);
        }
        if let Some(path) = self.paths.get_mut(path) {
            path.node = Some(hello.node.clone());
            path.last_heard = Some(now);
            path.trouble = None;
            if let Some(earlier) = path.queue.replace(Arc::clone(&queue)) {
                earlier.close("the other node connected anew");
            }
        } else {
            queue.close("the path is no longer configured");
        }
        self.forget_nodes();
        queue
    }

    /// A connection is no more. `false`: there is another one already, or nobody wants one any more.
    pub(super) fn disconnect(&mut self, path: &LinkPath, queue: &Arc<Queue>, why: &str) -> bool {
        let Some(path) = self.paths.get_mut(path) else {
            return false;
        };
        let is_it = |current: &Arc<Queue>| Arc::ptr_eq(current, queue);
        // Taken away, where the other node was started again; but not replaced yet.
        let was_current = path.queue.as_ref().is_none_or(is_it);
        if was_current {
            path.queue = None;
            path.trouble = Some(Trouble::plain(why));
        }
        was_current
    }

    /// Why there is no connection, where there is none.
    pub(super) fn note_trouble(&mut self, path: &LinkPath, trouble: Trouble) {
        if let Some(path) = self.paths.get_mut(path).filter(|path| path.queue.is_none()) {
            path.trouble = Some(trouble);
        }
    }

    /// What is at the peer's address was refused, or refused this node.
    pub(super) fn count_refused(&mut self, path: &LinkPath) {
        if let Some(path) = self.paths.get_mut(path) {
            path.refused = path.refused.saturating_add(1);
        }
    }

    /// Whether it is time to tell of a refusal on a path.
    pub(super) fn is_to_be_told(&mut self, path: &LinkPath, now: MonoNs) -> bool {
        let Some(path) = self.paths.get_mut(path) else {
            return false;
        };
        let is_time = path.told.is_none_or(|told| now.since(told) >= TELL_AGAIN);
        if is_time {
            path.told = Some(now);
        }
        is_time
    }

    /// The nodes to which there is a connection and that have a group.
    pub(super) fn members(&self, group: &str) -> Vec<String> {
        let has_group = |node: &Node| {
            let report = node.report.as_ref();
            let mut instances = report.iter().flat_map(|report| &report.instances);
            instances.any(|instance| instance.group.as_deref() == Some(group))
        };
        let nodes = self.nodes.iter();
        nodes
            .filter(|(name, node)| has_group(node) && self.leads_to(name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether there is a connection to a node.
    fn leads_to(&self, node: &str) -> bool {
        let mut paths = self.paths.values();
        paths.any(|path| path.queue.is_some() && path.node.as_deref() == Some(node))
    }

    /// The paths with a connection to a node.
    pub(super) fn paths_to(&self, node: &str) -> Vec<LinkPath> {
        let leads = |path: &Path| path.queue.is_some() && path.node.as_deref() == Some(node);
        let paths = self.paths.iter();
        paths
            .filter(|(_, path)| leads(path))
            .map(|(ends, _)| ends.clone())
            .collect()
    }

    /// What somebody should see to.
    pub(super) fn warnings(&self) -> Vec<String> {
        let refusals = self.paths.iter().filter_map(|(ends, path)| {
            let trouble = path.trouble.as_ref().filter(|trouble| trouble.is_refusal)?;
            Some(format!(
                "link: no connection over {} to what is at {}: {}",
                ends.interface, ends.peer, trouble.why
            ))
        });
        refusals.collect()
    }

    /// Puts a message into the queues of every path that leads there; whether there is one. `None`: it is too long.
    pub(super) fn send(&mut self, to: &To, topic: Option<&Topic>, message: &[u8]) -> Option<bool> {
        self.number += 1;
        let letter = frame::letter(self.number, message)?;
        let mut sent = false;
        for path in self.paths.values() {
            let leads = match to {
                To::All => true,
                To::Node(name) => path.node.as_ref() == Some(name),
            };
            if let (true, Some(queue)) = (leads, &path.queue) {
                queue.push(topic.cloned(), Arc::clone(&letter));
                sent = true;
            }
        }
        Some(sent)
    }

    /// A message came on a path. Whether it is to be handed on: it comes for the first time, and nothing newer that says
    /// the same came before it.
    pub(super) fn receive(
        &mut self,
        path: &LinkPath,
        boot: u64,
        number: u64,
        message: &Message,
        now: MonoNs,
    ) -> bool {
        let Some(path) = self.paths.get_mut(path) else {
            return false;
        };
        path.last_heard = Some(now);
        let name = path.node.as_ref();
        let Some(node) = name.and_then(|name| self.nodes.get_mut(name)) else {
            return false;
        };
        if node.hello.boot != boot || !node.window.is_new(number) {
            return false;
        }
        if let Some(topic) = message.topic() {
            let latest = node.latest.get(&topic).copied();
            if latest.is_some_and(|latest| latest > number)
                || (latest.is_none() && node.latest.len() >= TOPICS)
            {
                return false;
            }
            node.latest.insert(topic, number);
        }
        if let Message::Report(report) = message {
            node.report = Some(report.clone());
        }
        true
    }

    /// The other nodes, and the paths whose other end never said who it is.
    pub(super) fn peers(&self, now: MonoNs) -> Vec<PeerReport> {
        let strangers = self.paths.values().any(|path| path.node.is_none());
        let names = self.nodes.keys().map(Some);
        let names = names.chain(strangers.then_some(None));
        names.map(|name| self.peer(name, now)).collect()
    }

    fn peer(&self, name: Option<&String>, now: MonoNs) -> PeerReport {
        let node = name.and_then(|name| self.nodes.get(name));
        let report = node.and_then(|node| node.report.as_ref());
        let of_it = self
            .paths
            .iter()
            .filter(|(_, path)| path.node.as_ref() == name);
        let last_heard = of_it.clone().filter_map(|(_, path)| path.last_heard).max();
        PeerReport {
            node: name.cloned(),
            version: node.map(|node| node.hello.version.clone()),
            mode: report.map(|report| report.mode.clone()),
            last_heard_ms: last_heard.map(|at| millis(now.since(at))),
            instances: report.map_or_else(Vec::new, |report| report.instances.clone()),
            paths: of_it
                .map(|(ends, path)| LinkPathReport {
                    name: ends.name.clone(),
                    interface: ends.interface.clone(),
                    local: ends.local,
                    peer: ends.peer,
                    up: path.queue.is_some(),
                    last_heard_ms: path.last_heard.map(|at| millis(now.since(at))),
                    refused: path.refused,
                    trouble: path.trouble.as_ref().map(|trouble| trouble.why.clone()),
                })
                .collect(),
        }
    }
}

fn millis(span: Nanos) -> u64 {
    span.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::{Ask, GroupWord};

    const NOW: MonoNs = MonoNs(100_000_000_000);

    fn path(name: &str, peer: u8) -> LinkPath {
        LinkPath {
            name: name.to_owned(),
            interface: name.to_owned(),
            local: None,
            peer: [10, 0, 0, peer].into(),
        }
    }

    fn hello(node: &str, boot: u64) -> Hello {
        Hello {
            node: node.to_owned(),
            boot,
            version: "0.1.0".to_owned(),
        }
    }

    fn board() -> (Board, [LinkPath; 2]) {
        let paths = [path("eth0", 2), path("eth1", 3)];
        let mut board = Board::default();
        board.keep(&paths);
        (board, paths)
    }

    fn word(group: &str) -> Message {
        let group = group.to_owned();
        Message::Group(Box::new(GroupWord {
            group,
            ..GroupWord::default()
        }))
    }

    #[test]
    fn each_number_counts_once_and_of_a_state_only_what_is_newer() {
        let (mut board, [one, other]) = board();
        board.connect(&one, &hello("n2", 7), NOW);
        board.connect(&other, &hello("n2", 7), NOW);
        let ask = Message::Ask(Ask::default());
        let mut takes = |path: &LinkPath, boot: u64, number: u64, message: &Message| {
            board.receive(path, boot, number, message, NOW)
        };
        assert!(takes(&one, 7, 5, &word("a")) && !takes(&other, 7, 5, &word("a")));
        // It was overtaken on the other path.
        assert!(!takes(&other, 7, 4, &word("a")) && takes(&other, 7, 3, &word("b")));
        assert!(takes(&other, 7, 2, &ask) && !takes(&one, 7, 2, &ask));
        assert!(!takes(&one, 6, 9, &ask), "of an earlier boot");
        assert!(!takes(&path("eth2", 2), 7, 9, &ask), "of no path");
        assert!(takes(&one, 7, 9, &ask));
    }

    #[test]
    fn topics_are_bounded() {
        let (mut board, [one, _]) = board();
        board.connect(&one, &hello("n2", 7), NOW);
        let mut taken = 0;
        for number in 1..=2_000 {
            let word = word(&number.to_string());
            taken += usize::from(board.receive(&one, 7, number, &word, NOW));
        }
        assert_eq!(taken, TOPICS);
        assert!(board.receive(&one, 7, 2_001, &word("1"), NOW), "known");
    }

    #[test]
    fn a_node_that_was_started_again_ends_what_it_had_before() {
        let (mut board, [one, other]) = board();
        let before = board.connect(&one, &hello("n2", 7), NOW);
        assert!(board.receive(&one, 7, 5, &word("a"), NOW));
        let after = board.connect(&other, &hello("n2", 8), NOW);
        assert_eq!(board.send(&To::All, None, b"{}"), Some(true));
        assert!(board.disconnect(&one, &before, "gone"));
        // Its numbers begin anew.
        assert!(board.receive(&other, 8, 1, &word("a"), NOW));
        let peers = board.peers(NOW);
        assert_eq!(peers.len(), 1);
        let up: Vec<bool> = peers[0].paths.iter().map(|path| path.up).collect();
        assert_eq!(up, [false, true]);
        // What is late is nobody's.
        assert!(!board.disconnect(&other, &before, "gone"));
        assert!(board.disconnect(&other, &after, "gone"));
        assert_eq!(board.send(&To::All, None, b"{}"), Some(false));
    }

    #[test]
    fn nodes_and_paths_are_forgotten_together() {
        let (mut board, [one, other]) = board();
        board.connect(&one, &hello("n2", 7), NOW);
        board.connect(&other, &hello("n3", 8), NOW);
        let names = |board: &Board| {
            let peers = board.peers(NOW);
            let names: Vec<Option<String>> = peers.into_iter().map(|peer| peer.node).collect();
            names
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(names(&board), [named("n2"), named("n3")]);
        // Another node has taken its address.
        board.connect(&one, &hello("n4", 9), NOW);
        assert_eq!(names(&board), [named("n3"), named("n4")]);
        board.keep(&[path("eth0", 2), path("eth5", 9)]);
        assert_eq!(names(&board), [named("n4"), None]);
        assert_eq!(
            board.send(&To::Node("n3".to_owned()), None, b"{}"),
            Some(false)
        );
    }

    #[test]
    fn refusals_are_counted_and_told_once_a_minute() {
        let (mut board, [one, _]) = board();
        let mut told = 0;
        for second in 0..=120 {
            board.note_trouble(&one, Trouble::refusal("another key"));
            let now = NOW.after(Nanos::from_secs(second));
            board.count_refused(&one);
            told += usize::from(board.is_to_be_told(&one, now));
        }
        assert_eq!(told, 3);
        assert_eq!(board.warnings().len(), 1);
        board.connect(&one, &hello("n2", 7), NOW);
        board.note_trouble(&one, Trouble::refusal("rubbish"));
        assert!(board.warnings().is_empty(), "the link itself works");
        assert_eq!(board.peers(NOW)[0].paths[0].refused, 121);
    }
}

//! Two links and more in one process, on loopback addresses.

use std::{collections::BTreeSet, io::ErrorKind, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc::{self, Receiver},
    time::{sleep, timeout},
};

use super::{
    message::{Ask, GroupWord},
    *,
};
use crate::{config::LinkKey, engine::Message as News, events::Kind, sys::clock};

const LONG: Duration = Duration::from_secs(15);
/// Longer than anything that is on its way takes to come, on any machine that keeps up at all.
const A_WHILE: Duration = Duration::from_millis(300);

/// A loopback address of this test alone.
fn address(test: u8, number: u8) -> IpAddr {
    [127, 97, test, number].into()
}

fn path(test: u8, name: &str, local: u8, peer: u8) -> LinkPath {
    LinkPath {
        name: name.to_owned(),
        interface: "lo".to_owned(),
        local: Some(address(test, local)),
        peer: address(test, peer),
    }
}

fn config(key: u8) -> LinkConfig {
    LinkConfig {
        key: LinkKey::new([key; 32]),
        port: 19_747,
    }
}

struct Side {
    link: Link,
    from_peers: Receiver<FromPeer>,
    news: Receiver<News>,
}

impl Side {
    fn new(name: &str) -> Self {
        let (news, told) = mpsc::channel(4_096);
        let (link, from_peers) = Link::start(name, news);
        Self {
            link,
            from_peers,
            news: told,
        }
    }

    fn follow(&self, key: u8, paths: &[LinkPath]) {
        self.follow_with(key, false, paths);
    }

    fn follow_with(&self, key: u8, streams: bool, paths: &[LinkPath]) {
        self.link
            .follow(Some(&config(key)), BTreeSet::new(), streams, paths);
    }

    /// The next message that is no report.
    async fn next(&mut self) -> FromPeer {
        let next = async {
            loop {
                let message = self.from_peers.recv().await.expect("a link");
                if !matches!(message.message, Message::Report(_)) {
                    return message;
                }
            }
        };
        timeout(LONG, next).await.expect("a message")
    }

    /// Everything but reports that comes within a while.
    async fn rest(&mut self) -> Vec<FromPeer> {
        let mut all = Vec::new();
        while let Ok(Some(message)) = timeout(A_WHILE, self.from_peers.recv()).await {
            if !matches!(message.message, Message::Report(_)) {
                all.push(message);
            }
        }
        all
    }

    async fn wait_for_paths(&self, up: usize) {
        let count = || {
            let peers = self.link.peers();
            let paths = peers.iter().flat_map(|peer| &peer.paths);
            paths.filter(|path| path.up).count()
        };
        eventually(&format!("{up} paths"), || count() == up).await;
    }

    fn events(&mut self) -> Vec<(Option<&'static str>, String)> {
        let mut events = Vec::new();
        while let Ok(news) = self.news.try_recv() {
            if let News::Event(event) = news {
                assert_eq!(event.kind, Kind::Link);
                events.push((event.states.map(|(_, to)| to), event.sentence));
            }
        }
        events
    }

    fn only_path(&self) -> crate::control::report::LinkPathReport {
        let peers = self.link.peers();
        assert_eq!(peers.len(), 1, "{peers:?}");
        peers[0].paths[0].clone()
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(LONG, wait).await.is_ok(), "not within 15 s: {what}");
}

/// Two nodes with so many paths between them.
async fn pair(test: u8, paths: u8) -> [Side; 2] {
    let sides = [Side::new("n1"), Side::new("n2")];
    let all = |near: u8, far: u8| -> Vec<LinkPath> {
        let numbers = 0..paths;
        let path = |i: u8| path(test, &format!("p{i}"), near + 2 * i, far + 2 * i);
        numbers.map(path).collect()
    };
    sides[0].follow(1, &all(1, 2));
    sides[1].follow(1, &all(2, 1));
    for side in &sides {
        side.wait_for_paths(paths.into()).await;
    }
    sides
}

fn ask(serial: u64) -> Message {
    Message::Ask(Ask {
        serial,
        group: "db".to_owned(),
        ..Ask::default()
    })
}

fn serials(messages: &[FromPeer]) -> Vec<u64> {
    let serial = |message: &FromPeer| match &message.message {
        Message::Ask(ask) => Some(ask.serial),
        _ => None,
    };
    messages.iter().filter_map(serial).collect()
}

#[tokio::test]
async fn each_message_comes_once_and_in_order_over_two_paths() {
    let [mut one, mut other] = pair(1, 2).await;
    for _ in 0..2 {
        let hello = other.next().await;
        assert!(matches!(&hello.message, Message::Hello(hello) if hello.node == "n1"));
    }
    for serial in 1..=50 {
        let to = To::Node("n2".to_owned());
        assert!(one.link.send(&to, &ask(serial)));
    }
    let all = other.rest().await;
    assert_eq!(serials(&all), (1..=50).collect::<Vec<u64>>());
    assert!(
        all.iter()
            .all(|message| message.node == "n1" && message.boot == all[0].boot)
    );
    assert!(!one.link.send(&To::Node("n3".to_owned()), &ask(51)));
    assert!(other.link.send(&To::All, &ask(52)));
    assert_eq!(serials(&one.rest().await), [52]);
}

#[tokio::test]
async fn reports_come_by_themselves_and_at_once_when_something_is_new() {
    let [one, other] = pair(2, 1).await;
    let mode = |side: &Side| side.link.peers()[0].mode.clone();
    eventually("a first report", || {
        mode(&other).as_deref() == Some("active-standby")
    })
    .await;
    one.link.set_mode("maintenance");
    let soon = async {
        eventually("a new one", || {
            mode(&other).as_deref() == Some("maintenance")
        })
        .await
    };
    // The next one would be due after a second.
    assert!(timeout(Duration::from_millis(700), soon).await.is_ok());
    let peer = &other.link.peers()[0];
    assert_eq!(peer.node.as_deref(), Some("n1"));
    assert_eq!(peer.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(peer.last_heard_ms < Some(5_000) && peer.paths[0].trouble.is_none());
}

#[tokio::test]
async fn a_path_that_is_taken_away_costs_no_message() {
    let [one, mut other] = pair(3, 2).await;
    other.rest().await;
    for serial in 1..=20 {
        if serial == 10 {
            one.follow(1, &[path(3, "p1", 3, 4)]);
        }
        assert!(one.link.send(&To::All, &ask(serial)));
    }
    assert_eq!(serials(&other.rest().await), (1..=20).collect::<Vec<u64>>());
    other.wait_for_paths(1).await;
    let events = other.events();
    assert!(
        events.iter().any(|(to, _)| *to == Some("down")),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_node_that_was_started_again_is_another_one() {
    let [one, mut other] = pair(4, 1).await;
    let before = other.next().await.boot;
    drop(one);
    other.wait_for_paths(0).await;
    let again = Side::new("n1");
    again.follow(1, &[path(4, "p0", 1, 2)]);
    again.wait_for_paths(1).await;
    let hello = other.next().await;
    assert!(matches!(hello.message, Message::Hello(_)) && hello.boot != before);
    // Its numbers begin anew.
    other.wait_for_paths(1).await;
    assert!(again.link.send(&To::All, &ask(1)));
    assert_eq!(serials(&other.rest().await), [1]);
}

#[tokio::test]
async fn another_key_is_refused_and_told_once_and_mended_by_a_reload() {
    let [mut one, mut other] = [Side::new("n1"), Side::new("n2")];
    one.follow(1, &[path(5, "p0", 1, 2)]);
    other.follow(2, &[path(5, "p0", 2, 1)]);
    for side in [&one, &other] {
        eventually("five refusals", || side.only_path().refused >= 5).await;
        let warnings = side.link.warnings();
        assert!(warnings[0].contains("it has another key"), "{warnings:?}");
    }
    for side in [&mut one, &mut other] {
        let events = side.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].0.is_none() && events[0].1.contains("another key"));
        assert!(side.rest().await.is_empty());
    }
    other.follow(1, &[path(5, "p0", 2, 1)]);
    for side in [&one, &other] {
        side.wait_for_paths(1).await;
        assert!(side.link.warnings().is_empty());
    }
}

#[tokio::test]
async fn two_nodes_of_one_name_do_not_talk() {
    let sides = [Side::new("n1"), Side::new("n1")];
    sides[0].follow(1, &[path(6, "p0", 1, 2)]);
    sides[1].follow(1, &[path(6, "p0", 2, 1)]);
    eventually("a refusal", || {
        let warnings = sides[0].link.warnings();
        warnings
            .iter()
            .any(|warning| warning.contains("own node.name"))
    })
    .await;
}

/// Connects to `n2`'s port from the address of `n1`.
async fn intrude(test: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address(test, 1), 0).into()).unwrap();
    let to = (address(test, 2), config(1).port).into();
    timeout(LONG, socket.connect(to))
        .await
        .expect("a connection")
        .unwrap()
}

#[tokio::test]
async fn rubbish_and_those_who_say_nothing_change_nothing() {
    let [one, mut other] = pair(7, 1).await;
    other.rest().await;
    other.events();
    let mut kept = Vec::new();
    for round in 0..60_u8 {
        let mut stream = intrude(7).await;
        let rubbish = match round % 4 {
            0 => Vec::new(),
            1 => vec![round; 4_096],
            2 => b"hadL\0\x01".to_vec(),
            _ => [&b"hadL\0\x01"[..], &[round; 48]].concat(),
        };
        match stream.write_all(&rubbish).await {
            Ok(()) => kept.push(stream),
            // Closed while it was still being written to.
            Err(error) => assert!(matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            )),
        }
    }
    assert!(one.link.send(&To::All, &ask(1)));
    assert_eq!(serials(&other.rest().await), [1]);
    let report = other.only_path();
    assert!(report.up && report.refused > 0, "{report:?}");
    let events = other.events();
    assert!(events.len() <= 1, "{events:?}");
    // Nobody keeps a connection that he does not use.
    for mut stream in kept {
        let mut answer = Vec::new();
        let ended = timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it is still open");
        assert!(answer.len() <= 6, "{answer:?}");
    }
}

#[tokio::test]
async fn a_stranger_does_not_even_get_a_connection() {
    let [_one, _other] = pair(8, 1).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address(8, 77), 0).into()).unwrap();
    let to = (address(8, 2), config(1).port).into();
    let connected = timeout(A_WHILE, socket.connect(to)).await;
    assert!(connected.is_err(), "{connected:?}");
}

/// Passes everything on between two nodes, and keeps what went to the second one.
async fn tap(test: u8) -> (Vec<u8>, [Side; 2]) {
    // The first node believes that the second one is here.
    let listener = TcpListener::bind((address(test, 3), config(1).port))
        .await
        .unwrap();
    let sides = [Side::new("n1"), Side::new("n2")];
    sides[0].follow(1, &[path(test, "p0", 1, 3)]);
    sides[1].follow(1, &[path(test, "p0", 2, 1)]);
    let (mut near, _) = listener.accept().await.unwrap();
    let mut far = intrude(test).await;
    let mut recorded = Vec::new();
    let pass = async {
        let mut buffer = [0; 4_096];
        let mut back = [0; 4_096];
        loop {
            tokio::select! {
                read = near.read(&mut buffer) => {
                    let length = read.unwrap();
                    recorded.extend_from_slice(&buffer[..length]);
                    far.write_all(&buffer[..length]).await.unwrap();
                }
                read = far.read(&mut back) => {
                    let length = read.unwrap();
                    near.write_all(&back[..length]).await.unwrap();
                }
            }
        }
    };
    let heard = async {
        sides[1].wait_for_paths(1).await;
        eventually("a report", || sides[1].link.peers()[0].mode.is_some()).await;
    };
    tokio::select! {
        () = pass => {}
        () = heard => {}
    }
    // The tap ends here, and with it both connections.
    (recorded, sides)
}

#[tokio::test]
async fn what_was_recorded_is_worth_nothing_later() {
    let (recorded, [one, mut other]) = tap(9).await;
    drop(one);
    other.wait_for_paths(0).await;
    other.rest().await;
    other.events();
    let before = other.only_path().refused;
    for cut in [recorded.len(), 54, 54 + 20] {
        let mut stream = intrude(9).await;
        stream.write_all(&recorded[..cut]).await.unwrap();
        // Its handshake is answered, for it is the right key's; then it has to prove that it is alive.
        let mut answer = Vec::new();
        let ended = timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok_and(|read| read.is_ok() || answer.len() <= 54));
    }
    eventually("three refusals", || other.only_path().refused == before + 3).await;
    assert!(other.rest().await.is_empty());
    let report = other.only_path();
    assert!(!report.up, "{report:?}");
    assert!(other.events().iter().all(|(to, _)| to.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_more_than_he_may_is_slowed_down() {
    let [one, mut other] = pair(10, 1).await;
    other.rest().await;
    let long = Message::Ask(Ask {
        group: "x".repeat(60 << 10),
        ..Ask::default()
    });
    let began = clock::now();
    let flood = async {
        loop {
            one.link.send(&To::All, &long);
            sleep(Duration::from_millis(1)).await;
        }
    };
    let mut taken = 0;
    let count = async {
        while other.from_peers.recv().await.is_some() {
            taken += 1;
        }
    };
    let both = async { tokio::join!(flood, count) };
    assert!(timeout(Duration::from_secs(3), both).await.is_err());
    // A second's worth at once, then a KiB each millisecond; and the one that went beyond.
    let may_kib = 1_000 + clock::now().since(began).0 / 1_000_000;
    assert!(
        (10..=may_kib / 60 + 1).contains(&taken),
        "{taken} of {may_kib} KiB"
    );
    assert!(other.only_path().up);
}

#[tokio::test]
async fn a_state_is_never_replaced_by_an_older_one() {
    let [one, mut other] = pair(11, 2).await;
    other.rest().await;
    for epoch in 1..=500 {
        let word = GroupWord {
            group: "db".to_owned(),
            epoch,
            ..GroupWord::default()
        };
        one.link.send(&To::All, &Message::Group(Box::new(word)));
    }
    let epochs: Vec<u64> = other
        .rest()
        .await
        .into_iter()
        .filter_map(|message| match message.message {
            Message::Group(word) => Some(word.epoch),
            _ => None,
        })
        .collect();
    assert_eq!(epochs.last(), Some(&500));
    assert!(epochs.is_sorted(), "{epochs:?}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_not_sent() {
    let [one, mut other] = pair(12, 1).await;
    other.rest().await;
    let long = Message::Ask(Ask {
        group: "x".repeat(70_000),
        ..Ask::default()
    });
    assert!(!one.link.send(&To::All, &long));
    let long = Message::Ask(Ask {
        serial: 1,
        group: "x".repeat(60_000),
        ..Ask::default()
    });
    assert!(one.link.send(&To::All, &long));
    assert_eq!(serials(&other.rest().await), [1]);
}

#[tokio::test]
async fn either_node_asks_a_role_of_the_other_for_a_stream() {
    let mut sides = [Side::new("n1"), Side::new("n2")];
    sides[0].follow_with(1, true, &[path(14, "p0", 1, 2)]);
    sides[1].follow_with(1, true, &[path(14, "p0", 2, 1)]);
    for side in &mut sides {
        side.wait_for_paths(1).await;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let names = ["n1", "n2"];
        let mut answers = sides[to].link.answer("web", "rules");
        let asked = sides[from].link.ask(names[to], "web", "rules").await;
        let mut asked = asked.unwrap();
        let answered = timeout(LONG, answers.recv()).await.unwrap().unwrap();
        assert_eq!(answered.node, names[from]);
        let mut answered = answered.stream;
        let piece = vec![7; PIECE];
        asked.writer.write(&piece).await.unwrap();
        asked.writer.write(&[]).await.unwrap();
        answered.writer.write(b"yes").await.unwrap();
        assert_eq!(answered.reader.read().await.unwrap(), piece);
        assert_eq!(answered.reader.read().await.unwrap(), b"");
        assert_eq!(asked.reader.read().await.unwrap(), b"yes");
        drop(answered);
        let broken = timeout(LONG, asked.reader.read()).await.unwrap();
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
    // The link itself is undisturbed, and who asks for what is not there is told nothing but an end.
    sides[0].wait_for_paths(1).await;
    let mut asked = sides[0].link.ask("n2", "web", "other").await.unwrap();
    let nothing = timeout(LONG, asked.reader.read()).await.unwrap();
    assert!(nothing.is_err(), "{nothing:?}");
    let why = sides[0].link.ask("n3", "web", "rules").await.unwrap_err();
    assert_eq!(why, "there is no link to n3");
}

#[tokio::test]
async fn who_has_another_key_gets_no_stream() {
    let (one, other) = (Side::new("n1"), Side::new("n2"));
    one.follow_with(1, true, &[path(15, "p0", 1, 2)]);
    other.follow_with(1, true, &[path(15, "p0", 2, 1)]);
    one.wait_for_paths(1).await;
    other.wait_for_paths(1).await;
    let mut answers = one.link.answer("web", "rules");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address(15, 2), 0).into()).unwrap();
    let stream = socket.connect((address(15, 1), 19_747).into()).await;
    let ask = StreamAsk {
        node: "n2".to_owned(),
        group: "web".to_owned(),
        role: "rules".to_owned(),
    };
    let key = LinkKey::new([2; 32]);
    let refused = Session::ask(stream.unwrap(), &key, ask).await;
    assert!(refused.is_err_and(|unfit| unfit.is_refusal));
    assert!(timeout(A_WHILE, answers.recv()).await.is_err());
}

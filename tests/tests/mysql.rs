//! A pair of MySQL servers with `had` on both nodes: needs MySQL, which `cargo xtask test` unpacks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Client, Kind, Lab, Node, eventually,
    lab::VIP,
    mariadb::{PORT, Session, role},
    mysql::MysqlServer,
    scenario,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const HEARTBEAT: Nanos = Nanos::from_millis(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Acknowledged writes that are enough to say that there is service.
const SOME: usize = 100;
const WRITER: (&str, &str) = ("writer", "of a lab");

/// One client that writes row after row through the address; by each row's number which server acknowledged it.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeMap<u64, u32>>>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    fn start(client: &Client) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = client.ns().spawn(move || {
            let mut id = 0;
            while !stopped.load(Ordering::SeqCst) {
                let opened = Session::open_at((VIP, PORT).into(), WRITER.0, WRITER.1, ANSWER_LIMIT);
                let Ok(mut session) = opened else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                let Ok(Ok(server)) = session.value("SELECT @@server_id").map(|id| id.parse())
                else {
                    continue;
                };
                while !stopped.load(Ordering::SeqCst) {
                    id += 1;
                    let insert = format!("INSERT INTO shop.orders VALUES ({id})");
                    if session.ask_within(ANSWER_LIMIT, &insert).is_err() {
                        break;
                    }
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.insert(id, server);
                }
            }
        })?;
        Ok(Self {
            stop,
            acknowledged,
            thread,
        })
    }

    fn acknowledged(&self) -> BTreeMap<u64, u32> {
        let noted = self.acknowledged.lock();
        noted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Some more are acknowledged, by this server.
    fn more(&self, server: &MysqlServer) -> Result<()> {
        let last = self.acknowledged().keys().next_back().copied();
        eventually(LIMIT, "writes are acknowledged", || {
            let acknowledged = self.acknowledged();
            let new = acknowledged.iter().filter(|(id, by)| {
                last.is_none_or(|last| **id > last) && **by == server.server_id()
            });
            Ok(new.count() >= SOME)
        })
    }

    fn end(self) -> Result<BTreeMap<u64, u32>> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(outcome) => outcome?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        let noted = self.acknowledged.lock();
        Ok(noted.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

struct Pair {
    nodes: [Node; 2],
    servers: [MysqlServer; 2],
    client: Client,
}

impl Pair {
    /// Set up as the documentation says, from nothing; returns it with its primary.
    fn start(lab: &Lab) -> Result<(Self, usize)> {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let servers = [
            MysqlServer::start(&nodes[0], 1)?,
            MysqlServer::start(&nodes[1], 2)?,
        ];
        role::plug(&nodes)?;
        let mut pair = Self {
            nodes,
            servers,
            client,
        };
        for index in [0, 1] {
            let (node, peer) = (&pair.nodes[index], &pair.nodes[1 - index]);
            let server = &pair.servers[index];
            let setup = role::Setup::new(HEARTBEAT);
            let router = role::router_with(
                node,
                peer,
                &server.login_keys(),
                &server.role_keys(),
                &setup,
            )?;
            pair.nodes[index].start(Kind::Had, &[router])?;
        }
        let mut primary = None;
        eventually(LIMIT, "one of the two is primary", || {
            for index in [0, 1] {
                if pair.roles(index)?["stance"] == "primary" {
                    primary = Some(index);
                }
            }
            Ok(primary.is_some())
        })?;
        let primary = primary.context("the condition above")?;
        pair.nodes[primary].hactl(&["db", "init-replication", role::ROLE])?;
        let mut session = pair.servers[primary].session()?;
        for statement in [
            "CREATE DATABASE shop".to_owned(),
            "CREATE TABLE shop.orders (id BIGINT PRIMARY KEY)".to_owned(),
            format!("CREATE USER {}@'%' IDENTIFIED BY '{}'", WRITER.0, WRITER.1),
            format!("GRANT SELECT, INSERT ON shop.* TO {}@'%'", WRITER.0),
        ] {
            session.ask(&statement)?;
        }
        pair.nodes[1 - primary].hactl(&["db", "init-replication", role::ROLE])?;
        pair.in_sync(primary)?;
        Ok((pair, primary))
    }

    fn roles(&self, index: usize) -> Result<Value> {
        let mut report = self.nodes[index].hactl(&["roles"])?;
        Ok(report["groups"][0].take())
    }

    /// Waits until the other one may take over, and both know it.
    fn in_sync(&self, primary: usize) -> Result<()> {
        let mut last = None;
        eventually(LIMIT, "the standby may be promoted", || {
            let [served, standby] = [self.roles(primary)?, self.roles(1 - primary)?];
            let ready = served["stance"] == "primary"
                && served["in_sync"] == true
                && standby["stance"] == "standby"
                && standby["not_eligible"].is_null()
                && served["peers"][0]["not_eligible"].is_null();
            last = Some((served, standby));
            Ok(ready)
        })
        .with_context(|| format!("{last:?}"))
    }

    /// Everything that was acknowledged is there; a table without a second row of a number has each once.
    fn has_all(&self, index: usize, acknowledged: &BTreeMap<u64, u32>) -> Result<()> {
        let rows = self.servers[index]
            .session()?
            .ask("SELECT id FROM shop.orders")?;
        let there: Result<Vec<u64>, _> = rows
            .into_iter()
            .flatten()
            .flatten()
            .map(|id| id.parse())
            .collect();
        let there = there?;
        let lost: Vec<u64> = acknowledged
            .keys()
            .copied()
            .filter(|id| !there.contains(id))
            .collect();
        ensure!(
            lost.is_empty(),
            "{lost:?} of {} are lost",
            acknowledged.len()
        );
        Ok(())
    }
}

#[test]
#[ignore = "needs MySQL"]
fn a_pair_hands_over_and_a_killed_server_is_taken_over_from() {
    scenario(|lab| {
        let (pair, first) = Pair::start(lab)?;
        let second = 1 - first;
        let writer = Writer::start(&pair.client)?;
        writer.more(&pair.servers[first])?;
        pair.nodes[first].hactl(&["switchover", role::GROUP])?;
        writer.more(&pair.servers[second])?;
        pair.in_sync(second)?;

        pair.servers[second].kill()?;
        writer.more(&pair.servers[first])?;
        // It follows, or has what nobody acknowledged, which MySQL keeps, and then says so.
        let mut last = None;
        eventually(
            LIMIT,
            "the one that was killed follows or is refused",
            || {
                let roles = pair.roles(second)?;
                let refused = roles
                    .to_string()
                    .contains("diverged: the primary never had");
                let follows = roles["stance"] == "standby" && roles["not_eligible"].is_null();
                last = Some(roles);
                Ok(follows || refused)
            },
        )
        .with_context(|| format!("{last:?}"))?;
        println!("the one that was killed: {}", last.unwrap_or_default());
        let acknowledged = writer.end()?;
        ensure!(
            pair.servers[second]
                .session()?
                .value("SELECT @@global.super_read_only")?
                == "1"
        );
        pair.has_all(first, &acknowledged)
    });
}

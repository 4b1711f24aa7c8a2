//! Two servers, each with what carries out its steps, and a client that writes.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_common::Nanos;
use ha_core::plan::{Context, Done, Observation, Order};
use mysql_async::{Conn, Opts, prelude::Queryable as _};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    checks::mysql::tests::mariadbd::{Mariadbd, PATIENCE, free_address},
    config::{MysqlRole, Secret, ServerProcess},
    roles::{Role as _, mysql::MysqlExecutor},
    sys::clock,
};

pub(super) const PASSWORD: &str = "it's a \\secret";

/// A server and what manages it.
pub(super) struct Node {
    pub(super) server: Mariadbd,
    pub(super) executor: MysqlExecutor,
    pub(super) role: MysqlRole,
    pub(super) address: SocketAddr,
    state: tempfile::TempDir,
}

/// As the audit wants them.
fn options(server_id: u32, address: SocketAddr) -> Vec<String> {
    let fixed = [
        "--log-bin=binlog",
        "--log-slave-updates=ON",
        "--gtid-strict-mode=ON",
        "--binlog-format=ROW",
        "--sync-binlog=1",
        "--innodb-flush-log-at-trx-commit=1",
        "--slave-net-timeout=4",
        "--skip-slave-start",
        "--read-only=1",
        "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
        "--rpl-semi-sync-master-timeout=4294967295",
        "--bind-address=127.0.0.1",
    ];
    let own = [
        format!("--server-id={server_id}"),
        format!("--port={}", address.port()),
    ];
    let fixed = fixed.iter().map(|&option| option.to_owned());
    fixed.chain(own).collect()
}

impl Node {
    pub(super) async fn start(server_id: u32) -> Self {
        Self::with(server_id, &[], |_| {}).await
    }

    pub(super) async fn with(
        server_id: u32,
        extra: &[&str],
        change: impl FnOnce(&mut MysqlRole),
    ) -> Self {
        let address = free_address();
        let mut options = options(server_id, address);
        options.extend(extra.iter().map(|&option| option.to_owned()));
        let server = Mariadbd::start(&options).await;
        let mut role = MysqlRole {
            server: server.config(),
            process: ServerProcess {
                data_dir: Some(server.dir().join("data")),
                unit: None,
                pid_file: Some(server.dir().join("pid")),
                start_command: server.command(),
            },
            replication_address: address,
            replication_user: "repl".to_owned(),
            replication_password: Some(Secret::new(PASSWORD.to_owned())),
            semi_sync: true,
            master_master: false,
            promote_limit: Nanos::from_secs(10),
            drain_limit: Nanos::from_secs(60),
            demote_limit: Nanos::from_secs(2),
            max_lag: Nanos::from_secs(30),
            sync_lease: Nanos::from_secs(3),
        };
        change(&mut role);
        let state = tempfile::tempdir().unwrap();
        Self {
            executor: MysqlExecutor::new("db", &role, state.path().to_owned()),
            server,
            role,
            address,
            state,
        }
    }

    pub(super) fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// Another daemon, which knows nothing of what this one did.
    pub(super) fn new_executor(&mut self) {
        self.executor = MysqlExecutor::new("db", &self.role, self.state.path().to_owned());
    }

    /// SIGKILL, whoever started it, and its end.
    pub(super) fn kill_server(&self) {
        let text = fs::read_to_string(self.server.dir().join("pid")).unwrap();
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        pidfd_send_signal(&fd, Signal::KILL).unwrap();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
    }

    pub(super) async fn try_run(
        &mut self,
        step: &'static str,
        epoch: u64,
        context: &Context,
    ) -> Result<Done, String> {
        let order = order(step, epoch, context, Nanos::from_secs(20));
        let run = self.executor.run(&order);
        timeout(PATIENCE, run).await.expect("the end of a step")
    }

    /// A step, and the same once more, which must come to the same.
    pub(super) async fn run(&mut self, step: &'static str, epoch: u64, context: &Context) -> Done {
        let first = self.try_run(step, epoch, context).await;
        let done =
            first.unwrap_or_else(|failure| panic!("{step}: {failure:?}\n{}", self.server.log()));
        if let Err(failure) = self.try_run(step, epoch, context).await {
            panic!("{step} again: {failure:?}");
        }
        done
    }

    /// Steps as a plan has them; in microseconds how long all took.
    pub(super) async fn plan(
        &mut self,
        steps: &[&'static str],
        epoch: u64,
        context: &Context,
    ) -> u64 {
        let began = clock::now();
        for step in steps {
            let done = self.try_run(step, epoch, context).await;
            let done = done.unwrap_or_else(|failure| panic!("{step}: {failure:?}"));
            println!(
                "{:>10} µs  {step}: {}",
                clock::now().since(began).0 / 1_000,
                done.text
            );
        }
        clock::now().since(began).0 / 1_000
    }

    pub(super) async fn value(&self, expression: &str) -> String {
        let rows = self.server.sql(&format!("SELECT {expression}")).await;
        rows.into_iter().next().unwrap_or_default()
    }

    pub(super) async fn wait_for(&self, expression: &str, value: &str) {
        let there = async {
            while self.value(expression).await != value {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(
            timeout(PATIENCE, there).await.is_ok(),
            "{expression} is never {value}, but {}\n{}",
            self.value(expression).await,
            self.server.log()
        );
    }

    /// What it applies goes wrong.
    pub(super) async fn wait_for_error(&mut self) {
        let wrong = async {
            while self.observe().await.able.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wrong).await.expect("an error");
    }

    pub(super) async fn observe(&mut self) -> Observation {
        let observation = self.executor.observe();
        timeout(PATIENCE, observation)
            .await
            .expect("an observation")
    }

    /// Its server is found to have ended: while another test's server dies it may be that one.
    pub(super) async fn ends(&mut self) {
        let ended = async {
            while self.observe().await.runs != Some(false) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the server's end");
    }

    pub(super) async fn ids(&self) -> BTreeSet<u64> {
        let ids = self.server.sql("SELECT id FROM shop.orders").await;
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    /// A role that somebody else's server has nothing of: as standbys are told of it.
    pub(super) async fn context(&self) -> Context {
        Context {
            source: Some(self.address.to_string()),
            history: Some(self.value("@@global.gtid_binlog_state").await),
            ..Context::default()
        }
    }
}

impl Drop for Node {
    /// Ends what the executor started.
    fn drop(&mut self) {
        let file = self.server.dir().join("pid");
        let Ok(text) = fs::read_to_string(file) else {
            return;
        };
        let data = fs::canonicalize(self.server.dir().join("data"));
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        if let (Some(pid), Ok(data)) = (pid, data)
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

pub(super) fn order(step: &'static str, epoch: u64, context: &Context, limit: Nanos) -> Order {
    Order {
        serial: 1,
        role: 0,
        step,
        deadline: clock::now().after(limit),
        epoch,
        context: context.clone(),
    }
}

pub(super) const PROMOTE: [&str; 7] = [
    "inspect",
    "stop-receiving",
    "drain",
    "prove",
    "detach",
    "become-primary",
    "mark",
];
pub(super) const FOLLOW: [&str; 4] = ["compare", "follow", "catch-up", "join-sync"];

pub(super) fn unplanned() -> Context {
    Context {
        source_gone: true,
        solo: true,
        ..Context::default()
    }
}

/// A new primary with a table, and the account for replicas.
pub(super) async fn primary(mut node: Node) -> Node {
    let context = unplanned();
    node.plan(&PROMOTE, 1, &context).await;
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
    for statement in [
        format!("CREATE USER repl@'%' IDENTIFIED BY '{password}'"),
        "GRANT REPLICATION SLAVE ON *.* TO repl@'%'".to_owned(),
        "CREATE DATABASE shop".to_owned(),
        "CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, client INT NOT NULL)".to_owned(),
    ] {
        node.server.sql(&statement).await;
    }
    node
}

/// A primary, and a standby in sync with it that it waits for.
pub(super) async fn pair() -> (Node, Node) {
    let (one, other) = tokio::join!(Node::start(1), Node::start(2));
    joined(primary(one).await, other).await
}

pub(super) async fn joined(mut one: Node, mut other: Node) -> (Node, Node) {
    let context = one.context().await;
    for step in FOLLOW {
        other.run(step, 1, &context).await;
    }
    one.run("restore", 1, &Context::default()).await;
    (one, other)
}

/// Writes one row after the other, and keeps those that were acknowledged.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    pub(super) acknowledged: Arc<AtomicU64>,
    task: JoinHandle<BTreeSet<u64>>,
}

impl Writer {
    pub(super) fn start(node: &Node, from: u64) -> Self {
        Self::to(node.server.opts(), from)
    }

    pub(super) fn to(opts: Opts, from: u64) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let stopped = Arc::clone(&stop);
        let count = Arc::clone(&acknowledged);
        let task = tokio::spawn(async move {
            let mut written = BTreeSet::new();
            let mut conn = Conn::new(opts).await.unwrap();
            for id in from.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let insert = format!("INSERT INTO shop.orders VALUES ({id}, 1)");
                if conn.query_drop(insert).await.is_err() {
                    break;
                }
                written.insert(id);
                count.fetch_add(1, Ordering::SeqCst);
            }
            written
        });
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    /// So many more are acknowledged.
    pub(super) async fn more(&self, count: u64) {
        let until = self.acknowledged.load(Ordering::SeqCst) + count;
        let written = async {
            while self.acknowledged.load(Ordering::SeqCst) < until {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, written)
            .await
            .expect("acknowledged writes");
    }

    /// What was acknowledged, after its server has ended or let go of it.
    pub(super) async fn end(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::SeqCst);
        timeout(PATIENCE, self.task).await.expect("an end").unwrap()
    }
}

/// Keeps a replica from applying, until it is told to go on.
pub(super) struct Held(Conn);

impl Held {
    pub(super) async fn hold(node: &Node) -> Self {
        let mut conn = Conn::new(node.server.opts()).await.unwrap();
        conn.query_drop("FLUSH TABLES WITH READ LOCK")
            .await
            .unwrap();
        Self(conn)
    }

    pub(super) async fn release(self) {
        self.0.disconnect().await.unwrap();
    }
}

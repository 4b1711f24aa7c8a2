//! Every step against a real node, of a cluster of one or two.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ha_common::{MonoNs, Nanos};
use ha_core::{
    data::galera::{RECOMMENDED, Told},
    plan::{Context, Done, Observation, Order},
};
use mysql_async::{Conn, prelude::Queryable as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::{GaleraExecutor, Wish, bootstrap, findings};
use crate::{
    checks::mysql::tests::mariadbd::{Mariadbd, PATIENCE, free_address},
    config::{Bootstrap, GaleraRole, ServerProcess},
    roles::{Neighbours, Role as _},
    sys::clock,
};

const DOWN: &str = "the server does not run";

/// A server of a cluster; the data of who joins does not matter here.
fn options(own: SocketAddr, cluster: &str, times: &str) -> Vec<String> {
    let fixed = [
        "--wsrep-on=ON",
        "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
        "--wsrep-cluster-name=unit",
        "--wsrep-node-address=127.0.0.1",
        "--wsrep-sst-method=skip",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        "--bind-address=127.0.0.1",
        "--read-only=1",
    ];
    let own = [
        format!("--wsrep-cluster-address={cluster}"),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{own};ist.recv_addr={};gcache.size=8M;{times}",
            free_address()
        ),
        format!("--port={}", free_address().port()),
    ];
    let fixed = fixed.iter().map(|&option| option.to_owned());
    fixed.chain(own).collect()
}

struct Node {
    server: Mariadbd,
    /// Where its cluster is.
    own: SocketAddr,
    role: GaleraRole,
    neighbours: Arc<Neighbours>,
    executor: GaleraExecutor,
}

impl Node {
    async fn start(bootstrap: Bootstrap) -> Self {
        Self::with(bootstrap, RECOMMENDED).await
    }

    async fn with(bootstrap: Bootstrap, times: &str) -> Self {
        let own = free_address();
        // Whoever starts it, it is a cluster by itself.
        let server = Mariadbd::start(&options(own, "gcomm://", times)).await;
        let role = GaleraRole {
            server: server.config(),
            process: ServerProcess {
                data_dir: Some(server.dir().join("data")),
                unit: None,
                pid_file: Some(server.dir().join("pid")),
                start_command: server.command(),
            },
            bootstrap,
            donor: false,
            promote_limit: Nanos::from_secs(10),
            drain_limit: Nanos::from_secs(30),
            demote_limit: Nanos::from_secs(1),
        };
        let neighbours = Arc::default();
        let node = Self {
            executor: GaleraExecutor::new("db", &role, Arc::clone(&neighbours), Vec::new()),
            server,
            own,
            role,
            neighbours,
        };
        node.wait_for("WSREP_LOCAL_STATE_COMMENT", "Synced").await;
        node
    }

    /// It may go on alone for long, however busy this machine is.
    async fn patient() -> Self {
        let mut node = Self::start(Bootstrap::Alone).await;
        node.role.demote_limit = Nanos::from_secs(120);
        node.executor =
            GaleraExecutor::new("db", &node.role, Arc::clone(&node.neighbours), Vec::new());
        node
    }

    async fn status(&self, name: &str) -> String {
        let statement = format!(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = '{name}'"
        );
        self.server.sql(&statement).await.remove(0)
    }

    async fn wait_for(&self, name: &str, value: &str) {
        let there = async {
            while self.status(name).await != value {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, there).await.expect("a status");
    }

    async fn read_only(&self) -> String {
        let rows = self.server.sql("SELECT @@global.read_only").await;
        rows[0].clone()
    }

    async fn try_run(&mut self, step: &'static str, limit: Duration) -> Result<Done, String> {
        let order = Order {
            serial: 1,
            role: 0,
            step,
            deadline: clock::now().after(Nanos(u64::try_from(limit.as_nanos()).unwrap())),
            epoch: 7,
            context: Context::default(),
        };
        let run = timeout(limit, self.executor.run(&order));
        run.await.unwrap_or_else(|_| Err("given up".to_owned()))
    }

    /// A step, and the same once more, which must come to the same.
    async fn run(&mut self, step: &'static str) -> String {
        let done = self.try_run(step, PATIENCE).await;
        let again = self.try_run(step, PATIENCE).await;
        again.unwrap_or_else(|why| panic!("{step} again: {why}"));
        done.unwrap_or_else(|why| panic!("{step}: {why}")).text
    }

    async fn observe(&mut self) -> Observation {
        let observation = self.executor.observe();
        timeout(PATIENCE, observation).await.expect("a look")
    }

    /// Another node joins, and dies: half of a cluster is not most of it.
    async fn lose_cluster(&mut self) {
        let cluster = format!("gcomm://{}", self.own);
        let mut other = Mariadbd::start(&options(free_address(), &cluster, RECOMMENDED)).await;
        self.wait_for("WSREP_CLUSTER_SIZE", "2").await;
        self.wait_for("WSREP_LOCAL_STATE_COMMENT", "Synced").await;
        self.observe().await;
        other.kill();
        let lost = async {
            while self.status("WSREP_CLUSTER_STATUS").await != "non-Primary" {
                self.observe().await;
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, lost).await.expect("a lost cluster");
    }
}

impl Drop for Node {
    /// Ends what the executor started.
    fn drop(&mut self) {
        let file = self.server.dir().join("pid");
        let data = std::fs::canonicalize(self.server.dir().join("data"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let (Some(pid), Ok(data)) = (text.trim().parse().ok().and_then(Pid::from_raw), data)
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_promoted_and_demoted() {
    let mut node = Node::start(Bootstrap::Never).await;
    let found = node.observe().await;
    assert_eq!((found.promoted, found.able), (Some(false), Ok(())));
    assert!(found.position.is_some());
    for step in ["inspect", "bootstrap", "drain", "allow-writes"] {
        node.run(step).await;
    }
    assert_eq!(node.read_only().await, "0");
    assert_eq!(node.observe().await.promoted, Some(true));
    let epochs = node.server.sql("SELECT epoch FROM had.epoch").await;
    assert_eq!(epochs, ["7"]);

    let app = Conn::new(node.server.opts()).await.unwrap();
    let id = app.id();
    for step in ["forbid-writes", "end-sessions"] {
        node.run(step).await;
    }
    let there = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {id}");
    assert!(node.server.sql(&there).await.is_empty());
    assert_eq!(node.read_only().await, "1");
    assert_eq!(node.observe().await.promoted, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_let_go_is_killed_and_goes_on_where_it_ended() {
    let mut node = Node::start(Bootstrap::Never).await;
    for step in ["bootstrap", "allow-writes"] {
        node.run(step).await;
    }
    node.server.sql("CREATE DATABASE shop").await;
    node.server
        .sql("CREATE TABLE shop.t (id INT PRIMARY KEY)")
        .await;
    node.server.sql("INSERT INTO shop.t VALUES (1)").await;
    let (uuid, committed) = (
        node.status("WSREP_CLUSTER_STATE_UUID").await,
        node.status("WSREP_LAST_COMMITTED").await,
    );
    let mut holder = Conn::new(node.server.opts()).await.unwrap();
    let hold = holder.query_drop("LOCK TABLES shop.t WRITE");
    hold.await.unwrap();
    let held = node.try_run("forbid-writes", Duration::from_millis(400));
    assert_eq!(held.await.unwrap_err(), "given up");
    node.run("kill-server").await;
    let gone = node.observe().await;
    assert_eq!(gone.promoted, Some(false));
    assert_eq!(gone.history, Some(Told::Ended(None).to_string()));
    assert!(gone.able.unwrap_err().contains(DOWN));
    for step in ["forbid-writes", "end-sessions"] {
        assert_eq!(node.run(step).await, DOWN, "{step}");
    }
    node.run("start-server").await;
    assert_eq!(node.read_only().await, "1");
    node.wait_for("WSREP_LOCAL_STATE_COMMENT", "Synced").await;
    assert_eq!(node.server.sql("SELECT id FROM shop.t").await, ["1"]);
    assert_eq!(node.status("WSREP_CLUSTER_STATE_UUID").await, uuid);
    let number = |text: String| text.parse::<u64>().unwrap();
    let now = number(node.status("WSREP_LAST_COMMITTED").await);
    assert!(now >= number(committed), "it began anew: {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_its_cluster_goes_on_only_where_that_is_allowed_and_nobody_is_there() {
    let mut never = Node::start(Bootstrap::Never).await;
    never.lose_cluster().await;
    let why = never.observe().await.able.unwrap_err();
    assert!(
        why.contains("non-Primary") && why.contains("never"),
        "{why}"
    );
    let refused = never.try_run("bootstrap", PATIENCE).await.unwrap_err();
    assert!(refused.contains("never"), "{refused}");
    // It ends no sessions, which can do nothing.
    for step in ["forbid-writes", "end-sessions"] {
        never.run(step).await;
    }

    let mut alone = Node::start(Bootstrap::Alone).await;
    alone.observe().await;
    alone
        .neighbours
        .hear("n2", Some("runs"), MonoNs(u64::MAX / 2));
    alone.lose_cluster().await;
    let refused = alone.try_run("bootstrap", PATIENCE).await.unwrap_err();
    // On a busy machine it may be too late by then.
    let late = "may have gone on since";
    assert!(
        refused.contains("n2 is there") || refused.contains(late),
        "{refused}"
    );
    // Whoever is silent may be there.
    let mut silent = Node::patient().await;
    silent.lose_cluster().await;
    let refused = silent.try_run("bootstrap", PATIENCE).await.unwrap_err();
    assert!(refused.contains("nobody arbitrates"), "{refused}");
    // Too late by now, whoever is gone.
    alone.neighbours.hear("n2", Some("ended"), clock::now());
    sleep(Duration::from_millis(6_500)).await;
    let why = alone.try_run("inspect", PATIENCE).await.unwrap_err();
    assert!(why.contains(late), "{why}");
    // A daemon that has just been started knows nothing of it.
    alone.executor =
        GaleraExecutor::new("db", &alone.role, Arc::clone(&alone.neighbours), Vec::new());
    let why = alone.observe().await.able.unwrap_err();
    assert!(why.contains("was not seen"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_a_server_answers_late_counts_from_when_it_began() {
    let mut node = Node::start(Bootstrap::Alone).await;
    let before = clock::now();
    assert!(node.observe().await.began_at >= before);
    node.server.freeze().await;
    let found = node.observe().await;
    assert!(found.able.is_err() && found.position.is_none(), "{found:?}");
    let later = clock::now();
    node.server.signal(Signal::CONT);
    let answered = async {
        loop {
            let found = node.observe().await;
            if found.position.is_some() {
                break found;
            }
        }
    };
    let found = timeout(PATIENCE, answered).await.expect("an answer");
    assert!(before < found.began_at && found.began_at < later);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_alone() {
    let mut node = Node::patient().await;
    node.lose_cluster().await;
    assert_eq!(node.observe().await.able, Ok(()));
    // It says so ten times a second.
    let told = MonoNs(u64::MAX / 2);
    node.neighbours.hear("n2", Some("ended"), told);
    for step in ["inspect", "bootstrap", "drain", "allow-writes"] {
        node.try_run(step, PATIENCE)
            .await
            .unwrap_or_else(|why| panic!("{step}: {why}"));
    }
    assert_eq!(node.status("WSREP_CLUSTER_STATUS").await, "Primary");
    assert_eq!(node.observe().await.promoted, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_begun_anew_where_nothing_is_lost_by_that() {
    let mut node = Node::start(Bootstrap::Never).await;
    for step in ["bootstrap", "allow-writes"] {
        node.run(step).await;
    }
    node.server.sql("CREATE DATABASE shop").await;
    let wish = |accept_loss| Wish {
        dry_run: false,
        accept_loss,
    };
    // It commits.
    let report = bootstrap(&node.role, &node.neighbours, 0, wish(true)).await;
    let why = report.unwrap().obstacles.join("");
    assert!(why.contains("in a cluster that is there"), "{why}");
    let committed = node.status("WSREP_LAST_COMMITTED").await;
    let history = node.status("WSREP_CLUSTER_STATE_UUID").await;
    node.run("kill-server").await;
    // Nobody knows what the other node has.
    let refused = bootstrap(&node.role, &node.neighbours, 1, wish(false)).await;
    let refused = refused.unwrap();
    assert_eq!(refused.position, format!("{history}:{committed}"));
    assert_eq!((refused.obstacles.len(), refused.done), (1, Vec::new()));
    // The other one is told.
    let told = node.observe().await.history.unwrap();
    assert_eq!(told, format!("ended {history}:{committed}"));
    let later = MonoNs(u64::MAX / 2);
    let ahead = format!("ended {history}:{}0", committed);
    node.neighbours.hear("n2", Some(&ahead), later);
    let refused = bootstrap(&node.role, &node.neighbours, 1, wish(false)).await;
    let why = refused.unwrap().obstacles.join("");
    assert!(why.contains("n2 is ahead"), "{why}");
    // Whatever is accepted.
    node.neighbours.hear("n2", Some("runs"), later);
    let refused = bootstrap(&node.role, &node.neighbours, 1, wish(true)).await;
    let why = refused.unwrap().obstacles.join("");
    assert!(why.contains("the server of n2 runs"), "{why}");
    node.neighbours.hear("n2", Some(&told), later);
    let report = bootstrap(&node.role, &node.neighbours, 1, wish(false)).await;
    let report = report.unwrap();
    assert_eq!(report.obstacles, Vec::<String>::new());
    assert!(!report.done.is_empty(), "{report:?}");
    node.wait_for("WSREP_CLUSTER_STATUS", "Primary").await;
    assert_eq!(node.status("WSREP_CLUSTER_STATE_UUID").await, history);
    assert_eq!(node.read_only().await, "1");
    let shop = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'";
    assert_eq!(node.server.sql(shop).await, ["shop"]);
    assert_eq!(node.observe().await.promoted, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_documented_privileges_can_do_everything() {
    let mut node = Node::start(Bootstrap::Alone).await;
    for statement in [
        "CREATE USER had@localhost IDENTIFIED BY 'unit'",
        "GRANT READ ONLY ADMIN, CONNECTION ADMIN, PROCESS, SUPER ON *.* TO had@localhost",
        "GRANT ALL ON had.* TO had@localhost",
    ] {
        node.server.sql(statement).await;
    }
    node.role.server = node.server.config_of("had", "unit");
    node.executor = GaleraExecutor::new("db", &node.role, Arc::clone(&node.neighbours), Vec::new());
    findings(&node.role).await.unwrap();
    for step in ["inspect", "bootstrap", "drain", "allow-writes"] {
        node.run(step).await;
    }
    let app = Conn::new(node.server.opts()).await.unwrap();
    let id = app.id();
    for step in ["forbid-writes", "end-sessions"] {
        node.run(step).await;
    }
    let there = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {id}");
    assert!(node.server.sql(&there).await.is_empty());
    node.lose_cluster().await;
    node.neighbours
        .hear("n2", Some("ended"), MonoNs(u64::MAX / 2));
    for step in ["inspect", "bootstrap", "drain", "allow-writes"] {
        node.try_run(step, PATIENCE)
            .await
            .unwrap_or_else(|why| panic!("{step}: {why}"));
    }
    assert_eq!(node.status("WSREP_CLUSTER_STATUS").await, "Primary");
    assert_eq!(node.read_only().await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_audited() {
    let node = Node::with(Bootstrap::Alone, "").await;
    let found = findings(&node.role).await.unwrap().join("\n");
    // The defaults.
    assert!(found.contains("evs.suspect_timeout is PT5S"), "{found}");
    assert!(found.contains("nobody is served"), "{found}");
    assert!(!found.contains("binlog_format"), "{found}");
}

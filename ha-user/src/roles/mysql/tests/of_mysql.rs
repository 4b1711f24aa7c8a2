//! The other family, against real servers: MySQL, unpacked below `$HAD_TEST_MYSQL` with all the libraries that it needs.
//! `cargo xtask test` gets it from Debian and runs these.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ha_common::Nanos;
use ha_core::plan::{Context, Follows, Observation};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::time::{sleep, timeout};

use super::pair::{FOLLOW, PASSWORD, PROMOTE, Writer, order, unplanned};
use crate::{
    checks::mysql::{
        session::opts,
        tests::mariadbd::{PATIENCE, free_address},
    },
    config::{MysqlPlace, MysqlRole, MysqlServer, Secret, ServerProcess},
    roles::{
        Role as _,
        mysql::{MysqlExecutor, init_replication},
    },
};

struct Node {
    server: Child,
    role: MysqlRole,
    executor: MysqlExecutor,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

fn root() -> PathBuf {
    PathBuf::from(env::var("HAD_TEST_MYSQL").expect("HAD_TEST_MYSQL: where MySQL is unpacked"))
}

/// It runs with its own C library.
fn program(root: &std::path::Path) -> Vec<String> {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let text = |path: PathBuf| path.display().to_string();
    vec![
        text(libraries.join("ld-linux-x86-64.so.2")),
        "--library-path".to_owned(),
        text(libraries),
        text(root.join("usr/sbin/mysqld")),
        "--no-defaults".to_owned(),
        "--user=root".to_owned(),
        format!("--basedir={}", root.join("usr").display()),
        format!(
            "--lc-messages-dir={}",
            root.join("usr/share/mysql").display()
        ),
    ]
}

fn run(command: &[String], dir: &std::path::Path) -> Child {
    let log = fs::File::options()
        .append(true)
        .create(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("setpriv and mysqld")
}

impl Node {
    async fn start(server_id: u32) -> Self {
        let (root, address) = (root(), free_address());
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let mut command = program(&root);
        command.push("--secure-file-priv=".to_owned());
        command.push(format!("--datadir={}", file("data").display()));
        let mut initialize = command.clone();
        initialize.push("--initialize-insecure".to_owned());
        assert!(run(&initialize, dir.path()).wait().unwrap().success());
        let fixed = [
            "--log-bin=binlog",
            "--relay-log=relay",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--log-replica-updates=ON",
            "--sync-binlog=1",
            "--skip-replica-start=ON",
            "--super-read-only=ON",
            "--replica-net-timeout=4",
            "--mysqlx=OFF",
            "--bind-address=127.0.0.1",
            "--relay-log-recovery=ON",
            "--plugin-load-add=semisync_source.so;semisync_replica.so",
            "--loose-rpl-semi-sync-source-timeout=4294967295",
            "--innodb-buffer-pool-size=32M",
        ];
        command.extend(fixed.map(str::to_owned));
        command.extend([
            format!(
                "--plugin-dir={}",
                root.join("usr/lib/mysql/plugin").display()
            ),
            format!("--server-id={server_id}"),
            format!("--port={}", address.port()),
            format!("--socket={}", file("socket").display()),
            format!("--pid-file={}", file("pid").display()),
        ]);
        let role = MysqlRole {
            server: MysqlServer {
                place: MysqlPlace::Socket(file("socket")),
                user: "root".to_owned(),
                password: None,
                database: None,
                tls: None,
                keep_open: true,
            },
            process: ServerProcess {
                data_dir: Some(file("data")),
                unit: None,
                pid_file: Some(file("pid")),
                start_command: command.clone(),
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
        let mut node = Self {
            server: run(&command, dir.path()),
            executor: MysqlExecutor::new("db", &role, dir.path().join("state")),
            role,
            address,
            dir,
        };
        let ready = async {
            while node.observe().await.position.is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = timeout(PATIENCE, ready).await;
        assert!(
            ready.is_ok(),
            "{:?}\n{}",
            node.observe().await,
            fs::read_to_string(node.dir.path().join("log")).unwrap()
        );
        node
    }

    async fn observe(&mut self) -> Observation {
        timeout(PATIENCE, self.executor.observe()).await.unwrap()
    }

    async fn plan(&mut self, steps: &[&'static str], epoch: u64, context: &Context) {
        for step in steps {
            for again in [false, true] {
                let order = order(step, epoch, context, Nanos::from_secs(20));
                let done = timeout(PATIENCE, self.executor.run(&order)).await.unwrap();
                let done = done.unwrap_or_else(|why| panic!("{step} (again: {again}): {why}"));
                println!("{step}: {}", done.text);
            }
        }
    }

    async fn sql(&self, statement: &str) -> Vec<String> {
        let mut conn = Conn::new(opts(&self.role.server)).await.unwrap();
        let rows = conn.query(statement).await.unwrap();
        conn.disconnect().await.unwrap();
        rows
    }

    async fn ids(&self) -> std::collections::BTreeSet<u64> {
        let ids = self.sql("SELECT CAST(id AS CHAR) FROM shop.orders").await;
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    async fn context(&mut self) -> Context {
        Context {
            source: Some(self.address.to_string()),
            history: self.observe().await.history,
            ..Context::default()
        }
    }

    fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // What the executor started.
        let pid = fs::read_to_string(self.dir.path().join("pid")).ok();
        let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?));
        let data = fs::canonicalize(self.dir.path().join("data"));
        if let (Some(pid), Ok(data)) = (pid, data)
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MySQL"]
async fn a_pair_of_mysql_changes_over_and_back() {
    let (mut one, mut other) = tokio::join!(Node::start(1), Node::start(2));
    assert_eq!(one.observe().await.able, Ok(()));
    one.plan(&PROMOTE, 1, &unplanned()).await;
    let mut wordy = one.role.clone();
    wordy.replication_password = Some(Secret::new("x".repeat(33)));
    let why = init_replication(&wordy).await.unwrap_err();
    assert!(why.contains("more than 32 characters"), "{why}");
    init_replication(&one.role).await.unwrap();
    one.sql("CREATE DATABASE shop").await;
    one.sql("CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, client INT NOT NULL)")
        .await;
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    one.plan(&["restore"], 1, &Context::default()).await;
    let follows = other.observe().await.follows;
    assert!(
        matches!(&follows, Follows::Source { source, receives: true, acknowledges: true, .. } if *source == one.address.to_string()),
        "{follows:?}"
    );

    // By hand.
    let writer = Writer::to(opts(&one.role.server), 1);
    writer.more(100).await;
    let context = Context::default();
    one.plan(&["forbid-writes", "end-sessions"], 1, &context)
        .await;
    let settle = order("settle", 1, &context, Nanos::from_secs(5));
    let end = one.executor.run(&settle).await.unwrap();
    let acknowledged = writer.end().await;
    let context = Context {
        target: end.position.map(|position| position.text),
        solo: true,
        ..Context::default()
    };
    other.plan(&PROMOTE, 2, &context).await;
    assert!(other.ids().await.is_superset(&acknowledged));
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other
        .plan(&["restore", "degrade", "restore"], 2, &Context::default())
        .await;

    // By a crash, with a replica that lags.
    let mut held = Conn::new(opts(&one.role.server)).await.unwrap();
    held.query_drop("FLUSH TABLES WITH READ LOCK")
        .await
        .unwrap();
    let writer = Writer::to(opts(&other.role.server), 1_000_000);
    writer.more(100).await;
    other.kill();
    let acknowledged = writer.end().await;
    let release = async {
        sleep(Duration::from_millis(300)).await;
        held.disconnect().await.unwrap();
    };
    let context = unplanned();
    tokio::join!(one.plan(&PROMOTE, 3, &context), release);
    assert!(one.ids().await.is_superset(&acknowledged));
    assert_eq!(other.observe().await.promoted, Some(false));

    // The one that was killed is no part of the other one, if it has what nobody acknowledged.
    let context = one.context().await;
    let compare = order("compare", 3, &context, Nanos::from_secs(20));
    let compared = timeout(PATIENCE, other.executor.run(&compare))
        .await
        .unwrap();
    let errant = {
        let theirs = one.observe().await.history.unwrap();
        let own = other.observe().await.history.unwrap();
        let extra = format!("SELECT GTID_SUBTRACT('{own}', '{theirs}')");
        one.sql(&extra).await.remove(0)
    };
    println!("errant: {errant}; {compared:?}");
    assert_eq!(compared.is_ok(), errant.is_empty());
}

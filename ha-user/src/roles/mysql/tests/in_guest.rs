//! Debian's own unit of a server under the real systemd: `cargo xtask vm-test -- in_guest`.

use std::{fs, path::Path, process::Command, time::Duration};

use ha_common::Nanos;
use ha_core::plan::{Context, Done, Observation};
use mysql_async::{Conn, prelude::Queryable as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::pair::{PROMOTE, order, unplanned};
use crate::{
    checks::mysql::session::opts,
    config::{MysqlPlace, MysqlRole, MysqlServer, Secret, ServerProcess},
    roles::{Role as _, mysql::MysqlExecutor},
};

const UNIT: &str = "mariadb.service";
const SOCKET: &str = "/run/mysqld/mysqld.sock";
/// The processor is an emulated one.
const PATIENCE: Duration = Duration::from_secs(180);

/// A server as its package sets it up, with what docs/databases.md asks for.
const SETTINGS: &str = "\
[mariadbd]
datadir = /run/had-mariadb/data
innodb_log_file_size = 4M
innodb_buffer_pool_size = 16M
server_id = 1
log_bin = binlog
log_slave_updates = ON
binlog_format = ROW
gtid_strict_mode = ON
sync_binlog = 1
innodb_flush_log_at_trx_commit = 1
read_only = ON
skip_slave_start
init_rpl_role = SLAVE
slave_net_timeout = 4
rpl_semi_sync_master_wait_point = AFTER_SYNC
rpl_semi_sync_master_timeout = 4294967295
rpl_semi_sync_slave_enabled = ON
relay_log = relay-bin
";

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

/// The unit, and what manages it.
struct Packaged {
    executor: MysqlExecutor,
    server: MysqlServer,
    _state: tempfile::TempDir,
}

impl Packaged {
    /// Writes where a package does.
    fn start() -> Self {
        assert!(Path::new("/run/guest").exists(), "this is no guest");
        let data = Path::new("/run/had-mariadb");
        for directory in [data, Path::new("/run/mysqld")] {
            fs::create_dir_all(directory).unwrap();
            run("chown", &["mysql:", directory.to_str().unwrap()]);
        }
        fs::write("/etc/mysql/mariadb.conf.d/99-had.cnf", SETTINGS).unwrap();
        let options = [
            "--user=mysql",
            "--skip-test-db",
            "--innodb-log-file-size=4M",
        ];
        run("mariadb-install-db", &options);
        for directory in ["/usr/lib", "/lib"] {
            let unit = Path::new(directory).join("systemd/system").join(UNIT);
            if unit.exists() {
                fs::copy(unit, Path::new("/run/guest/packaged").join(UNIT)).unwrap();
            }
        }
        run("systemctl", &["daemon-reload"]);
        run("systemctl", &["start", UNIT]);
        let server = MysqlServer {
            place: MysqlPlace::Socket(SOCKET.into()),
            user: "root".to_owned(),
            password: None,
            database: None,
            tls: None,
            keep_open: true,
        };
        let role = MysqlRole {
            server: server.clone(),
            process: ServerProcess {
                unit: Some(UNIT.to_owned()),
                data_dir: None,
                pid_file: None,
                start_command: Vec::new(),
            },
            replication_address: "127.0.0.1:3306".parse().unwrap(),
            replication_user: "repl".to_owned(),
            replication_password: Some(Secret::new("unused".to_owned())),
            semi_sync: true,
            master_master: false,
            promote_limit: Nanos::from_secs(60),
            drain_limit: Nanos::from_secs(60),
            demote_limit: Nanos::from_secs(10),
            max_lag: Nanos::from_secs(30),
            sync_lease: Nanos::from_secs(3),
        };
        let state = tempfile::tempdir().unwrap();
        Self {
            executor: MysqlExecutor::new("db", &role, state.path().to_owned()),
            server,
            _state: state,
        }
    }

    async fn step(&mut self, step: &'static str, context: &Context) -> Done {
        let order = order(step, 1, context, Nanos::from_secs(60));
        let done = timeout(PATIENCE, self.executor.run(&order)).await;
        done.expect("the end of a step")
            .unwrap_or_else(|failure| panic!("{step}: {failure:?}"))
    }

    async fn observe(&mut self) -> Observation {
        let seen = timeout(PATIENCE, self.executor.observe()).await;
        seen.expect("an observation")
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Observation) -> bool) {
        let seen = async {
            loop {
                let seen = self.observe().await;
                if holds(&seen) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect(what);
    }

    async fn value(&self, expression: &str) -> String {
        let mut conn = Conn::new(opts(&self.server)).await.unwrap();
        let query = format!("SELECT {expression}");
        let value = conn.query_first(query).await.unwrap().unwrap();
        conn.disconnect().await.unwrap();
        value
    }
}

impl Drop for Packaged {
    fn drop(&mut self) {
        for arguments in [
            ["kill", "--signal=KILL", UNIT],
            ["stop", "--no-block", UNIT],
        ] {
            let _ = Command::new("systemctl").args(arguments).output();
        }
    }
}

fn main_process() -> Option<Pid> {
    let show = ["show", "--value", "--property=MainPID", UNIT];
    let output = Command::new("systemctl").args(show).output().unwrap();
    let pid = String::from_utf8(output.stdout).unwrap();
    pid.trim().parse().ok().and_then(Pid::from_raw)
}

fn command_line(process: Pid) -> String {
    let words = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
    words.replace('\0', " ")
}

/// Debian's unit says `SendSIGKILL=no`, `TimeoutStopSec=900` and `Restart=on-abnormal`, `RestartSec=5s`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs systemd"]
async fn a_packaged_server_that_hangs_is_killed_and_comes_back_as_a_replica() {
    let mut node = Packaged::start();
    assert_eq!(node.observe().await.promoted, Some(false));
    for step in PROMOTE {
        node.step(step, &unplanned()).await;
    }
    assert_eq!(node.value("@@global.read_only").await, "0");

    // It hangs, and what its unit says about its end would take a quarter of an hour.
    let hung = main_process().unwrap();
    kill_process(hung, Signal::STOP).unwrap();
    node.step("kill-server", &Context::default()).await;
    node.until("an end that was seen", |seen| seen.runs == Some(false))
        .await;
    assert!(!Path::new(&format!("/proc/{hung}")).exists());
    node.step("start-as-replica", &Context::default()).await;
    let started = main_process().unwrap();
    assert!(command_line(started).contains("--loose-init-rpl-role=SLAVE"));
    assert_eq!(node.value("@@global.read_only").await, "1");
    node.until("a server that is no primary", |seen| {
        seen.runs == Some(true) && seen.promoted == Some(false)
    })
    .await;

    // systemd starts again what crashed, in five seconds: until then it does not run, and has not ended for good.
    kill_process(started, Signal::KILL).unwrap();
    node.until("a server that will return", |seen| {
        let is_down = seen.runs == Some(false);
        assert!(!is_down || seen.promoted.is_none(), "{seen:?}");
        // Unless this machine took longer than that.
        is_down || main_process().is_some_and(|process| process != started)
    })
    .await;
    node.step("start-as-replica", &Context::default()).await;
    assert_ne!(main_process(), Some(started));
    assert_eq!(node.value("@@global.read_only").await, "1");
}

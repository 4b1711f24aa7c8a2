//! A MariaDB server of one test, in a directory of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use mysql_async::{Opts, prelude::Queryable as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use crate::{
    checks::{
        mysql::{
            MysqlProbe,
            session::{Session, opts},
        },
        probe::Probe as _,
    },
    config::{Mysql, MysqlPlace, MysqlServer, Secret},
};

/// A new server's data, as long as a test needs it.
static INSTALLED: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());

fn installed() -> Arc<tempfile::TempDir> {
    let mut installed = INSTALLED.lock().unwrap();
    if let Some(dir) = installed.upgrade() {
        return dir;
    }
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let output = Command::new("mariadb-install-db")
        .arg("--no-defaults")
        .arg(format!("--datadir={}", dir.path().join("data").display()))
        .args(["--user=root", "--skip-test-db"])
        .arg("--auth-root-authentication-method=socket")
        .arg(LOG_SIZE)
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("mariadb-install-db: install mariadb-server");
    assert!(output.status.success(), "{output:?}");
    *installed = Arc::downgrade(&dir);
    dir
}

/// Whoever starts it.
const LOG: &str = "log";
const LOG_SIZE: &str = "--innodb-log-file-size=4M";

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with it, as does its directory.
pub(crate) struct Mariadbd {
    server: Child,
    data: Data,
}

/// What a server needs to run.
pub(crate) struct Data {
    dir: tempfile::TempDir,
    options: Vec<String>,
    /// The next test may need it.
    installed: Arc<tempfile::TempDir>,
}

impl Data {
    fn copy_of(from: &Path, installed: &Arc<tempfile::TempDir>, options: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .args(["--archive", "--sparse=always"])
            .arg(from.join("data"))
            .arg(dir.path())
            .status();
        assert!(copied.expect("cp").success());
        Self {
            dir,
            options,
            installed: Arc::clone(installed),
        }
    }

    pub(crate) async fn start(self) -> Mariadbd {
        let server = Mariadbd {
            server: self.run(),
            data: self,
        };
        server.wait_until_ready().await;
        server
    }

    fn arguments(&self) -> Vec<String> {
        let dir = self.dir.path();
        let path = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            path("datadir", "data"),
            path("socket", "socket"),
            path("pid-file", "pid"),
            path("log-error", LOG),
            "--innodb-buffer-pool-size=16M".to_owned(),
            "--performance-schema=OFF".to_owned(),
            LOG_SIZE.to_owned(),
        ];
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// It dies together with the thread that began it.
    fn run(&self) -> Child {
        let dir = self.dir.path();
        let log = fs::File::create(dir.join(LOG)).unwrap();
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "mariadbd"])
            .args(self.arguments())
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv and mariadbd")
    }
}

impl Mariadbd {
    /// A running server with its own options, that lets root in by the socket.
    pub(crate) async fn start(options: &[String]) -> Self {
        let installed = installed();
        Data::copy_of(installed.path(), &installed, options.to_vec())
            .start()
            .await
    }

    /// What a server would begin with that has this one's data; this one has been stopped.
    pub(crate) fn copied(&self, options: Vec<String>) -> Data {
        Data::copy_of(self.data.dir.path(), &self.data.installed, options)
    }

    /// Runs it once more, after [`Self::kill`] or [`Self::stop`].
    pub(crate) async fn restart(&mut self) {
        self.server = self.data.run();
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&self) {
        let ready = async {
            while Session::open(&self.opts()).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            panic!("mariadbd does not answer:\n{}", self.log());
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.dir.path().join(LOG)).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data.dir.path().join("socket")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.server);
        kill_process(pid, signal).unwrap();
    }

    /// Each of its threads stands when this returns.
    pub(crate) async fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.server.id());
        let stands = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status"));
            status.is_ok_and(|status| status.contains("State:\tT"))
        };
        let frozen = async {
            while !fs::read_dir(&tasks).unwrap().flatten().all(stands) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, frozen)
            .await
            .expect("a server that stands");
    }

    /// SIGKILL, as a crash is.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// As an operator ends it.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let ended = async {
            while self.server.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the end of mariadbd");
    }

    /// As root, by the socket.
    pub(crate) fn config(&self) -> MysqlServer {
        MysqlServer {
            place: MysqlPlace::Socket(self.socket()),
            user: "root".to_owned(),
            password: None,
            database: None,
            tls: None,
            keep_open: true,
        }
    }

    pub(crate) fn config_of(&self, user: &str, password: &str) -> MysqlServer {
        MysqlServer {
            user: user.to_owned(),
            password: Some(Secret::new(password.to_owned())),
            ..self.config()
        }
    }

    /// Where its data, its socket, its process number and its log are.
    pub(crate) fn dir(&self) -> &Path {
        self.data.dir.path()
    }

    /// Its program with all arguments, as somebody else may start it.
    pub(crate) fn command(&self) -> Vec<String> {
        let mut command = vec!["/usr/sbin/mariadbd".to_owned()];
        command.extend(self.data.arguments());
        command
    }

    pub(crate) fn opts(&self) -> Opts {
        opts(&self.config())
    }

    /// What root asks by a session of its own: the first column of the rows.
    pub(crate) async fn sql(&self, statement: &str) -> Vec<String> {
        let mut conn = mysql_async::Conn::new(self.opts()).await.unwrap();
        let rows = conn.query(statement).await.unwrap();
        conn.disconnect().await.unwrap();
        rows
    }

    /// Ends a session, which may be gone.
    pub(crate) async fn kill_session(&self, id: &str) {
        let mut conn = mysql_async::Conn::new(self.opts()).await.unwrap();
        match conn.query_drop(format!("KILL CONNECTION {id}")).await {
            Err(mysql_async::Error::Server(error)) if error.code != 1094 => panic!("{error}"),
            _ => conn.disconnect().await.unwrap(),
        }
    }

    /// A counter of `SHOW GLOBAL STATUS`.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let statement = format!(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = '{name}'"
        );
        self.sql(&statement).await[0].parse().unwrap()
    }
}

impl Drop for Mariadbd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(crate) fn check(server: MysqlServer) -> Mysql {
    Mysql {
        server,
        query: None,
        expect: None,
    }
}

/// One probe of a new check.
pub(crate) async fn probed(check: &Mysql) -> Result<String, String> {
    let mut probe = MysqlProbe::new(check);
    timeout(PATIENCE, probe.probe()).await.expect("an answer")
}

/// Options of a server without network.
pub(crate) fn alone(options: &[&str]) -> Vec<String> {
    let options = options.iter().map(|&option| option.to_owned());
    options.chain(["--skip-networking".to_owned()]).collect()
}

/// An address on which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

//! A real MySQL server on one of the lab's nodes, out of a directory into which Debian's packages were unpacked.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::{
    Node,
    daemon::signal,
    eventually,
    mariadb::{Failure, PORT, Session, servers},
    netns::run,
};

/// The variable that says where MySQL is: `cargo xtask test` sets it.
const ROOT: &str = "HAD_TEST_MYSQL";
const START_LIMIT: Duration = Duration::from_secs(60);
const KILL_LIMIT: Duration = Duration::from_secs(10);
const USER: &str = "repl";
const PASSWORD: &str = "of a lab, gone in a minute";

/// As the documentation has it.
const SETTINGS: &str = "\
log_bin = binlog
relay_log = relay
gtid_mode = ON
enforce_gtid_consistency = ON
log_replica_updates = ON
sync_binlog = 1
skip_replica_start = ON
super_read_only = ON
replica_net_timeout = 4
relay_log_recovery = ON
plugin_load_add = \"semisync_source.so;semisync_replica.so\"
loose_rpl_semi_sync_source_timeout = 4294967295
loose_rpl_semi_sync_replica_enabled = ON
bind_address = 0.0.0.0
mysqlx = OFF
skip_name_resolve
innodb_buffer_pool_size = 32M
secure_file_priv =
";

/// A server's data and its configuration; what of it runs ends with its node.
pub struct MysqlServer {
    namespace: String,
    dir: PathBuf,
    root: PathBuf,
    address: SocketAddr,
    server_id: u32,
}

impl MysqlServer {
    /// Makes a new database on a node, and starts it: read-only, and replicating nothing.
    pub fn start(node: &Node, server_id: u32) -> Result<Self> {
        let root = env::var(ROOT).with_context(|| format!("{ROOT}: where MySQL is unpacked"))?;
        let this = Self {
            namespace: node.ns().name().to_owned(),
            dir: node.dir().join("mysql"),
            root: root.into(),
            address: (node.address(), PORT).into(),
            server_id,
        };
        fs::create_dir(&this.dir)?;
        fs::write(this.dir.join("my.cnf"), this.settings())?;
        fs::write(this.password_file(), PASSWORD)?;
        run(Command::new("chmod").arg("0600").arg(this.password_file()))?;
        let command = this.start_command();
        let (program, arguments) = command.split_first().context("a command has a program")?;
        run(Command::new(program)
            .args(arguments)
            .arg("--initialize-insecure")
            .stdin(Stdio::null()))?;
        this.launch()?;
        this.wait_until_it_serves()?;
        Ok(this)
    }

    fn settings(&self) -> String {
        let (dir, root) = (self.dir.display(), self.root.display());
        format!(
            "[mysqld]\nuser = root\nbasedir = {root}/usr\nlc_messages_dir = {root}/usr/share/mysql\n\
             plugin_dir = {root}/usr/lib/mysql/plugin\ndatadir = {dir}/data\nsocket = {dir}/socket\npid_file = {dir}/pid\n\
             log_error = {dir}/error.log\nport = {PORT}\nserver_id = {}\n{SETTINGS}",
            self.server_id
        )
    }

    /// It runs with its own C library.
    fn start_command(&self) -> Vec<String> {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let text = |path: &Path| path.display().to_string();
        vec![
            text(&libraries.join("ld-linux-x86-64.so.2")),
            "--library-path".to_owned(),
            text(&libraries),
            text(&self.root.join("usr/sbin/mysqld")),
            format!("--defaults-file={}", self.dir.join("my.cnf").display()),
        ]
    }

    fn launch(&self) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(self.start_command())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting mysqld")?;
        // A process that ended is there until somebody asks how; nobody else would.
        thread::spawn(move || child.wait());
        Ok(())
    }

    fn wait_until_it_serves(&self) -> Result<()> {
        eventually(START_LIMIT, "mysqld serves", || {
            Ok(self.session()?.value("SELECT 1")? == "1")
        })
        .with_context(|| fs::read_to_string(self.dir.join("error.log")).unwrap_or_default())
    }

    /// Not another server's.
    #[must_use]
    pub const fn server_id(&self) -> u32 {
        self.server_id
    }

    /// Root's session by the socket.
    pub fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.dir.join("socket"))
    }

    /// Ends it with SIGKILL, as a crash does, and waits until that process is gone.
    pub fn kill(&self) -> Result<()> {
        let found = servers(&self.dir)?;
        let Some(process) = found.first() else {
            bail!("no mysqld runs below {}", self.dir.display());
        };
        signal(process.pid, Signal::KILL)?;
        eventually(KILL_LIMIT, "the end of mysqld", || {
            let left = servers(&self.dir)?;
            Ok(left.iter().all(|other| other.pid != process.pid))
        })
    }

    /// How the daemon logs in: keys of a `[[check]]` or `[[role]]`.
    #[must_use]
    pub fn login_keys(&self) -> String {
        format!("socket = {:?}\n", self.dir.join("socket"))
    }

    /// The keys of a `[[role]]`, without its name.
    #[must_use]
    pub fn role_keys(&self) -> String {
        format!(
            "kind = \"mysql\"\n{}data_dir = {:?}\npid_file = {:?}\nstart_command = {:?}\nreplication_address = \"{}\"\n\
             replication_user = {USER:?}\nreplication_password_file = {:?}\n",
            self.login_keys(),
            self.dir.join("data"),
            self.dir.join("pid"),
            self.start_command(),
            self.address,
            self.password_file(),
        )
    }

    fn password_file(&self) -> PathBuf {
        self.dir.join("repl.password")
    }
}

//! One server of a node.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};

use super::{
    accounts::{Account, HA, REPLICATION},
    session::{Failure, Place, Rows, Session, opts},
    settings::{Durability, PORT, Settings, Storage, USER},
    template::Template,
};
use crate::{Node, daemon::signal, eventually, netns::run, processes};

/// How long a start may take on a busy machine: recovery, and a state transfer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long an end in order may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How long a killed process may still be there.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Lines of a server's log that go into an error.
const LOG_TAIL_LINES: usize = 40;

/// Below a node's directory.
const DIR: &str = "mariadb";

/// A server's data, its configuration and what of it runs. All of it ends with this.
pub struct Server {
    name: String,
    namespace: String,
    address: Ipv4Addr,
    dir: PathBuf,
    settings: Settings,
    mounted: bool,
    _template: Arc<Template>,
}

impl Server {
    /// Makes a new database with its configuration on a node, which has one server at most; it does not run yet.
    pub fn install(node: &Node, settings: &Settings) -> Result<Self> {
        let template = Template::get()?;
        let dir = node.dir().join(DIR);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut this = Self {
            name: node.name().to_owned(),
            namespace: node.ns().name().to_owned(),
            address: node.address(),
            dir,
            settings: settings.clone(),
            mounted: false,
            _template: template,
        };
        if settings.storage == Storage::Memory {
            mount("tmpfs", &this.dir, "tmpfs", MountFlags::empty(), None)
                .with_context(|| format!("mounting a tmpfs at {}", this.dir.display()))?;
            this.mounted = true;
        }
        fs::create_dir(this.dir.join("tmp"))?;
        // Its own, whoever starts it.
        fs::File::create(this.dir.join("error.log"))?;
        this._template.copy_to(&this.dir)?;
        this.configure(settings)?;
        run(Command::new("chown")
            .args(["--recursive", &format!("{USER}:")])
            .arg(&this.dir))?;
        Ok(this)
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&mut self, settings: &Settings) -> Result<()> {
        let path = self.config();
        fs::write(&path, settings.text(&self.dir, self.address))
            .with_context(|| format!("writing {}", path.display()))?;
        self.settings = settings.clone();
        Ok(())
    }

    /// Its configuration.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Name of its node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What starts it, for whoever is in the node's namespace: it stays in the foreground.
    #[must_use]
    pub fn start_command(&self) -> Vec<String> {
        vec![
            "/usr/sbin/mariadbd".to_owned(),
            format!("--defaults-file={}", self.config().display()),
        ]
    }

    fn config(&self) -> PathBuf {
        self.dir.join("my.cnf")
    }

    /// Its own process id, while it runs and after a crash.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The file with an account's password.
    #[must_use]
    pub fn password_file(&self, account: Account) -> PathBuf {
        self.dir.join(account.password_file())
    }

    /// An account's password.
    pub fn password(&self, account: Account) -> Result<String> {
        account.password(&self.dir)
    }

    /// Where other nodes reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(LOG_TAIL_LINES);
        lines.get(tail..).unwrap_or_default().join("\n")
    }

    /// All that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("error.log")).unwrap_or_default()
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Result<()> {
        self.launch(&[])?;
        self.wait_until_it_serves()
    }

    /// Starts it with further options on its command line, and does not wait.
    pub fn launch(&self, options: &[&str]) -> Result<()> {
        if let Some(pid) = self.pid()? {
            bail!("{}: mariadbd runs already, as {pid}", self.name);
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("error.log"))?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .args(self.start_command())
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("starting mariadbd")?;
        // A process that ended is there until somebody asks how; nobody else would.
        thread::spawn(move || child.wait());
        Ok(())
    }

    /// Waits until it answers by its socket, whoever started it.
    pub fn wait_until_it_serves(&self) -> Result<()> {
        let what = format!("mariadbd of {} serves", self.name);
        eventually(START_LIMIT, &what, || {
            let mut session = Session::open(&self.socket())?;
            session.value("SELECT 1").map(|answer| answer == "1")
        })
        .with_context(|| self.log_tail())
    }

    /// Its process, if one runs.
    pub fn pid(&self) -> Result<Option<u32>> {
        Ok(servers(&self.dir)?.first().map(|process| process.pid))
    }

    fn signal(&self, what: Signal) -> Result<()> {
        let pid = self.pid()?;
        let pid = pid.with_context(|| format!("no mariadbd runs on {}", self.name))?;
        signal(pid, what)
    }

    /// Ends it with SIGKILL, as a crash does, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_for_end(KILL_LIMIT)
    }

    /// The same without waiting.
    pub fn strike(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Ends it in order, with SIGTERM.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait_for_end(STOP_LIMIT)
    }

    /// Waits until its process is gone, whoever ends it.
    pub fn wait_for_end(&self, limit: Duration) -> Result<()> {
        let what = format!("the end of mariadbd of {}", self.name);
        eventually(limit, &what, || Ok(self.pid()?.is_none()))
    }

    /// Stops all of it, as a machine that hangs.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Root's session by the socket.
    pub fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.socket())
    }

    /// A session of an account by the socket.
    pub fn session_of(&self, account: Account) -> Result<Session> {
        let password = self.password(account)?;
        let place = Place::Socket(self.socket());
        let opts = opts(&place, account.user, Some(&password));
        Ok(Session::connect(&opts, START_LIMIT)?)
    }

    /// Carries statements out as root, in one session; the rows of the last one.
    pub fn sql(&self, statements: &[&str]) -> Result<Rows> {
        let mut session = self.session()?;
        let mut rows = Rows::new();
        for statement in statements {
            rows = session
                .ask(statement)
                .with_context(|| format!("{}: {statement}", self.name))?;
        }
        Ok(rows)
    }

    /// The first value that a statement gives.
    pub fn value(&self, statement: &str) -> Result<String> {
        let value = self.session()?.value(statement);
        value.with_context(|| self.name.clone())
    }

    /// A number of `SHOW GLOBAL STATUS`.
    pub fn status(&self, name: &str) -> Result<String> {
        self.value(&format!(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = '{name}'"
        ))
    }

    /// Whether it lets clients write.
    pub fn is_writable(&self) -> Result<bool> {
        Ok(self.value("SELECT @@GLOBAL.read_only")? == "0")
    }

    /// A column of its replication's state; `None` without replication.
    pub fn replica_status(&self, column: &str) -> Result<Option<String>> {
        let row = self.session()?.named("SHOW ALL SLAVES STATUS")?;
        Ok(row
            .into_iter()
            .find(|(name, _)| name == column)
            .and_then(|(_, value)| value))
    }

    /// How the daemon logs in by a socket: keys of a `[[check]]` or `[[role]]`.
    #[must_use]
    pub fn login_keys(&self, socket: &Path) -> String {
        format!(
            "socket = {socket:?}\nuser = {:?}\npassword_file = {:?}\n",
            HA.user,
            self.password_file(HA),
        )
    }

    /// The keys of a `[[role]]` of kind `mysql`, without its name.
    #[must_use]
    pub fn role_keys(&self, socket: &Path) -> String {
        let command: Vec<String> = self
            .start_command()
            .iter()
            .map(|word| format!("{word:?}"))
            .collect();
        let durability = match self.settings.durability {
            Durability::SemiSync => "semi-sync",
            Durability::Async => "async",
        };
        format!(
            "kind = \"mysql\"\ndurability = \"{durability}\"\n{}data_dir = {:?}\npid_file = {:?}\n\
             start_command = [{}]\nreplication_address = \"{}\"\nreplication_user = {:?}\n\
             replication_password_file = {:?}\n",
            self.login_keys(socket),
            self.data_dir(),
            self.pid_file(),
            command.join(", "),
            self.address(),
            REPLICATION.user,
            self.password_file(REPLICATION),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = end_all(&self.dir);
        if self.mounted {
            let _ = unmount(&self.dir, UnmountFlags::DETACH);
        }
    }
}

/// Kills each server that has its configuration below `dir`, whichever family it is of, and waits for its end.
pub(crate) fn end_all(dir: &Path) -> Result<()> {
    eventually(KILL_LIMIT, "no server is left", || {
        let left = servers(dir)?;
        for process in &left {
            signal(process.pid, Signal::KILL)?;
        }
        Ok(left.is_empty())
    })
}

/// The servers that run below a directory; what has ended and is still listed does not run.
pub(crate) fn servers(dir: &Path) -> Result<Vec<processes::Process>> {
    let found = processes::naming(dir)?;
    Ok(found
        .into_iter()
        .filter(|process| {
            // MySQL's is an argument of its own dynamic linker.
            let mut words = process.command.split(' ');
            process.command.starts_with("/usr/sbin/mariadbd")
                || words.any(|word| word.ends_with("/usr/sbin/mysqld"))
        })
        .filter(|process| !matches!(process.state, 'Z' | 'X'))
        .collect())
}

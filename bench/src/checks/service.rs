//! What runs on a node beside its daemon, and is watched.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{NetNs, Node, eventually, netns::run, node::PATIENCE};
use rustix::process::{Pid, Signal, kill_process};

/// Where the HTTP service of each node listens.
pub(super) const HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// How long a connection of the HTTP service waits for its request: it ends with those who asked.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What the HTTP service does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Manner {
    /// Answers 200.
    Serves,
    /// Answers 500.
    Fails,
    /// Never answers.
    Hangs,
}

/// An HTTP service whose manner changes on command.
pub(super) struct HttpService {
    manner: Arc<AtomicU8>,
}

impl HttpService {
    /// Begins to listen; the thread ends with the program.
    pub(super) fn start(node: &Node) -> Result<Self> {
        let listener = node.ns().enter(|| TcpListener::bind(HTTP))??;
        let manner = Arc::new(AtomicU8::new(Manner::Serves as u8));
        let shared = Arc::clone(&manner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = Arc::clone(&shared);
                thread::spawn(move || converse(stream, &manner));
            }
        });
        Ok(Self { manner })
    }

    pub(super) fn behave(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::Relaxed);
    }
}

/// Answers the requests of one connection, until it ends.
fn converse(mut stream: TcpStream, manner: &AtomicU8) {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    if stream.set_read_timeout(Some(REQUEST_LIMIT)).is_err() {
        return;
    }
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        request.extend_from_slice(bytes.get(..length).unwrap_or_default());
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        let status = match manner.load(Ordering::Relaxed) {
            served if served == Manner::Serves as u8 => "200 OK",
            failed if failed == Manner::Fails as u8 => "500 Internal Server Error",
            _ => continue,
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A process that is nothing but there, with a name of its own on the machine.
pub(super) struct Idler {
    program: PathBuf,
    namespace: String,
    child: Child,
}

impl Idler {
    pub(super) fn start(node: &Node) -> Result<Self> {
        // All nodes share the machine's processes; the namespace's name is nobody else's, and short enough.
        let program = node.dir().join(node.ns().name());
        fs::copy("/bin/sleep", &program).context("copying /bin/sleep")?;
        let namespace = node.ns().name().to_owned();
        let child = Self::spawn(&program)?;
        Ok(Self {
            program,
            namespace,
            child,
        })
    }

    fn spawn(program: &Path) -> Result<Child> {
        Command::new(program)
            .arg("100000")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("killing it in {}", self.namespace))?;
        // As init does: what nobody waits for is still found by its name.
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.child = Self::spawn(&self.program)?;
        Ok(())
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A MariaDB server of a node.
pub(super) struct MariaDb {
    dir: PathBuf,
    namespace: String,
    child: Child,
}

impl MariaDb {
    /// Makes a new database and starts the server.
    pub(super) fn start(node: &Node) -> Result<Self> {
        let dir = node.dir().join("mariadb");
        fs::create_dir(&dir)?;
        let data = format!("--datadir={}", dir.join("data").display());
        run(Command::new("mariadb-install-db").args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
            &data,
        ]))?;
        let mut database = Self {
            child: Self::spawn(&dir, node.ns())?,
            namespace: node.ns().name().to_owned(),
            dir,
        };
        database.wait_until_it_serves()?;
        Ok(database)
    }

    fn spawn(dir: &Path, namespace: &NetNs) -> Result<Child> {
        let log = fs::File::create(dir.join("log"))?;
        namespace
            .command("mariadbd")
            .arg("--no-defaults")
            .arg("--user=root")
            .arg("--skip-networking")
            .arg("--innodb-buffer-pool-size=64M")
            .arg(format!("--datadir={}", dir.join("data").display()))
            .arg(format!("--socket={}", socket(dir).display()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting mariadbd")
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let socket = format!("--socket={}", self.socket().display());
        eventually(PATIENCE.saturating_mul(2), "mariadbd serves", || {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "mariadbd of {} ended", self.namespace);
            let ping = Command::new("mysqladmin")
                .args([&socket, "ping"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            Ok(ping.success())
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// The server's own process: `ip netns exec` becomes it.
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("mariadbd of {}", self.namespace))
    }

    pub(super) fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn restart(&mut self, node: &Node) -> Result<()> {
        self.child.wait()?;
        self.child = Self::spawn(&self.dir, node.ns())?;
        self.wait_until_it_serves()
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("sock")
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

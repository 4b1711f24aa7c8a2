//! A private dbus-daemon, and a peer on it that speaks systemd's interfaces.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use zbus::{
    Connection, OwnedObjectPath, Variant, connection::Builder, fdo, interface,
    object_server::SignalEmitter,
};

use super::PATIENCE;

const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/db_2eservice";
const ABSENT_PATH: &str = "/org/freedesktop/systemd1/unit/nothing_2eservice";

/// A bus that ends with it.
pub(super) struct PrivateBus {
    daemon: Child,
    dir: tempfile::TempDir,
}

impl PrivateBus {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            dir.path().join("bus").display()
        );
        fs::write(dir.path().join("bus.conf"), config).unwrap();
        let bus = Self {
            daemon: daemon(dir.path()),
            dir,
        };
        bus.wait().await;
        bus
    }

    pub(super) fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    pub(super) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    pub(super) async fn restart(&mut self) {
        let _ = fs::remove_file(self.dir.path().join("bus"));
        self.daemon = daemon(self.dir.path());
        self.wait().await;
    }

    async fn wait(&self) {
        let connected = async {
            while self.connect().await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, connected).await.expect("dbus-daemon");
    }

    async fn connect(&self) -> zbus::Result<Connection> {
        Builder::address(self.address().as_str()).build().await
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// It dies together with the thread that began it.
fn daemon(dir: &std::path::Path) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "dbus-daemon", "--nofork"])
        .arg(format!("--config-file={}", dir.join("bus.conf").display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv and dbus-daemon")
}

/// What the peer knows.
#[derive(Default)]
struct Known {
    states: Mutex<(String, String)>,
    subscribed: AtomicBool,
    hangs: AtomicBool,
}

struct Manager(Arc<Known>);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    async fn subscribe(&self) {
        self.0.subscribed.store(true, Ordering::SeqCst);
    }

    async fn load_unit(&self, name: String) -> OwnedObjectPath {
        let path = if name == "db.service" {
            UNIT_PATH
        } else {
            ABSENT_PATH
        };
        OwnedObjectPath::try_from(path).unwrap()
    }
}

struct Unit {
    known: Arc<Known>,
    exists: bool,
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    async fn load_state(&self) -> String {
        if self.exists { "loaded" } else { "not-found" }.to_owned()
    }

    #[zbus(property)]
    async fn active_state(&self) -> String {
        while self.known.hangs.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(10)).await;
        }
        if self.exists {
            self.known.states.lock().unwrap().0.clone()
        } else {
            "inactive".to_owned()
        }
    }

    #[zbus(property)]
    async fn sub_state(&self) -> String {
        if self.exists {
            self.known.states.lock().unwrap().1.clone()
        } else {
            "dead".to_owned()
        }
    }
}

/// It leaves the bus when it is dropped.
pub(super) struct Systemd {
    connection: Connection,
    known: Arc<Known>,
}

impl Systemd {
    /// With a unit `db.service` that runs.
    pub(super) async fn on(bus: &PrivateBus) -> Self {
        let systemd = Self::stranger(bus).await;
        systemd
            .connection
            .request_name("org.freedesktop.systemd1")
            .await
            .unwrap();
        systemd
    }

    /// The same under no name.
    pub(super) async fn stranger(bus: &PrivateBus) -> Self {
        let known = Arc::new(Known::default());
        *known.states.lock().unwrap() = ("active".to_owned(), "running".to_owned());
        let unit = |exists| Unit {
            known: Arc::clone(&known),
            exists,
        };
        let connection = Builder::address(bus.address().as_str())
            .serve_at("/org/freedesktop/systemd1", Manager(Arc::clone(&known)))
            .serve_at(UNIT_PATH, unit(true))
            .serve_at(ABSENT_PATH, unit(false))
            .build()
            .await
            .unwrap();
        Self { connection, known }
    }

    /// Changes the state of the unit, and tells it in one signal as systemd does.
    pub(super) async fn change(&self, active: &str, sub: &str) {
        *self.known.states.lock().unwrap() = (active.to_owned(), sub.to_owned());
        let emitter = SignalEmitter::new(&self.connection, UNIT_PATH).unwrap();
        let changed = HashMap::from([
            ("ActiveState", Variant::from(active)),
            ("SubState", Variant::from(sub)),
        ]);
        fdo::Properties::properties_changed(
            &emitter,
            "org.freedesktop.systemd1.Unit".try_into().unwrap(),
            changed,
            std::borrow::Cow::Borrowed(&[]),
        )
        .await
        .unwrap();
    }

    /// Answers nothing any more that is asked of its units.
    pub(super) async fn hang(&self) {
        assert!(self.known.subscribed.load(Ordering::SeqCst));
        self.known.hangs.store(true, Ordering::SeqCst);
    }
}

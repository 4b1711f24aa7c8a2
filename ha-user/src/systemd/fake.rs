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

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/db_2eservice";
const ABSENT_PATH: &str = "/org/freedesktop/systemd1/unit/nothing_2eservice";

/// A bus that ends with it.
pub(crate) struct PrivateBus {
    daemon: Child,
    dir: tempfile::TempDir,
}

impl PrivateBus {
    pub(crate) async fn start() -> Self {
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

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    pub(crate) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
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
    /// What becomes of the unit and of a job, by its verb; else it succeeds.
    outcomes: Mutex<HashMap<String, (&'static str, &'static str)>>,
    /// What it was told, with `db.service`.
    told: Mutex<Vec<String>>,
    masked: AtomicBool,
    /// The control group of the unit, as systemd tells it.
    cgroup: Mutex<String>,
    has_job: AtomicBool,
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

    async fn start_unit(
        &self,
        _name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("StartUnit", ("active", "done"), &emitter).await
    }

    async fn restart_unit(
        &self,
        _name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("RestartUnit", ("active", "done"), &emitter).await
    }

    async fn stop_unit(
        &self,
        _name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("StopUnit", ("inactive", "done"), &emitter).await
    }

    async fn kill_unit(&self, _name: String, whom: String, signal: i32) {
        self.note(format!("KillUnit {whom} {signal}"));
        self.0.states.lock().unwrap().0 = "failed".to_owned();
    }

    async fn reset_failed_unit(&self, _name: String) {
        self.note("ResetFailedUnit".to_owned());
        self.0.states.lock().unwrap().0 = "inactive".to_owned();
    }

    async fn mask_unit_files(&self, _names: Vec<String>, runtime: bool, force: bool) {
        self.note(format!("MaskUnitFiles {runtime} {force}"));
        self.0.masked.store(true, Ordering::SeqCst);
    }

    async fn unmask_unit_files(&self, _names: Vec<String>, runtime: bool) {
        self.note(format!("UnmaskUnitFiles {runtime}"));
        self.0.masked.store(false, Ordering::SeqCst);
    }

    async fn reload(&self) {
        self.note("Reload".to_owned());
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

impl Manager {
    fn note(&self, what: String) {
        self.0.told.lock().unwrap().push(what);
    }

    /// A job of another unit ends first, and then this one, before its number is known: as it may be.
    async fn job(
        &self,
        verb: &str,
        default: (&'static str, &'static str),
        emitter: &SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.note(verb.to_owned());
        let outcome = self.0.outcomes.lock().unwrap().get(verb).copied();
        let (state, result) = outcome.unwrap_or(default);
        self.0.states.lock().unwrap().0 = state.to_owned();
        let path = |id: u32| {
            let path = format!("/org/freedesktop/systemd1/job/{id}");
            OwnedObjectPath::try_from(path).unwrap()
        };
        if result != "never" {
            for (id, unit, result) in [(7, "other.service", "failed"), (8, "db.service", result)] {
                Self::job_removed(emitter, id, path(id), unit.to_owned(), result.to_owned())
                    .await
                    .unwrap();
            }
        }
        path(8)
    }
}

/// The properties of a service.
struct Service(Arc<Known>);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "Type")]
    async fn kind(&self) -> String {
        "oneshot".to_owned()
    }

    #[zbus(property)]
    async fn result(&self) -> String {
        match self.0.states.lock().unwrap().0.as_str() {
            "failed" => "exit-code",
            _ => "success",
        }
        .to_owned()
    }

    #[zbus(property)]
    async fn control_group(&self) -> String {
        self.0.cgroup.lock().unwrap().clone()
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
        match (self.exists, self.known.masked.load(Ordering::SeqCst)) {
            (true, true) => "masked",
            (true, false) => "loaded",
            (false, _) => "not-found",
        }
        .to_owned()
    }

    #[zbus(property)]
    async fn job(&self) -> (u32, OwnedObjectPath) {
        let number = u32::from(self.known.has_job.load(Ordering::SeqCst));
        (number, OwnedObjectPath::try_from("/").unwrap())
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
pub(crate) struct Systemd {
    connection: Connection,
    known: Arc<Known>,
}

impl Systemd {
    /// With a unit `db.service` that runs.
    pub(crate) async fn on(bus: &PrivateBus) -> Self {
        let systemd = Self::stranger(bus).await;
        systemd
            .connection
            .request_name("org.freedesktop.systemd1")
            .await
            .unwrap();
        systemd
    }

    /// The same under no name.
    pub(crate) async fn stranger(bus: &PrivateBus) -> Self {
        let known = Arc::new(Known::default());
        *known.states.lock().unwrap() = ("active".to_owned(), "running".to_owned());
        let unit = |exists| Unit {
            known: Arc::clone(&known),
            exists,
        };
        let connection = Builder::address(bus.address().as_str())
            .serve_at("/org/freedesktop/systemd1", Manager(Arc::clone(&known)))
            .serve_at(UNIT_PATH, unit(true))
            .serve_at(UNIT_PATH, Service(Arc::clone(&known)))
            .serve_at(ABSENT_PATH, unit(false))
            .build()
            .await
            .unwrap();
        Self { connection, known }
    }

    /// Changes the state of the unit, and tells it in one signal as systemd does.
    pub(crate) async fn change(&self, active: &str, sub: &str) {
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

    /// Where its processes are.
    pub(crate) fn put_into(&self, cgroup: &str) {
        cgroup.clone_into(&mut self.known.cgroup.lock().unwrap());
    }

    /// Whether a job of the unit waits.
    pub(crate) fn queue(&self, has_job: bool) {
        self.known.has_job.store(has_job, Ordering::SeqCst);
    }

    /// What becomes of the unit, and of the job, by its verb; `never`: the job does not end.
    pub(crate) fn decide(&self, verb: &str, state: &'static str, result: &'static str) {
        let mut outcomes = self.known.outcomes.lock().unwrap();
        outcomes.insert(verb.to_owned(), (state, result));
    }

    /// What it was told since the last time that this was asked.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.known.told.lock().unwrap())
    }

    /// Answers nothing any more that is asked of its units.
    pub(crate) async fn hang(&self) {
        assert!(self.known.subscribed.load(Ordering::SeqCst));
        self.known.hangs.store(true, Ordering::SeqCst);
    }
}

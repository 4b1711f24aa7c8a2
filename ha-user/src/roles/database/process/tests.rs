//! With real processes that are called like servers, and a bus of our own, on which something speaks as systemd does.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ha_common::Nanos;
use tokio::time::sleep;

use super::*;
use crate::systemd::fake::{PrivateBus, Systemd};

const LONG: Nanos = Nanos::from_secs(30);

/// Ends together with the test.
struct Server(Child);

impl Server {
    /// `sleep`, under a server's name, in a directory.
    fn start(dir: &Path) -> Self {
        Self::spawn(&program(dir), dir, &[])
    }

    fn spawn(program: &Path, dir: &Path, through: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        let child = command
            .args(["--pdeathsig", "KILL"])
            .args(through)
            .arg(program)
            .arg("3600")
            .current_dir(dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        let comm = format!("/proc/{}/comm", server.0.id());
        let deadline = soon();
        while fs::read_to_string(&comm).unwrap().trim() != "mariadbd" {
            assert!(clock::now() < deadline, "it is not run");
            std::thread::sleep(Duration::from_millis(1));
        }
        server
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Killed, and nobody takes note of that.
    fn die(&self) {
        let fd = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        pidfd_send_signal(&fd, Signal::KILL).unwrap();
        let deadline = soon();
        while !has_ended(&fd) {
            assert!(clock::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(dir: &Path) -> PathBuf {
    let program = dir.join("mariadbd");
    if !program.exists() {
        fs::copy("/bin/sleep", &program).unwrap();
    }
    program
}

fn of(data_dir: Option<&Path>, pid_file: Option<&Path>) -> Process {
    let config = ServerProcess {
        data_dir: data_dir.map(Path::to_owned),
        unit: None,
        pid_file: pid_file.map(Path::to_owned),
        start_command: Vec::new(),
    };
    Process::new(&config, &[])
}

/// It is found to be gone. Where a server of another test has just been killed, that may be this one for a moment.
async fn ends(process: &mut Process) {
    let deadline = soon();
    loop {
        let found = process.find().await;
        if found == Presence::Gone {
            return;
        }
        assert!(clock::now() < deadline, "{found:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

fn soon() -> MonoNs {
    clock::now().after(LONG)
}

#[tokio::test]
async fn a_server_is_told_by_where_it_works() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [here, elsewhere] = dirs.each_ref().map(tempfile::TempDir::path);
    let file = here.join("pid");
    let mut process = of(Some(here), Some(&file));
    ends(&mut process).await;
    let _other = Server::start(elsewhere);
    ends(&mut process).await;
    let server = Server::start(here);
    // It has written no file yet; and then one, with some other number left by the one before.
    assert_eq!(process.find().await, Presence::Running(server.pid()));
    for number in [server.pid().to_string(), "1".to_owned(), "none".to_owned()] {
        fs::write(&file, number).unwrap();
        assert_eq!(process.find().await, Presence::Running(server.pid()));
    }
    fs::write(&file, server.pid().to_string()).unwrap();
    server.die();
    // Nobody took note.
    ends(&mut process).await;
}

#[tokio::test]
async fn a_server_of_which_only_the_number_is_known_is_not_gone_while_another_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut process = of(None, Some(&file));
    let server = Server::start(dir.path());
    fs::write(&file, server.pid().to_string()).unwrap();
    assert_eq!(process.find().await, Presence::Running(server.pid()));
    let _other = Server::start(other.path());
    server.die();
    let Presence::Unknown(why) = process.find().await else {
        panic!("it cannot be told");
    };
    assert!(why.contains("data_dir"), "{why}");
    let deadline = clock::now().after(Nanos::from_millis(200));
    let why = process.kill(deadline).await.unwrap_err().why;
    assert!(why.contains("not certain"), "{why}");
}

#[tokio::test]
async fn what_runs_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = of(Some(dir.path()), None);
    let done = process.kill(soon()).await.unwrap();
    assert_eq!(done, "the server does not run");
    let mut servers = [Server::start(dir.path()), Server::start(dir.path())];
    let done = process.kill(soon()).await.unwrap();
    for server in &mut servers {
        assert!(done.contains(&server.pid().to_string()), "{done}");
        assert_eq!(server.0.wait().unwrap().signal(), Some(9));
    }
    ends(&mut process).await;
}

/// Run as root without a capability, as `had.service` alone runs it.
#[tokio::test]
#[ignore = "needs root"]
async fn a_server_that_may_not_be_looked_at_is_not_gone() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), open).unwrap();
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let server = Server::spawn(&program, dir.path(), &nobody);
    let config = ServerProcess {
        data_dir: Some(dir.path().to_owned()),
        pid_file: Some(dir.path().join("pid")),
        ..ServerProcess::default()
    };
    assert_eq!(traces::look(&config), Traces::Running(server.pid()));
    let without = std::thread::spawn(move || {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SYS_PTRACE);
        set_capabilities(None, sets).unwrap();
        traces::look(&config)
    });
    let Traces::Unclear(why) = without.join().unwrap() else {
        panic!("it cannot be told");
    };
    assert!(why.contains("CAP_SYS_PTRACE"), "{why}");
}

/// The unit `db.service` of a bus.
fn unit(bus: &PrivateBus, dir: &Path, unit: &str) -> Process {
    let config = ServerProcess {
        unit: Some(unit.to_owned()),
        ..ServerProcess::default()
    };
    let mut process = Process::new(&config, &["--read-only=1"]);
    let service = process.service.as_mut().unwrap();
    service.address = Some(bus.address());
    service.units = dir.to_owned();
    process
}

/// Until systemd has answered in time: this machine may stand still for a moment.
async fn found(process: &mut Process) -> Presence {
    let deadline = soon();
    loop {
        let presence = process.find().await;
        let late = matches!(&presence, Presence::Unknown(why) if why.contains("does not answer"));
        if !late || clock::now() > deadline {
            return presence;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn unknown(process: &mut Process) -> String {
    match found(process).await {
        Presence::Unknown(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_a_unit_only_systemd_says_that_it_has_ended() {
    let mut bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let dir = tempfile::tempdir().unwrap();
    let mut process = unit(&bus, dir.path(), "db.service");
    // It runs, and none of its processes is seen.
    assert!(unknown(&mut process).await.contains("is active (running)"));
    for (active, sub) in [("activating", "start"), ("deactivating", "stop-sigterm")] {
        systemd.change(active, sub).await;
        assert!(unknown(&mut process).await.contains(active));
    }
    systemd.change("activating", "auto-restart").await;
    let returning = found(&mut process).await;
    assert!(matches!(returning, Presence::Returning(_)), "{returning:?}");
    for active in ["inactive", "failed"] {
        systemd.change(active, "dead").await;
        assert_eq!(found(&mut process).await, Presence::Gone);
        systemd.queue(true);
        assert!(unknown(&mut process).await.contains("is about to"));
        systemd.queue(false);
    }
    let mut none = unit(&bus, dir.path(), "nothing.service");
    assert!(unknown(&mut none).await.contains("there is no unit"));
    bus.stop();
    assert!(unknown(&mut process).await.contains("cannot be asked"));
    let deadline = clock::now().after(Nanos::from_millis(200));
    let why = process.kill(deadline).await.unwrap_err().why;
    assert!(
        why.contains("not certain") && why.contains("cannot be stopped"),
        "{why}"
    );
}

#[tokio::test]
async fn a_unit_is_stopped_before_it_is_killed_and_started_as_it_is_to_be() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let dir = tempfile::tempdir().unwrap();
    let mut process = unit(&bus, dir.path(), "db.service");
    systemd.decide("StopUnit", "deactivating", "never");
    let done = process.kill(soon()).await.unwrap();
    assert_eq!(done, "the server does not run", "none was seen");
    let told = systemd.told();
    assert_eq!(told[0], "StopUnit", "{told:?}");
    assert!(told.iter().any(|told| told == "KillUnit all 9"));
    // It has failed by that.
    start(&mut process).await;
    let told = systemd.told();
    assert_eq!(told.last().unwrap(), "StartUnit", "{told:?}");
    assert!(told.iter().any(|told| told == "ResetFailedUnit"));
    assert!(told.iter().any(|told| told == "Reload"));
    let text = fs::read_to_string(dir.path().join("db.service.d/50-had-replica.conf")).unwrap();
    assert!(text.contains("MYSQLD_OPTS=--read-only=1"), "{text}");
    // What systemd would start in a while, as what it was, is started at once.
    systemd.change("activating", "auto-restart").await;
    start(&mut process).await;
    let told = systemd.told();
    assert_eq!(told.last().unwrap(), "RestartUnit", "{told:?}");
}

/// Until systemd has answered in time.
async fn start(process: &mut Process) {
    let deadline = soon();
    while let Err(failure) = process.start(&[]).await {
        assert!(failure.why.contains("does not answer"), "{}", failure.why);
        assert!(clock::now() < deadline);
    }
}

/// A control group for the test, with one below it.
struct Groups(PathBuf);

impl Groups {
    fn new() -> Self {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let is_one = |root: &&str| Path::new(root).join("cgroup.controllers").exists();
        let root = roots.into_iter().find(is_one).unwrap();
        let this = Self(Path::new(root).join(format!("had-test-{}", std::process::id())));
        fs::create_dir_all(this.0.join("below")).unwrap();
        this
    }

    fn put(&self, server: &Server) {
        let file = self.0.join("below/cgroup.procs");
        fs::write(file, server.pid().to_string()).unwrap();
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for _ in 0..1_000 {
            let _ = fs::remove_dir(self.0.join("below"));
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_units_processes_are_found_wherever_systemd_has_put_them() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let dir = tempfile::tempdir().unwrap();
    let groups = Groups::new();
    let name = groups.0.file_name().unwrap().to_str().unwrap();
    systemd.put_into(&format!("/{name}"));
    let mut process = unit(&bus, dir.path(), "db.service");
    assert!(unknown(&mut process).await.contains("no process"));
    let mut server = Server::start(dir.path());
    groups.put(&server);
    assert_eq!(found(&mut process).await, Presence::Running(server.pid()));
    // systemd has given up on it.
    systemd.change("failed", "failed").await;
    assert_eq!(found(&mut process).await, Presence::Running(server.pid()));
    let done = process.kill(soon()).await.unwrap();
    assert!(!done.contains("cannot"), "{done}");
    assert_eq!(server.0.wait().unwrap().signal(), Some(9));
    assert_eq!(found(&mut process).await, Presence::Gone);
}

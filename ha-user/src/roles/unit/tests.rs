//! Against a bus of our own, on which something speaks as systemd does; and against systemd in the guest.

use ha_common::Nanos;

use super::*;
use crate::systemd::fake::{PrivateBus, Systemd};

const PATIENCE: Nanos = Nanos::from_secs(20);

fn config(unit: &str) -> UnitRole {
    UnitRole {
        unit: unit.to_owned(),
        start_limit: PATIENCE,
        stop_limit: PATIENCE,
    }
}

fn role(bus: &PrivateBus, unit: &str) -> Unit {
    let mut role = Unit::new(&config(unit), true);
    role.address = Some(bus.address());
    role
}

fn soon() -> MonoNs {
    clock::now().after(PATIENCE)
}

#[tokio::test]
async fn a_unit_is_started_and_stopped_once_and_its_job_is_waited_for() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut role = role(&bus, "db.service");
    // It runs.
    assert_eq!(role.observe().await.promoted, Some(true));
    role.step("start", soon()).await.unwrap();
    assert!(systemd.told().is_empty());
    role.step("stop", soon()).await.unwrap();
    assert_eq!(systemd.told(), ["StopUnit"]);
    assert_eq!(role.observe().await.promoted, Some(false));
    role.step("stop", soon()).await.unwrap();
    assert!(systemd.told().is_empty());
    role.step("start", soon()).await.unwrap();
    assert_eq!(systemd.told(), ["StartUnit"]);
    // One that failed may be started again.
    systemd.change("failed", "failed").await;
    role.step("start", soon()).await.unwrap();
    assert_eq!(systemd.told(), ["ResetFailedUnit", "StartUnit"]);
}

/// What systemd tells of the jobs of all units fills no queue that nobody empties.
#[tokio::test]
async fn jobs_of_others_between_two_steps_hold_nothing_up() {
    let bus = PrivateBus::start().await;
    let _systemd = Systemd::on(&bus).await;
    let (mut one, mut other) = (role(&bus, "db.service"), role(&bus, "db.service"));
    one.step("stop", soon()).await.unwrap();
    for _ in 0..100 {
        other.step("start", soon()).await.unwrap();
        other.step("stop", soon()).await.unwrap();
    }
    one.step("start", soon()).await.unwrap();
}

#[tokio::test]
async fn a_job_that_fails_says_why() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut role = role(&bus, "db.service");
    systemd.change("inactive", "dead").await;
    systemd.decide("StartUnit", "failed", "failed");
    let why = role.step("start", soon()).await.unwrap_err();
    assert!(
        why.contains("the job's result is \"failed\"") && why.contains("exit-code"),
        "{why}"
    );
    // systemd says that it is done, and it is not.
    systemd.decide("StartUnit", "failed", "done");
    role.step("start", soon()).await.unwrap_err();
    // What has done its work leaves nothing by which to see it.
    systemd.decide("StartUnit", "inactive", "done");
    let why = role.step("start", soon()).await.unwrap_err();
    assert!(why.contains("RemainAfterExit=yes"), "{why}");
    let why = self::role(&bus, "nothing.service")
        .step("start", soon())
        .await;
    assert!(why.is_err());
}

#[tokio::test]
async fn what_does_not_stop_in_time_is_killed() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut role = role(&bus, "db.service");
    systemd.decide("StopUnit", "deactivating", "never");
    let deadline = clock::now().after(Nanos::from_millis(200));
    let why = role.step("stop", deadline).await.unwrap_err();
    assert!(why.contains("has not ended in time"), "{why}");
    assert_eq!(role.observe().await.promoted, None);
    systemd.told();
    role.step("kill", soon()).await.unwrap();
    // A job to stop it comes first, else it would be started again.
    assert_eq!(systemd.told(), ["StopUnit", "KillUnit all 9"]);
}

#[tokio::test]
async fn a_unit_is_masked_in_maintenance_alone() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut role = role(&bus, "db.service");
    let situation = |mode| Situation { mode, fault: false };
    role.adapt(situation(Mode::ActiveStandby)).await.unwrap();
    assert!(systemd.told().is_empty());
    systemd.change("inactive", "dead").await;
    for _ in 0..2 {
        role.adapt(situation(Mode::Maintenance)).await.unwrap();
    }
    assert_eq!(systemd.told(), ["MaskUnitFiles true false", "Reload"]);
    assert!(role.observe().await.able.unwrap_err().contains("masked"));
    role.adapt(situation(Mode::Standalone)).await.unwrap();
    assert_eq!(systemd.told(), ["UnmaskUnitFiles true", "Reload"]);
    assert!(role.observe().await.able.is_ok());
}

#[tokio::test]
async fn a_change_is_heard() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut role = role(&bus, "db.service");
    role.observe().await;
    let quiet = timeout(Duration::from_millis(100), role.watch()).await;
    assert!(quiet.is_err());
    systemd.change("failed", "failed").await;
    let heard = timeout(Duration::from_secs(20), role.watch()).await;
    heard.expect("a change");
    assert_eq!(role.observe().await.promoted, Some(false));
}

#[tokio::test]
async fn without_systemd_nothing_can_be_told() {
    let mut bus = PrivateBus::start().await;
    bus.stop();
    let mut role = role(&bus, "db.service");
    let found = role.observe().await;
    assert_eq!(found.promoted, None);
    assert!(found.able.unwrap_err().starts_with("D-Bus: "));
    role.step("start", soon()).await.unwrap_err();
}

/// Needs systemd: `cargo xtask vm-test -- in_guest`.
mod in_guest {
    use std::{fs, process::Command};

    use super::*;

    /// A service of the real systemd.
    struct Service(String);

    impl Service {
        fn new(name: &str, lines: &str) -> Self {
            let this = Self(format!("had-role-{name}.service"));
            fs::write(this.path(), format!("[Service]\n{lines}\n")).unwrap();
            systemctl(&["daemon-reload"]);
            this
        }

        fn path(&self) -> String {
            format!("/run/systemd/system/{}", self.0)
        }

        fn role(&self) -> Unit {
            Unit::new(&config(&self.0), true)
        }

        fn has_processes(&self) -> bool {
            let path = format!("/sys/fs/cgroup/system.slice/{}/cgroup.events", self.0);
            fs::read_to_string(path).is_ok_and(|events| events.contains("populated 1"))
        }
    }

    impl Drop for Service {
        fn drop(&mut self) {
            systemctl(&["kill", "--signal=KILL", &self.0]);
            systemctl(&["stop", &self.0]);
            let _ = fs::remove_file(self.path());
            systemctl(&["daemon-reload"]);
        }
    }

    fn systemctl(arguments: &[&str]) {
        let _ = Command::new("systemctl").args(arguments).output();
    }

    #[tokio::test]
    #[ignore = "needs systemd"]
    async fn a_real_unit_is_started_stopped_and_started_again_after_it_failed() {
        let service = Service::new("plain", "ExecStart=/bin/sleep infinity");
        let mut role = service.role();
        assert_eq!(role.observe().await.promoted, Some(false));
        for _ in 0..2 {
            role.step("start", soon()).await.unwrap();
            assert_eq!(role.observe().await.promoted, Some(true));
        }
        assert!(service.has_processes());
        systemctl(&["kill", "--signal=KILL", &service.0]);
        timeout(Duration::from_secs(60), role.watch())
            .await
            .expect("its end");
        role.step("start", soon()).await.unwrap();
        for _ in 0..2 {
            role.step("stop", soon()).await.unwrap();
            assert_eq!(role.observe().await.promoted, Some(false));
        }
        assert!(!service.has_processes());
    }

    #[tokio::test]
    #[ignore = "needs systemd"]
    async fn a_real_unit_that_does_not_stop_is_killed_with_all_that_it_started() {
        let stubborn =
            "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & while :; do sleep 1; done";
        let service = Service::new(
            "stubborn",
            &format!(
                "ExecStart=/bin/sh -c \"{stubborn}\"\nRestart=always\nTimeoutStopSec=infinity"
            ),
        );
        let mut role = service.role();
        role.step("start", soon()).await.unwrap();
        let deadline = clock::now().after(Nanos::from_secs(3));
        role.step("stop", deadline).await.unwrap_err();
        assert!(service.has_processes());
        role.step("kill", clock::now().after(Nanos::from_secs(60)))
            .await
            .unwrap();
        assert!(!service.has_processes());
        assert_eq!(role.observe().await.promoted, Some(false));
    }

    #[tokio::test]
    #[ignore = "needs systemd"]
    async fn real_units_that_fail_or_leave_nothing_are_told() {
        let fails = Service::new(
            "fails",
            "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/false",
        );
        let why = fails.role().step("start", soon()).await.unwrap_err();
        assert!(why.contains("failed") && why.contains("exit-code"), "{why}");
        let gone = Service::new("gone", "Type=oneshot\nExecStart=/bin/true");
        let why = gone.role().step("start", soon()).await.unwrap_err();
        assert!(why.contains("RemainAfterExit=yes"), "{why}");
        let stays = Service::new(
            "stays",
            "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true",
        );
        let mut role = stays.role();
        role.step("start", soon()).await.unwrap();
        assert_eq!(role.observe().await.promoted, Some(true));
        let why = Unit::new(&config("had-role-none.service"), true)
            .step("start", soon())
            .await;
        assert!(why.unwrap_err().contains("no unit"));
    }
}

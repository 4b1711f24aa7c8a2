//! Against a bus of our own, on which something speaks as systemd does. The real one is in the guest lane.

use std::time::Duration;

use ha_core::check::Observation;
use tokio::time::timeout;

use super::UnitProbe;
use crate::{
    checks::probe::Probe as _,
    config::Unit,
    systemd::fake::{PATIENCE, PrivateBus, Systemd},
};

/// How long nothing must come.
const QUIET: Duration = Duration::from_millis(200);

fn probe(bus: &PrivateBus, unit: &str) -> UnitProbe {
    let mut probe = UnitProbe::new(&Unit {
        unit: unit.to_owned(),
    });
    probe.address = Some(bus.address());
    probe
}

async fn probed(probe: &mut UnitProbe) -> Result<String, String> {
    timeout(PATIENCE, probe.probe()).await.expect("an answer")
}

async fn news(probe: &mut UnitProbe) -> Observation {
    timeout(PATIENCE, probe.watch()).await.expect("news")
}

#[tokio::test]
async fn what_happens_to_a_unit_is_heard() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    assert_eq!(
        probed(&mut probe).await.unwrap(),
        "db.service is active (running)"
    );
    assert!(timeout(QUIET, probe.watch()).await.is_err());

    systemd.change("active", "reload").await;
    assert_eq!(news(&mut probe).await, Observation::Changed);
    systemd.change("failed", "failed").await;
    let failed = Observation::Failed("db.service is failed (failed)".to_owned());
    assert_eq!(news(&mut probe).await, failed);
    assert!(probed(&mut probe).await.is_err());
    systemd.change("activating", "auto-restart").await;
    assert!(matches!(news(&mut probe).await, Observation::Failed(why) if why.contains("again")));
    systemd.change("active", "running").await;
    assert_eq!(news(&mut probe).await, Observation::Changed);
    assert!(probed(&mut probe).await.is_ok());
}

#[tokio::test]
async fn news_older_than_the_last_answer_is_none() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    probed(&mut probe).await.unwrap();
    systemd.change("failed", "failed").await;
    systemd.change("active", "running").await;
    probed(&mut probe).await.unwrap();
    assert!(timeout(QUIET, probe.watch()).await.is_err());
    // More than any queue holds.
    for _ in 0..200 {
        systemd.change("deactivating", "stop").await;
    }
    assert!(probed(&mut probe).await.is_err());
}

#[tokio::test]
async fn what_a_probe_finds_before_its_signal_is_heard_is_as_sure_as_that() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    probed(&mut probe).await.unwrap();
    // A job is waiting: nothing has happened yet.
    systemd.change("active", "running").await;
    assert!(timeout(QUIET, probe.watch()).await.is_err());

    systemd.change("inactive", "dead").await;
    assert!(probed(&mut probe).await.is_err());
    let gone = Observation::Failed("db.service is inactive (dead)".to_owned());
    assert_eq!(news(&mut probe).await, gone);
    // Once is enough.
    assert!(probed(&mut probe).await.is_err());
    assert!(timeout(QUIET, probe.watch()).await.is_err());
}

#[tokio::test]
async fn a_unit_that_is_not_there_is_said_so() {
    let bus = PrivateBus::start().await;
    let _systemd = Systemd::on(&bus).await;
    let error = probed(&mut probe(&bus, "nothing.service")).await;
    assert_eq!(
        error.unwrap_err(),
        "there is no unit nothing.service: see `unit`"
    );
}

#[tokio::test]
async fn somebody_else_s_signals_are_not_listened_to() {
    let bus = PrivateBus::start().await;
    let _systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    probed(&mut probe).await.unwrap();
    Systemd::stranger(&bus)
        .await
        .change("failed", "failed")
        .await;
    assert!(timeout(QUIET, probe.watch()).await.is_err());
}

#[tokio::test]
async fn the_bus_and_systemd_may_go_and_come_back() {
    let mut bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    probed(&mut probe).await.unwrap();

    // As `systemctl daemon-reexec` does it.
    drop(systemd);
    assert_eq!(news(&mut probe).await, Observation::Changed);
    let error = probed(&mut probe).await.unwrap_err();
    assert!(error.starts_with("D-Bus: "), "{error}");
    let systemd = Systemd::on(&bus).await;
    assert!(probed(&mut probe).await.is_ok());

    bus.stop();
    assert_eq!(news(&mut probe).await, Observation::Changed);
    let error = probed(&mut probe).await.unwrap_err();
    assert!(error.starts_with("D-Bus: "), "{error}");
    assert!(timeout(QUIET, probe.watch()).await.is_err());
    drop(systemd);
    bus.restart().await;
    let systemd = Systemd::on(&bus).await;
    assert!(probed(&mut probe).await.is_ok());
    systemd.change("inactive", "dead").await;
    assert!(matches!(news(&mut probe).await, Observation::Failed(_)));
}

#[tokio::test]
async fn a_systemd_that_hangs_does_not_answer() {
    let bus = PrivateBus::start().await;
    let systemd = Systemd::on(&bus).await;
    let mut probe = probe(&bus, "db.service");
    probed(&mut probe).await.unwrap();
    systemd.hang().await;
    assert!(timeout(QUIET, probe.probe()).await.is_err());
    assert!(timeout(QUIET, probe.probe()).await.is_err());
}

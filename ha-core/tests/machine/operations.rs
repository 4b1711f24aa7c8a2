//! Operators, reloads, interfaces and addresses.

use ha_common::{Nanos, Priority, Vrid, gate::Epoch};
use ha_core::{Action, Cause, EngineConfig, Input, InstanceId, InterfaceCondition, State, Target};

use crate::driver::*;

fn reload(driver: &mut Driver, change: impl FnOnce(&mut EngineConfig)) {
    let mut config = config(vec![instance(0)]);
    change(&mut config);
    driver.input(Input::Reconfigure(config));
}

fn kinds(actions: &[Action]) -> Vec<&'static str> {
    actions
        .iter()
        .map(|action| match action {
            Action::SetEpoch { .. } => "epoch",
            Action::SetLease { .. } => "lease",
            Action::SetRank { .. } => "rank",
            Action::Watch { .. } => "watch",
            Action::SendAdvert { .. } => "send",
            Action::AddVips { .. } => "add",
            Action::RemoveVips { .. } => "remove",
            Action::Announce { .. } => "announce",
            Action::Report(_) => "report",
            Action::Confirm { .. } => "confirm",
            Action::Note { .. } => "note",
            Action::Finished => "finished",
            Action::Stand { .. } => "stand",
            Action::Act { .. } => "act",
            Action::LetGo { .. } => "let go",
            Action::SendEcho { .. } => "echo",
            Action::SendRelease { .. } => "release",
            Action::RenewAlone { .. } => "renew",
            Action::PathReport { .. } => "path",
            Action::PromoteRoles { .. } => "promote",
            Action::DemoteRoles { .. } => "demote",
            Action::Alarm { .. } => "alarm",
        })
        .collect()
}

#[test]
fn a_switchover_does_not_come_back_until_the_other_one_fails() {
    let mut driver = Driver::active(instance(0));
    driver.input(Input::Switchover(Target::Instance(ID)));
    driver.settle();
    for _ in 0..20 {
        driver.after(Nanos::from_millis(10));
        driver.hear(102, 50);
        driver.engine.handle_timeout(driver.now);
        assert_eq!(driver.state(), State::Backup);
    }
    let lines = driver.status_of(ID).explanation;
    assert!(
        lines.iter().any(|line| line.contains("an operator moved")),
        "{lines:?}"
    );
    while driver.state() != State::Active {
        driver.tick_and_settle();
    }
}

#[test]
fn a_switchover_that_nobody_follows_comes_back() {
    let mut driver = Driver::active(instance(0));
    driver.input(Input::Switchover(Target::Instance(ID)));
    driver.settle();
    let released = driver.now;
    while driver.state() != State::Active {
        driver.tick_and_settle();
    }
    assert_eq!(driver.now, released.after(DOWN));
}

#[test]
fn a_switchover_of_what_is_elsewhere_says_where_it_is() {
    let mut driver = Driver::backup(instance(0));
    driver.hear(102, 200);
    driver.take();
    driver.input(Input::Switchover(Target::Instance(ID)));
    let actions = driver.take();
    assert_eq!(
        notes(&actions),
        ["vr0 cannot be moved away from here: it is in backup, and 192.168.33.102 is Active"]
    );
}

#[test]
fn shutdown_closes_says_so_and_ends() {
    let mut driver = Driver::active(instance(0));
    driver.input(Input::Shutdown);
    let actions = driver.take();
    assert_eq!(
        kinds(&actions),
        ["epoch", "send", "remove", "report", "finished"]
    );
    assert_eq!(driver.engine.poll_timeout(), None);
    driver.hear(102, 50);
    driver.ready(ID);
    assert_eq!(driver.take(), []);
}

#[test]
fn a_lost_interface_closes_and_comes_back_as_backup() {
    let mut driver = Driver::active(instance(0));
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::NoCarrier,
    });
    let actions = driver.take();
    assert_eq!(kinds(&actions), ["epoch", "remove", "report"]);
    assert_eq!(driver.state(), State::Fault);
    assert_eq!(driver.engine.poll_timeout(), None);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn an_interface_that_is_not_there_yet_is_waited_for() {
    let mut driver = Driver::new(config(vec![instance(0)]));
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::Absent,
    });
    let status = driver.status_of(ID);
    assert_eq!(status.state, State::Initialize);
    assert_eq!(
        status.explanation[0],
        "Initialize since 0 ms: its interface does not exist."
    );
}

#[test]
fn the_start_delay_is_waited_for() {
    let mut slow = config(vec![instance(0)]);
    slow.start_delay = Nanos::from_secs(2);
    let mut driver = Driver::new(slow);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Initialize);
    driver.tick();
    assert_eq!(driver.now, START.after(Nanos::from_secs(2)));
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_vip_that_somebody_deletes_is_put_back_in_place() {
    let mut driver = Driver::active(instance(0));
    driver.after(Nanos::from_millis(1));
    driver.input(Input::VipLost { instance: ID });
    let actions = driver.settle();
    assert_eq!(kinds(&actions), ["add", "announce", "note"]);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn failed_promotions_are_held_down_longer_each_time() {
    let mut driver = Driver::backup(instance(0));
    let mut last = driver.now;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        while driver.state() != State::Promoting {
            driver.tick();
        }
        pauses.push(driver.now.since(last).0 / 1_000_000_000);
        last = driver.now;
        driver.input(Input::VipsAdded {
            instance: ID,
            result: Err(String::from("no")),
        });
        assert_eq!(
            kinds(&deeds(driver.take())),
            ["epoch", "send", "remove"],
            "it lets go and says so"
        );
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn announcements_come_in_bursts_and_are_tried_again() {
    let mut loud = instance(0);
    loud.advert_interval = Nanos::from_secs(1);
    loud.announce.count = 3;
    loud.announce.interval = Nanos::from_millis(1);
    loud.announce.repeat_after = Nanos::from_millis(100);
    let mut driver = Driver::active(loud);
    let opened = driver.now;
    let mut sent = vec![Nanos::ZERO];
    let mut failed = false;
    while driver.now < opened.after(Nanos::from_millis(200)) {
        for action in driver.tick() {
            if matches!(action, Action::Announce { .. }) {
                sent.push(driver.now.since(opened));
                let result = if failed {
                    Ok(())
                } else {
                    Err(String::from("no"))
                };
                failed = true;
                driver.input(Input::Announced {
                    instance: ID,
                    result,
                });
            }
        }
    }
    // The second one failed, and is made up for after 10 ms.
    assert_eq!(sent, [0, 1, 11, 12, 100, 101, 102].map(Nanos::from_millis));
}

#[test]
fn a_reload_without_changes_does_nothing() {
    let mut driver = Driver::active(instance(0));
    let before = driver.engine.poll_timeout();
    reload(&mut driver, |_| {});
    assert_eq!(driver.take(), []);
    assert_eq!(driver.engine.poll_timeout(), before);
}

#[test]
fn the_interval_does_not_grow_while_active() {
    let mut driver = Driver::active(instance(0));
    reload(&mut driver, |config| {
        config.instances[0].advert_interval = Nanos::from_millis(500);
    });
    assert_eq!(kinds(&driver.take()), ["note"]);
    let before = driver.now;
    driver.tick_and_settle();
    assert_eq!(driver.now, before.after(INTERVAL));
    driver.hear(102, 200);
    driver.settle();
    driver.hear(102, 0);
    while driver.state() != State::Active {
        driver.tick_and_settle();
    }
    let elected = driver.now;
    driver.tick();
    assert_eq!(driver.now, elected.after(Nanos::from_millis(500)));
}

#[test]
fn a_higher_priority_by_reload_starts_a_pre_emption_without_a_new_advert() {
    let mut driver = Driver::backup(instance(0));
    driver.hear(102, 150);
    driver.take();
    reload(&mut driver, |config| {
        config.instances[0].priority = Priority(200);
    });
    assert_eq!(
        driver.take(),
        [Action::SetRank {
            instance: ID,
            priority: Priority(200),
            position: 0,
        }]
    );
    for _ in 0..10 {
        driver.after(INTERVAL);
        driver.hear(102, 150);
        driver.engine.handle_timeout(driver.now);
    }
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn what_the_kernel_closed_by_the_old_rank_stays_closed() {
    let mut driver = Driver::active(instance(0));
    let received_at = driver.now;
    driver.after(Nanos::from_millis(1));
    reload(&mut driver, |config| {
        config.instances[0].priority = Priority(200);
    });
    driver.take();
    driver.input(Input::Advert {
        instance: ID,
        advert: advert(102, 150),
        received_at,
    });
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_removed_instance_is_handed_over() {
    let mut driver = Driver::active(instance(0));
    reload(&mut driver, |config| config.instances.clear());
    let actions = driver.take();
    assert_eq!(
        transitions(&actions),
        [(State::Active, State::Initialize, Cause::Reconfigured)]
    );
    assert_eq!(
        kinds(&actions),
        ["epoch", "send", "remove", "report", "note"]
    );
    assert!(driver.engine.status(driver.now).is_empty());
}

#[test]
fn another_vrid_is_another_router_and_no_epoch_is_used_twice() {
    let mut driver = Driver::active(instance(0));
    reload(&mut driver, |config| {
        config.instances[0].vrid = Vrid::new(52).unwrap();
    });
    let epochs: Vec<Epoch> = driver
        .take()
        .into_iter()
        .filter_map(|action| match action {
            Action::SetEpoch { epoch, .. } => Some(epoch),
            _ => None,
        })
        .collect();
    assert_eq!(epochs, [Epoch(9), Epoch(10)]);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Backup);
}

/// The shell sends several adverts before it hands in what became of them. One of them may be of an instance that
/// lets go by what was heard meanwhile: its outcome is not that of the priority 0, which is not sent yet.
#[test]
fn adverts_that_follow_each_other_can_be_sent_together() {
    let mut driver = Driver::backup_of(config(vec![instance(0), instance(1)]));
    driver.silence();
    driver.settle();
    let other = InstanceId(1);
    assert_eq!(driver.state_of(other), State::Active);
    driver.tick();
    while driver.engine.poll_advert().is_none() {
        let due = driver.engine.poll_timeout().expect("a timer runs").0;
        driver.now = driver.now.max(due);
        driver.engine.handle_timeout(driver.now);
    }
    assert!(driver.engine.poll_advert().is_some(), "they share a beat");
    assert_eq!(driver.engine.poll_advert(), None);
    let round = driver.now;
    driver.after(Nanos::from_micros(100));
    driver.hear_from(other, 102, 200);
    assert_eq!(driver.state_of(other), State::Backup);
    for instance in [ID, other] {
        driver.input(Input::AdvertSent {
            instance,
            round,
            result: Ok(()),
        });
    }
    let actions = driver.take();
    let renewed = |wanted: InstanceId| {
        let is_it = |action: &&Action| matches!(action, Action::SetLease { instance, .. } if *instance == wanted);
        actions.iter().filter(is_it).count()
    };
    assert_eq!((renewed(ID), renewed(other)), (1, 0));
    let farewell = actions.iter().find_map(|action| match action {
        Action::SendAdvert {
            instance,
            priority: Priority::RELEASE,
            round,
            ..
        } if *instance == other => Some(*round),
        _ => None,
    });
    let has_let_go = |driver: &Driver| {
        let status = driver.status_of(other);
        status
            .explanation
            .iter()
            .any(|sentence| sentence.contains("let go itself"))
    };
    assert!(
        !has_let_go(&driver),
        "{:?}",
        driver.status_of(other).explanation
    );
    let round = farewell.expect("it says that it lets go");
    driver.input(Input::AdvertSent {
        instance: other,
        round,
        result: Ok(()),
    });
    assert!(
        has_let_go(&driver),
        "{:?}",
        driver.status_of(other).explanation
    );
}

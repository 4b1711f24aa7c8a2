//! The kernel's silence timer, lateness, and pre-emption delays.

use ha_common::{MonoNs, Nanos};
use ha_core::{Action, EngineConfig, Input, InstanceId, State, Timer};

use crate::driver::*;

fn watched() -> EngineConfig {
    EngineConfig {
        kernel_watch: true,
        ..config(vec![instance(0)])
    }
}

#[test]
fn with_the_kernel_s_watch_the_engine_sleeps_between_adverts() {
    let mut driver = Driver::new(watched());
    driver.ready(ID);
    assert!(driver.take().contains(&Action::Watch {
        instance: ID,
        down: Some(DOWN)
    }));
    // Before the first advert nothing is armed in the kernel: the engine waits itself.
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((START.after(DOWN), Timer::ActiveDown))
    );
    driver.after(Nanos::from_millis(1));
    driver.hear(102, 200);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((driver.now.after(Nanos::from_secs(1)), Timer::ActiveDown))
    );
}

#[test]
fn another_interval_is_another_watch() {
    let mut driver = Driver::backup_of(watched());
    let mut slow = advert(102, 200);
    slow.interval = Nanos::from_millis(100);
    driver.hear_advert(ID, slow);
    assert_eq!(
        driver.take(),
        [Action::Watch {
            instance: ID,
            down: Some(Nanos(360_937_500))
        }]
    );
}

#[test]
fn reported_silence_is_checked_against_the_stamps() {
    let mut driver = Driver::backup_of(watched());
    driver.after(Nanos::from_millis(1));
    driver.hear(102, 200);
    let old = driver.now;
    driver.after(Nanos::from_millis(20));
    let received_at = driver.now;
    driver.input(Input::Heard {
        instance: ID,
        received_at,
    });
    driver.now = old.after(DOWN);
    let silence = |last_received_at| Input::Silence {
        instance: ID,
        last_received_at,
    };
    driver.input(silence(old));
    assert_eq!(driver.state(), State::Backup);
    driver.now = received_at.after(DOWN);
    driver.input(silence(received_at));
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn reported_silence_after_a_stamp_that_is_news_is_believed() {
    let mut driver = Driver::backup_of(watched());
    driver.after(Nanos::from_millis(1));
    driver.hear(102, 200);
    driver.after(INTERVAL);
    let last_received_at = driver.now;
    driver.now = last_received_at.after(DOWN);
    driver.input(Input::Silence {
        instance: ID,
        last_received_at,
    });
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn a_node_that_was_held_up_waits_another_interval() {
    let mut driver = Driver::backup(instance(0));
    driver.now = START.after(DOWN).after(Nanos::from_millis(11));
    driver.engine.handle_timeout(driver.now);
    let actions = driver.take();
    assert_eq!(notes(&actions).len(), 1, "{actions:?}");
    assert_eq!(driver.state(), State::Backup);
    let due = driver.now.after(INTERVAL);
    assert_eq!(driver.engine.poll_timeout(), Some((due, Timer::ActiveDown)));
    driver.tick();
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn a_node_that_is_always_held_up_takes_over_in_the_end() {
    let mut driver = Driver::backup(instance(0));
    for _ in 0..4 {
        let (due, _) = driver.engine.poll_timeout().unwrap();
        driver.now = due.after(Nanos::from_millis(11));
        driver.engine.handle_timeout(driver.now);
    }
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn pre_emption_waits_for_its_delay_and_a_higher_one_ends_it() {
    let mut patient = instance(0);
    patient.preempt_delay = Nanos::from_millis(50);
    let mut driver = Driver::backup(patient);
    driver.hear(102, 50);
    for _ in 0..4 {
        driver.after(INTERVAL);
        driver.hear(102, 50);
    }
    driver.hear(103, 100);
    for _ in 0..20 {
        driver.after(INTERVAL);
        driver.hear(103, 100);
        driver.engine.handle_timeout(driver.now);
        assert_eq!(driver.state(), State::Backup);
    }
    let start = driver.now;
    while driver.state() == State::Backup {
        driver.after(Nanos::from_millis(1));
        driver.hear(102, 50);
        driver.engine.handle_timeout(driver.now);
    }
    // From the last refresh before the lower one's first advert.
    let waited = driver.now.since(start);
    assert!(
        waited >= Nanos(86_093_750) && waited < Nanos(87_100_000),
        "{waited}"
    );
}

#[test]
fn a_loser_whose_advert_was_overtaken_by_its_priority_0_is_waited_for() {
    for overtaken in [false, true] {
        let mut driver = Driver::backup(instance(0));
        while driver.state() == State::Backup {
            driver.after(INTERVAL);
            driver.hear(102, 50);
            driver.engine.handle_timeout(driver.now);
        }
        assert_eq!(driver.state(), State::Promoting);
        driver.hear(102, 0);
        if overtaken {
            driver.after(Nanos(1));
            driver.hear(102, 50);
        }
        let heard = driver.now;
        driver.settle();
        assert_eq!(driver.state() == State::Promoting, overtaken);
        while driver.state() == State::Promoting {
            let (due, _) = driver.engine.poll_timeout().unwrap();
            driver.now = due;
            driver.engine.handle_timeout(due);
            driver.settle();
        }
        assert_eq!(driver.state(), State::Active);
        let waited = driver.now.since(heard);
        assert_eq!(waited >= INTERVAL.times(3), overtaken, "{waited}");
        assert!(waited < INTERVAL.times(4), "{waited}");
    }
}

#[test]
fn without_preempt_a_lower_one_is_left_alone() {
    let mut meek = instance(0);
    meek.preempt = false;
    let mut driver = Driver::backup(meek);
    for _ in 0..50 {
        driver.after(INTERVAL);
        driver.hear(102, 50);
        driver.engine.handle_timeout(driver.now);
    }
    assert_eq!(driver.state(), State::Backup);
    let lines = driver.status_of(ID).explanation;
    assert_eq!(
        lines[0],
        "Backup since 500 ms: 192.168.33.102 advertises priority 50 every 10 ms."
    );
    assert_eq!(
        lines[1],
        "Takes over if nothing is heard from it for 36.094 ms."
    );
    assert!(lines[2].contains("`preempt` is off"), "{lines:?}");
}

#[test]
fn addresses_that_take_longer_than_a_round_open_with_the_next_one() {
    let mut driver = Driver::backup(instance(0));
    driver.silence();
    let first = driver.now;
    driver.take();
    let sent = |round| Input::AdvertSent {
        instance: ID,
        round,
        result: Ok(()),
    };
    driver.input(sent(first));
    driver.after(Nanos::from_millis(40));
    driver.input(Input::VipsAdded {
        instance: ID,
        result: Ok(()),
    });
    assert_eq!(driver.state(), State::Promoting);
    // Others may have taken over meanwhile: they have an interval to object.
    driver.tick();
    driver.input(sent(driver.now));
    assert_eq!(driver.state(), State::Promoting);
    driver.tick();
    driver.input(sent(driver.now));
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn adverts_that_cannot_be_sent_end_a_promotion() {
    let mut driver = Driver::backup(instance(0));
    driver.silence();
    let mut state = driver.state();
    for _ in 0..10 {
        for action in driver.take() {
            if let Action::SendAdvert { round, .. } = action {
                driver.input(Input::AdvertSent {
                    instance: ID,
                    round,
                    result: Err(String::from("no")),
                });
            }
        }
        state = driver.state();
        if state == State::Backup {
            break;
        }
        driver.after(INTERVAL);
        driver.engine.handle_timeout(driver.now);
    }
    assert_eq!(state, State::Backup);
}

#[test]
fn instances_that_take_over_one_after_the_other_advertise_together() {
    let mut slow = instance(2);
    slow.advert_interval = INTERVAL.times(3);
    let mut driver = Driver::backup_of(config(vec![instance(0), instance(1), slow]));
    let released = |driver: &mut Driver, id| {
        driver.hear_from(InstanceId(id), 102, 50);
        driver.hear_from(InstanceId(id), 102, 0);
        while driver.state_of(InstanceId(id)) != State::Active {
            driver.tick_and_settle();
        }
    };
    released(&mut driver, 0);
    let first = driver.now;
    released(&mut driver, 1);
    assert!(driver.now > first, "later than the first");
    released(&mut driver, 2);
    let mut rounds: Vec<Vec<(u32, MonoNs)>> = Vec::new();
    for _ in 0..20 {
        let sent: Vec<(u32, MonoNs)> = driver
            .tick_and_settle()
            .iter()
            .filter_map(|action| match action {
                Action::SendAdvert {
                    instance, round, ..
                } => Some((instance.0, *round)),
                _ => None,
            })
            .collect();
        if sent.iter().any(|(id, _)| *id < 2) {
            rounds.push(sent);
        }
    }
    assert!(rounds.len() > 5);
    for (this, next) in rounds.iter().zip(&rounds[1..]) {
        let ids: Vec<u32> = this
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| *id < 2)
            .collect();
        assert_eq!(ids, [0, 1], "both in one round");
        assert_eq!(next[0].1, this[0].1.after(INTERVAL));
    }
}

//! A third node that asks an arbitrator.

use ha_common::{MonoNs, Nanos, lease::Ask, lease::Promise};
use ha_core::{
    Action, Alone, Input, LeasePeer, LeaseViews, PathConfig, PathId, State,
    check::Health,
    tracking::{Effect, Reading, Source, Track, TrackedConfig},
};

use super::{LEASE, PATH, with_leases};
use crate::driver::*;

/// How long before the holder fell silent the other Backup said hello.
const HELLO_BEFORE: Nanos = Nanos::from_millis(300);

fn gateway() -> Source {
    Source::Check("gateway".to_owned())
}

/// A Backup that has heard both others, and then the holder no more.
struct Third {
    driver: Driver,
    views: LeaseViews,
}

impl Third {
    fn new() -> Self {
        let mut one = with_leases(Alone::Serve, &[PATH]);
        one.sole_peer = false;
        let lease = one.lease.as_mut().expect("it has leases");
        lease.peers.push(LeasePeer {
            address: address(103),
            paths: vec![PathConfig {
                id: PathId(1),
                ..PATH
            }],
        });
        one.track = vec![Track {
            source: gateway(),
            effect: Effect::Arbitrate,
        }];
        let mut config = config(vec![one]);
        config.tracked = vec![TrackedConfig {
            source: gateway(),
            up_delay: Nanos::ZERO,
            down_delay: Nanos::ZERO,
            damping: Nanos::ZERO,
            interval: Nanos::from_millis(200),
            timeout: Nanos::from_secs(1),
        }];
        let mut driver = Driver::backup_of(config);
        driver.input(Input::Tracked {
            source: gateway(),
            reading: Reading {
                health: Health::Up,
                ..Reading::default()
            },
        });
        let mut views = LeaseViews::default();
        views[1].heard_at = driver.now;
        driver.after(HELLO_BEFORE);
        views[0].heard_at = driver.now;
        views[0].asked_at = driver.now;
        views[0].promised_until = Promise::default().granted(driver.now, LEASE).ends();
        let mut third = Self { driver, views };
        third.read();
        third.driver.input(Input::Asked {
            instance: ID,
            peer: 0,
            ask: Ask::Hold,
        });
        third.driver.settle();
        third
    }

    fn read(&mut self) {
        let now = self.driver.now;
        self.driver.engine.read_leases(ID, &self.views, now);
    }

    /// The kernel proves that the holder is silent; the question about it.
    fn silence(&mut self) -> MonoNs {
        self.driver.now = self.views[0].promised_until;
        self.read();
        self.driver.input(Input::LeaseSilence { instance: ID });
        let asked = self.driver.settle().into_iter().find_map(|action| {
            let Action::Confirm { round, .. } = action else {
                return None;
            };
            Some(round)
        });
        asked.expect("it asks")
    }

    fn answer(&mut self, round: MonoNs, reached: bool) {
        let result = if reached {
            Ok(())
        } else {
            Err("no answer".to_owned())
        };
        self.driver.input(Input::Confirmed {
            source: gateway(),
            round,
            result,
        });
        self.driver.settle();
    }
}

#[test]
fn what_it_heard_of_the_other_backup_before_the_silence_proves_nothing() {
    let mut third = Third::new();
    let round = third.silence();
    assert_eq!(third.driver.state(), State::Backup);
    third.answer(round, false);
    assert_eq!(third.driver.state(), State::Backup);
}

#[test]
fn it_goes_by_the_arbitrator_or_by_the_other_backup_s_next_hello() {
    let mut third = Third::new();
    let round = third.silence();
    third.answer(round, true);
    assert_eq!(third.driver.state(), State::Promoting);

    let mut third = Third::new();
    let round = third.silence();
    third.answer(round, false);
    third.driver.after(Nanos::from_millis(500));
    third.views[1].heard_at = third.driver.now;
    third.read();
    for _ in 0..10 {
        third.driver.tick_and_settle();
    }
    assert_eq!(third.driver.state(), State::Promoting);
}

//! An arbitrator says no where nothing is heard from the other nodes.

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Action, Cause, ChannelConfig, ChannelState, EngineConfig, Input, State,
    check::Health,
    tracking::{Effect, Reading, Source, Track, TrackedConfig},
};

use crate::driver::*;

/// Between two probes of the gateway, and how long one may take.
const PAUSE: Nanos = Nanos::from_millis(200);
const TIMEOUT: Nanos = Nanos::from_millis(500);

fn gateway() -> Source {
    Source::Check("gateway".to_owned())
}

/// One instance that asks the gateway, with a channel of its own.
fn config_with_gateway() -> EngineConfig {
    let mut one = instance(0);
    one.preempt = false;
    one.channels = vec![ChannelConfig {
        name: "cable".to_owned(),
        lan_peer: None,
    }];
    one.track = vec![Track {
        source: gateway(),
        effect: Effect::Arbitrate,
    }];
    let mut config = config(vec![one]);
    config.tracked = vec![TrackedConfig {
        source: gateway(),
        up_delay: Nanos::ZERO,
        down_delay: Nanos::ZERO,
        damping: Nanos::from_secs(60),
        interval: PAUSE,
        timeout: TIMEOUT,
    }];
    config
}

impl Driver {
    fn gateway_is(&mut self, health: Health) {
        self.input(Input::Tracked {
            source: gateway(),
            reading: Reading {
                health,
                count: 0,
                why: "no answer".to_owned(),
            },
        });
    }

    fn cable_is(&mut self, state: ChannelState) {
        self.input(Input::Channel {
            instance: ID,
            channel: "cable".to_owned(),
            state,
        });
    }

    /// What it asks for among the actions since.
    fn asked(&mut self) -> Vec<MonoNs> {
        let rounds = self.settle().into_iter().filter_map(|action| match action {
            Action::Confirm { source, round } if source == gateway() => Some(round),
            _ => None,
        });
        rounds.collect()
    }

    fn answer(&mut self, round: MonoNs, reached: bool) {
        self.input(Input::Confirmed {
            source: gateway(),
            round,
            result: if reached {
                Ok(())
            } else {
                Err("no answer".to_owned())
            },
        });
        self.settle();
    }

    /// Lets the Active_Down_Interval pass after the last advert; what it asks for then.
    fn hears_no_more(&mut self) -> MonoNs {
        self.hear(102, 100);
        self.settle();
        let mut asked = Vec::new();
        while asked.is_empty() {
            assert_eq!(self.state(), State::Backup);
            let (due, _) = self.engine.poll_timeout().expect("a timer runs");
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            asked = self.asked();
        }
        asked[0]
    }

    /// Until the next question; when it is asked.
    fn is_asked_again(&mut self) -> MonoNs {
        for _ in 0..1_000 {
            let (due, _) = self.engine.poll_timeout().expect("a timer runs");
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            let asked = self.asked();
            if let [round] = asked[..] {
                return round;
            }
            assert_eq!(asked, []);
        }
        panic!("nobody is asked until {:?}", self.now);
    }

    fn says(&self, words: &str) -> bool {
        let lines = self.status_of(ID).explanation;
        lines.iter().any(|line| line.contains(words))
    }
}

fn backup() -> Driver {
    let mut driver = Driver::backup_of(config_with_gateway());
    driver.gateway_is(Health::Up);
    driver
}

/// Active, with a cable that was up.
fn active() -> Driver {
    let mut driver = backup();
    let round = driver.hears_no_more();
    driver.answer(round, true);
    assert_eq!(driver.state(), State::Active);
    driver.cable_is(ChannelState::Up);
    driver.settle();
    driver
}

#[test]
fn a_backup_asks_before_it_believes_that_the_others_are_dead() {
    let mut driver = backup();
    let round = driver.hears_no_more();
    assert!(driver.says("asks whether check gateway is up"));
    driver.answer(round, true);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn one_that_is_cut_off_stays_backup_and_asks_again_and_again() {
    let mut driver = backup();
    let round = driver.hears_no_more();
    driver.answer(round, false);
    assert_eq!(driver.state(), State::Backup);
    assert!(driver.says("this node may be cut off"));
    assert!(!driver.says("takes over in"));
    assert!(matches!(driver.status_of(ID).cause, Cause::Isolated { .. }));
    for _ in 0..3 {
        // Not as often as it could take over: a question is a probe.
        let refused = driver.now;
        let again = driver.is_asked_again();
        assert_eq!(again, refused.after(PAUSE));
        driver.answer(again, false);
        assert_eq!(driver.state(), State::Backup);
    }
    let again = driver.is_asked_again();
    driver.answer(again, true);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_question_whose_answer_is_lost_is_asked_again() {
    let mut driver = backup();
    let lost = driver.hears_no_more();
    let again = driver.is_asked_again();
    assert!(again > lost.after(TIMEOUT), "it may still come");
    assert!(again <= lost.after(TIMEOUT).after(Nanos::from_secs(1)));
    driver.answer(lost, true);
    assert_eq!(driver.state(), State::Backup, "it is no answer any more");
    driver.answer(again, true);
    assert_eq!(driver.state(), State::Active);
    driver.cable_is(ChannelState::Up);
    driver.settle();
    driver.cable_is(ChannelState::Dead);
    let lost = driver.asked();
    assert_eq!(lost.len(), 1);
    let again = driver.is_asked_again();
    driver.answer(again, false);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_gateway_that_is_down_again_before_the_claim_is_made_good_says_no() {
    let mut config = config_with_gateway();
    config.instances[0].track.push(Track {
        source: Source::Check("api".to_owned()),
        effect: Effect::Veto,
    });
    let mut api = config.tracked[0].clone();
    api.source = Source::Check("api".to_owned());
    config.tracked.push(api);
    let mut driver = Driver::backup_of(config);
    driver.gateway_is(Health::Up);
    let round = driver.hears_no_more();
    // What is still to be known holds the claim back.
    driver.answer(round, true);
    assert_eq!(driver.state(), State::Backup);
    driver.after(Nanos::from_millis(1)).gateway_is(Health::Down);
    driver.input(Input::Tracked {
        source: Source::Check("api".to_owned()),
        reading: Reading {
            health: Health::Up,
            ..Reading::default()
        },
    });
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
    let again = driver.is_asked_again();
    driver.answer(again, true);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_check_that_is_down_already_and_passes_once_is_asked_again() {
    let mut driver = active();
    driver.gateway_is(Health::Down);
    driver.settle();
    driver
        .after(Nanos::from_millis(1))
        .cable_is(ChannelState::Dead);
    // What is known of it is from before the silence; it is asked, and was reached.
    let asked = driver.asked();
    driver.after(Nanos::from_millis(1)).answer(asked[0], true);
    let again = driver.is_asked_again();
    driver.answer(again, true);
    assert_eq!(driver.state(), State::Active);
    // It goes on failing, which is no change of what is believed of it.
    let again = driver.is_asked_again();
    driver.answer(again, false);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn an_answer_that_comes_after_an_advert_is_no_answer_to_the_next_silence() {
    let mut driver = backup();
    let round = driver.hears_no_more();
    driver.after(Nanos::from_millis(1)).hear(102, 100);
    driver.answer(round, true);
    assert_eq!(driver.state(), State::Backup);
    let next = driver.hears_no_more();
    assert_ne!(next, round);
    driver.answer(round, true);
    assert_eq!(driver.state(), State::Backup);
    driver.answer(next, true);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn who_lets_go_is_heard_so_nobody_is_asked() {
    let mut driver = backup();
    driver.hear(102, 100);
    driver.gateway_is(Health::Down);
    driver.hear(102, 0);
    assert_eq!(driver.asked(), []);
    while driver.state() == State::Backup {
        driver.tick_and_settle();
    }
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn an_active_node_whose_channels_die_asks_and_lets_go_if_it_is_cut_off() {
    let mut driver = active();
    driver.cable_is(ChannelState::Dead);
    let asked = driver.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(driver.state(), State::Active);
    driver.answer(asked[0], false);
    assert_eq!(driver.state(), State::Backup);
    assert!(matches!(driver.status_of(ID).cause, Cause::Isolated { .. }));
}

#[test]
fn an_active_node_that_is_not_cut_off_goes_on_until_it_is() {
    let mut driver = active();
    driver.cable_is(ChannelState::Dead);
    let asked = driver.asked();
    driver.after(Nanos::from_millis(1));
    driver.answer(asked[0], true);
    assert_eq!(driver.state(), State::Active);
    driver.after(Nanos::from_millis(1)).gateway_is(Health::Down);
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn without_the_gateway_an_active_node_that_hears_the_others_goes_on() {
    let mut driver = active();
    driver.gateway_is(Health::Down);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    // What was known of it is enough once the cable dies.
    driver.cable_is(ChannelState::Dead);
    let asked = driver.asked();
    driver.gateway_is(Health::Down);
    driver.settle();
    assert_eq!((driver.state(), asked.len()), (State::Backup, 1));
}

#[test]
fn what_is_muted_is_not_asked() {
    let mut driver = backup();
    driver.input(Input::Mute {
        source: gateway(),
        until: Some(MonoNs(u64::MAX)),
    });
    driver.silence();
    assert_eq!(driver.asked(), []);
    assert_eq!(driver.state(), State::Active);
}

//! What is tracked: weights, vetoes, damping and mutes.

use ha_common::{MonoNs, Nanos, Priority};
use ha_core::{
    Action, Cause, EngineConfig, Input, InstanceConfig, InstanceId, InterfaceCondition, LinkDelays,
    State,
    check::Health,
    tracking::{Effect, Reading, Source, Track, TrackedConfig},
};
use proptest::prelude::*;

use crate::driver::*;

const DAMPING: Nanos = Nanos::from_secs(60);
const SECOND: Nanos = Nanos::from_secs(1);

fn source(name: &str) -> Source {
    Source::Check(name.to_owned())
}

fn track(name: &str, effect: Effect) -> Track {
    Track {
        source: source(name),
        effect,
    }
}

fn judged(name: &str) -> TrackedConfig {
    TrackedConfig {
        source: source(name),
        up_delay: Nanos::ZERO,
        down_delay: Nanos::ZERO,
        damping: DAMPING,
        interval: SECOND,
        timeout: SECOND,
    }
}

/// One instance that tracks.
fn tracking(tracks: &[Track]) -> EngineConfig {
    let mut one = instance(0);
    one.track = tracks.to_vec();
    of(vec![one])
}

fn of(instances: Vec<InstanceConfig>) -> EngineConfig {
    let mut config = config(instances);
    config.tracked = ["a", "b", "c"].map(judged).to_vec();
    config
}

impl Driver {
    fn report(&mut self, name: &str, health: Health) {
        self.report_count(name, health, 0);
    }

    fn report_count(&mut self, name: &str, health: Health, count: i32) {
        self.input(Input::Tracked {
            source: source(name),
            reading: Reading {
                health,
                count,
                why: "it does not answer".to_owned(),
            },
        });
    }

    fn priority(&self) -> u8 {
        self.status_of(ID).effective_priority.0
    }

    fn promoted(mut self) -> Self {
        self.silence();
        self.settle();
        assert_eq!(self.state(), State::Active);
        self
    }

    /// Serves every timer until then.
    fn run_until(&mut self, end: MonoNs) {
        while let Some((due, _)) = self.engine.poll_timeout().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }
}

/// An Active instance with a veto by `a`, which is up.
fn vetoed_by_a() -> Driver {
    let mut driver = Driver::backup_of(tracking(&[track("a", Effect::Veto)]));
    driver.report("a", Health::Up);
    driver.promoted()
}

#[test]
fn a_veto_closes_the_gate_says_so_and_takes_the_addresses_off() {
    let mut driver = vetoed_by_a();
    driver.report("a", Health::Down);
    let actions = driver.take();
    let position = |wanted: fn(&Action) -> bool| actions.iter().position(wanted);
    let closed = position(|action| matches!(action, Action::SetEpoch { .. }));
    let said = position(|action| {
        matches!(
            action,
            Action::SendAdvert {
                priority: Priority::RELEASE,
                ..
            }
        )
    });
    let removed = position(|action| matches!(action, Action::RemoveVips { .. }));
    assert!(
        closed.is_some() && closed < said && said < removed,
        "{actions:?}"
    );
    assert_eq!(driver.state(), State::Fault);
    let status = driver.status_of(ID);
    assert_eq!(
        status.cause,
        Cause::Vetoed {
            by: source("a"),
            why: "it does not answer".to_owned()
        }
    );
    assert!(
        status
            .explanation
            .iter()
            .any(|line| line.contains("as soon as check a is up")),
        "{:?}",
        status.explanation
    );
    driver.report("a", Health::Up);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn nothing_is_taken_over_before_what_has_a_veto_was_looked_at() {
    let mut driver = Driver::backup_of(tracking(&[track("a", Effect::Veto)]));
    driver.run_until(START.after(SECOND));
    assert_eq!(driver.state(), State::Backup);
    let status = driver.status_of(ID);
    assert!(
        status
            .explanation
            .iter()
            .any(|line| line.contains("before check a was looked at")),
        "{:?}",
        status.explanation
    );
    driver.report("a", Health::Up);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_veto_that_a_reload_brings_waits_for_its_first_result() {
    let mut driver = Driver::backup_of(tracking(&[])).promoted();
    let config = tracking(&[track("a", Effect::Veto)]);
    driver.input(Input::Reconfigure(config));
    driver.ready(ID);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    driver.report("a", Health::Down);
    assert_eq!(driver.state(), State::Fault);
}

#[test]
fn what_was_known_survives_a_reload_and_what_is_removed_no_longer_counts() {
    let mut driver = vetoed_by_a();
    driver.report("a", Health::Down);
    driver.input(Input::Reconfigure(tracking(&[track("a", Effect::Veto)])));
    driver.ready(ID);
    assert_eq!(driver.state(), State::Fault);
    driver.input(Input::Reconfigure(tracking(&[])));
    driver.ready(ID);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_veto_at_the_start_is_fault_and_waits_for_the_interface_first() {
    let mut driver = Driver::new(tracking(&[track("a", Effect::Veto)]));
    driver.report("a", Health::Down);
    assert_eq!(driver.state(), State::Initialize);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Fault);
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::Absent,
    });
    assert_eq!(
        driver.status_of(ID).cause,
        Cause::Interface(InterfaceCondition::Absent)
    );
    driver.report("a", Health::Up);
    assert_eq!(driver.state(), State::Fault);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn weights_move_the_priority_and_the_dataplane_and_the_peers_hear_of_it() {
    let tracks = [
        track("a", Effect::Weight(-20)),
        track("b", Effect::Weight(30)),
        track("c", Effect::WeightPerUnit(5)),
    ];
    let mut driver = Driver::backup_of(tracking(&tracks));
    assert_eq!(driver.priority(), 100);
    driver.report("a", Health::Up);
    driver.report("b", Health::Up);
    driver.report_count("c", Health::Up, 2);
    assert_eq!(driver.priority(), 140);
    let mut driver = driver.promoted();
    driver.after(INTERVAL);
    driver.report("a", Health::Down);
    assert_eq!(driver.priority(), 120);
    let deeds = deeds(driver.take());
    assert!(
        matches!(
            deeds[..],
            [
                Action::SetRank {
                    priority: Priority(120),
                    ..
                },
                Action::SendAdvert {
                    priority: Priority(120),
                    ..
                }
            ]
        ),
        "{deeds:?}"
    );
    driver.report("b", Health::Down);
    driver.report("c", Health::Down);
    assert_eq!(driver.priority(), 80);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_lower_priority_loses_to_a_backup_s_advert_and_a_higher_one_pre_empts() {
    let mut driver = Driver::backup_of(tracking(&[track("a", Effect::Weight(-60))]));
    driver.report("a", Health::Up);
    let mut driver = driver.promoted();
    driver.hear(102, 50);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    driver.report("a", Health::Down);
    driver.settle();
    driver.after(INTERVAL).hear(102, 50);
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
    // Back at 100 it takes over again, for it may pre-empt.
    driver.report("a", Health::Up);
    let end = driver.now.after(SECOND);
    while driver.now < end && driver.state() == State::Backup {
        driver.after(INTERVAL).hear(102, 50);
        driver.engine.handle_timeout(driver.now);
        driver.settle();
    }
    assert_ne!(driver.state(), State::Backup);
}

#[test]
fn the_owner_has_its_priority_whatever_happens() {
    let mut config = tracking(&[track("a", Effect::Weight(-20))]);
    config.instances[0].priority = Priority::OWNER;
    let mut driver = Driver::backup_of(config);
    driver.report("a", Health::Down);
    assert_eq!(driver.priority(), 255);
}

#[test]
fn the_members_of_a_group_have_what_any_of_them_tracks_in_common() {
    let member = |id, tracks: &[Track]| {
        let mut member = instance(id);
        member.group = Some(0);
        member.track = tracks.to_vec();
        member
    };
    let shared = track("a", Effect::Weight(-20));
    let mut config = of(vec![
        member(0, std::slice::from_ref(&shared)),
        member(1, &[shared, track("b", Effect::Veto)]),
    ]);
    config.groups[0].track = vec![track("c", Effect::Weight(-7))];
    let mut driver = Driver::backup_of(config);
    for name in ["a", "b", "c"] {
        driver.report(name, Health::Up);
    }
    driver.silence();
    driver.settle();
    let other = InstanceId(1);
    for name in ["a", "c"] {
        driver.report(name, Health::Down);
    }
    for id in [ID, other] {
        let status = driver.status_of(id);
        assert_eq!(
            (status.state, status.effective_priority),
            (State::Active, Priority(73))
        );
    }
    driver.report("b", Health::Down);
    assert_eq!([ID, other].map(|id| driver.state_of(id)), [State::Fault; 2]);
    driver.report("b", Health::Up);
    assert_eq!(
        [ID, other].map(|id| driver.state_of(id)),
        [State::Backup; 2]
    );
}

#[test]
fn what_comes_and_goes_is_held_back_longer_each_time_and_forgiven_after_a_while() {
    let mut driver = vetoed_by_a();
    let mut waits = Vec::new();
    for _ in 0..9 {
        driver.report("a", Health::Down);
        driver.settle();
        assert_eq!(driver.state(), State::Fault, "a fall is never held back");
        driver.report("a", Health::Up);
        let up = driver.now;
        while driver.state() == State::Fault {
            driver.tick_and_settle();
        }
        waits.push(driver.now.since(up));
    }
    let secs = [0, 1, 2, 4, 8, 16, 32, 60, 60];
    assert_eq!(waits, secs.map(Nanos::from_secs));
    driver.after(DAMPING);
    driver.report("a", Health::Down);
    driver.report("a", Health::Up);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_mute_ends_a_veto_until_it_ends() {
    let mut driver = vetoed_by_a();
    let until = driver.now.after(SECOND);
    driver.input(Input::Mute {
        source: source("a"),
        until: Some(until),
    });
    driver.report("a", Health::Down);
    assert_eq!(driver.state(), State::Active);
    driver.run_until(until);
    assert_eq!(driver.state(), State::Fault);
    driver.input(Input::Mute {
        source: source("a"),
        until: Some(MonoNs(u64::MAX)),
    });
    assert_eq!(driver.state(), State::Backup);
    assert!(driver.engine.poll_timeout().expect("it waits").0 < MonoNs(u64::MAX));
    driver.input(Input::Mute {
        source: source("a"),
        until: None,
    });
    assert_eq!(driver.state(), State::Fault);
}

#[test]
fn what_holds_it_back_is_explained() {
    let tracks = [track("a", Effect::Veto), track("b", Effect::Weight(-20))];
    let mut driver = Driver::backup_of(tracking(&tracks));
    let says = |driver: &Driver, words: &str| {
        let lines = driver.status_of(ID).explanation;
        assert!(lines.iter().any(|line| line.contains(words)), "{lines:?}");
    };
    driver.report("a", Health::Up);
    driver.report("b", Health::Up);
    driver.report("a", Health::Down);
    says(&driver, "as soon as check a is up");
    driver.report("a", Health::Up);
    let cause = driver.status_of(ID).cause;
    assert_eq!(cause, Cause::Recovered { by: source("a") });
    says(&driver, "because check a is up again");
    driver.report("a", Health::Down);
    driver.report("a", Health::Up);
    assert_eq!(driver.state(), State::Fault);
    says(&driver, "By now check a is up again, which counts in 1 s");
    driver.input(Input::Mute {
        source: source("a"),
        until: Some(MonoNs(u64::MAX)),
    });
    assert_eq!(driver.state(), State::Backup);
    says(&driver, "An operator muted check a");
    driver.take();
    driver.report("b", Health::Down);
    let told = driver.take().into_iter().any(|action| {
        matches!(action, Action::Note { sentence, .. } if sentence == "its priority is now 80 instead of 100, by what it tracks")
    });
    assert!(told);
}

#[test]
fn a_carrier_that_comes_or_goes_has_to_last() {
    let mut one = instance(0);
    one.link_delays = LinkDelays {
        up: Nanos::from_millis(500),
        down: Nanos::from_millis(200),
    };
    let mut driver = Driver::active(one);
    let lost = |driver: &mut Driver| {
        driver.input(Input::Interface {
            instance: ID,
            condition: InterfaceCondition::NoCarrier,
        });
        driver.now
    };
    let at = lost(&mut driver);
    driver.run_until(at.after(Nanos::from_millis(199)));
    assert_eq!(driver.state(), State::Active);
    driver.ready(ID);
    driver.run_until(at.after(SECOND));
    assert_eq!(driver.state(), State::Active);
    let at = lost(&mut driver);
    driver.run_until(at.after(Nanos::from_millis(200)));
    assert_eq!(driver.state(), State::Fault);
    driver.ready(ID);
    let at = driver.now;
    driver.run_until(at.after(Nanos::from_millis(499)));
    assert_eq!(driver.state(), State::Fault);
    driver.run_until(at.after(Nanos::from_millis(500)));
    assert_eq!(driver.state(), State::Backup);
    // What is no matter of carrier does not wait.
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::Down,
    });
    assert_eq!(driver.state(), State::Fault);
}

#[test]
fn a_reload_neither_shortens_a_delay_nor_begins_it_anew() {
    let with_delay = |millis| {
        let mut one = instance(0);
        one.link_delays.down = Nanos::from_millis(millis);
        config(vec![one])
    };
    let mut driver = Driver::backup_of(with_delay(500));
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::NoCarrier,
    });
    let lost_at = driver.now;
    for millis in [500, 800, 300] {
        driver.after(Nanos::from_millis(100));
        driver.input(Input::Reconfigure(with_delay(millis)));
        driver.settle();
        assert_eq!(driver.state(), State::Backup);
    }
    driver.run_until(lost_at.after(Nanos::from_millis(300)));
    assert_eq!(driver.state(), State::Fault);
}

#[test]
fn slaves_that_come_and_go_are_delayed_and_damped() {
    let bond = Source::Interface("bond0".to_owned());
    let mut one = instance(0);
    one.track = vec![Track {
        source: bond.clone(),
        effect: Effect::WeightPerUnit(5),
    }];
    let mut config = config(vec![one]);
    config.tracked = vec![TrackedConfig {
        source: bond.clone(),
        down_delay: Nanos::from_millis(500),
        ..judged("bond0")
    }];
    let mut driver = Driver::backup_of(config);
    let slaves = |driver: &mut Driver, count| {
        driver.input(Input::Tracked {
            source: bond.clone(),
            reading: Reading {
                health: Health::Up,
                count,
                why: String::new(),
            },
        });
        driver.settle();
        driver.priority()
    };
    assert_eq!(slaves(&mut driver, 2), 110);
    // One that is back before the delay is over was never away.
    assert_eq!(slaves(&mut driver, 1), 110);
    driver.after(Nanos::from_millis(400));
    assert_eq!(slaves(&mut driver, 2), 110);
    let away_at = driver.now;
    assert_eq!(slaves(&mut driver, 1), 110);
    driver.run_until(away_at.after(Nanos::from_millis(499)));
    assert_eq!(driver.priority(), 110);
    driver.run_until(away_at.after(Nanos::from_millis(500)));
    assert_eq!(driver.priority(), 105);
    // The second fall costs a second.
    let back_at = driver.now;
    assert_eq!(slaves(&mut driver, 2), 105);
    driver.run_until(back_at.after(Nanos::from_millis(999)));
    assert_eq!(driver.priority(), 105);
    driver.run_until(back_at.after(SECOND));
    assert_eq!(driver.priority(), 110);
}

#[derive(Clone, Debug)]
enum Op {
    Report(usize, Health, i32),
    Wait(u64),
    Mute(usize, Option<u64>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let health = prop_oneof![
        3 => Just(Health::Up),
        3 => Just(Health::Down),
        1 => Just(Health::Unknown)
    ];
    let op = prop_oneof![
        8 => (0..3_usize, health, 0..4).prop_map(|(at, health, count)| Op::Report(at, health, count)),
        4 => (0..3_000_000_000_u64).prop_map(Op::Wait),
        1 => (0..3_usize, prop::option::of(0..2_000_000_000_u64)).prop_map(|(at, lasts)| Op::Mute(at, lasts)),
    ];
    prop::collection::vec(op, 1..40)
}

fn effects() -> impl Strategy<Value = [Effect; 3]> {
    let effect = prop_oneof![
        Just(Effect::Veto),
        prop_oneof![-253..0_i16, 1..=253_i16].prop_map(Effect::Weight),
        (-60..60_i16).prop_map(Effect::WeightPerUnit),
    ];
    [effect.clone(), effect.clone(), effect]
}

/// The definition, in words of its own: a fall counts at once, a recovery when damping lets it; muted things are up.
#[derive(Clone, Debug, Default)]
struct Expected {
    reported: (Health, i32),
    counts: (Health, i32),
    muted_until: Option<MonoNs>,
}

fn defined(base: u8, effects: &[Effect; 3], things: &[Expected; 3]) -> u8 {
    let sum: i32 = effects
        .iter()
        .zip(things)
        .map(|(effect, thing)| {
            let (health, count) = thing.counts;
            let muted = thing.muted_until.is_some();
            match (*effect, health) {
                (Effect::Weight(weight), Health::Down) if weight < 0 && !muted => weight.into(),
                (Effect::Weight(weight), Health::Up) if weight > 0 => weight.into(),
                (Effect::Weight(weight), _) if weight > 0 && muted => weight.into(),
                (Effect::WeightPerUnit(weight), Health::Up) => i32::from(weight) * count,
                (Effect::WeightPerUnit(weight), _) if muted => i32::from(weight) * count,
                _ => 0,
            }
        })
        .sum();
    u8::try_from((i32::from(base) + sum).clamp(1, 254)).expect("it is clamped")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_effective_priority_is_the_defined_one_and_a_veto_never_waits(
        base in 1..=254_u8,
        effects in effects(),
        ops in ops(),
    ) {
        let names = ["a", "b", "c"];
        let tracks: Vec<Track> = names.iter().zip(effects).map(|(name, effect)| track(name, effect)).collect();
        let mut config = tracking(&tracks);
        config.instances[0].priority = Priority(base);
        let mut driver = Driver::backup_of(config);
        let mut things: [Expected; 3] = Default::default();
        for op in ops {
            match op {
                Op::Report(at, health, count) => {
                    driver.report_count(names[at], health, count);
                    driver.settle();
                    let thing = &mut things[at];
                    thing.reported = (health, count);
                    match (thing.counts.0, health) {
                        (_, Health::Unknown) => {}
                        (_, Health::Down) | (Health::Unknown | Health::Up, Health::Up) => thing.counts = (health, count),
                        // Held back, or not: as long as damping allows.
                        (Health::Down, Health::Up) => {
                            let status = &driver.engine.tracked()[at];
                            match status.settles_at {
                                Some(settles_at) => prop_assert!(settles_at <= driver.now.after(DAMPING)),
                                None => thing.counts = (health, count),
                            }
                        }
                    }
                }
                Op::Wait(nanos) => {
                    let end = driver.now.after(Nanos(nanos));
                    let settle: Vec<Option<MonoNs>> = driver.engine.tracked().iter().map(|one| one.settles_at).collect();
                    driver.run_until(end);
                    for (thing, settles_at) in things.iter_mut().zip(settle) {
                        if settles_at.is_some_and(|at| at <= end) {
                            thing.counts = thing.reported;
                        }
                        thing.muted_until.take_if(|until| *until <= end);
                    }
                }
                Op::Mute(at, lasts) => {
                    let until = lasts.map(|nanos| driver.now.after(Nanos(nanos)));
                    driver.input(Input::Mute { source: source(names[at]), until });
                    driver.settle();
                    things[at].muted_until = until.filter(|until| *until > driver.now);
                }
            }
            prop_assert_eq!(driver.priority(), defined(base, &effects, &things));
            let vetoed = effects.iter().zip(&things).any(|(effect, thing)| {
                *effect == Effect::Veto && thing.muted_until.is_none() && thing.counts.0 == Health::Down
            });
            prop_assert_eq!(driver.state() == State::Fault, vetoed);
            let reported_down = effects.iter().zip(&things).any(|(effect, thing)| {
                *effect == Effect::Veto && thing.muted_until.is_none() && thing.reported.0 == Health::Down
            });
            prop_assert!(!reported_down || driver.state() == State::Fault, "a veto waited");
        }
    }
}

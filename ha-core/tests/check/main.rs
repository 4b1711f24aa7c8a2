//! A check, driven by hand: what probes, events and hangs make of it.

use ha_common::{MonoNs, Nanos};
use ha_core::check::{
    Check, CheckAction, CheckConfig, Found, Health, HealthChange, Observation, Round,
};
use proptest::prelude::*;

const START: MonoNs = MonoNs(1_000_000_000);
const INTERVAL: Nanos = Nanos::from_millis(200);
const TIMEOUT: Nanos = Nanos::from_millis(50);

fn config() -> CheckConfig {
    CheckConfig {
        interval: INTERVAL,
        timeout: TIMEOUT,
        rise: 2,
        fall: 3,
        start_delay: Nanos::ZERO,
    }
}

struct Driver {
    check: Check,
    now: MonoNs,
    /// The probe under way.
    round: Option<Round>,
    probes: u32,
    /// What probes that pass count.
    count: i32,
    counts: Vec<i32>,
    /// Changes of what is known of it without one of its health.
    retold: Vec<String>,
    changes: Vec<(Health, Health)>,
    answers: Vec<bool>,
}

impl Driver {
    fn new(config: CheckConfig) -> Self {
        Self {
            check: Check::new(config, START),
            now: START,
            round: None,
            probes: 0,
            count: 0,
            counts: Vec::new(),
            retold: Vec::new(),
            changes: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// One that passed its first probe.
    fn up() -> Self {
        let mut driver = Self::new(config());
        driver.tick();
        driver.answer(Ok(()));
        assert_eq!(driver.health(), Health::Up);
        driver.changes.clear();
        driver
    }

    fn act(&mut self) {
        while let Some(action) = self.check.poll_action() {
            match action {
                CheckAction::Probe(round) => {
                    assert_eq!(self.round, None, "one probe at a time");
                    self.round = Some(round);
                    self.probes += 1;
                }
                CheckAction::Abandon(round) => assert_eq!(self.round.take(), Some(round)),
                CheckAction::Answer(result) => self.answers.push(result.is_ok()),
                CheckAction::Report(change) => {
                    let HealthChange { from, to, at, .. } = change;
                    assert_eq!(at, self.now);
                    self.counts.push(change.count);
                    if from == to {
                        self.retold.push(change.why);
                    } else {
                        self.changes.push((from, to));
                    }
                }
            }
        }
    }

    /// To the next timer, and serves it.
    fn tick(&mut self) {
        self.now = self.now.max(self.check.poll_timeout());
        self.check.handle_timeout(self.now);
        self.act();
    }

    fn answer(&mut self, result: Result<(), ()>) {
        let round = self.round.take().expect("a probe is under way");
        self.answer_to(round, result);
    }

    fn answer_to(&mut self, round: Round, result: Result<(), ()>) {
        let result = match result {
            Ok(()) => Ok(Found {
                text: "fine".to_owned(),
                count: self.count,
            }),
            Err(()) => Err("broken".to_owned()),
        };
        self.check.probed(round, result, self.now);
        self.act();
    }

    fn observe(&mut self, observation: Observation) {
        self.check.observe(observation, self.now);
        self.act();
    }

    fn suspect(&mut self) {
        self.observe(Observation::Suspect("the connection was closed".to_owned()));
    }

    fn health(&self) -> Health {
        self.check.status().health
    }
}

#[test]
fn the_first_probe_that_passes_is_enough_and_the_first_that_fails_is_not() {
    let mut driver = Driver::new(config());
    driver.tick();
    assert_eq!(driver.now, START);
    driver.answer(Err(()));
    assert_eq!(driver.health(), Health::Unknown);
    driver.tick();
    assert_eq!(driver.now, START.after(INTERVAL));
    driver.answer(Ok(()));
    assert_eq!(driver.changes, [(Health::Unknown, Health::Up)]);
}

#[test]
fn it_falls_after_so_many_failures_in_a_row_and_rises_after_so_many_passes() {
    let mut driver = Driver::up();
    for result in [Err(()), Err(()), Ok(()), Err(()), Err(())] {
        driver.tick();
        driver.answer(result);
        assert_eq!(driver.health(), Health::Up);
    }
    driver.tick();
    driver.answer(Err(()));
    assert_eq!(driver.health(), Health::Down);
    driver.tick();
    driver.answer(Ok(()));
    assert_eq!(driver.health(), Health::Down);
    driver.tick();
    driver.answer(Ok(()));
    assert_eq!(
        driver.changes,
        [(Health::Up, Health::Down), (Health::Down, Health::Up)]
    );
}

#[test]
fn a_service_that_hangs_falls_after_its_timeouts_whatever_the_probes_say_later() {
    let hanging = CheckConfig {
        interval: Nanos::from_millis(20),
        ..config()
    };
    let mut driver = Driver::new(hanging);
    driver.tick();
    driver.answer(Ok(()));
    let answered = driver.now;
    let mut late = Vec::new();
    while driver.health() == Health::Up {
        driver.tick();
        late.extend(driver.round);
    }
    // The interval before the first of them, and then one right after the other.
    let limit = answered.after(hanging.interval).after(TIMEOUT.times(3));
    assert_eq!(driver.now, limit);
    driver.round = None;
    for round in late {
        driver.answer_to(round, Ok(()));
    }
    assert_eq!(driver.health(), Health::Down);
    assert!(driver.check.status().why.contains("50 ms"));
}

#[test]
fn what_is_gone_for_sure_is_down_at_once() {
    let mut driver = Driver::up();
    driver.now = driver.now.after(Nanos::from_millis(7));
    driver.observe(Observation::Failed("its process ended".to_owned()));
    assert_eq!(driver.changes, [(Health::Up, Health::Down)]);
    assert_eq!(driver.check.status().why, "its process ended");
    // One that comes back has to pass as often as any other.
    driver.observe(Observation::Changed);
    driver.answer(Ok(()));
    assert_eq!(driver.health(), Health::Down);
    driver.tick();
    driver.answer(Ok(()));
    assert_eq!(driver.health(), Health::Up);
}

#[test]
fn a_probe_under_way_does_not_survive_the_news_that_the_service_is_gone() {
    let mut driver = Driver::up();
    driver.tick();
    let round = driver.round.expect("a probe is under way");
    driver.observe(Observation::Failed("its process ended".to_owned()));
    assert_eq!(driver.round, None);
    driver.answer_to(round, Ok(()));
    assert_eq!(driver.health(), Health::Down);
}

#[test]
fn a_connection_that_broke_is_confirmed_by_one_probe() {
    let mut driver = Driver::up();
    driver.suspect();
    assert_eq!(driver.health(), Health::Up);
    driver.answer(Ok(()));
    assert_eq!(driver.health(), Health::Up);
    driver.tick();
    driver.answer(Ok(()));
    driver.suspect();
    driver.answer(Err(()));
    assert_eq!(driver.changes, [(Health::Up, Health::Down)]);
}

#[test]
fn a_probe_that_began_before_a_change_is_followed_by_another_one() {
    let mut driver = Driver::up();
    driver.tick();
    driver.observe(Observation::Changed);
    driver.answer(Ok(()));
    assert!(driver.round.is_some());
}

#[test]
fn an_event_source_that_never_rests_does_not_keep_the_node_busy() {
    let mut driver = Driver::up();
    driver.probes = 0;
    for _ in 0..1_000 {
        driver.suspect();
        if driver.round.is_some() {
            driver.answer(Ok(()));
        }
        driver.observe(Observation::Changed);
        if driver.round.is_some() {
            driver.answer(Ok(()));
        }
    }
    assert_eq!(driver.probes, 3);
}

#[test]
fn an_event_too_many_is_followed_by_a_probe_soon_and_decides_then() {
    let mut driver = Driver::up();
    for _ in 0..3 {
        driver.suspect();
        driver.answer(Ok(()));
    }
    let lost_at = driver.now;
    driver.suspect();
    assert_eq!(driver.round, None);
    driver.tick();
    assert_eq!(driver.now, lost_at.after(Nanos(INTERVAL.0 / 4)));
    driver.answer(Err(()));
    assert_eq!(driver.changes, [(Health::Up, Health::Down)]);
}

#[test]
fn who_asks_takes_no_decision_away() {
    let mut driver = Driver::up();
    driver.suspect();
    driver.now = driver.now.after(Nanos::from_millis(1));
    driver.check.ask(driver.now, driver.now);
    driver.act();
    driver.answer(Err(()));
    assert_eq!(driver.changes, [(Health::Up, Health::Down)]);
}

#[test]
fn probes_that_hang_follow_one_another_and_those_that_fail_wait() {
    let mut driver = Driver::up();
    let hung_at = driver.now;
    while driver.health() == Health::Up {
        driver.tick();
    }
    let limit = hung_at.after(INTERVAL).after(TIMEOUT.times(3));
    assert_eq!(driver.now, limit);
    let mut driver = Driver::up();
    let broken_at = driver.now;
    while driver.health() == Health::Up {
        driver.tick();
        driver.answer(Err(()));
    }
    assert_eq!(driver.now, broken_at.after(INTERVAL.times(3)));
}

#[test]
fn a_service_that_is_only_starting_is_not_looked_at() {
    let mut driver = Driver::new(CheckConfig {
        start_delay: Nanos::from_secs(5),
        ..config()
    });
    driver.observe(Observation::Failed("its process ended".to_owned()));
    assert_eq!((driver.health(), driver.probes), (Health::Unknown, 0));
    driver.tick();
    assert_eq!(driver.now, START.after(Nanos::from_secs(5)));
    assert!(driver.round.is_some());
}

#[test]
fn who_asks_is_answered_by_a_probe_that_began_since() {
    let mut driver = Driver::up();
    driver.tick();
    let before = driver.round.expect("a probe is under way");
    driver.now = driver.now.after(Nanos::from_millis(1));
    driver.check.ask(driver.now, driver.now);
    driver.act();
    assert_ne!(driver.round, Some(before));
    let asked = driver.now;
    // A second one who asks about the same moment is content with the same probe.
    driver.check.ask(asked, driver.now);
    driver.act();
    driver.answer(Ok(()));
    assert_eq!(driver.answers, [true]);
    driver
        .check
        .ask(driver.now.after(Nanos(1)), driver.now.after(Nanos(1)));
    driver.act();
    driver.tick();
    assert_eq!(driver.answers, [true, false], "a hang is an answer too");
    assert_eq!(driver.health(), Health::Up, "one failure is not enough");
}

#[test]
fn a_count_that_changes_is_told_while_it_is_up_and_when_it_rises() {
    let mut driver = Driver::up();
    driver.counts.clear();
    for count in [5, 5, -3] {
        driver.count = count;
        driver.tick();
        driver.answer(Ok(()));
    }
    assert_eq!(driver.retold.len(), 2);
    assert_eq!(driver.counts, [5, -3]);
    driver.observe(Observation::Failed("it is gone".to_owned()));
    driver.count = 7;
    for _ in 0..2 {
        assert_eq!(driver.counts, [5, -3, -3]);
        driver.tick();
        driver.answer(Ok(()));
    }
    assert_eq!(driver.counts, [5, -3, -3, 7]);
}

#[test]
fn what_is_wrong_at_present_is_told_and_not_what_was_first() {
    let mut driver = Driver::up();
    driver.observe(Observation::Failed("its process ended".to_owned()));
    driver.tick();
    driver.answer(Err(()));
    assert_eq!(driver.check.status().why, "broken");
    driver.tick();
    driver.answer(Err(()));
    assert_eq!(driver.retold, ["broken"]);
    assert_eq!(driver.changes, [(Health::Up, Health::Down)]);
}

#[test]
fn the_last_results_are_kept() {
    let mut driver = Driver::up();
    for _ in 0..40 {
        driver.tick();
        driver.answer(Err(()));
    }
    let status = driver.check.status();
    assert_eq!((status.recent.len(), status.failed), (16, 40));
    assert!(
        status
            .recent
            .windows(2)
            .all(|pair| pair[0].at <= pair[1].at)
    );
}

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Tick,
    Answer(bool),
    Failed,
    Suspect,
    Changed,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens: one probe at a time, none longer than its timeout, reports that follow one another, and a
    /// service that is down only after enough failures or an event.
    #[test]
    fn reports_follow_one_another(ops in prop::collection::vec(prop_oneof![
        (0..300_000_000_u64).prop_map(Op::Wait),
        Just(Op::Tick),
        any::<bool>().prop_map(Op::Answer),
        Just(Op::Failed),
        Just(Op::Suspect),
        Just(Op::Changed),
    ], 1..120)) {
        let mut driver = Driver::new(config());
        let mut events = false;
        let mut failures = 0;
        for op in ops {
            let before = driver.health();
            match op {
                Op::Wait(nanos) => driver.now = driver.now.after(Nanos(nanos)).min(driver.check.poll_timeout()),
                Op::Tick => {
                    failures += u32::from(driver.round.is_some());
                    driver.tick();
                }
                Op::Answer(passes) => if driver.round.is_some() {
                    failures = if passes { 0 } else { failures + 1 };
                    driver.answer(if passes { Ok(()) } else { Err(()) });
                    events &= driver.round.is_some();
                },
                Op::Failed => { driver.observe(Observation::Failed(String::new())); events = true; }
                Op::Suspect => { driver.suspect(); events = true; }
                Op::Changed => driver.observe(Observation::Changed),
            }
            if before != Health::Down && driver.health() == Health::Down {
                prop_assert!(failures >= 3 || events || matches!(op, Op::Answer(false) | Op::Tick));
            }
            if let Some((from, to)) = driver.changes.last() {
                prop_assert_ne!(from, to);
                prop_assert_eq!(*to, driver.health());
            }
            prop_assert!(driver.changes.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}

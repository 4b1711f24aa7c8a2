//! Announcements of many addresses, which delay no advert.

use ha_common::{MonoNs, Nanos};
use ha_core::{Action, Input, InstanceConfig, InstanceId, State};

use crate::driver::*;

/// The most announcements that may come between two looks at the timers.
const BATCH: u32 = 64;

fn with_vips(id: u32, vips: u32, rounds: u32) -> InstanceConfig {
    let mut config = instance(id);
    config.vips = vips;
    config.announce.count = rounds;
    config
}

/// How often each address of an instance was announced, in order; and that they come one after the other.
fn announced(actions: &[Action], id: InstanceId, vips: u32) -> Vec<u32> {
    let mut counts = vec![0; vips as usize];
    for action in actions {
        if let Action::Announce {
            instance,
            first,
            count,
        } = action
            && *instance == id
        {
            assert!(first + count <= vips, "{action:?}");
            for vip in *first..first + count {
                counts[vip as usize] += 1;
            }
        }
    }
    counts
}

fn packets(actions: &[Action]) -> u32 {
    let count = |action: &Action| match action {
        Action::Announce { count, .. } => *count,
        _ => 0,
    };
    actions.iter().map(count).sum()
}

#[test]
fn many_addresses_are_announced_in_batches_between_which_adverts_leave() {
    let big = with_vips(0, 1_255, 5);
    let small = with_vips(1, 1, 5);
    let mut driver = Driver::backup_of(config(vec![big, small]));
    driver.silence();
    let elected = driver.now;
    let mut all = driver.settle();
    assert!(
        (1..=2 * BATCH).contains(&packets(&all)),
        "the first ones leave at once"
    );
    let mut adverts: Vec<MonoNs> = Vec::new();
    let mut first_round_done = None;
    while driver.now < elected.after(Nanos::from_millis(100)) {
        let actions = driver.tick_and_settle();
        assert!(packets(&actions) <= BATCH);
        for action in &actions {
            if let Action::SendAdvert { round, .. } = action {
                assert_eq!(*round, driver.now);
                adverts.push(*round);
            }
        }
        all.extend(actions);
        let counts = announced(&all, InstanceId(0), 1_255);
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            most <= least.map(|least| least + 1).as_ref(),
            "a round at a time"
        );
        if least >= Some(&1) {
            first_round_done.get_or_insert(driver.now);
        }
    }
    for pair in adverts.chunks(2).collect::<Vec<_>>().windows(2) {
        assert_eq!(
            pair[1][0],
            pair[0][0].after(INTERVAL),
            "every instance, on time"
        );
        assert_eq!(pair[0].len(), 2);
    }
    let took = first_round_done.expect("all were announced").since(elected);
    assert!(took <= Nanos::from_millis(15), "{took}");
    assert_eq!(announced(&all, InstanceId(0), 1_255), vec![5; 1_255]);
    assert_eq!(announced(&all, InstanceId(1), 1), [5]);
    assert!(
        driver
            .engine
            .status(driver.now)
            .iter()
            .all(|one| one.state == State::Active)
    );
}

#[test]
fn what_is_at_another_port_of_the_switch_is_announced_at_once() {
    let mut driver = Driver::active(with_vips(0, 3, 5));
    let begun = driver.now;
    while driver.now < begun.after(Nanos::from_secs(20)) {
        driver.tick_and_settle();
    }
    driver.input(Input::Reattached { instance: ID });
    let mut actions = driver.take();
    assert!(packets(&actions) >= 3, "without waiting: {actions:?}");
    for _ in 0..20 {
        actions.extend(driver.tick_and_settle());
    }
    assert_eq!(announced(&actions, ID, 3), [5; 3]);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn who_is_not_active_announces_nothing_at_another_port() {
    let mut driver = Driver::backup(with_vips(0, 3, 5));
    driver.input(Input::Reattached { instance: ID });
    assert_eq!(packets(&driver.settle()), 0);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_node_that_lets_go_announces_no_more() {
    let mut driver = Driver::active(with_vips(0, 1_255, 5));
    driver.hear(102, 200);
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(packets(&actions), 0);
    for _ in 0..10 {
        driver.after(Nanos::from_millis(1));
        driver.hear(102, 200);
        driver.engine.handle_timeout(driver.now);
        assert_eq!(packets(&driver.settle()), 0);
    }
}

#[test]
fn a_batch_that_failed_is_made_up_for_by_a_whole_round() {
    let mut driver = Driver::active(with_vips(0, 100, 1));
    driver.input(Input::Announced {
        instance: ID,
        result: Err(String::from("no buffer space")),
    });
    let mut actions = Vec::new();
    for _ in 0..6 {
        actions.extend(driver.tick_and_settle());
    }
    assert_eq!(announced(&actions, ID, 100), vec![1; 100]);
}

#[test]
fn many_instances_that_take_over_together_all_advertise_first() {
    let instances: Vec<InstanceConfig> = (0..255).map(|id| with_vips(id, 2, 5)).collect();
    let mut driver = Driver::backup_of(config(instances));
    driver.silence();
    let first = driver.settle();
    let place = |what: fn(&Action) -> bool| first.iter().position(what);
    let last_advert = first
        .iter()
        .rposition(|one| matches!(one, Action::SendAdvert { .. }));
    assert!(last_advert < place(|one| matches!(one, Action::AddVips { .. })));
    let opened = first
        .iter()
        .filter(|one| matches!(one, Action::SetLease { .. }));
    assert_eq!(opened.count(), 255);
    let mut actions = first;
    while driver
        .engine
        .poll_timeout()
        .is_some_and(|(due, _)| due < driver.now.after(INTERVAL))
    {
        actions.extend(driver.tick_and_settle());
    }
    for id in 0..255 {
        assert_eq!(announced(&actions, InstanceId(id), 2), [5, 5]);
    }
}

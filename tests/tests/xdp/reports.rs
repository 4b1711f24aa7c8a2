//! What the kernel tells the daemon: events, their budget, stamps, silence.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use ha_common::{
    Address, Centis, MonoNs, Nanos, Vrid,
    abi::{EVENT_BUDGET, Event, EventKind, InstanceConfig, Reason},
};
use ha_core::InstanceId;
use ha_tests::{eventually, now};

use crate::{
    fixture::{Fixture, Gate, LOWER, OURS, PEER, V2, V3, config, said, vip},
    frames::{VRRP, advert, advert_with},
};

impl Fixture {
    fn hears(&mut self, frame: &[u8]) {
        assert_eq!(self.dataplane.run_ingress(frame).unwrap().code, 1);
    }

    fn priorities(&mut self) -> Vec<u8> {
        self.events()
            .iter()
            .map(|event| event.said().word.priority())
            .collect()
    }

    /// Waits for the next event.
    fn report(&mut self) -> Event {
        let mut found = None;
        eventually(Duration::from_secs(5), "an event", || {
            found = self.dataplane.next_event();
            Ok(found.is_some())
        })
        .unwrap();
        found.unwrap()
    }
}

#[test]
fn only_what_changes_something_is_reported() {
    let mut fixture = Fixture::new();
    let mut step = |name: &str, frame: &[u8], reported: bool| {
        fixture.hears(frame);
        assert_eq!(fixture.events().len(), usize::from(reported), "{name}");
    };
    step("first seen", &advert(V3, 50), true);
    for _ in 0..20 {
        step("the same again", &advert(V3, 50), false);
    }
    step("other priority", &advert(V3, 51), true);
    step("the same again", &advert(V3, 51), false);
    let slower = advert_with(V3, |spec| spec.interval = Centis(2));
    step("other interval", &slower, true);
    step("the same again", &slower, false);
    let other = advert_with(V3, |spec| spec.source = Address::v4(LOWER));
    step("other sender", &other, true);
    step("the same again", &other, false);
    step("priority 0", &advert(V3, 0), true);
    step("priority 0 again", &advert(V3, 0), true);
    step("back", &advert(V3, 50), true);
    step("another instance", &advert(V2, 50), true);
    step("not again", &advert(V3, 50), false);
    let mut wrong = advert(V3, 77);
    wrong[VRRP + 7] ^= 1;
    step("an invalid one", &wrong, false);
}

#[test]
fn an_open_gate_reports_every_advert() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    for _ in 0..3 {
        fixture.hears(&advert(V3, 50));
    }
    assert_eq!(fixture.priorities(), [50, 50, 50]);
}

#[test]
fn what_ends_an_epoch_is_reported_though_it_says_nothing_new() {
    let mut fixture = Fixture::new();
    fixture.hears(&advert(V3, 200));
    assert_eq!(fixture.priorities(), [200]);
    for _ in 0..2 {
        let raised = fixture.dataplane.epoch(V3).raised();
        fixture.dataplane.set_epoch(V3, raised);
        for _ in 0..3 {
            fixture.hears(&advert(V3, 200));
        }
        assert_eq!(fixture.priorities(), [200], "once in each epoch");
    }
}

#[test]
fn stamps_and_counts() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.dataplane.received(V3).last_ns, 0);
    let before = now();
    fixture.hears(&advert(V3, 50));
    let after = now();
    let first = fixture.dataplane.received(V3);
    assert!(before.0 < first.last_ns && first.last_ns < after.0);
    assert_eq!(first.adverts, 1);
    assert_eq!(first.said(), said(PEER, 50, 1));
    let event = fixture.events()[0];
    assert_eq!(
        (event.stamp_ns, event.said()),
        (first.last_ns, first.said())
    );

    // Priority 0 does not count as a sign of life.
    fixture.hears(&advert(V3, 0));
    let second = fixture.dataplane.received(V3);
    assert_eq!((second.last_ns, second.adverts), (first.last_ns, 2));
    assert_eq!(second.said().word.priority(), 0);
    let event = fixture.events()[0];
    assert!(
        event.stamp_ns > first.last_ns,
        "the event has its own stamp"
    );
    assert_eq!(fixture.dataplane.received(V2).adverts, 0);
}

#[test]
fn a_slot_with_another_virtual_router_starts_afresh() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    fixture.hears(&advert(V3, 50));
    let mut same = config(V3);
    same.priority = 99;
    let vips = [vip(V3).into()];
    fixture
        .dataplane
        .set_instance(V3, &same, &vips, &[])
        .unwrap();
    assert!(fixture.is_open(V3), "a reload keeps the gate");
    assert_eq!(fixture.dataplane.received(V3).adverts, 1);
    let mut other = same;
    other.vrid = 61;
    fixture
        .dataplane
        .set_instance(V3, &other, &vips, &[])
        .unwrap();
    assert!(!fixture.is_open(V3));
    assert_eq!(fixture.dataplane.received(V3).adverts, 0);
    let verdict = fixture.dataplane.run_ingress(&advert(V3, 50)).unwrap();
    assert_eq!(verdict.code, 2, "its former VRID is nobody's");
    assert_eq!(other.source, Address::v4(OURS));
}

#[test]
fn no_sender_reports_more_than_the_budget() {
    let mut fixture = Fixture::new();
    let budget = usize::try_from(EVENT_BUDGET).unwrap();
    let flood = 4 * budget;
    let before = fixture.counts();
    let start = now();
    for index in 0..flood {
        fixture.hears(&advert(V3, u8::try_from(index % 100).unwrap() + 1));
    }
    let took = now().since(start);
    // As many windows as the flood touched, on a machine however slow.
    let windows = usize::try_from(took.0 / 100_000_000).unwrap() + 2;
    let reported = fixture.events().len();
    assert!(
        reported >= budget && reported <= windows * budget,
        "{reported} in {took}"
    );
    let counted = fixture.counted(&before);
    let dropped = counted
        .iter()
        .find(|(reason, _)| *reason == Reason::EventBudget);
    assert_eq!(
        dropped.map_or(0, |(_, count)| *count),
        u64::try_from(flood - reported).unwrap()
    );
    assert!(
        reported < flood,
        "the flood of {took} was too slow to meet the budget"
    );
    // The words stay true whatever was reported.
    let last = fixture.dataplane.received(V3).said().word;
    assert_eq!(usize::from(last.priority()), (flood - 1) % 100 + 1);
    // Another instance has a budget of its own.
    fixture.hears(&advert(V2, 50));
    assert_eq!(fixture.events().len(), 1);
}

#[test]
fn a_full_ring_is_counted() {
    let mut fixture = Fixture::new();
    let before = fixture.counts();
    // Each event takes 40 bytes of the ring; the budget of each instance is reset with it.
    let room = usize::try_from(ha_common::abi::EVENT_RING_BYTES).unwrap() / 40;
    let mut sent = 0;
    while sent < room + 100 {
        let config = config(V3);
        fixture.dataplane.clear_instance(V3).unwrap();
        fixture
            .dataplane
            .set_instance(V3, &config, &[vip(V3).into()], &[])
            .unwrap();
        for priority in 1..=60 {
            fixture.hears(&advert(V3, priority));
            sent += 1;
        }
    }
    let full = fixture
        .counted(&before)
        .into_iter()
        .find(|(reason, _)| *reason == Reason::EventRingFull)
        .map_or(0, |(_, count)| usize::try_from(count).unwrap());
    let reported = fixture.events().len();
    assert_eq!(reported + full, sent);
    assert!(full > 0 && reported <= room);
}

/// Long against the stalls of a loaded machine, which would be silence.
const DOWN: Nanos = Nanos::from_millis(150);

/// How late a report may be on such a machine; on an idle one it is some tens of microseconds.
const LATE: Nanos = Nanos::from_millis(100);

#[test]
fn silence_is_reported_once_after_the_last_advert() {
    let mut fixture = Fixture::new();
    assert!(fixture.dataplane.has_watch());
    fixture.dataplane.watch(V3, DOWN.0).unwrap();
    assert_eq!(
        fixture.dataplane.next_event(),
        None,
        "nothing was heard, nothing is missed"
    );

    // Adverts for longer than the watched time: no silence.
    let start = now();
    while now().since(start) < DOWN.times(3) {
        fixture.hears(&advert(V3, 50));
        let until = now().after(Nanos::from_millis(5));
        while now() < until {
            std::thread::yield_now();
        }
    }
    let last = MonoNs(fixture.dataplane.received(V3).last_ns);
    let events = fixture.events();
    assert_eq!(events.len(), 1, "the first advert: {events:?}");
    assert_eq!(events[0].kind, EventKind::Advert as u32);

    let silence = fixture.report();
    assert_eq!(silence.kind, EventKind::Silence as u32);
    assert_eq!(silence.instance, V3.0);
    assert_eq!(silence.stamp(), last);
    assert_eq!(silence.said().word.priority(), 50);
    let lasted = MonoNs(silence.made_ns).since(last);
    assert!(lasted >= DOWN && lasted < DOWN.plus(LATE), "after {lasted}");

    // Once, until the next advert; then again.
    let quiet = now().after(DOWN.times(3));
    while now() < quiet {
        assert_eq!(fixture.dataplane.next_event(), None);
        std::thread::yield_now();
    }
    fixture.hears(&advert(V3, 50));
    assert_eq!(fixture.report().kind, EventKind::Silence as u32);
    let counts = fixture.counts();
    assert_eq!(counts[&Reason::SilenceReported], 2);
}

/// Timers for so many take more memory than a CPU has at hand.
#[test]
fn the_silence_of_each_of_many_is_reported() {
    const MANY: RangeInclusive<u8> = 60..=255;

    let mut fixture = Fixture::new();
    for vrid in MANY {
        let config = InstanceConfig { vrid, ..config(V3) };
        let id = InstanceId(vrid.into());
        fixture
            .dataplane
            .set_instance(id, &config, &[], &[])
            .unwrap();
        fixture.dataplane.watch(id, DOWN.0).unwrap();
    }
    for vrid in MANY {
        let vrid = Vrid::new(vrid).unwrap();
        fixture.hears(&advert_with(V3, |spec| spec.vrid = vrid));
    }
    let mut silent = BTreeSet::new();
    eventually(Duration::from_secs(5), "each was reported", || {
        let events = fixture.events();
        let silences = events
            .iter()
            .filter(|it| it.kind == EventKind::Silence as u32);
        silent.extend(silences.map(|event| event.instance));
        Ok(silent.len() == MANY.count())
    })
    .unwrap();
}

#[test]
fn a_watch_that_is_set_late_covers_the_advert_before() {
    let mut fixture = Fixture::new();
    fixture.hears(&advert(V3, 50));
    let last = MonoNs(fixture.dataplane.received(V3).last_ns);
    assert_eq!(fixture.events().len(), 1);
    fixture.dataplane.watch(V3, DOWN.0).unwrap();
    let silence = fixture.report();
    assert_eq!(silence.kind, EventKind::Silence as u32);
    let lasted = MonoNs(silence.made_ns).since(last);
    assert!(lasted >= DOWN && lasted < DOWN.plus(LATE), "after {lasted}");
    // Over already: at once.
    fixture.dataplane.watch(V3, DOWN.0 / 2).unwrap();
    let silence = fixture.report();
    assert_eq!(
        (silence.kind, silence.stamp()),
        (EventKind::Silence as u32, last)
    );
}

#[test]
fn a_watch_can_be_changed_and_ended() {
    let mut fixture = Fixture::new();
    let long = Nanos::from_secs(30);
    fixture.dataplane.watch(V3, long.0).unwrap();
    fixture.hears(&advert(V3, 50));
    fixture.events();
    // Shorter: the running timer is set anew.
    fixture.dataplane.watch(V3, DOWN.0).unwrap();
    assert_eq!(fixture.report().kind, EventKind::Silence as u32);
    // Ended while the timer runs: it ends without a word.
    fixture.hears(&advert(V3, 50));
    fixture.dataplane.watch(V3, 0).unwrap();
    fixture.dataplane.watch(V2, DOWN.times(2).0).unwrap();
    fixture.hears(&advert(V2, 50));
    assert_eq!(fixture.report().instance, V2.0, "V2's first advert");
    let silence = fixture.report();
    assert_eq!(
        (silence.kind, silence.instance),
        (EventKind::Silence as u32, V2.0)
    );
    assert_eq!(fixture.dataplane.next_event(), None);
}

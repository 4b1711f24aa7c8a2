//! Leases granted by a peer's kernel.

mod resuming;

use ha_common::{
    MonoNs, Nanos,
    lease::{Ask, Promise, Standing, margin},
};
use ha_core::{
    Action, Alone, Cause, Input, InstanceConfig, LeaseConfig, LeasePeer, LeaseView, LeaseViews,
    PathConfig, PathId, State,
};

use crate::driver::*;

const PATH: PathConfig = PathConfig {
    id: PathId(0),
    interval: Nanos::from_millis(3),
    multiplier: 3,
};
const LEASE: Nanos = Nanos::from_millis(9);
const PEER: u8 = 102;
/// Far beyond any lease.
const ADVERTS: Nanos = Nanos::from_secs(1);

fn with_leases(alone: Alone, paths: &[PathConfig]) -> InstanceConfig {
    InstanceConfig {
        lease: Some(LeaseConfig {
            peers: vec![LeasePeer {
                address: address(PEER),
                paths: paths.to_vec(),
            }],
            alone,
        }),
        advert_interval: ADVERTS,
        preempt: false,
        sole_peer: true,
        ..instance(0)
    }
}

/// An engine, and what its kernel holds about its only peer.
struct Node {
    driver: Driver,
    view: LeaseView,
    /// Whether the peer is there and grants what is asked.
    grants: bool,
    done: Vec<Action>,
}

impl Node {
    fn backup(alone: Alone) -> Self {
        Self::backup_with(alone, &[PATH])
    }

    fn backup_with(alone: Alone, paths: &[PathConfig]) -> Self {
        Self::with(with_leases(alone, paths))
    }

    fn with(config: InstanceConfig) -> Self {
        let mut node = Self {
            driver: Driver::backup(config),
            view: LeaseView::default(),
            grants: false,
            done: Vec::new(),
        };
        node.input(Input::PathHeard {
            path: PATH.id,
            heard_at: node.driver.now,
            round_trip: Some(Nanos::from_micros(50)),
        });
        node
    }

    /// A Backup whose peer has just asked for the last time.
    fn bereaved() -> Self {
        let mut node = Self::backup(Alone::Serve);
        node.driver.hear(PEER, 200);
        node.asked();
        node
    }

    fn active() -> Self {
        let mut node = Self::bereaved();
        node.grants = true;
        node.silence();
        node.run_for(Nanos::ZERO);
        assert_eq!(node.driver.state(), State::Active);
        node.done.clear();
        node
    }

    fn now(&self) -> MonoNs {
        self.driver.now
    }

    /// The peer's request to hold the instance is granted; the kernel does not say so.
    fn holds(&mut self) {
        let now = self.now();
        self.view.heard_at = now;
        self.view.asked_at = now;
        self.view.promised_until = Promise::default().granted(now, LEASE).ends();
    }

    /// The peer asks to hold the instance, and is granted it.
    fn asked(&mut self) {
        self.holds();
        self.input(Input::Asked {
            instance: ID,
            peer: 0,
            ask: Ask::Hold,
        });
    }

    /// The promise runs out, and the kernel says so.
    fn silence(&mut self) {
        self.driver.now = self.view.promised_until;
        self.input(Input::LeaseSilence { instance: ID });
    }

    fn input(&mut self, input: Input) {
        self.read();
        self.driver.input(input);
        self.carry_out();
    }

    fn read(&mut self) {
        let mut views = LeaseViews::default();
        views[0] = self.view;
        let now = self.now();
        self.driver.engine.read_leases(ID, &views, now);
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.driver.engine.poll_action() {
            self.done.push(action.clone());
            let now = self.now();
            let outcome = match action {
                Action::Act { instance } => {
                    let result = if self.view.promised_until > now {
                        Err(self.view.promised_until)
                    } else {
                        self.view.promised_until = MonoNs::ZERO;
                        Ok(())
                    };
                    Input::Acted { instance, result }
                }
                Action::SendEcho { path, round } => {
                    if self.grants {
                        self.view.heard_at = now;
                        self.view.deadline = round.after(LEASE);
                        self.view.self_renewed = false;
                    }
                    Input::EchoSent {
                        path,
                        round,
                        result: Ok(()),
                    }
                }
                Action::RenewAlone { lease, .. } => {
                    self.view.deadline = lease.deadline();
                    self.view.self_renewed = true;
                    self.read();
                    continue;
                }
                Action::SetEpoch { .. } => {
                    self.view.deadline = MonoNs::ZERO;
                    continue;
                }
                Action::SendAdvert {
                    instance, round, ..
                } => Input::AdvertSent {
                    instance,
                    round,
                    result: Ok(()),
                },
                Action::AddVips { instance } => Input::VipsAdded {
                    instance,
                    result: Ok(()),
                },
                _ => continue,
            };
            self.read();
            self.driver.input(outcome);
        }
    }

    /// To the next timer, and serves it.
    fn tick(&mut self) {
        let (due, _) = self.driver.engine.poll_timeout().expect("a timer runs");
        self.driver.now = self.driver.now.max(due);
        let now = self.now();
        self.read();
        self.driver.engine.handle_timeout(now);
        self.carry_out();
    }

    fn run_for(&mut self, span: Nanos) {
        let end = self.now().after(span);
        while self
            .driver
            .engine
            .poll_timeout()
            .is_some_and(|(due, _)| due <= end)
        {
            self.tick();
        }
        self.driver.now = end;
    }

    fn echoes(&self) -> usize {
        let echo = |action: &&Action| matches!(action, Action::SendEcho { .. });
        self.done.iter().filter(echo).count()
    }

    fn adverts(&self) -> usize {
        let advert = |action: &&Action| matches!(action, Action::SendAdvert { .. });
        self.done.iter().filter(advert).count()
    }

    /// What an operator reads of it.
    fn told(&self) -> Vec<&Action> {
        let told = |action: &&Action| matches!(action, Action::Report(_) | Action::Note { .. });
        self.done.iter().filter(told).collect()
    }

    fn cause(&self) -> Cause {
        self.driver.status_of(ID).cause
    }
}

#[test]
fn a_promise_that_runs_out_is_silence_long_before_three_adverts_are_missing() {
    let mut node = Node::bereaved();
    node.grants = true;
    node.done.clear();
    node.silence();
    node.run_for(Nanos::ZERO);
    assert_eq!(
        node.driver.state(),
        State::Active,
        "one announcement was granted"
    );
    assert_eq!(node.echoes(), 1);
    assert_eq!(node.now(), node.driver.status_of(ID).since);
}

#[test]
fn a_candidate_that_hears_nothing_opens_after_three_announcements_and_a_round_trip() {
    let mut node = Node::bereaved();
    node.done.clear();
    node.silence();
    let began = node.now();
    assert_eq!(node.driver.state(), State::Promoting);
    while node.driver.state() == State::Promoting {
        assert_eq!(node.adverts(), 0, "no advert before it has won");
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    assert!(node.echoes() >= 3);
    let took = node.now().since(began);
    assert!(took >= Nanos(2 * PATH.interval.0 / 8), "{took}");
    assert!(took < PATH.interval, "{took}");
    assert!(node.view.self_renewed);
    assert!(node.view.deadline <= node.now().after(LEASE));
}

#[test]
fn a_candidate_opens_after_the_lease_of_an_echo_that_was_lost_after_the_last_one() {
    let mut node = Node::bereaved();
    let lost = node.now().after(PATH.interval);
    node.silence();
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    assert!(node.now() >= lost.after(LEASE), "{:?}", node.now());
}

#[test]
fn a_peer_that_was_heard_shortly_before_is_not_silent_yet() {
    let mut node = Node::bereaved();
    // Its kernel answered a hello, though it was not heard asking.
    let heard_at = node.view.promised_until.before(Nanos::from_millis(1));
    node.view.heard_at = heard_at;
    node.silence();
    let silent_from = heard_at.after(Nanos(LEASE.0 - PATH.interval.0 / 2 * 3));
    node.run_for(silent_from.before(Nanos(1)).since(node.now()));
    assert_eq!(node.driver.state(), State::Promoting);
    node.run_for(PATH.interval);
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn one_long_round_trip_delays_a_candidate_by_a_lease_at_most() {
    let mut node = Node::bereaved();
    node.input(Input::PathHeard {
        path: PATH.id,
        heard_at: node.now(),
        round_trip: Some(LEASE.times(20)),
    });
    node.silence();
    let began = node.now();
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    let took = node.now().since(began);
    assert!(took >= LEASE, "{took}");
    assert!(took < LEASE.plus(PATH.interval), "{took}");
}

#[test]
fn a_candidate_that_is_refused_gives_up_without_a_word_on_the_lan() {
    let mut node = Node::bereaved();
    node.done.clear();
    node.silence();
    for _ in 0..200 {
        if node.driver.state() != State::Promoting {
            break;
        }
        // A refusal is heard.
        node.view.heard_at = node.now();
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::NotGranted { by: address(PEER) });
    assert_eq!(node.adverts(), 0);
    let stands: Vec<Standing> = node
        .done
        .iter()
        .filter_map(|action| match action {
            Action::Stand { standing, .. } => Some(*standing),
            _ => None,
        })
        .collect();
    assert_eq!(stands, [Standing::Candidate, Standing::Bystander]);
    assert!(node.done.contains(&Action::LetGo { instance: ID }));
}

#[test]
fn a_peer_that_advertises_and_no_longer_asks_is_not_dead() {
    let mut node = Node::bereaved();
    node.driver.now = node.view.promised_until.before(Nanos(1));
    node.driver.hear(PEER, 200);
    node.done.clear();
    node.silence();
    assert_eq!(node.driver.state(), State::Backup);
    assert!(!node.done.contains(&Action::Act { instance: ID }));
}

/// A Backup whose peer advertised after its last request, told by its kernel that nobody asks; and until when the
/// advert shows the peer alive.
fn advertised_after_asking() -> (Node, MonoNs) {
    let mut node = Node::bereaved();
    node.driver.now = node.now().after(Nanos::from_millis(2));
    let due = node.now().after(LEASE).after(margin(LEASE));
    node.driver.hear(PEER, 200);
    node.silence();
    (node, due)
}

#[test]
fn an_advert_after_the_last_request_shows_its_sender_alive_as_that_does() {
    let (mut node, due) = advertised_after_asking();
    while node.now() < due {
        assert_eq!(node.driver.state(), State::Backup, "{:?}", node.now());
        node.tick();
    }
    assert_eq!(node.now(), due);
    assert_eq!(node.driver.state(), State::Promoting);
}

/// A Backup that was told of a silence, and was held up before it could act on it: the wake-up that it waited
/// for is `late`.
fn held_up_by(late: Nanos) -> Node {
    let (mut node, due) = advertised_after_asking();
    node.driver.now = due.after(late);
    node.tick();
    node
}

#[test]
fn a_silence_that_was_seen_before_a_node_was_held_up_has_to_last_a_lease_more() {
    let almost = Nanos(PATH.interval.0 - 1);
    assert_eq!(held_up_by(almost).driver.state(), State::Promoting);
    for late in [PATH.interval, LEASE, LEASE.times(2)] {
        let mut node = held_up_by(late);
        let due = node.now().after(LEASE);
        while node.now() < due {
            assert_eq!(
                node.driver.state(),
                State::Backup,
                "{late} {:?}",
                node.now()
            );
            node.tick();
        }
        assert_eq!(node.now(), due, "{late}");
        assert_eq!(node.driver.state(), State::Promoting, "{late}");
    }
}

#[test]
fn a_node_that_is_always_held_up_believes_a_silence_the_second_time() {
    let mut node = held_up_by(LEASE);
    node.driver.now = node.now().after(LEASE.times(2));
    node.tick();
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn a_request_after_a_hold_up_ends_the_silence_before() {
    let mut node = held_up_by(LEASE);
    let end = node.now().after(LEASE.times(5));
    while node.now() < end {
        node.driver.now = node.now().after(PATH.interval);
        node.holds();
        node.read();
        let now = node.now();
        node.driver.engine.handle_timeout(now);
        node.carry_out();
        assert_eq!(node.driver.state(), State::Backup);
    }
}

#[test]
fn where_paths_differ_a_peer_is_silent_after_a_lease_of_the_slowest() {
    let slow = PathConfig {
        id: PathId(1),
        interval: PATH.interval.times(3),
        ..PATH
    };
    let mut node = Node::backup_with(Alone::Serve, &[PATH, slow]);
    node.driver.hear(PEER, 200);
    node.asked();
    let due = node.now().after(slow.lease()).after(margin(slow.lease()));
    node.silence();
    while node.now() < due {
        assert_eq!(node.driver.state(), State::Backup, "{:?}", node.now());
        node.tick();
    }
    assert_eq!(node.now(), due);
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn a_silence_that_a_hold_down_kept_from_counting_ends_when_the_peer_asks_again() {
    for asks in [false, true] {
        let mut node = Node::active();
        node.input(Input::Yielded {
            instance: ID,
            peer: 0,
        });
        node.run_for(PATH.interval);
        node.driver.hear(PEER, 200);
        node.asked();
        node.silence();
        assert_eq!(node.driver.state(), State::Backup, "it just let go");
        node.done.clear();
        let end = node.now().after(ADVERTS);
        while node.now() < end {
            node.driver.now = node.now().after(PATH.interval);
            if asks {
                node.holds();
            }
            node.run_for(Nanos::ZERO);
        }
        let competes = node.done.contains(&Action::Act { instance: ID });
        assert_eq!(competes, !asks);
    }
}

#[test]
fn silence_of_adverts_never_beats_a_promise() {
    let mut node = Node::bereaved();
    for _ in 0..2_000 {
        node.driver.now = node.driver.now.after(PATH.interval);
        node.asked();
        node.run_for(Nanos::ZERO);
        assert_eq!(node.driver.state(), State::Backup);
    }
}

#[test]
fn a_node_alone_renews_to_what_its_last_echo_would_give() {
    let mut node = Node::active();
    node.run_for(Nanos::from_millis(30));
    assert!(!node.view.self_renewed);
    node.grants = false;
    let dead = node.now();
    for _ in 0..40 {
        node.tick();
        assert_eq!(node.driver.state(), State::Active);
        let last = node.done.iter().rev().find_map(|action| match action {
            Action::SendEcho { round, .. } => Some(*round),
            _ => None,
        });
        assert!(node.view.deadline <= last.expect("it echoes").after(LEASE));
    }
    assert!(node.view.self_renewed && node.now().since(dead) > LEASE);
}

#[test]
fn a_node_that_was_held_up_steps_down_before_it_answers_anybody() {
    let mut node = Node::active();
    node.run_for(Nanos::from_millis(30));
    node.done.clear();
    node.driver.now = node.now().after(LEASE);
    let heard = Input::Advert {
        instance: ID,
        advert: advert(PEER, 50),
        received_at: node.now(),
    };
    let unread = node.driver.engine.unread(&heard, node.now());
    assert_eq!(unread, [ID]);
    node.read();
    assert!(node.driver.engine.unread(&heard, node.now()).is_empty());
    node.driver.input(heard);
    node.carry_out();
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.adverts(), 0);
}

#[test]
fn a_node_that_is_to_stop_alone_stops() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.grants = true;
    node.silence();
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
    node.grants = false;
    node.run_for(Nanos::from_millis(20));
    assert_eq!(node.driver.state(), State::Backup);
    let without = address(PEER);
    assert_eq!(node.cause(), Cause::Alone { without });

    // It has said so.
    node.done.clear();
    node.run_for(Nanos::from_secs(20));
    assert_eq!(node.driver.status_of(ID).awaits, Some(without));
    assert!(node.told().is_empty(), "{:?}", node.told());
    node.grants = true;
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(node.driver.status_of(ID).awaits, None);
}

#[test]
fn who_is_not_to_serve_alone_waits_quietly_until_its_peer_is_heard() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.done.clear();
    node.silence();
    node.run_for(Nanos::from_secs(20));
    assert_eq!(node.driver.state(), State::Backup);
    let [Action::Note { sentence, .. }] = &node.told()[..] else {
        panic!("{:?}", node.told());
    };
    assert!(sentence.contains("waits for") && sentence.contains("alone = \"stop\""));
    let status = node.driver.status_of(ID);
    assert_eq!(status.awaits, Some(address(PEER)));
    let explained = status.explanation.join(" ");
    assert!(explained.contains("It waits for"), "{explained}");
    assert!(!explained.contains("takes over"), "{explained}");

    node.grants = true;
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn a_peer_that_asks_while_it_is_waited_for_is_waited_for_no_more() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.silence();
    node.run_for(Nanos::from_secs(1));
    assert_eq!(node.driver.status_of(ID).awaits, Some(address(PEER)));
    node.driver.hear(PEER, 200);
    node.asked();
    node.done.clear();
    node.run_for(PATH.interval);
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.driver.status_of(ID).awaits, None);
    assert!(node.told().is_empty(), "{:?}", node.told());
}

#[test]
fn a_peer_that_advertises_no_more_and_still_asks_is_told_of() {
    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    for _ in 0..2_000 {
        node.asked();
        node.run_for(PATH.interval);
    }
    assert_eq!(node.driver.state(), State::Backup);
    let explained = node.driver.status_of(ID).explanation.join(" ");
    assert!(explained.contains("the last advert of"), "{explained}");
    assert!(
        explained.contains("still asks for its lease"),
        "{explained}"
    );
    assert!(!explained.contains("Takes over if"), "{explained}");
}

#[test]
fn a_node_that_is_heard_and_not_granted_falls_silent() {
    let mut node = Node::active();
    node.grants = false;
    for _ in 0..40 {
        if node.driver.state() != State::Active {
            break;
        }
        node.view.heard_at = node.now();
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::NotGranted { by: address(PEER) });
    assert!(!node.view.self_renewed);
}

#[test]
fn a_node_whose_kernel_yielded_lets_go() {
    let mut node = Node::active();
    node.input(Input::Yielded {
        instance: ID,
        peer: 0,
    });
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::Yielded { to: address(PEER) });
}

#[test]
fn what_the_kernel_s_reports_tell_is_read_from_its_maps_as_well() {
    let mut node = Node::active();
    node.view.promised_until = node.now().after(LEASE);
    node.run_for(Nanos::from_millis(3));
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::Yielded { to: address(PEER) });

    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    node.holds();
    node.silence();
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn a_hand_over_closes_before_it_releases_and_acts_no_more() {
    let mut node = Node::active();
    node.input(Input::Switchover(ha_core::Target::Instance(ID)));
    let place = |wanted: fn(&Action) -> bool| node.done.iter().position(wanted);
    let closed = place(|action| matches!(action, Action::SetEpoch { .. }));
    let released = place(|action| matches!(action, Action::SendRelease { .. }));
    let let_go = place(|action| matches!(action, Action::LetGo { .. }));
    assert!(closed.is_some() && closed < released && released < let_go);
}

#[test]
fn a_pre_emptor_whose_loser_asks_after_all_waits_for_its_promise_only() {
    let mut node = Node::with(InstanceConfig {
        preempt: true,
        ..with_leases(Alone::Serve, &[PATH])
    });
    // A promise from before this daemon's start, and a peer that advertises without asking.
    node.view.promised_until = node.now().after(LEASE.times(10));
    while node.now() < node.view.promised_until.after(LEASE) {
        node.driver.now = node.now().after(PATH.interval);
        node.driver.hear(PEER, 50);
        node.read();
        let now = node.now();
        node.driver.engine.handle_timeout(now);
        node.carry_out();
    }
    assert_eq!(node.driver.state(), State::Promoting);
    node.asked();
    node.driver.now = node.now().after(Nanos(1));
    node.driver.hear(PEER, 50);
    node.carry_out();
    let due = node.view.promised_until;
    node.grants = true;
    node.run_for(LEASE.times(3));
    assert_eq!(node.driver.state(), State::Active);
    assert!(due <= node.driver.status_of(ID).since);
}

#[test]
fn a_release_is_followed_at_once() {
    let mut node = Node::bereaved();
    node.grants = true;
    node.view.promised_until = node.now();
    let received_at = node.now();
    node.input(Input::Released {
        instance: ID,
        peer: 0,
        received_at,
    });
    node.run_for(Nanos::ZERO);
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(node.now(), received_at);
}

#[test]
fn a_candidate_that_was_held_up_announces_itself_anew() {
    let mut node = Node::bereaved();
    node.silence();
    node.tick();
    node.tick();
    node.driver.now = node.now().after(LEASE.times(2));
    node.done.clear();
    node.tick();
    assert_eq!(
        node.driver.state(),
        State::Promoting,
        "one echo is not enough"
    );
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert!(node.echoes() >= 3);
}

#[test]
fn every_state_says_what_its_leases_are_about() {
    let says = |node: &Node, words: &str| {
        let explanation = node.driver.status_of(ID).explanation.join(" ");
        assert!(explanation.contains(words), "{explanation}");
    };
    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    says(&node, "its adverts alone count");
    node.asked();
    says(&node, "stops asking for its lease");
    node.silence();
    says(&node, "proved silent");
    node.grants = true;
    node.tick();
    says(&node, "192.168.33.102 has granted a lease");
    node.grants = false;
    node.run_for(Nanos::from_millis(30));
    says(&node, "renews its lease alone");
}

//! When packets are sent, and when silence is believed.

use ha_common::{
    Nanos,
    wire::bfd::{Control, State},
};
use ha_core::bfd::{Action, Cause, Input, SessionConfig};

use crate::peer::{Rig, changes, config, ms, says, sent};

#[test]
fn jitter_takes_up_to_a_quarter_off() {
    for (multiplier, random, expected_us) in [
        (3, 0, 10_000),
        (3, u32::MAX / 2 + 1, 8_750),
        (3, u32::MAX, 7_500),
        (1, 0, 9_000),
        (1, u32::MAX, 7_500),
    ] {
        let mut rig = Rig::up(SessionConfig {
            multiplier,
            ..config()
        });
        rig.random = random;
        rig.expire();
        let start = rig.now;
        rig.hear(says(State::Up));
        assert_eq!(sent(&rig.expire()).len(), 1);
        let interval = rig.now.since(start).0 / 1_000;
        assert_eq!(interval, expected_us, "{multiplier} {random}");
    }
}

#[test]
fn nothing_is_sent_faster_than_the_peer_takes_it() {
    let mut rig = Rig::up(config());
    let slow = Control {
        required_min_rx_us: 100_000,
        ..says(State::Up)
    };
    rig.hear(slow);
    assert_eq!(rig.session.status().transmit_interval, ms(100));
    let fast = Control {
        required_min_rx_us: 1_000,
        ..slow
    };
    rig.wait(ms(30));
    rig.hear(fast);
    let packets = sent(&rig.expire());
    assert_eq!(packets.len(), 1, "at once: the new interval is over");
}

#[test]
fn a_peer_that_wants_none_gets_none() {
    let mut rig = Rig::up(config());
    let none = Control {
        required_min_rx_us: 0,
        ..says(State::Up)
    };
    rig.hear(none);
    assert!(rig.run(rig.now.after(ms(25))).is_empty());
    // But an answer.
    let packets = sent(&rig.hear(Control { poll: true, ..none }));
    assert!(packets[0].is_final);
}

#[test]
fn a_peer_in_demand_mode_gets_none_while_both_are_up() {
    let mut rig = Rig::up(config());
    let demand = Control {
        demand: true,
        ..says(State::Up)
    };
    rig.hear(demand);
    assert!(rig.run(rig.now.after(ms(25))).is_empty());
    rig.hear(Control {
        state: State::Down,
        ..demand
    });
    assert_eq!(rig.state(), State::Down);
    assert_eq!(rig.run(rig.now.after(ms(2_500))).len(), 3);
}

#[test]
fn each_packet_puts_the_end_off() {
    let mut rig = Rig::up(config());
    for _ in 0..5 {
        rig.run(rig.now.after(ms(29)));
        rig.hear(says(State::Up));
    }
    assert_eq!(rig.state(), State::Up);
    rig.run(rig.now.after(ms(30)));
    assert_eq!(rig.state(), State::Down);
    let Cause::Expired { silent } = rig.session.status().cause else {
        panic!("{:?}", rig.session.status());
    };
    assert_eq!(silent, ms(30));
    assert_eq!(rig.session.status().flaps, 1);
}

#[test]
fn a_deadline_that_passed_while_the_shell_was_held_up_is_doubted() {
    let mut rig = Rig::up(config());
    rig.wait(ms(200));
    let actions = rig.expire();
    assert!(changes(&actions).is_empty());
    assert!(
        matches!(actions.last(), Some(Action::Note(_))),
        "{actions:?}"
    );
    assert_eq!(rig.state(), State::Up);
    // The packet that waited to be read ends the doubt.
    rig.hear(says(State::Up));
    rig.run(rig.now.after(ms(29)));
    assert_eq!(rig.state(), State::Up);
    // Without one, an interval more ends it.
    rig.wait(ms(200));
    rig.expire();
    assert_eq!(rig.state(), State::Up);
    rig.run(rig.now.after(ms(10)));
    assert_eq!(rig.state(), State::Down);
}

fn watched() -> SessionConfig {
    SessionConfig {
        kernel_watch: true,
        ..config()
    }
}

fn watches(actions: &[Action]) -> Vec<Option<Nanos>> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Watch(span) => Some(*span),
            _ => None,
        })
        .collect()
}

#[test]
fn the_kernel_watches_while_the_session_is_up() {
    let mut rig = Rig::new(watched());
    assert_eq!(watches(&rig.hear(says(State::Down))), []);
    assert_eq!(watches(&rig.hear(says(State::Up))), [Some(ms(30))]);
    let slower = Control {
        multiplier: 5,
        ..says(State::Up)
    };
    assert_eq!(watches(&rig.hear(slower)), [Some(ms(50))]);
    assert_eq!(watches(&rig.hear(slower)), []);
    assert_eq!(watches(&rig.hear(says(State::Down))), [None]);
}

#[test]
fn the_kernel_s_report_is_checked_against_the_stamp() {
    let mut rig = Rig::up(watched());
    rig.wait(ms(29));
    rig.hear(says(State::Up));
    rig.wait(ms(1));
    assert!(changes(&rig.feed(Input::Silence)).is_empty(), "too early");
    rig.wait(ms(28));
    rig.run(rig.now.after(ms(1)));
    assert_eq!(rig.state(), State::Down, "and the end is not missed");

    let mut rig = Rig::up(watched());
    rig.wait(ms(31));
    let reported = changes(&rig.feed(Input::Silence));
    assert_eq!(reported[0].to, State::Down);
}

#[test]
fn without_a_report_the_backstop_looks() {
    let mut rig = Rig::up(watched());
    rig.run(rig.now.after(ms(1_029)));
    assert_eq!(rig.state(), State::Up);
    rig.run(rig.now.after(ms(1)));
    assert_eq!(rig.state(), State::Down);
}

//! Poll Sequences (RFC 5880 sections 6.5 and 6.8.3).

use ha_common::{
    Nanos,
    wire::bfd::{Control, Payload, State},
};
use ha_core::bfd::{Input, SessionConfig};

use crate::peer::{Rig, config, ms, says, sent};

fn with_intervals(tx_ms: u32, rx_ms: u32) -> Input {
    Input::Configure(SessionConfig {
        desired_min_tx_us: tx_ms * 1_000,
        required_min_rx_us: rx_ms * 1_000,
        ..config()
    })
}

fn confirmed() -> Control {
    Control {
        is_final: true,
        ..says(State::Up)
    }
}

#[test]
fn a_poll_is_answered_at_once_and_moves_no_timer() {
    let mut rig = Rig::up(config());
    rig.wait(ms(3));
    let due = rig.session.poll_timeout();
    let poll = Control {
        poll: true,
        ..says(State::Up)
    };
    let packets = sent(&rig.hear(poll));
    assert_eq!(packets.len(), 1);
    assert!(packets[0].is_final && !packets[0].poll);
    assert_eq!(rig.session.poll_timeout(), due);
}

#[test]
fn a_packet_older_than_one_that_was_taken_is_only_answered() {
    let mut rig = Rig::up(config());
    let earlier = rig.now;
    rig.wait(ms(3));
    rig.hear(says(State::Up));
    let poll = Control {
        poll: true,
        ..says(State::Down)
    };
    let actions = rig.feed(Input::Packet {
        payload: Payload::plain(&poll),
        received_at: earlier,
    });
    let packets = sent(&actions);
    assert!(packets.len() == 1 && packets[0].is_final, "{packets:?}");
    let status = rig.session.status();
    assert_eq!((status.state, status.remote_state), (State::Up, State::Up));
    assert_eq!(status.heard, Some(rig.now));
}

#[test]
fn an_answer_to_a_poll_never_polls() {
    let mut rig = Rig::up(config());
    let packets = sent(&rig.feed(with_intervals(20, 10)));
    assert!(packets[0].poll);
    let poll = Control {
        poll: true,
        ..says(State::Up)
    };
    let packets = sent(&rig.hear(poll));
    assert!(
        packets.iter().all(|one| one.is_final != one.poll),
        "{packets:?}"
    );
    assert!(packets[0].is_final);
}

#[test]
fn polls_go_on_until_they_are_answered() {
    let mut rig = Rig::up(config());
    rig.feed(with_intervals(10, 5));
    rig.hear(says(State::Up));
    let packets = rig.run(rig.now.after(ms(25)));
    assert_eq!(packets.len(), 2);
    assert!(packets.iter().all(|(_, one)| one.poll));
    rig.hear(confirmed());
    let packets = rig.run(rig.now.after(ms(25)));
    assert!(!packets.is_empty() && packets.iter().all(|(_, one)| !one.poll));
}

#[test]
fn a_longer_transmit_interval_waits_for_the_answer() {
    let mut rig = Rig::up(config());
    let packets = sent(&rig.feed(with_intervals(50, 10)));
    assert_eq!(packets[0].desired_min_tx_us, 50_000);
    assert_eq!(rig.session.status().transmit_interval, ms(10));
    rig.hear(confirmed());
    assert_eq!(rig.session.status().transmit_interval, ms(50));
}

#[test]
fn a_shorter_transmit_interval_is_used_at_once() {
    let mut rig = Rig::up(config());
    rig.hear(Control {
        required_min_rx_us: 1_000,
        ..says(State::Up)
    });
    rig.feed(with_intervals(2, 10));
    assert_eq!(rig.session.status().transmit_interval, ms(2));
}

#[test]
fn a_shorter_receive_interval_waits_for_the_answer() {
    let mut rig = Rig::up(config());
    let fast = Control {
        desired_min_tx_us: 1_000,
        ..says(State::Up)
    };
    rig.hear(fast);
    assert_eq!(rig.session.status().detection_time, ms(30));
    rig.feed(with_intervals(10, 2));
    assert_eq!(rig.session.status().detection_time, ms(30));
    rig.hear(Control {
        is_final: true,
        ..fast
    });
    assert_eq!(rig.session.status().detection_time, ms(6));
}

#[test]
fn a_longer_receive_interval_is_used_at_once() {
    let mut rig = Rig::up(config());
    rig.feed(with_intervals(10, 40));
    assert_eq!(rig.session.status().detection_time, ms(120));
}

#[test]
fn the_detection_time_is_the_peer_s_multiplier_and_the_greater_interval() {
    for (mult, tx_us, expected) in [
        (3, 10_000, ms(30)),
        (5, 2_000, ms(50)),
        (2, 70_000, ms(140)),
    ] {
        let mut rig = Rig::up(config());
        rig.hear(Control {
            multiplier: mult,
            desired_min_tx_us: tx_us,
            ..says(State::Up)
        });
        assert_eq!(rig.session.status().detection_time, expected);
        assert_eq!(
            rig.session.status().receive_interval,
            Nanos(expected.0 / u64::from(mult))
        );
    }
}

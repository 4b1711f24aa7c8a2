//! Each state and what happens in it (RFC 5880 sections 6.2 and 6.8.6).

use ha_common::wire::bfd::{Control, Diagnostic, State};
use ha_core::bfd::{Cause, Input};

use crate::peer::{OURS, Rig, THEIRS, changes, config, ms, says, sent};

/// A session in a state, as it comes to be there.
fn in_state(state: State) -> Rig {
    let mut rig = Rig::new(config());
    match state {
        State::AdminDown => {
            rig.feed(Input::Disable);
        }
        State::Down => {}
        State::Init => {
            rig.hear(says(State::Down));
        }
        State::Up => rig = Rig::up(config()),
    }
    assert_eq!(rig.state(), state);
    rig
}

#[test]
fn transitions_by_what_the_peer_says() {
    use State::{AdminDown, Down, Init, Up};
    let none = Diagnostic::NONE;
    let neighbor = Diagnostic::NEIGHBOR_DOWN;
    let table = [
        (Down, AdminDown, Down, none),
        (Down, Down, Init, none),
        (Down, Init, Up, none),
        (Down, Up, Down, none),
        (Init, AdminDown, Down, neighbor),
        (Init, Down, Init, none),
        (Init, Init, Up, none),
        (Init, Up, Up, none),
        (Up, AdminDown, Down, neighbor),
        (Up, Down, Down, neighbor),
        (Up, Init, Up, none),
        (Up, Up, Up, none),
        (AdminDown, AdminDown, AdminDown, Diagnostic::ADMIN_DOWN),
        (AdminDown, Down, AdminDown, Diagnostic::ADMIN_DOWN),
        (AdminDown, Init, AdminDown, Diagnostic::ADMIN_DOWN),
        (AdminDown, Up, AdminDown, Diagnostic::ADMIN_DOWN),
    ];
    for (from, heard, to, diagnostic) in table {
        let mut rig = in_state(from);
        let reported = changes(&rig.hear(says(heard)));
        let status = rig.session.status();
        assert_eq!(status.state, to, "{from} hears {heard}");
        assert_eq!(status.diagnostic, diagnostic, "{from} hears {heard}");
        assert_eq!(status.remote_state, heard);
        let expected = if from == to { vec![] } else { vec![(from, to)] };
        let moved: Vec<_> = reported.iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(moved, expected, "{from} hears {heard}");
    }
}

#[test]
fn silence_ends_init_and_up_only() {
    for (from, to, diagnostic) in [
        (State::Init, State::Down, Diagnostic::EXPIRED),
        (State::Up, State::Down, Diagnostic::EXPIRED),
        (State::Down, State::Down, Diagnostic::NONE),
        (State::AdminDown, State::AdminDown, Diagnostic::ADMIN_DOWN),
    ] {
        let mut rig = in_state(from);
        rig.run(rig.now.after(ms(10_000)));
        let status = rig.session.status();
        assert_eq!(
            (status.state, status.diagnostic),
            (to, diagnostic),
            "{from}"
        );
    }
}

#[test]
fn the_handshake_says_everything_at_once() {
    let mut rig = Rig::new(config());
    let first = sent(&rig.expire());
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].state, first[0].your_discriminator),
        (State::Down, 0)
    );
    assert_eq!(first[0].my_discriminator, OURS);
    assert_eq!(first[0].desired_min_tx_us, 1_000_000, "slow start");
    assert_eq!(first[0].required_min_rx_us, 10_000);

    let second = sent(&rig.hear(says(State::Down)));
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].state, State::Init);
    assert_eq!(second[0].your_discriminator, THEIRS);
    assert!(!second[0].poll);

    let third = sent(&rig.hear(says(State::Init)));
    assert_eq!(third.len(), 1);
    assert_eq!(third[0].state, State::Up);
    assert_eq!(third[0].desired_min_tx_us, 10_000);
    assert!(third[0].poll, "the interval changed");
}

#[test]
fn a_peer_on_purpose_down_is_not_a_dead_path() {
    let mut rig = Rig::up(config());
    let reported = changes(&rig.hear(says(State::AdminDown)));
    assert_eq!(reported[0].cause, Cause::PeerAdminDown);
    let mut rig = Rig::up(config());
    let down = Control {
        diagnostic: Diagnostic::EXPIRED,
        ..says(State::Down)
    };
    let reported = changes(&rig.hear(down));
    assert_eq!(reported[0].cause, Cause::PeerDown(Diagnostic::EXPIRED));
}

#[test]
fn admin_down_is_said_at_once_and_ends_when_asked() {
    let mut rig = Rig::up(config());
    let packets = sent(&rig.feed(Input::Disable));
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].state, State::AdminDown);
    assert_eq!(packets[0].diagnostic, Diagnostic::ADMIN_DOWN);
    assert_eq!(rig.feed(Input::Disable), vec![], "once");
    // Once more when the peer's discriminator is forgotten, and then each second.
    assert_eq!(rig.run(rig.now.after(ms(3_500))).len(), 4);
    let packets = sent(&rig.feed(Input::Enable));
    assert_eq!(packets[0].state, State::Down);
    rig.hear(says(State::Down));
    assert_eq!(rig.state(), State::Init);
}

#[test]
fn what_is_not_for_this_session_changes_nothing() {
    let mut rig = Rig::up(config());
    let foreign = Control {
        your_discriminator: OURS + 1,
        ..says(State::Down)
    };
    let authenticated = Control {
        authenticated: true,
        ..says(State::Down)
    };
    rig.wait(ms(5));
    let before = rig.session.poll_timeout();
    for control in [foreign, authenticated] {
        assert_eq!(rig.hear(control), vec![]);
    }
    let status = rig.session.status();
    assert_eq!((status.state, status.rejected), (State::Up, 2));
    assert_eq!(
        rig.session.poll_timeout(),
        before,
        "detection is not refreshed"
    );
}

#[test]
fn a_silent_peer_s_discriminator_is_forgotten() {
    let mut rig = Rig::up(config());
    let packets = rig.run(rig.now.after(ms(31)));
    let (at, last) = packets.last().expect("it says so");
    assert_eq!((last.state, last.your_discriminator), (State::Down, 0));
    assert_eq!(last.diagnostic, Diagnostic::EXPIRED);
    assert_eq!(*at, rig.now.before(ms(1)));

    // In Down too: a peer that stays in Up is heard, then silent.
    let mut rig = Rig::new(config());
    let packets = sent(&rig.hear(says(State::Up)));
    assert_eq!(packets[0].your_discriminator, THEIRS);
    let packets = rig.run(rig.now.after(ms(100)));
    let known: Vec<u32> = packets
        .iter()
        .map(|(_, one)| one.your_discriminator)
        .collect();
    assert_eq!(known, [0]);
}

#[test]
fn a_passive_session_waits_to_be_called() {
    let mut rig = Rig::new(ha_core::bfd::SessionConfig {
        passive: true,
        ..config()
    });
    assert_eq!(rig.session.poll_timeout(), None);
    let packets = sent(&rig.hear(says(State::Down)));
    assert_eq!(packets[0].state, State::Init);
    // Three seconds after the peer fell silent nobody is called any more.
    rig.run(rig.now.after(ms(4_000)));
    assert_eq!(rig.session.poll_timeout(), None);
}

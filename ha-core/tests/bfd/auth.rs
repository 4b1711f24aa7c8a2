//! Authentication (RFC 5880 section 6.7.4).

use ha_common::wire::bfd::{self, Control, DIGEST_LEN, Payload, Sha1, Sha1Section, State};
use ha_core::bfd::{Action, Auth, Authenticator, Input, Key, SessionConfig};

use crate::peer::{Rig, config, ms, says};

fn auth(kind: Sha1) -> Auth {
    Auth {
        kind,
        key_id: 7,
        key: Key::new(b"secret").expect("a key"),
    }
}

fn keyed(kind: Sha1) -> SessionConfig {
    SessionConfig {
        auth: Some(auth(kind)),
        ..config()
    }
}

fn signed(state: State) -> Control {
    Control {
        authenticated: true,
        ..says(state)
    }
}

fn hear(rig: &mut Rig, payload: Payload) -> u64 {
    let before = rig.session.status().rejected;
    rig.feed(Input::Packet {
        payload,
        received_at: rig.now,
    });
    rig.session.status().rejected - before
}

/// `openssl sha1` over the packet with the key, padded with zeroes, in the digest's place.
#[test]
fn the_digest_is_the_one_that_others_compute() {
    let mut peer = Authenticator::new(auth(Sha1::Keyed), 0x1122_3343);
    let payload = peer.sign(&signed(State::Down));
    let (_, section) = bfd::parse(payload.as_slice()).expect("valid");
    assert_eq!(
        section,
        Some(Sha1Section {
            kind: Sha1::Keyed,
            key_id: 7,
            sequence: 0x1122_3344,
            digest: DIGEST,
        })
    );
}

const DIGEST: [u8; DIGEST_LEN] = [
    0x0d, 0x2d, 0x03, 0xed, 0x1b, 0xf2, 0x02, 0x56, 0x20, 0x8c, 0x59, 0x14, 0x2c, 0x54, 0x2b, 0x60,
    0xc2, 0x7f, 0x11, 0x47,
];

#[test]
fn only_the_right_key_is_taken() {
    for kind in [Sha1::Keyed, Sha1::Meticulous] {
        let mut rig = Rig::new(keyed(kind));
        let mut peer = Authenticator::new(auth(kind), 5);
        let good = peer.sign(&signed(State::Down));
        let mut forged = good.with_digest(&[1; DIGEST_LEN]);
        assert_eq!(hear(&mut rig, forged), 1);
        let wrong = Auth {
            key: Key::new(b"Secret").expect("a key"),
            ..auth(kind)
        };
        forged = Authenticator::new(wrong, 5).sign(&signed(State::Down));
        assert_eq!(hear(&mut rig, forged), 1);
        let other = Auth {
            key_id: 8,
            ..auth(kind)
        };
        forged = Authenticator::new(other, 5).sign(&signed(State::Down));
        assert_eq!(hear(&mut rig, forged), 1);
        assert_eq!(hear(&mut rig, Payload::plain(&says(State::Down))), 1);
        assert_eq!(rig.state(), State::Down);
        assert_eq!(hear(&mut rig, good), 0);
        assert_eq!(rig.state(), State::Init);
    }
    let mut rig = Rig::new(keyed(Sha1::Keyed));
    let mut peer = Authenticator::new(auth(Sha1::Meticulous), 5);
    assert_eq!(
        hear(&mut rig, peer.sign(&signed(State::Down))),
        1,
        "the other type"
    );
}

#[test]
fn one_bit_anywhere_spoils_it() {
    let mut rig = Rig::new(keyed(Sha1::Keyed));
    let good = Authenticator::new(auth(Sha1::Keyed), 5).sign(&signed(State::Down));
    for bit in 0..8 * good.as_slice().len() {
        let mut bytes = good.as_slice().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let payload = Payload::received(&bytes).expect("short enough");
        assert_eq!(hear(&mut rig, payload), 1, "bit {bit}");
    }
    assert_eq!(hear(&mut rig, good), 0);
}

/// The window is the last number (meticulous: the one after it) to three Detect Mults more.
#[test]
fn old_packets_are_refused() {
    for (kind, ahead, taken) in [
        (Sha1::Keyed, 0, true),
        (Sha1::Keyed, 9, true),
        (Sha1::Keyed, 10, false),
        (Sha1::Keyed, u32::MAX, false),
        (Sha1::Meticulous, 0, false),
        (Sha1::Meticulous, 1, true),
        (Sha1::Meticulous, 9, true),
        (Sha1::Meticulous, 10, false),
    ] {
        // The number wraps round.
        let first = u32::MAX - 3;
        let mut rig = Rig::new(keyed(kind));
        let at = |sequence: u32| {
            Authenticator::new(auth(kind), sequence.wrapping_sub(1)).sign(&signed(State::Down))
        };
        assert_eq!(hear(&mut rig, at(first)), 0);
        let refused = hear(&mut rig, at(first.wrapping_add(ahead)));
        assert_eq!(refused == 0, taken, "{kind:?} {ahead}");
        // After two Detection Times of silence the peer may have begun anew.
        rig.run(rig.now.after(ms(6_001)));
        assert_eq!(hear(&mut rig, at(first)), 0);
    }
}

#[test]
fn meticulous_numbers_grow_with_each_packet() {
    for (kind, growing) in [(Sha1::Keyed, false), (Sha1::Meticulous, true)] {
        let mut rig = Rig::new(keyed(kind));
        let mut numbers = Vec::new();
        for _ in 0..3 {
            for action in rig.expire() {
                if let Action::Transmit(payload) = action {
                    let (_, section) = bfd::parse(payload.as_slice()).expect("valid");
                    numbers.push(section.expect("signed").sequence);
                }
            }
        }
        assert_eq!(numbers.len(), 3);
        let steps: Vec<u32> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(steps, [u32::from(growing); 2], "{kind:?}");
    }
}

#[test]
fn secrets_have_a_length_and_are_not_shown() {
    assert!(Key::new(b"").is_none());
    assert!(Key::new(&[1; 21]).is_none());
    let key = Key::new(b"very secret").expect("a key");
    assert!(!format!("{key:?}").contains("secret"));
}

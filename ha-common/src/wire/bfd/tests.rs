use proptest::prelude::*;

use super::*;

/// Up, Poll, Detect Mult 3, 0x01020304 to 0x05060708, 10 ms and 20 ms.
const BYTES: [u8; HEADER_LEN] = [
    0x20, 0xe0, 0x03, 0x18, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x00, 0x00, 0x27, 0x10,
    0x00, 0x00, 0x4e, 0x20, 0x00, 0x00, 0x00, 0x00,
];

const CONTROL: Control = Control {
    diagnostic: Diagnostic::NONE,
    state: State::Up,
    poll: true,
    is_final: false,
    independent: false,
    authenticated: false,
    demand: false,
    multiplier: 3,
    my_discriminator: 0x0102_0304,
    your_discriminator: 0x0506_0708,
    desired_min_tx_us: 10_000,
    required_min_rx_us: 20_000,
    required_min_echo_rx_us: 0,
};

const SECTION: Sha1Section = Sha1Section {
    kind: Sha1::Meticulous,
    key_id: 7,
    sequence: 0x1122_3344,
    digest: [0xab; DIGEST_LEN],
};

fn with(index: usize, value: u8) -> [u8; HEADER_LEN] {
    let mut bytes = BYTES;
    bytes[index] = value;
    bytes
}

#[test]
fn read_and_made_are_one() {
    assert_eq!(Control::check(&BYTES, BYTES.len()), Ok(CONTROL));
    assert_eq!(CONTROL.emit(0), BYTES);
    assert_eq!(Payload::plain(&CONTROL).as_slice(), BYTES);
}

#[test]
fn every_flag_and_state_has_its_bit() {
    for (byte, control) in [
        (
            0x10,
            Control {
                is_final: true,
                state: State::AdminDown,
                poll: false,
                ..CONTROL
            },
        ),
        (
            0x68,
            Control {
                independent: true,
                state: State::Down,
                ..CONTROL
            },
        ),
        (
            0x82,
            Control {
                demand: true,
                state: State::Init,
                poll: false,
                ..CONTROL
            },
        ),
        (
            0xc0,
            Control {
                poll: false,
                ..CONTROL
            },
        ),
    ] {
        assert_eq!(
            Control::check(&with(1, byte), HEADER_LEN),
            Ok(control),
            "{byte:02x}"
        );
        assert_eq!(control.emit(0), with(1, byte));
    }
    let expired = Control {
        diagnostic: Diagnostic::EXPIRED,
        ..CONTROL
    };
    assert_eq!(Control::check(&with(0, 0x21), HEADER_LEN), Ok(expired));
}

#[test]
fn what_the_rfc_discards_is_discarded() {
    for (bytes, payload_len, reject) in [
        (with(0, 0x00), 24, Reject::Version),
        (with(0, 0x40), 24, Reject::Version),
        (with(3, 23), 24, Reject::Length),
        (with(3, 25), 24, Reject::Length),
        (with(1, 0xe4), 24, Reject::Length),
        (with(2, 0), 24, Reject::Multiplier),
        (with(1, 0xe1), 24, Reject::Multipoint),
    ] {
        assert_eq!(
            Control::check(&bytes, payload_len),
            Err(reject),
            "{bytes:02x?}"
        );
    }
    let mut unknown = BYTES;
    unknown[8..12].fill(0);
    for (state, taken) in [(0, true), (1, true), (2, false), (3, false)] {
        unknown[1] = state << 6;
        assert_eq!(Control::check(&unknown, 24).is_ok(), taken, "state {state}");
    }
    unknown[4..8].fill(0);
    assert_eq!(Control::check(&unknown, 24), Err(Reject::Discriminator));
}

#[test]
fn sections_are_read_and_made() {
    let control = Control {
        authenticated: true,
        ..CONTROL
    };
    let payload = Payload::with_section(&control, &SECTION);
    assert_eq!(payload.as_slice().len(), MAX_LEN);
    assert_eq!(payload.as_slice()[3], 52);
    assert_eq!(
        &payload.as_slice()[24..32],
        [5, 28, 7, 0, 0x11, 0x22, 0x33, 0x44]
    );
    assert_eq!(parse(payload.as_slice()), Ok((control, Some(SECTION))));
    let other = payload.with_digest(&[1; DIGEST_LEN]);
    assert_eq!(other.as_slice()[DIGEST_OFFSET..], [1; DIGEST_LEN]);
    for (index, value) in [(24, 3), (24, 6), (25, 27), (3, 51)] {
        let mut bytes = [0; MAX_LEN];
        bytes.copy_from_slice(payload.as_slice());
        bytes[index] = value;
        assert_eq!(
            parse(&bytes),
            Err(Reject::Authentication),
            "{index}: {value}"
        );
    }
}

#[test]
fn short_and_long_payloads() {
    for len in 0..HEADER_LEN {
        assert_eq!(parse(&BYTES[..len]), Err(Reject::Length), "{len} bytes");
    }
    let mut long = [0; HEADER_LEN + 5];
    long[..HEADER_LEN].copy_from_slice(&BYTES);
    assert_eq!(parse(&long), Ok((CONTROL, None)));
    assert_eq!(Payload::received(&[0; MAX_LEN + 1]), None);
    assert_eq!(Payload::received(&BYTES), Some(Payload::plain(&CONTROL)));
}

#[test]
fn reserved_diagnostics_have_a_name() {
    assert_eq!(Diagnostic(31).name(), "Reserved");
    assert_eq!(
        Diagnostic::NEIGHBOR_DOWN.name(),
        "Neighbor Signaled Session Down"
    );
}

proptest! {
    /// Whatever comes: no panic, and what is taken means the same when it is built anew. The first bytes are
    /// right now and then, for chance alone would hardly ever get past them.
    #[test]
    fn any_bytes_are_judged(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        right in any::<bool>(),
        authenticated in any::<bool>(),
    ) {
        if right && bytes.len() >= MAX_LEN {
            bytes[0] = bytes[0] & 0x1f | 0x20;
            bytes[1] = if authenticated { bytes[1] & !1 | 4 } else { bytes[1] & !5 };
            bytes[3] = if authenticated { 52 } else { 24 };
            bytes[24] = 4 + (bytes[24] & 1);
            bytes[25] = 28;
        }
        if let Ok((control, section)) = parse(&bytes) {
            let built = match &section {
                Some(section) => Payload::with_section(&control, section),
                None => Payload::plain(&control),
            };
            prop_assert_eq!(parse(built.as_slice()), Ok((control, section)));
        }
    }
}

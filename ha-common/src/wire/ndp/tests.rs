use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// fe80::1 asks for 2001:db8::100; the checksums here were made by a separate Python script.
const ASKED: [u8; PACKET_LEN] = [
    0x6c, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0xff, 0x00, 0x01, 0x00, 0x87, 0x00, 0x49, 0x63, 0x00, 0x00, 0x00, 0x00,
    0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x01, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01,
];
const ANSWERED: [u8; PACKET_LEN] = [
    0x6c, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0x00, 0xb7, 0xa6, 0x60, 0x00, 0x00, 0x00,
    0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x02, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x09,
];
/// Somebody wants 2001:db8::100 for itself (with a nonce, as Linux).
const PROBE: [u8; PACKET_LEN] = [
    0x6c, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0xff, 0x00, 0x01, 0x00, 0x87, 0x00, 0x33, 0xda, 0x00, 0x00, 0x00, 0x00,
    0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x0e, 0x01, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06,
];
const DEFENDED: [u8; PACKET_LEN] = [
    0x6c, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0x00, 0xf7, 0x24, 0x20, 0x00, 0x00, 0x00,
    0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x02, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x09,
];

fn vip() -> Address {
    Address::v6(*ASKED[48..].first_chunk().unwrap())
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (chunks, _) = bytes.as_chunks();
    core::array::from_fn(|index| u64::from_ne_bytes(chunks[index]))
}

fn header(packet: &[u8; PACKET_LEN]) -> Option<Header> {
    Header::parse(packet.first_chunk().unwrap())
}

fn answered(packet: &[u8; PACKET_LEN], router: bool) -> Option<Answer> {
    answer(&header(packet)?, words(&packet[40..]), MAC, router)
}

/// With the checksum right again.
fn changed(packet: &[u8; PACKET_LEN], change: impl FnOnce(&mut [u8])) -> [u8; PACKET_LEN] {
    let mut packet = *packet;
    change(&mut packet);
    packet[42..44].fill(0);
    let ip = header(&packet).unwrap();
    let checksum = sum(ip.source, ip.destination, words(&packet[40..])).checksum();
    packet[42..44].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn the_asker_is_answered_at_the_address_that_it_names() {
    let answer = answered(&ASKED, false).unwrap();
    assert_eq!(answer.station, ASKER);
    assert_eq!(answer.packet, words(&ANSWERED));
    // Unicast, as of a neighbour that looks whether it is still right.
    let unicast = changed(&ASKED, |p| p.copy_within(48..64, 24));
    assert_eq!(answered(&unicast, false), Some(answer));
}

#[test]
fn who_wants_it_for_itself_is_told_before_everybody() {
    let answer = answered(&PROBE, false).unwrap();
    assert_eq!(answer.station, [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(answer.packet, words(&DEFENDED));
}

#[test]
fn a_router_says_so() {
    for asked in [&ASKED, &PROBE] {
        let host = answered(asked, false).unwrap().packet;
        let router = answered(asked, true).unwrap().packet;
        let mut bytes = [0; PACKET_LEN];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(host) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(router, words(&changed(&bytes, |p| p[44] |= 0x80)));
    }
}

#[test]
fn what_is_broken_or_rare_is_left_to_the_kernel() {
    let mut spoiled = ASKED;
    spoiled[43] ^= 1;
    let rows: &[(&str, [u8; PACKET_LEN])] = &[
        ("wrong checksum", spoiled),
        (
            "an advertisement",
            changed(&ASKED, |p| p[40] = ADVERTISEMENT),
        ),
        ("code 1", changed(&ASKED, |p| p[41] = 1)),
        ("longer", changed(&ASKED, |p| p[5] = 40)),
        ("empty option", changed(&ASKED, |p| p[65] = 0)),
        ("other option", changed(&ASKED, |p| p[64] = 14)),
        ("from a group", changed(&ASKED, |p| p[8] = 0xff)),
        ("a probe that names itself", changed(&PROBE, |p| p[64] = 1)),
        ("a probe to a host", changed(&PROBE, |p| p[24] = 0x20)),
    ];
    for (name, packet) in rows {
        assert_eq!(answered(packet, false), None, "{name}");
    }
}

#[test]
fn what_a_message_is_about() {
    let subject = |packet: &[u8; PACKET_LEN]| Subject::of(&header(packet)?, words(&packet[40..]));
    let of = |kind| Subject {
        kind,
        target: vip(),
    };
    assert_eq!(subject(&ASKED), Some(of(SOLICITATION)));
    assert_eq!(subject(&DEFENDED), Some(of(ADVERTISEMENT)));
    for (name, index, value) in [
        ("from beyond the link", 7, 254),
        ("UDP", 6, 17),
        ("echo request", 40, 128),
        ("code", 41, 1),
    ] {
        assert_eq!(
            subject(&changed(&ASKED, |p| p[index] = value)),
            None,
            "{name}"
        );
    }
}

#[test]
fn an_announcement_tells_all_nodes() {
    let frame = announcement(vip(), MAC, false);
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[6..12], MAC);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(frame[14..], DEFENDED);
    assert_eq!(announcement(vip(), MAC, true)[14 + 44], 0xa0);
}

#[test]
fn a_solicitation_asks_the_group_of_its_target() {
    let asker = Address::v6(*ASKED[8..].first_chunk().unwrap());
    let frame = solicitation(asker, ASKER, vip());
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x00, 0x01, 0x00]);
    assert_eq!(frame[6..12], ASKER);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(frame[14..], ASKED);
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), PACKET_LEN)) {
        if let Some(header) = Header::parse(bytes.first_chunk().unwrap()) {
            if answer(&header, words(&bytes[40..]), MAC, false).is_some() {
                prop_assert_eq!(bytes[40], SOLICITATION);
            }
            let _ = Subject::of(&header, words(&bytes[40..]));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(bit in 8 * 8..PACKET_LEN * 8) {
        let mut packet = ASKED;
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(answered(&packet, false), None, "bit {}", bit);
    }
}

extern crate std;

use core::hash::Hasher as _;
use std::vec::Vec;

use proptest::prelude::*;
use siphasher::sip::SipHasher24;

use super::*;

const HEAD: Head = Head {
    kind: Kind::Echo,
    count: 1,
    node: 0x1112_1314_1516_1718,
    boot: 0x2122_2324_2526_2728,
    challenge: 0x3132_3334_3536_3738,
    sequence: 0x4142_4344_4546_4748,
    sent: MonoNs(0x5152_5354_5556_5758),
    lease: Nanos::from_micros(0x6162_6364),
};

const ENTRY: Entry = Entry {
    vrid: 51,
    family: 4,
    ask: Ask::Candidate,
    verdict: Verdict::Refused,
    epoch: Epoch(0x1234),
    rank: Rank {
        position: 0x7172_7374,
        priority: 200,
    },
};

const BYTES: [u8; HEAD_LEN + ENTRY_LEN] = [
    0x68, 0x41, 1, 1, 1, 0, 0, 0, // magic, version, kind, count
    0, 0, 0, 0, 0, 0, 0, 0, // tag
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, // node
    0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, // boot
    0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, // challenge
    0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, // sequence
    0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, // sent
    0x61, 0x62, 0x63, 0x64, 0, 0, 0, 0, // lease
    51, 4, 2, 2, 0x12, 0x34, 200, 0, // entry
    0x71, 0x72, 0x73, 0x74, 0, 0, 0, 0,
];

const KEYLESS: Route = Route {
    source: [0; 2],
    destination: [0; 2],
    key: None,
};

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (chunks, _) = bytes.as_chunks::<8>();
    core::array::from_fn(|at| u64::from_ne_bytes(chunks[at]))
}

#[test]
fn construct() {
    let mut buffer = [0xa5; MAX_LEN];
    assert_eq!(build(&HEAD, &[ENTRY], &KEYLESS, &mut buffer), BYTES);
}

#[test]
fn deconstruct() {
    assert_eq!(Head::parse(&words(&BYTES)), Some(HEAD));
    assert_eq!(Entry::parse(&words(&BYTES[HEAD_LEN..])), ENTRY);
    assert_eq!(HEAD.payload_len(), BYTES.len());
}

#[test]
fn what_is_of_another_kind_is_refused() {
    for (at, value) in [(0, 0x69), (1, 0), (2, 2), (3, 0), (3, 4), (4, 33)] {
        let mut bytes = BYTES;
        bytes[at] = value;
        assert_eq!(Head::parse(&words(&bytes)), None, "byte {at} = {value}");
    }
}

#[test]
fn no_more_entries_than_a_packet_may_have() {
    let mut buffer = [0; MAX_LEN];
    let payload = build(&HEAD, &[ENTRY; MAX_ENTRIES + 1], &KEYLESS, &mut buffer);
    assert_eq!(payload.len(), MAX_LEN);
    assert_eq!(
        Head::parse(&words(payload)).map(|head| usize::from(head.count)),
        Some(MAX_ENTRIES)
    );
}

#[test]
fn an_unknown_request_asks_for_nothing() {
    let mut bytes = BYTES;
    bytes[HEAD_LEN + 2] = 77;
    bytes[HEAD_LEN + 3] = 77;
    let entry = Entry::parse(&words(&bytes[HEAD_LEN..]));
    assert_eq!((entry.ask, entry.verdict), (Ask::Nothing, Verdict::None));
}

/// The tag is that of the library over the bytes, and every byte counts.
#[test]
fn tag_covers_addresses_and_payload() {
    let key = [7, 8];
    let route = Route {
        source: [1, 2],
        destination: [3, 4],
        key: Some(key),
    };
    let mut buffer = [0; MAX_LEN];
    let payload = build(&HEAD, &[ENTRY; 2], &route, &mut buffer);
    let mut message: Vec<u8> = [1_u64, 2, 3, 4]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    message.extend(&payload[..8]);
    message.extend(&payload[16..]);
    let mut library = SipHasher24::new_with_keys(key[0], key[1]);
    library.write(&message);
    assert_eq!(tag_of(&words(payload)), library.finish());

    let reversed = Route {
        source: route.destination,
        destination: route.source,
        ..route
    };
    let mut other = [0; MAX_LEN];
    let other = build(&HEAD, &[ENTRY; 2], &reversed, &mut other);
    assert_ne!(tag_of(&words(payload)), tag_of(&words(other)));
}

#[test]
fn a_kind_and_a_verdict_change_nothing_else() {
    let head = Head {
        kind: Kind::Answer,
        ..HEAD
    };
    assert_eq!(with_kind(HEAD.emit()[0], Kind::Answer), head.emit()[0]);
    let entry = Entry {
        verdict: Verdict::Granted,
        ..ENTRY
    };
    let [first, second] = ENTRY.emit();
    assert_eq!(
        [with_verdict(first, Verdict::Granted), second],
        entry.emit()
    );
}

proptest! {
    #[test]
    fn what_is_parsed_is_emitted_alike(bytes: [[u8; 8]; 10]) {
        let mut bytes = bytes;
        bytes[0][..3].copy_from_slice(&[0x68, 0x41, 1]);
        bytes[0][3] = bytes[0][3] % 3 + 1;
        bytes[0][4] %= 33;
        let head: [u64; HEAD_WORDS] = core::array::from_fn(|at| u64::from_ne_bytes(bytes[at]));
        let parsed = Head::parse(&head).unwrap();
        prop_assert_eq!(Head::parse(&parsed.emit()), Some(parsed));
        let entry = Entry::parse(&core::array::from_fn(|at| u64::from_ne_bytes(bytes[8 + at])));
        prop_assert_eq!(Entry::parse(&entry.emit()), entry);
    }

    #[test]
    fn summing_words_is_summing_bytes(bytes in proptest::collection::vec(any::<u64>(), 8)) {
        let words: [u64; 8] = bytes.try_into().unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        prop_assert_eq!(summed(Sum::ZERO, &words).folded(), Sum::ZERO.slice(&bytes).folded());
    }
}

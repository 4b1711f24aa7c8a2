extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const OURS: [u8; 4] = [192, 168, 0, 1];
const PEER: [u8; 4] = [192, 168, 0, 2];
const VIP: [u8; 4] = [192, 168, 0, 100];

const MULTICAST: Rules = Rules {
    version: 3,
    unicast: false,
    source: Address::v4(OURS),
    interval_centis: 1,
};

const SPEC: AdvertSpec<'static> = AdvertSpec {
    version: Version::V3(Dialect::Plain),
    vrid: match Vrid::new(51) {
        Some(vrid) => vrid,
        None => panic!(),
    },
    priority: Priority(200),
    interval: Centis(1),
    source: PEER,
    destination: GROUP,
    addresses: &[VIP],
};

/// The packet of [`SPEC`]; the checksums were made by a separate Python script.
const PLAIN: [u8; 32] = [
    0x45, 0xc0, 0x00, 0x20, 0x68, 0x41, 0x40, 0x00, 0xff, 0x70, 0x71, 0xaf, 0xc0, 0xa8, 0x00, 0x02,
    0xe0, 0x00, 0x00, 0x12, 0x31, 0x33, 0xc8, 0x01, 0x00, 0x01, 0x45, 0xbd, 0xc0, 0xa8, 0x00, 0x64,
];

fn built(spec: &AdvertSpec<'_>) -> Vec<u8> {
    let mut buffer = [0xa5; MAX_PACKET_LEN];
    build_advert(spec, &mut buffer).unwrap().to_vec()
}

fn multicast(packet: &[u8]) -> Result<Advert, Reject> {
    parse(packet, &MULTICAST, |_| panic!("multicast has no senders"))
}

/// Puts both checksums right after a change.
fn seal(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header_len = usize::from(packet[0] & 15) * 4;
    let sum = Sum::ZERO.slice(&packet[..header_len]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let message = &mut packet[header_len..];
    message[6..8].fill(0);
    let sum = Sum::ZERO.slice(message).checksum();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = PLAIN.to_vec();
    change(&mut packet);
    seal(&mut packet);
    packet
}

#[test]
fn deconstruct() {
    assert_eq!(vrid_of(&PLAIN), Ok(51));
    let ip = ipv4::Header::parse(PLAIN[..20].try_into().unwrap()).unwrap();
    assert_eq!((ip.ttl, ip.protocol, ip.payload_len()), (255, 112, 12));
}

#[test]
fn construct() {
    assert_eq!(built(&SPEC), PLAIN);
}

#[test]
fn parse_what_is_valid() {
    let advert = multicast(&PLAIN).unwrap();
    assert_eq!(
        advert,
        Advert {
            sender: Address::v4(PEER),
            version: 3,
            vrid: 51,
            priority: 200,
            interval_centis: 1,
            address_count: 1,
            from_had: true,
            dialect: Dialect::Plain,
        }
    );
    assert_eq!(
        advert.said(),
        Said {
            sender: Address::v4(PEER),
            word: AdvertWord::new(200, 1, true),
        }
    );
}

#[test]
fn emit_version_2() {
    let packet = built(&AdvertSpec {
        version: Version::V2,
        interval: Centis(100),
        ..SPEC
    });
    assert_eq!(packet.len(), 20 + 8 + 4 + 8);
    assert_eq!(packet[20..26], [0x21, 51, 200, 1, 0, 1]);
    assert_eq!(packet[32..], [0; 8]);
    let rules = Rules {
        version: 2,
        interval_centis: 100,
        ..MULTICAST
    };
    let advert = parse(&packet, &rules, |_| true).unwrap();
    assert_eq!((advert.version, advert.interval_centis), (2, 100));
}

#[test]
fn pseudo_header_is_a_dialect_of_version_3() {
    let mut packet = built(&AdvertSpec {
        version: Version::V3(Dialect::PseudoHeader),
        ..SPEC
    });
    assert_eq!(multicast(&packet).unwrap().dialect, Dialect::PseudoHeader);
    assert!(multicast(&packet).unwrap().said().word.has_pseudo_header());
    // The sum of both dialects differs by that of the pseudo-header.
    let plain = u16::from_be_bytes([PLAIN[26], PLAIN[27]]);
    let pseudo = u16::from_be_bytes([packet[26], packet[27]]);
    let header = pseudo_header(PEER, GROUP, 12).folded();
    let sum = Sum::ZERO
        .half(pseudo.to_be_bytes())
        .half(header.to_be_bytes())
        .folded();
    assert_eq!(sum, plain);
    packet[27] ^= 1;
    assert_eq!(multicast(&packet), Err(Reject::Checksum));
}

#[test]
fn pseudo_header_is_no_dialect_of_version_2() {
    let rules = Rules {
        version: 2,
        interval_centis: 100,
        ..MULTICAST
    };
    let mut packet = built(&AdvertSpec {
        version: Version::V2,
        interval: Centis(100),
        ..SPEC
    });
    packet[26..28].fill(0);
    let message = &packet[20..];
    let sum = pseudo_header(PEER, GROUP, 20).slice(message).checksum();
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&packet, &rules, |_| true), Err(Reject::Checksum));
}

#[test]
fn each_check_has_its_reason() {
    let rows: &[(&str, Vec<u8>, Reject)] = &[
        ("other protocol", changed(|p| p[9] = 17), Reject::NotVrrp),
        ("IPv6", changed(|p| p[0] = 0x65), Reject::NotVrrp),
        ("more fragments", changed(|p| p[6] = 0x20), Reject::Fragment),
        ("later fragment", changed(|p| p[7] = 1), Reject::Fragment),
        ("own address", changed(|p| p[15] = 1), Reject::Own),
        ("TTL 254", changed(|p| p[8] = 254), Reject::Ttl),
        ("version 2", changed(|p| p[20] = 0x21), Reject::Version),
        ("type 2", changed(|p| p[20] = 0x32), Reject::Type),
        ("no address", changed(|p| p[23] = 0), Reject::NoAddress),
        ("two addresses", changed(|p| p[23] = 2), Reject::Length),
        ("interval 0", changed(|p| p[25] = 0), Reject::Interval),
        ("destination", changed(|p| p[19] = 13), Reject::Destination),
        (
            "checksum",
            {
                let mut packet = PLAIN.to_vec();
                packet[22] = 100;
                packet
            },
            Reject::Checksum,
        ),
        (
            "header checksum",
            {
                let mut packet = PLAIN.to_vec();
                packet[15] = 3;
                packet
            },
            Reject::Checksum,
        ),
    ];
    for (name, packet, expected) in rows {
        assert_eq!(multicast(packet), Err(*expected), "{name}");
    }
}

#[test]
fn version_2_has_checks_of_its_own() {
    let rules = Rules {
        version: 2,
        interval_centis: 100,
        ..MULTICAST
    };
    let good = built(&AdvertSpec {
        version: Version::V2,
        interval: Centis(100),
        ..SPEC
    });
    let mut other_interval = good.clone();
    other_interval[25] = 2;
    let mut password = good.clone();
    password[24] = 1;
    let mut no_auth_data = good.clone();
    no_auth_data.truncate(32);
    no_auth_data[3] = 32;
    for (mut packet, expected) in [
        (other_interval, Reject::Interval),
        (password, Reject::Auth),
        (no_auth_data, Reject::Length),
    ] {
        seal(&mut packet);
        assert_eq!(parse(&packet, &rules, |_| true), Err(expected));
    }
    assert_eq!(
        parse(&good, &MULTICAST, |_| true),
        Err(Reject::Version),
        "a version 3 instance takes no version 2"
    );
}

#[test]
fn unicast_is_for_us_and_from_an_allowed_sender() {
    let rules = Rules {
        unicast: true,
        ..MULTICAST
    };
    let packet = built(&AdvertSpec {
        destination: OURS,
        ..SPEC
    });
    assert!(parse(&packet, &rules, |sender| sender == Address::v4(PEER)).is_ok());
    assert_eq!(parse(&packet, &rules, |_| false), Err(Reject::Sender));
    assert_eq!(multicast(&packet), Err(Reject::Destination));
    assert_eq!(parse(&PLAIN, &rules, |_| true), Err(Reject::Destination));
}

#[test]
fn options_padding_and_reserved_bits_are_no_fault() {
    let mut with_options = PLAIN.to_vec();
    with_options.splice(20..20, [0x94, 0x04, 0, 0]);
    with_options[0] = 0x46;
    with_options[3] += 4;
    seal(&mut with_options);
    assert!(multicast(&with_options).is_ok());

    let mut padded = PLAIN.to_vec();
    padded.resize(46, 0xff);
    assert!(multicast(&padded).is_ok(), "Ethernet pads to 46 bytes");

    let reserved = changed(|p| p[24] |= 0xf0);
    assert_eq!(multicast(&reserved).unwrap().interval_centis, 1);
}

#[test]
fn truncated_anywhere_is_refused() {
    for len in 0..PLAIN.len() {
        let result = multicast(&PLAIN[..len]);
        let expected = if len < 20 {
            Reject::NotVrrp
        } else {
            Reject::Length
        };
        assert_eq!(result, Err(expected), "{len} bytes");
    }
}

#[test]
fn rank_is_priority_then_address() {
    let advert = multicast(&PLAIN).unwrap();
    assert!(advert.outranks(199, Address::v4([255; 4])));
    assert!(!advert.outranks(201, Address::v4([0; 4])));
    assert!(advert.outranks(200, Address::v4([192, 168, 0, 1])));
    assert!(!advert.outranks(200, Address::v4([192, 168, 0, 3])));
    assert!(!advert.outranks(200, Address::v4(PEER)));
    assert!(advert.outranks(200, Address::v4([10, 200, 0, 3])));
}

#[test]
fn what_does_not_fit_is_not_built() {
    let mut buffer = [0; MAX_PACKET_LEN];
    let many = [VIP; 256];
    let mut fails = |spec: AdvertSpec<'_>| build_advert(&spec, &mut buffer).unwrap_err();
    let none = AdvertSpec {
        addresses: &[],
        ..SPEC
    };
    assert_eq!(fails(none), BuildError::AddressCount);
    let too_many = AdvertSpec {
        addresses: &many,
        ..SPEC
    };
    assert_eq!(fails(too_many), BuildError::AddressCount);
    for interval in [0, 4096] {
        let interval = Centis(interval);
        assert_eq!(fails(AdvertSpec { interval, ..SPEC }), BuildError::Interval);
    }
    for interval in [0, 50, 150, 25_600] {
        let spec = AdvertSpec {
            version: Version::V2,
            interval: Centis(interval),
            ..SPEC
        };
        assert_eq!(fails(spec), BuildError::Interval, "{interval}");
    }
}

fn versions() -> impl Strategy<Value = (Version, Centis)> {
    prop_oneof![
        (1_u16..=255).prop_map(|seconds| (Version::V2, Centis(seconds * 100))),
        (1_u16..=4095).prop_map(|centis| (Version::V3(Dialect::Plain), Centis(centis))),
        (1_u16..=4095).prop_map(|centis| (Version::V3(Dialect::PseudoHeader), Centis(centis))),
    ]
}

proptest! {
    #[test]
    fn what_is_built_parses(
        (version, interval) in versions(),
        vrid in 1_u8..=255,
        priority: u8,
        source: [u8; 4],
        unicast: bool,
        addresses in proptest::collection::vec(any::<[u8; 4]>(), 1..=255),
    ) {
        prop_assume!(source != OURS);
        let spec = AdvertSpec {
            version,
            vrid: Vrid::new(vrid).unwrap(),
            priority: Priority(priority),
            interval,
            source,
            destination: if unicast { OURS } else { GROUP },
            addresses: &addresses,
        };
        let number = match version { Version::V2 => 2, Version::V3(_) => 3 };
        let rules = Rules { version: number, unicast, source: Address::v4(OURS), interval_centis: interval.0 };
        let advert = parse(&built(&spec), &rules, |sender| sender == Address::v4(source)).unwrap();
        prop_assert_eq!(advert.sender, Address::v4(source));
        prop_assert_eq!(advert.vrid, vrid);
        prop_assert_eq!(advert.priority, priority);
        prop_assert_eq!(advert.interval_centis, interval.0);
        prop_assert_eq!(usize::from(advert.address_count), addresses.len());
        prop_assert!(advert.from_had);
        // A pseudo-header that adds up to nothing leaves one dialect.
        let message_len = u16::try_from(HEAD_LEN + 4 * addresses.len()).unwrap();
        let sum = pseudo_header(source, spec.destination, message_len);
        if let Version::V3(dialect) = version && sum.folded() != checksum::VALID {
            prop_assert_eq!(advert.dialect, dialect);
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..1200), unicast: bool) {
        let rules = Rules { unicast, ..MULTICAST };
        prop_assert!(parse(&bytes, &rules, |_| true).is_err());
        let _ = vrid_of(&bytes);
    }

    #[test]
    fn a_flipped_bit_is_noticed(bit in 0_usize..32 * 8) {
        let mut packet = PLAIN.to_vec();
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(multicast(&packet).is_err(), "bit {}", bit);
    }
}

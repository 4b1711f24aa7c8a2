extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const OURS: Address = Address::v4([192, 168, 0, 1]);
const PEER: Address = Address::v4([192, 168, 0, 2]);
const VIP: Address = Address::v4([192, 168, 0, 100]);
const ALL: Address = Address::v4(GROUP);

const MULTICAST: Rules = Rules {
    version: 3,
    unicast: false,
    source: OURS,
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
    destination: ALL,
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
            sender: PEER,
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
            sender: PEER,
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

fn v6(last: u8) -> Address {
    Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

/// Two addresses; the checksum was made by a separate Python script.
const OVER_V6: [u8; 80] = [
    0x6c, 0x00, 0x68, 0x41, 0x00, 0x28, 0x70, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x12, 0x31, 0x33, 0xc8, 0x02, 0x00, 0x01, 0xda, 0xfa,
    0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64,
    0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
];

fn spec_v6(addresses: &[Address]) -> AdvertSpec<'_> {
    AdvertSpec {
        source: v6(2),
        destination: Address::v6(GROUP_V6),
        addresses,
        ..SPEC
    }
}

fn over_v6(packet: &[u8]) -> Result<Advert, Reject> {
    let rules = Rules {
        source: v6(1),
        ..MULTICAST
    };
    parse(packet, &rules, |_| panic!("multicast has no senders"))
}

/// Puts the checksum right after a change.
fn changed_v6(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = OVER_V6.to_vec();
    change(&mut packet);
    let ip = ipv6::Header::parse(packet.first_chunk().unwrap());
    let (source, destination) = ip.map_or((v6(0), v6(0)), |ip| (ip.source, ip.destination));
    let message = &mut packet[40..];
    message[6..8].fill(0);
    let sum = pseudo_header(source, destination, 40).slice(message);
    message[6..8].copy_from_slice(&sum.checksum().to_be_bytes());
    packet
}

#[test]
fn over_ipv6() {
    let vips = [v6(0x64), Address::v6(*OVER_V6.last_chunk().unwrap())];
    assert_eq!(built(&spec_v6(&vips)), OVER_V6);
    assert_eq!(vrid_of(&OVER_V6), Ok(51));
    assert_eq!(
        over_v6(&OVER_V6),
        Ok(Advert {
            sender: v6(2),
            version: 3,
            vrid: 51,
            priority: 200,
            interval_centis: 1,
            address_count: 2,
            from_had: true,
            dialect: Dialect::PseudoHeader,
        })
    );
    let foreign = changed_v6(|p| p[3] = 0);
    assert!(!over_v6(&foreign).unwrap().from_had);
}

#[test]
fn over_ipv6_each_check_has_its_reason() {
    let mut spoiled = OVER_V6.to_vec();
    spoiled[42] ^= 1;
    // Right without the pseudo-header, which over IPv6 is no dialect.
    let mut plain = changed_v6(|_| {});
    plain[46..48].fill(0);
    let sum = Sum::ZERO.slice(&plain[40..]).checksum();
    plain[46..48].copy_from_slice(&sum.to_be_bytes());
    let rows: &[(&str, Vec<u8>, Reject)] = &[
        (
            "extension header",
            changed_v6(|p| p[6] = 0),
            Reject::NotVrrp,
        ),
        (
            "IPv4-mapped",
            changed_v6(|p| p[8..24].copy_from_slice(&PEER.octets())),
            Reject::NotVrrp,
        ),
        ("own address", changed_v6(|p| p[23] = 1), Reject::Own),
        ("hop limit 254", changed_v6(|p| p[7] = 254), Reject::Ttl),
        ("version 2", changed_v6(|p| p[40] = 0x21), Reject::Version),
        ("three addresses", changed_v6(|p| p[43] = 3), Reject::Length),
        (
            "another group",
            changed_v6(|p| p[39] = 0x13),
            Reject::Destination,
        ),
        ("checksum", spoiled, Reject::Checksum),
        ("checksum without a pseudo-header", plain, Reject::Checksum),
    ];
    for (name, packet, expected) in rows {
        assert_eq!(over_v6(packet), Err(*expected), "{name}");
    }
    let rules = Rules {
        version: 2,
        source: v6(1),
        ..MULTICAST
    };
    let version_2 = changed_v6(|p| p[40] = 0x21);
    assert_eq!(parse(&version_2, &rules, |_| true), Err(Reject::Version));
    for len in 40..OVER_V6.len() {
        assert_eq!(over_v6(&OVER_V6[..len]), Err(Reject::Length), "{len} bytes");
    }
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
    let header = pseudo_header(PEER, ALL, 12).folded();
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
    let sum = pseudo_header(PEER, ALL, 20).slice(message).checksum();
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&packet, &rules, |_| true), Err(Reject::Checksum));
}

#[test]
fn each_check_has_its_reason() {
    let rows: &[(&str, Vec<u8>, Reject)] = &[
        ("other protocol", changed(|p| p[9] = 17), Reject::NotVrrp),
        ("no IP", changed(|p| p[0] = 0x55), Reject::NotVrrp),
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
    assert!(parse(&packet, &rules, |sender| sender == PEER).is_ok());
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
    assert!(!advert.outranks(200, PEER));
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
    let many_v6 = [v6(9); MAX_ADDRESSES_V6 + 1];
    assert_eq!(fails(spec_v6(&many_v6)), BuildError::AddressCount);
    assert_eq!(fails(spec_v6(&[VIP])), BuildError::Family);
    let mixed = [VIP, v6(9)];
    for addresses in [&mixed[1..], &mixed] {
        assert_eq!(fails(AdvertSpec { addresses, ..SPEC }), BuildError::Family);
    }
    let version_2 = AdvertSpec {
        version: Version::V2,
        ..spec_v6(&mixed[1..])
    };
    assert_eq!(fails(version_2), BuildError::Family);
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
        source in any::<[u8; 4]>().prop_map(Address::v4),
        unicast: bool,
        addresses in proptest::collection::vec(any::<[u8; 4]>().prop_map(Address::v4), 1..=255),
    ) {
        prop_assume!(source != OURS);
        let spec = AdvertSpec {
            version,
            vrid: Vrid::new(vrid).unwrap(),
            priority: Priority(priority),
            interval,
            source,
            destination: if unicast { OURS } else { ALL },
            addresses: &addresses,
        };
        let number = match version { Version::V2 => 2, Version::V3(_) => 3 };
        let rules = Rules { version: number, unicast, source: OURS, interval_centis: interval.0 };
        let advert = parse(&built(&spec), &rules, |sender| sender == source).unwrap();
        prop_assert_eq!(advert.sender, source);
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
    fn what_is_built_over_ipv6_parses(
        interval in (1_u16..=4095).prop_map(Centis),
        priority: u8,
        source: [u8; 16],
        unicast: bool,
        addresses in proptest::collection::vec(any::<[u8; 16]>().prop_map(Address::v6), 1..=MAX_ADDRESSES_V6),
    ) {
        let source = Address::v6(source);
        prop_assume!(!source.is_v4() && source != v6(1));
        let spec = AdvertSpec {
            priority: Priority(priority),
            interval,
            source,
            destination: if unicast { v6(1) } else { Address::v6(GROUP_V6) },
            ..spec_v6(&addresses)
        };
        let rules = Rules { unicast, source: v6(1), ..MULTICAST };
        let advert = parse(&built(&spec), &rules, |sender| sender == source).unwrap();
        prop_assert_eq!(advert.sender, source);
        prop_assert_eq!(advert.priority, priority);
        prop_assert_eq!(advert.interval_centis, interval.0);
        prop_assert_eq!(usize::from(advert.address_count), addresses.len());
        prop_assert!(advert.from_had);
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

//! Any bytes as a VRRP packet (over IPv4 and IPv6), as ARP, as neighbour discovery, as a BFD control packet and as an echo: parsing never panics, and
//! what it takes means the same when it is built anew.
//!
//! The first byte says under which rules the rest is read, and whether its checksums are put right
//! first: chance alone would hardly ever get past them.

#![no_main]

use ha_common::{
    Address, Centis, Priority, Vrid,
    wire::{
        arp::{self, Arp},
        bfd::{self, Payload},
        checksum::Sum,
        echo, ipv4, ipv6,
        ndp::{self, Subject},
        vrrp::{self, AdvertSpec, MAX_PACKET_LEN, Rules, Version},
    },
};
use libfuzzer_sys::fuzz_target;

const OURS: Address = Address::v4([10, 0, 0, 1]);
const OURS_V6: Address = Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

fuzz_target!(|input: &[u8]| {
    let Some((flags, packet)) = input.split_first() else {
        return;
    };
    if let Some(bytes) = packet.first_chunk::<{ arp::PACKET_LEN }>()
        && let Some(arp) = Arp::parse(bytes)
    {
        assert_eq!(arp.emit(), *bytes);
    }
    if let Ok((control, section)) = bfd::parse(packet) {
        let built = match &section {
            Some(section) => Payload::with_section(&control, section),
            None => Payload::plain(&control),
        };
        assert_eq!(bfd::parse(built.as_slice()), Ok((control, section)));
    }
    if let Some((head, entry)) = packet.split_first_chunk()
        && let Some(entry) = entry.first_chunk()
    {
        read_echo(head, entry);
    }
    if let Some(bytes) = packet.first_chunk() {
        read_ndp(bytes);
    }
    let mut packet = packet.to_vec();
    if flags & 1 != 0 {
        put_checksums_right(&mut packet, flags & 2 != 0);
    }
    let rules = Rules {
        version: if flags & 4 != 0 { 2 } else { 3 },
        unicast: flags & 8 != 0,
        source: if flags & 16 != 0 { OURS_V6 } else { OURS },
        interval_centis: 100,
    };
    // No instance has the VRID 0: such a packet is not parsed further.
    if let Some(vrid) = vrrp::vrid_of(&packet).ok().and_then(Vrid::new)
        && let Ok(advert) = vrrp::parse(&packet, &rules, |_| true)
    {
        rebuild(&packet, &rules, vrid, &advert);
    }
});

/// An answer to a solicitation is an advertisement of what was asked for.
fn read_ndp(packet: &[u8; ndp::PACKET_LEN]) {
    let words = |at: usize| {
        let bytes = packet[8 * at..].first_chunk().expect("it has eight bytes");
        u64::from_ne_bytes(*bytes)
    };
    let Some(header) = ipv6::Header::from_words(std::array::from_fn(words)) else {
        return;
    };
    let message: ndp::Message = std::array::from_fn(|at| words(ipv6::HEADER_LEN / 8 + at));
    let head = |message: ndp::Message| [message[0], message[1], message[2]];
    let asked = Subject::of(&header, head(message));
    let Some(answer) = ndp::answer(&header, message, [2; 6], false) else {
        return;
    };
    let [h0, h1, h2, h3, h4, message @ ..] = answer.packet;
    let header = ipv6::Header::from_words([h0, h1, h2, h3, h4]).expect("it is IPv6");
    let told = Subject::of(&header, head(message)).expect("it is neighbour discovery");
    assert_eq!(told.kind, ndp::ADVERTISEMENT);
    assert_eq!(header.source, told.target);
    if let Some(asked) = asked {
        assert_eq!((asked.kind, asked.target), (ndp::SOLICITATION, told.target));
    }
}

/// What a head and an entry mean stays the same when they are built anew.
fn read_echo(head: &[u8; echo::HEAD_LEN], entry: &[u8; echo::ENTRY_LEN]) {
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes[8 * at..].first_chunk().expect("it has eight bytes");
        u64::from_ne_bytes(*bytes)
    };
    if let Some(head) = echo::Head::parse(&std::array::from_fn(|at| word(head, at))) {
        assert!(head.payload_len() <= echo::MAX_LEN);
        assert_eq!(echo::Head::parse(&head.emit()), Some(head));
    }
    let entry = echo::Entry::parse(&std::array::from_fn(|at| word(entry, at)));
    assert_eq!(echo::Entry::parse(&entry.emit()), entry);
}

/// A packet that was taken carries addresses for as many as it says, and is taken again when built from
/// what it said.
fn rebuild(packet: &[u8], rules: &Rules, vrid: Vrid, advert: &vrrp::Advert) {
    let is_v4 = advert.sender.is_v4();
    let (header_len, group) = if is_v4 {
        let header = packet.first_chunk().and_then(ipv4::Header::parse);
        let header = header.expect("it is IPv4");
        (header.header_len.into(), Address::v4(vrrp::GROUP))
    } else {
        (ipv6::HEADER_LEN, Address::v6(vrrp::GROUP_V6))
    };
    let named = &packet[header_len..][vrrp::HEAD_LEN..];
    let addresses: Vec<Address> = named
        .chunks_exact(if is_v4 { 4 } else { 16 })
        .take(advert.address_count.into())
        .map(|chunk| match chunk.first_chunk() {
            Some(address) => Address::v6(*address),
            None => Address::v4(*chunk.first_chunk().expect("four bytes")),
        })
        .collect();
    assert_eq!(addresses.len(), usize::from(advert.address_count));
    let spec = AdvertSpec {
        version: match advert.version {
            2 => Version::V2,
            _ => Version::V3(advert.dialect),
        },
        vrid,
        priority: Priority(advert.priority),
        interval: Centis(advert.interval_centis),
        source: advert.sender,
        destination: if rules.unicast { rules.source } else { group },
        addresses: &addresses,
    };
    let mut buffer = [0; MAX_PACKET_LEN];
    // What cannot be sent may be heard: an interval of zero, no address.
    if let Ok(built) = vrrp::build_advert(&spec, &mut buffer) {
        let mut again = vrrp::parse(built, rules, |_| true).expect("what is built is taken");
        // Ours carries the mark, and where both dialects fit the plain one is seen.
        again.from_had = advert.from_had;
        again.dialect = advert.dialect;
        assert_eq!(again, *advert);
    }
}

fn put_checksums_right(packet: &mut [u8], pseudo: bool) {
    if let Some(header) = packet.first_chunk().and_then(ipv6::Header::parse) {
        put_checksum_right_v6(packet, &header);
        return;
    }
    let Some(mut header) = packet
        .first_chunk::<{ ipv4::HEADER_LEN }>()
        .and_then(ipv4::Header::parse)
    else {
        return;
    };
    // At most what there is.
    header.total_len = header
        .total_len
        .min(packet.len().try_into().unwrap_or(u16::MAX));
    let Some((ip, message)) = packet.split_at_mut_checked(header.header_len.into()) else {
        return;
    };
    ip[2..4].copy_from_slice(&header.total_len.to_be_bytes());
    ip[10..12].fill(0);
    let sum = Sum::ZERO.slice(ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let Some(message) = message.get_mut(..header.payload_len().into()) else {
        return;
    };
    if message.len() >= vrrp::HEAD_LEN {
        message[6..8].fill(0);
        let start = if pseudo {
            Sum::ZERO
                .slice(&header.source)
                .slice(&header.destination)
                .half([0, vrrp::PROTOCOL])
                .half(header.payload_len().to_be_bytes())
        } else {
            Sum::ZERO
        };
        let sum = start.slice(message).checksum();
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}

fn put_checksum_right_v6(packet: &mut [u8], header: &ipv6::Header) {
    let Some(message) = packet.get_mut(ipv6::HEADER_LEN..) else {
        return;
    };
    // At most what there is.
    let len = message.len().min(header.payload_len.into());
    let (Some(message), Ok(len)) = (message.get_mut(..len), u16::try_from(len)) else {
        return;
    };
    if message.len() >= vrrp::HEAD_LEN {
        message[6..8].fill(0);
        let start = ipv6::pseudo_header(header.source, header.destination, len, vrrp::PROTOCOL);
        let sum = start.slice(message).checksum();
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    packet[4..6].copy_from_slice(&len.to_be_bytes());
}

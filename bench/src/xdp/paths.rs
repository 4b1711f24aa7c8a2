//! The paths that a frame can take through the ingress program, each with a frame that takes it.

use ha_common::{
    Address, Centis, Priority, Vrid,
    abi::{InstanceConfig, Reason, bfd::Session},
    wire::{
        arp::{self, Arp},
        bfd::{self, Control, Diagnostic, Payload, State},
        checksum::Sum,
        ethernet, ipv4, ipv6, ndp, udp,
        vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN, Version},
    },
};

use super::runner::Numbered;

/// Where `BPF_PROG_TEST_RUN` says that a frame came in: the loopback interface.
pub(super) const LOOPBACK: u32 = 1;

pub(super) const VRID: u8 = 51;
pub(super) const OURS: [u8; 4] = [192, 168, 0, 2];
pub(super) const PEER: [u8; 4] = [192, 168, 0, 3];
const STRANGER: [u8; 4] = [192, 168, 0, 77];
/// The VIP.
pub(super) const VIP: [u8; 4] = [192, 168, 0, 151];
/// Its VIP of IPv6.
pub(super) const VIP_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x51];
const PEER_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
/// Of the BFD session.
const DISCRIMINATOR: u32 = 1_000;
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// The shortest Ethernet frame, without its check sequence.
const SHORTEST: usize = 60;

/// A path, and what is to be shown of it.
pub(super) struct Path {
    pub(super) name: &'static str,
    pub(super) frame: Vec<u8>,
    /// Whether the gate is open.
    pub(super) open: bool,
    /// What the program counts.
    pub(super) reason: Reason,
    /// Whether the program changes the frame.
    pub(super) rewrites: bool,
    /// Whether the bounds are to hold: not with a key.
    pub(super) bounded: bool,
    /// Makes the frames that come after the first, where none is taken twice.
    pub(super) next: Option<Box<Numbered>>,
}

/// The instance whose gate and VIP the frames meet.
pub(super) fn instance() -> InstanceConfig {
    InstanceConfig {
        ifindex: LOOPBACK,
        leases: 1,
        vrid: VRID,
        version: 3,
        priority: 100,
        mac: OUR_MAC,
        source: Address::v4(OURS),
        interval_centis: 1,
        family: ipv4::VERSION,
        ..InstanceConfig::default()
    }
}

/// The BFD session whose packets come.
pub(super) fn session() -> Session {
    Session {
        ifindex: LOOPBACK,
        discriminator: DISCRIMINATOR,
        port: bfd::PORT,
        min_ttl: 255,
        local: Address::v4(OURS),
        peer: Address::v4(PEER),
        ..Session::default()
    }
}

/// Every path but those of leases.
pub(super) fn all() -> anyhow::Result<Vec<Path>> {
    let pass = |name, frame, reason| Path {
        name,
        frame,
        open: true,
        reason,
        rewrites: false,
        bounded: true,
        next: None,
    };
    Ok(vec![
        pass("foreign IPv4", udp(STRANGER)?, Reason::PassOther),
        pass("IPv4 to the VIP", udp(VIP)?, Reason::PassVipOpen),
        Path {
            open: false,
            ..pass("IPv4 to the VIP, closed", udp(VIP)?, Reason::DropVipClosed)
        },
        Path {
            rewrites: true,
            ..pass("ARP reply", arp_request(), Reason::ArpAnswered)
        },
        Path {
            open: false,
            ..pass("ARP, closed", arp_request(), Reason::DropArpClosed)
        },
        Path {
            open: false,
            ..pass("VRRP advert", advert()?, Reason::AdvertTaken)
        },
        Path {
            rewrites: true,
            ..pass("NS reply", solicitation()?, Reason::NdpAnswered)
        },
        pass("BFD packet", bfd_packet()?, Reason::BfdTaken),
    ])
}

fn frame(station: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet::build(station, PEER_MAC, ether_type).to_vec();
    frame.extend(payload);
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

fn arp_request() -> Vec<u8> {
    let request = Arp {
        operation: arp::REQUEST,
        sender_mac: PEER_MAC,
        sender_ip: PEER,
        target_mac: [0; 6],
        target_ip: VIP,
    };
    frame(ethernet::BROADCAST, ethernet::ARP, &request.emit())
}

fn udp(destination: [u8; 4]) -> anyhow::Result<Vec<u8>> {
    datagram(PEER, destination, (12_345, 9), b"abcd")
}

/// A UDP packet over IPv4, with TTL 255.
pub(super) fn datagram(
    source: [u8; 4],
    destination: [u8; 4],
    ports: (u16, u16),
    payload: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let len = u16::try_from(udp::HEADER_LEN + payload.len())?;
    let header = ipv4::Header {
        header_len: 20,
        total_len: 20 + len,
        identification: 0,
        dont_fragment: true,
        fragment: false,
        ttl: 255,
        protocol: udp::PROTOCOL,
        source,
        destination,
    };
    let mut head = Vec::from(ports.0.to_be_bytes());
    head.extend(ports.1.to_be_bytes());
    head.extend(len.to_be_bytes());
    let sum = Sum::ZERO
        .slice(&source)
        .slice(&destination)
        .half([0, udp::PROTOCOL])
        .half(len.to_be_bytes())
        .slice(&head)
        .slice(payload)
        .checksum();
    // Zero means that there is none (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    head.extend(sum.to_be_bytes());
    let packet = [&header.emit()[..], &head, payload].concat();
    Ok(frame(OUR_MAC, ethernet::IPV4, &packet))
}

/// Who has the VIP of IPv6? asks the peer.
fn solicitation() -> anyhow::Result<Vec<u8>> {
    let vip = Address::v6(VIP_V6);
    let (source, destination) = (Address::v6(PEER_V6), ipv6::solicited_node(vip));
    let mut message = vec![ndp::SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(VIP_V6);
    message.extend([1, 1]);
    message.extend(PEER_MAC);
    let len = u16::try_from(message.len())?;
    let sum = ipv6::pseudo_header(source, destination, len, ndp::ICMPV6)
        .slice(&message)
        .checksum();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let header = ipv6::Header {
        flow_label: 0,
        payload_len: len,
        next_header: ndp::ICMPV6,
        hop_limit: 255,
        source,
        destination,
    };
    let packet = [&header.emit()[..], &message].concat();
    let station = ipv6::multicast_mac(destination);
    Ok(frame(station, ethernet::IPV6, &packet))
}

/// What a BFD peer says again and again while the session is Up.
fn bfd_packet() -> anyhow::Result<Vec<u8>> {
    let control = Control {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: false,
        is_final: false,
        independent: false,
        authenticated: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 99,
        your_discriminator: DISCRIMINATOR,
        desired_min_tx_us: 3_000,
        required_min_rx_us: 3_000,
        required_min_echo_rx_us: 0,
    };
    let payload = Payload::plain(&control);
    datagram(PEER, OURS, (50_000, bfd::PORT), payload.as_slice())
}

fn advert() -> anyhow::Result<Vec<u8>> {
    let spec = AdvertSpec {
        version: Version::V3(Dialect::Plain),
        vrid: Vrid::new(VRID).ok_or_else(|| anyhow::anyhow!("no VRID"))?,
        priority: Priority(200),
        interval: Centis(1),
        source: Address::v4(PEER),
        destination: Address::v4(vrrp::GROUP),
        addresses: &[Address::v4(VIP)],
    };
    let mut buffer = [0; MAX_PACKET_LEN];
    let packet = vrrp::build_advert(&spec, &mut buffer)?;
    Ok(frame([1, 0, 0x5e, 0, 0, 0x12], ethernet::IPV4, packet))
}

//! The paths that a frame can take through the ingress program, each with a frame that takes it.

use ha_common::{
    Address, Centis, Priority, Vrid,
    abi::{InstanceConfig, Reason},
    wire::{
        arp::{self, Arp},
        checksum::Sum,
        ethernet, ipv4,
        vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN, Version},
    },
};

/// Where `BPF_PROG_TEST_RUN` says that a frame came in: the loopback interface.
const LOOPBACK: u32 = 1;

const VRID: u8 = 51;
const OURS: [u8; 4] = [192, 168, 0, 2];
const PEER: [u8; 4] = [192, 168, 0, 3];
const STRANGER: [u8; 4] = [192, 168, 0, 77];
/// The VIP.
pub(super) const VIP: [u8; 4] = [192, 168, 0, 151];
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

/// Every path.
pub(super) fn all() -> anyhow::Result<Vec<Path>> {
    let pass = |name, frame, reason| Path {
        name,
        frame,
        open: true,
        reason,
        rewrites: false,
        bounded: true,
    };
    Ok(vec![
        pass("foreign IPv4", udp(STRANGER), Reason::PassOther),
        pass("IPv4 to the VIP", udp(VIP), Reason::PassVipOpen),
        Path {
            open: false,
            ..pass("IPv4 to the VIP, closed", udp(VIP), Reason::DropVipClosed)
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

fn udp(destination: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0];
    packet.extend(PEER);
    packet.extend(destination);
    packet.extend([0x30, 0x39, 0, 9, 0, 12, 0, 0, b'a', b'b', b'c', b'd']);
    let sum = Sum::ZERO
        .slice(packet.get(..20).unwrap_or_default())
        .checksum();
    if let Some(field) = packet.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    frame(OUR_MAC, ethernet::IPV4, &packet)
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

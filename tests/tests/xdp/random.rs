//! Thousands of frames, each judged by XDP, by tc and by user space: nothing but the right verdict.

use ha_common::{
    Address,
    abi::Reason,
    wire::{
        arp::Arp,
        ethernet,
        ipv4::Header,
        vrrp::{self, Reject},
    },
};
use ha_core::InstanceId;

use crate::{
    fixture::{self, Fixture, Gate, LOOPBACK, OTHER, PEER, UNICAST, V2, V3, vip},
    frames::{self, IP, advert, request, udp},
    program::Program,
};

/// xorshift64*: the same frames in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// What must become of a frame while every gate is closed, by the user-space parsers alone.
fn expected(frame: &[u8]) -> Reason {
    let header: &[u8; 14] = frame[..14].try_into().unwrap();
    match ethernet::ether_type(header) {
        ethernet::VLAN | ethernet::SERVICE_VLAN => Reason::PassVlan,
        ethernet::ARP => expected_of_arp(&frame[IP..], ethernet::destination(header)),
        ethernet::IPV4 => expected_of_packet(&frame[IP..]),
        _ => Reason::PassOther,
    }
}

fn instance(found: impl Fn(InstanceId) -> bool) -> Option<InstanceId> {
    [V3, V2, UNICAST, fixture::ELSEWHERE]
        .into_iter()
        .find(|id| found(*id))
}

fn expected_of_arp(packet: &[u8], station: [u8; 6]) -> Reason {
    let Some(arp) = packet.first_chunk().and_then(Arp::parse) else {
        return Reason::PassOther;
    };
    let target = instance(|id| vip(id) == arp.target_ip);
    match target {
        Some(id) if arp.sender_ip != arp.target_ip => {
            let here = fixture::config(id).ifindex == LOOPBACK
                && (station == ethernet::BROADCAST || station == fixture::mac(id));
            if arp.operation == 1 && !here {
                Reason::DropArpElsewhere
            } else {
                Reason::DropArpClosed
            }
        }
        _ if instance(|id| vip(id) == arp.sender_ip).is_some() => Reason::PassArpFromVip,
        _ => Reason::PassArp,
    }
}

fn expected_of_packet(packet: &[u8]) -> Reason {
    let Some(header) = packet.first_chunk().and_then(Header::parse) else {
        return Reason::PassOther;
    };
    let mut otherwise = Reason::PassOther;
    match vrrp::vrid_of(packet) {
        Err(Reject::Fragment) => return Reason::AdvertFragment,
        Err(_) => {}
        Ok(vrid) => {
            let known = instance(|id| {
                let config = fixture::config(id);
                config.vrid == vrid && config.ifindex == LOOPBACK
            });
            if let Some(id) = known {
                let rules = fixture::config(id).rules();
                return match vrrp::parse(packet, &rules, |sender| sender == Address::v4(PEER)) {
                    Ok(_) => Reason::AdvertTaken,
                    Err(reject) => reject.reason(),
                };
            }
            otherwise = Reason::PassUnknownVrid;
        }
    }
    if instance(|id| vip(id) == header.destination).is_some() {
        return Reason::DropVipClosed;
    }
    otherwise
}

const fn passes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PassOther
            | Reason::PassVlan
            | Reason::PassUnknownVrid
            | Reason::PassArp
            | Reason::PassArpFromVip
    )
}

/// Runs frames through XDP and tc and compares. Returns how often each reason was met.
fn compare(count: usize, mut make: impl FnMut(&mut Random) -> Vec<u8>) -> Vec<(Reason, u64)> {
    let mut random = Random(0x6841_2026_1121);
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Closed);
    let start = fixture.counts();
    for index in 0..count {
        let frame = make(&mut random);
        let reason = expected(&frame);
        for program in Program::ALL {
            if !program.takes(&frame) {
                continue;
            }
            let before = fixture.counts();
            let verdict = program.run(&mut fixture.dataplane, &frame);
            let counted: Vec<_> = fixture
                .counted(&before)
                .into_iter()
                .filter(|(reason, _)| *reason != Reason::EventBudget)
                .collect();
            assert_eq!(
                counted,
                [(reason, 1)],
                "frame {index}, {program:?}: {frame:02x?}"
            );
            assert_eq!(
                verdict.code,
                if passes(reason) { 2 } else { 1 },
                "frame {index}, {program:?}"
            );
            assert_eq!(verdict.frame, frame, "frame {index}, {program:?}");
            fixture.events();
        }
    }
    fixture.counted(&start)
}

#[test]
fn random_bytes() {
    compare(3_000, |random| {
        let len = 14 + random.below(1_400);
        let mut frame: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        // Most random EtherTypes are nobody's: make them ours.
        match random.below(4) {
            0 => frame[12..14].copy_from_slice(&[0x08, 0x06]),
            1 => {}
            _ => frame[12..14].copy_from_slice(&[0x08, 0x00]),
        }
        frame
    });
}

#[test]
fn valid_frames_with_a_few_bytes_changed() {
    let met = compare(6_000, |random| {
        let mut frame = match random.below(8) {
            0 => frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3))),
            1 => udp(OTHER, vip(V3)),
            2 => frames::with_options(advert(V3, 50)),
            3 | 4 => advert(V3, random.byte()),
            5 => advert(V2, random.byte()),
            _ => advert(UNICAST, random.byte()),
        };
        for _ in 0..random.below(4) {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        if random.below(2) == 0 && frame[12..14] == [8, 0] {
            frames::seal(&mut frame);
        }
        if random.below(4) == 0 {
            frame.truncate(14 + random.below(frame.len() - 14));
        }
        frame
    });
    // The frames reach what they are meant to reach.
    for reason in [
        Reason::PassOther,
        Reason::PassUnknownVrid,
        Reason::DropArpClosed,
        Reason::DropVipClosed,
        Reason::AdvertTaken,
        Reason::AdvertTtl,
        Reason::AdvertVersion,
        Reason::AdvertType,
        Reason::AdvertLength,
        Reason::AdvertChecksum,
        Reason::AdvertInterval,
        Reason::AdvertAuth,
        Reason::AdvertSender,
        Reason::AdvertFragment,
        Reason::AdvertDestination,
    ] {
        assert!(
            met.iter().any(|(found, _)| *found == reason),
            "no frame met {reason:?}"
        );
    }
}

//! Neighbour Discovery: only an open gate answers for a VIP (RFC 4861, RFC 4862).

pub(crate) use ha_common::wire::ndp::ICMPV6;
use ha_common::{
    abi::Reason,
    wire::{
        ethernet,
        ipv6::{self, Header},
        ndp::{self, Subject},
    },
};

use crate::{frame::Frame, gate, maps};

/// Judges an ICMPv6 packet, and turns a solicitation of a VIP into its answer where the gate is open. `Err`:
/// it asks for no VIP; the reason holds unless the packet is for one.
#[inline(always)]
pub(crate) fn judge(frame: &Frame, ip: &Header) -> Result<Reason, Reason> {
    let subject = frame
        .words(ipv6::HEADER_LEN)
        .and_then(|head| Subject::of(ip, head));
    let Some(subject) = subject else {
        return Err(Reason::PassOther);
    };
    // Whom the neighbour table learns from it.
    let about = if subject.kind == ndp::SOLICITATION {
        if let Some((slot, config)) = maps::instance_of_vip(subject.target) {
            let station = frame.station();
            if frame.ifindex != config.ifindex
                || (!ethernet::is_group(station) && station != config.mac)
            {
                return Ok(Reason::DropNdpElsewhere);
            }
            if !gate::is_open(slot, config.leases, gate::now()) {
                return Ok(Reason::DropNdpClosed);
            }
            return Ok(answer(frame, ip, config.vip_mac(), config.router != 0));
        }
        ip.source
    } else {
        subject.target
    };
    Err(match maps::instance_of_vip(about) {
        Some(_) => Reason::PassNdpFromVip,
        None => Reason::PassNdp,
    })
}

#[inline(always)]
fn answer(frame: &Frame, ip: &Header, mac: [u8; 6], router: bool) -> Reason {
    let answer = frame
        .words(ipv6::HEADER_LEN)
        .and_then(|message| ndp::answer(ip, message, mac, router));
    match answer {
        Some(answer) if frame.answer_words(answer.station, mac, answer.packet) => {
            Reason::NdpAnswered
        }
        _ => Reason::PassVipOpen,
    }
}

//! VRRP: adverts are checked, stamped and counted; the daemon hears only of what changes something.

use ha_common::{
    MonoNs,
    abi::{Event, EventKind, InstanceConfig, Reason, Received, SenderKey, VridKey},
    wire::{
        checksum::{self, Sum},
        ipv4, ipv6,
        vrrp::{self, Advert, Carrier, Claim, Reject},
    },
};

use crate::{
    budget::Budget,
    frame::Frame,
    gate,
    maps::{self, INSTANCES, RECEIVED, SENDERS, VRIDS},
    packet::Span,
    said, watch,
};

/// Of a length below 2,048 what whole words of eight bytes take.
const TAIL: usize = 0x7f8;

/// Judges a VRRP packet over IPv4. `Err`: it concerns no instance; the reason holds unless it is for a VIP.
#[inline(always)]
pub(crate) fn judge_v4(frame: &Frame, ip: &ipv4::Header) -> Result<Reason, Reason> {
    let header_len = ip.header_len as usize;
    judge(frame, &Carrier::v4(ip), ipv4::VERSION, header_len)
}

/// The same over IPv6.
#[inline(always)]
pub(crate) fn judge_v6(frame: &Frame, ip: &ipv6::Header) -> Result<Reason, Reason> {
    judge(frame, &Carrier::v6(ip), ipv6::VERSION, ipv6::HEADER_LEN)
}

#[inline(always)]
fn judge(frame: &Frame, ip: &Carrier, family: u8, header_len: usize) -> Result<Reason, Reason> {
    if ip.fragment {
        return Ok(Reason::AdvertFragment);
    }
    let Some(head) = frame.bytes::<{ vrrp::HEAD_LEN }>(header_len) else {
        return Err(Reason::PassOther);
    };
    let key = VridKey {
        ifindex: frame.ifindex,
        vrid: vrrp::vrid(head),
        family,
        _pad: [0; 2],
    };
    // SAFETY: the value is copied at once; the daemon may replace it meanwhile, and a slot is one word.
    let Some(&slot) = (unsafe { VRIDS.get(key) }) else {
        return Err(Reason::PassUnknownVrid);
    };
    let Some(config) = INSTANCES.get(slot) else {
        return Err(Reason::PassUnknownVrid);
    };
    Ok(match check(frame, ip, header_len, head, slot, config) {
        Ok(advert) => take(slot, config, &advert),
        Err(reject) => reject.reason(),
    })
}

/// The checks of `ha_common::wire::vrrp::parse`, in its order.
#[inline(always)]
fn check(
    frame: &Frame,
    ip: &Carrier,
    header_len: usize,
    head: &[u8; vrrp::HEAD_LEN],
    slot: u32,
    config: &InstanceConfig,
) -> Result<Advert, Reject> {
    let rules = config.rules();
    let claim = Claim::check(ip, head, &rules)?;
    if rules.unicast {
        let key = SenderKey::new(slot, ip.source);
        // SAFETY: only whether there is a value matters.
        if unsafe { SENDERS.get(key) }.is_none() {
            return Err(Reject::Sender);
        }
    }
    let message_len = claim.message_len() as usize;
    // From here on the verifier knows no more of the header's length: it would follow the sum over the message once
    // for each length that the loop over the header ends with.
    let message = frame.after(header_len);
    let sum = if ip.source.is_v4() {
        match sum::<{ ipv4::MAX_HEADER_LEN }>(frame.packet(), header_len) {
            Some(checksum::VALID) => {}
            Some(_) => return Err(Reject::Checksum),
            None => return Err(Reject::Length),
        }
        sum::<{ vrrp::MAX_MESSAGE_LEN }>(message, message_len)
    } else {
        sum::<{ vrrp::MAX_MESSAGE_LEN_V6 }>(message, message_len)
    };
    claim.verify(sum.ok_or(Reject::Length)?)
}

/// The folded sum over the first `len` bytes, a multiple of four and at most `MAX`; `None` if there are
/// fewer. Nothing of the loop but the sum is used after it: what is left of each of its many ends looks
/// alike to the verifier, which then follows one.
#[inline(always)]
fn sum<const MAX: usize>(data: Span, len: usize) -> Option<u16> {
    let mut sum = Sum::ZERO;
    // What words of eight bytes leave comes first, since where it is does not depend on how far the loop came.
    if len & 4 != 0 {
        let [rest] = data.half_words(len & TAIL)?;
        sum = sum.word(rest.to_ne_bytes());
    }
    let mut at = 0;
    while at < MAX {
        if at + 8 > len {
            break;
        }
        let [word] = data.words(at)?;
        sum = sum.long(word);
        at += 8;
    }
    Some(sum.folded())
}

/// Stamps a valid advert. One that outranks this node closes its gate before anybody is told: also one
/// that is not open yet, since the daemon may be about to open it and not have read this advert.
#[inline(always)]
fn take(slot: u32, config: &InstanceConfig, advert: &Advert) -> Reason {
    let now = gate::now();
    let open = gate::is_open(slot, config.leases, now);
    let outranks = advert.outranks(config.priority, config.source);
    let supersedes = outranks && gate::supersede(slot);
    if let Some(received) = RECEIVED.get_ptr_mut(slot) {
        record(slot, received, advert, now, open || supersedes);
    }
    if outranks && open {
        Reason::AdvertOutranks
    } else {
        Reason::AdvertTaken
    }
}

/// Stamps and counts it, and tells the daemon of what changes something; of any if it is `eager`: the gate
/// is open, or was just closed for good.
#[inline(always)]
fn record(slot: u32, received: *mut Received, advert: &Advert, now: MonoNs, eager: bool) {
    // SAFETY: field addresses within a map value.
    let (last_ns, adverts) =
        unsafe { (&raw mut (*received).last_ns, &raw mut (*received).adverts) };
    let said = advert.said();
    let release = advert.priority == 0;
    let changed = said::peek(received) != said;
    if changed {
        said::write(received, &said);
    }
    maps::store(adverts, maps::load(adverts) + 1);
    if !release {
        maps::store(last_ns, now.0);
        watch::heard(slot);
    }
    // SAFETY: field addresses within a map value.
    let budget = unsafe {
        Budget {
            window_ns: &raw mut (*received).window_ns,
            events: &raw mut (*received).window_events,
        }
    };
    if (changed || release || eager) && budget.allows(now) {
        maps::report(Event {
            kind: EventKind::Advert as u32,
            instance: slot,
            stamp_ns: now.0,
            word: said.word.0,
            made_ns: now.0,
            sender: said.sender,
        });
    }
}

//! BFD: packets are checked, stamped and counted; the daemon hears only of what changes something.
//!
//! Authenticated sessions are the daemon's alone: their packets go on to its socket.

use ha_common::{
    MonoNs,
    abi::{
        Reason,
        bfd::{
            AUTH_BUDGET, Event, EventKind, PeerKey, Received, Session, Words, watch as watch_of,
        },
    },
    wire::{
        bfd::{self, Control, HEADER_LEN, Reject},
        udp,
    },
};

use crate::{
    budget::Budget,
    frame::Frame,
    gate,
    maps::{self, BFD_DISCRIMINATORS, BFD_PEERS, BFD_RECEIVED, BFD_SESSIONS},
    udp::Datagram,
    watch,
};

/// Judges a datagram for one of BFD's ports. `Err`: it concerns no session; the reason holds unless it is for a VIP.
#[inline(always)]
pub(crate) fn judge(
    frame: &Frame,
    datagram: &Datagram,
    header: &udp::Header,
) -> Result<Reason, Reason> {
    let Some(head) = frame.bytes::<HEADER_LEN>(datagram.start + udp::HEADER_LEN) else {
        return Err(Reason::PassBfdUnknown);
    };
    let (slot, known) = find(bfd::your_discriminator(head), header.destination, datagram)?;
    let Some(session) = BFD_SESSIONS.get(slot) else {
        return Err(Reason::PassBfdUnknown);
    };
    if !known {
        return Ok(Reason::BfdUnknownDiscriminator);
    }
    let payload_len = if header.payload_len as usize + udp::HEADER_LEN > datagram.len as usize {
        0
    } else {
        header.payload_len as usize
    };
    Ok(
        match check(head, payload_len, header.destination, datagram, session) {
            Ok(_) if session.authenticated != 0 => pass_on(slot),
            Ok(control) => {
                take(slot, &control, words(head));
                Reason::BfdTaken
            }
            Err(reject) => reject.reason(),
        },
    )
}

/// The session by Your Discriminator, or by the sender where that is 0 (RFC 5880 section 6.8.6). False: the
/// sender is a peer, and the discriminator is none of ours.
#[inline(always)]
fn find(discriminator: u32, port: u16, datagram: &Datagram) -> Result<(u32, bool), Reason> {
    if discriminator != 0 {
        // SAFETY: the value is copied at once; the daemon may replace it meanwhile, and a slot is one word.
        if let Some(&slot) = unsafe { BFD_DISCRIMINATORS.get(discriminator) } {
            return Ok((slot, true));
        }
    }
    let key = PeerKey {
        ifindex: datagram.ifindex,
        port: port.into(),
        address: datagram.source,
    };
    // SAFETY: as above.
    match unsafe { BFD_PEERS.get(key) } {
        Some(&slot) => Ok((slot, discriminator == 0)),
        None => Err(Reason::PassBfdUnknown),
    }
}

/// The rest of RFC 5880 section 6.8.6 but for what only the session knows, and RFC 5881 section 5.
#[inline(always)]
fn check(
    head: &[u8; HEADER_LEN],
    payload_len: usize,
    port: u16,
    datagram: &Datagram,
    session: &Session,
) -> Result<Control, Reject> {
    if datagram.ttl < session.min_ttl {
        return Err(Reject::Ttl);
    }
    let control = Control::check(head, payload_len)?;
    if session.ifindex != datagram.ifindex
        || session.port != port
        || !session.peer.is(datagram.source)
        || !session.local.is(datagram.destination)
    {
        return Err(Reject::Source);
    }
    if control.authenticated != (session.authenticated != 0) {
        return Err(Reject::Authentication);
    }
    Ok(control)
}

/// Lets the daemon check an authenticated packet, unless somebody floods it.
#[inline(always)]
fn pass_on(slot: u32) -> Reason {
    match BFD_RECEIVED.get_ptr_mut(slot) {
        Some(received) if budget(received).allows_of(AUTH_BUDGET, gate::now()) => {
            Reason::PassBfdAuth
        }
        _ => Reason::BfdAuthBudget,
    }
}

#[inline(always)]
fn budget(received: *mut Received) -> Budget {
    // SAFETY: field addresses within a map value.
    unsafe {
        Budget {
            window_ns: &raw mut (*received).window_ns,
            events: &raw mut (*received).window_events,
        }
    }
}

/// Stamps a valid packet, and tells the daemon of one that says something new, polls or answers a poll; of
/// any while the session is not watched.
#[inline(always)]
fn take(slot: u32, control: &Control, words: Words) {
    let Some(received) = BFD_RECEIVED.get_ptr_mut(slot) else {
        return;
    };
    let now = gate::now();
    let watched = watch::is_watched(watch_of(slot));
    let changed = store(received, words, now);
    watch::heard(watch_of(slot));
    let budget = budget(received);
    let news = changed || control.poll || control.is_final || !watched;
    if news && budget.allows(now) {
        maps::report_bfd(Event {
            kind: EventKind::Packet as u32,
            session: slot,
            stamp_ns: now.0,
            made_ns: now.0,
            packet: words,
        });
    }
}

/// Writes the packet, if it differs from the last one, and then its stamp. Whether it differs.
#[inline(always)]
fn store(received: *mut Received, words: Words, now: MonoNs) -> bool {
    // SAFETY: field addresses within a map value; the packet is three words.
    let (last, packet, packets) = unsafe {
        (
            &raw mut (*received).last_ns,
            (&raw mut (*received).packet).cast::<u64>(),
            &raw mut (*received).packets,
        )
    };
    let mut changed = false;
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: as above.
        let place = unsafe { packet.add(index) };
        if maps::load(place) != word {
            changed = true;
            maps::store(place, word);
        }
    }
    maps::store(packets, maps::load(packets) + 1);
    maps::store(last, now.0);
    changed
}

#[inline(always)]
fn words(head: &[u8; HEADER_LEN]) -> Words {
    let (words, _) = head.as_chunks::<8>();
    match words {
        &[a, b, c] => [a, b, c].map(u64::from_ne_bytes),
        _ => [0; 3],
    }
}

//! Leases: what a peer asks for is judged and promised here, what it grants extends this node's
//! (`ha_common::lease` has the rules).

use ha_common::{
    MonoNs, Nanos,
    abi::{Event, EventKind, Reason, lease::AskWord},
    gate::{Epoch, Lease},
    lease::{self, Ask, Judgement, Promise, Rank, Situation, Standing},
    wire::echo::{Entry, Verdict},
};

use crate::{
    budget::Budget,
    gate::{self, SLOTS},
    maps::{self, GATES, INSTANCES, LEASE_CONFIG, LEASES, PATH_STATE, PROMISES},
    silence,
};

/// What an entry is about, in one word, since a BPF function has five arguments.
#[derive(Clone, Copy)]
pub(crate) struct Place(u64);

impl Place {
    /// A path, an instance's slot, its peer, and the length of the lease in whole microseconds.
    #[inline(always)]
    pub(crate) fn new(path: u32, slot: u32, peer: u32, lease: Nanos) -> Self {
        let lease = (lease.0 / 1_000) << 32;
        Self(lease | u64::from(path) << 24 | u64::from(slot) << 8 | u64::from(peer))
    }

    #[inline(always)]
    fn path(self) -> u32 {
        u32::from(self.0.to_le_bytes()[3])
    }

    #[inline(always)]
    fn slot(self) -> u32 {
        let [_, low, high, ..] = self.0.to_le_bytes();
        u32::from(u16::from_le_bytes([low, high]))
    }

    #[inline(always)]
    fn peer(self) -> u32 {
        u32::from(self.0.to_le_bytes()[0])
    }

    #[inline(always)]
    fn lease(self) -> Nanos {
        Nanos::from_micros(self.0 >> 32)
    }
}

/// A peer's entry, asked.
#[inline(always)]
pub(crate) fn ask(place: Place, entry: &[u64; 2], now: MonoNs, sent: MonoNs) -> Verdict {
    match had_asked(place.0, entry[0], entry[1], now.0, sent.0) {
        1 => Verdict::Granted,
        2 => Verdict::Refused,
        3 => Verdict::Unknown,
        _ => Verdict::None,
    }
}

/// This node's own entry, answered.
#[inline(always)]
pub(crate) fn learn(place: Place, entry: &[u64; 2], now: MonoNs, sent: MonoNs) {
    had_answered(place.0, entry[0], entry[1], now.0, sent.0);
}

/// [`ask`] as a function of its own, which the verifier follows once and not for each entry of a packet; it has
/// a stack of its own as well.
// SAFETY: no other object defines the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn had_asked(place: u64, first: u64, second: u64, now: u64, sent: u64) -> u32 {
    let place = Place(place);
    let request = Request {
        boot: boot(place.path()),
        now: MonoNs(now),
        sent: MonoNs(sent),
        lease: place.lease(),
    };
    asked(
        place.slot(),
        place.peer(),
        &Entry::parse(&[first, second]),
        &request,
    ) as u32
}

/// [`learn`] likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn had_answered(place: u64, first: u64, second: u64, now: u64, sent: u64) -> u32 {
    let place = Place(place);
    let entry = Entry::parse(&[first, second]);
    if let Verdict::Unknown = entry.verdict {
        maps::count(Reason::LeaseUnknown);
    }
    let (sent, now) = (MonoNs(sent), MonoNs(now));
    answered(place.slot(), place.peer(), &entry, sent, place.lease(), now);
    0
}

/// The boot that a path's peer was accepted with.
#[inline(always)]
fn boot(path: u32) -> u64 {
    match PATH_STATE.get_ptr(path) {
        // SAFETY: a field's address within a map value.
        Some(state) => maps::load(unsafe { &raw const (*state).boot }),
        None => 0,
    }
}

/// What is asked, but for the entry.
struct Request {
    /// The asker's boot: its send times are of one clock.
    boot: u64,
    /// When it came.
    now: MonoNs,
    /// When the asker began the round, by its clock.
    sent: MonoNs,
    /// For how long it asks.
    lease: Nanos,
}

/// The words of a promise.
struct Words {
    word: *mut u64,
    granted_sent: *mut u64,
    released_sent: *mut u64,
    ask: *mut u64,
    held_ns: *mut u64,
    boot: *mut u64,
    budget: Budget,
}

#[inline(always)]
fn promise(slot: u32, peer: u32) -> Option<Words> {
    let cell = PROMISES.get_ptr_mut(slot * SLOTS + peer)?;
    // SAFETY: field addresses within a map value.
    Some(unsafe {
        Words {
            word: &raw mut (*cell).word,
            granted_sent: &raw mut (*cell).granted_sent,
            released_sent: &raw mut (*cell).released_sent,
            ask: &raw mut (*cell).ask,
            held_ns: &raw mut (*cell).held_ns,
            boot: &raw mut (*cell).boot,
            budget: Budget {
                window_ns: &raw mut (*cell).window_ns,
                events: &raw mut (*cell).window_events,
            },
        }
    })
}

/// Reports, within the peer's budget.
#[inline(always)]
fn report(words: &Words, event: Event) {
    if words.budget.allows(event.stamp()) {
        maps::report(event);
    }
}

#[inline(always)]
fn asked(slot: u32, peer: u32, entry: &Entry, request: &Request) -> Verdict {
    let (Some(words), Some(config)) = (promise(slot, peer), LEASE_CONFIG.get(slot)) else {
        return Verdict::Unknown;
    };
    if config.longest_ns == 0 {
        return Verdict::Unknown;
    }
    if maps::load(words.boot) != request.boot {
        maps::store(words.granted_sent, 0);
        maps::store(words.released_sent, 0);
        maps::store(words.boot, request.boot);
    }
    let ask = AskWord::new(peer, entry.ask, entry.epoch, entry.rank);
    match entry.ask {
        Ask::Nothing => return Verdict::None,
        Ask::Release => {
            released(slot, &words, ask, request);
            return Verdict::None;
        }
        Ask::Hold | Ask::Candidate | Ask::Resume => {}
    }
    // Before anything is noted: what was sent before a release, and came on a slower path, undoes nothing.
    if request.lease.0 > config.longest_ns {
        maps::count(Reason::LeaseTooLong);
        return Verdict::Refused;
    }
    if request.sent.0 <= maps::load(words.released_sent) {
        return Verdict::Refused;
    }
    if let Ask::Hold = entry.ask {
        maps::store(words.held_ns, request.now.0);
    }
    if maps::load(words.ask) != ask.0 {
        maps::store(words.ask, ask.0);
        report(
            &words,
            Event::of_lease(EventKind::Asked, slot, request.now, ask),
        );
    }
    requested(slot, peer, config.greater, entry, ask, &words, request)
}

#[inline(always)]
fn requested(
    slot: u32,
    peer: u32,
    greater: u64,
    entry: &Entry,
    ask: AskWord,
    words: &Words,
    request: &Request,
) -> Verdict {
    let mut before = Promise::from_word(maps::load(words.word));
    let mut at = Situation::AT_REST;
    if before.is_acting() {
        let outranked_at_tie = greater >> (peer & 63) & 1 != 0;
        let Some(acting) = acting(slot, peer, entry.rank, outranked_at_tie, request.now) else {
            return Verdict::Unknown;
        };
        // Last, as it is what a grant is exchanged for.
        before = Promise::from_word(maps::load(words.word));
        at = Situation {
            acting: before.is_acting(),
            ..acting
        };
    }
    let barring = entry.ask.barred_by();
    at.promised_elsewhere = barring != 0 && is_promised_elsewhere(slot, peer, barring, request.now);
    match lease::judge(entry.ask, &at) {
        Judgement::Refuse => Verdict::Refused,
        Judgement::Grant => grant(slot, words, before, request),
        Judgement::Yield => {
            gate::supersede(slot);
            let verdict = grant(slot, words, Promise::ACTING, request);
            if let Some(gate) = GATES.get_ptr_mut(slot) {
                // SAFETY: a field's address within a map value.
                let standing = unsafe { &raw mut (*gate).standing };
                maps::store(standing, Standing::Bystander.to_word());
            }
            // Of no budget: this node has to stand anew before there is another one.
            maps::report(Event::of_lease(EventKind::Yielded, slot, request.now, ask));
            verdict
        }
    }
}

/// What a request meets at a node that acts. To others none of it matters, so it is not read there.
#[inline(always)]
fn acting(
    slot: u32,
    peer: u32,
    theirs: Rank,
    outranked_at_tie: bool,
    now: MonoNs,
) -> Option<Situation> {
    let (gate, instance) = (GATES.get_ptr(slot)?, INSTANCES.get(slot)?);
    // SAFETY: field addresses within a map value.
    let (standing, rank, until) = unsafe {
        (
            &raw const (*gate).standing,
            &raw const (*gate).rank,
            &raw const (*gate).candidate_until_ns,
        )
    };
    let standing = Standing::from_word(maps::load(standing));
    // At the others it decides nothing.
    let alive = match standing {
        Standing::Bystander | Standing::Lapsed => false,
        Standing::Candidate => now.0 < maps::load(until),
        Standing::Active => gate::is_open(slot, instance.leases, now),
    };
    let self_renewed = matches!(standing, Standing::Active) && is_self_renewed(slot, peer);
    let ours = Rank::from_word(maps::load(rank));
    Some(Situation {
        standing,
        alive,
        self_renewed,
        outranked: ours.is_below(theirs, outranked_at_tie),
        ..Situation::AT_REST
    })
}

#[inline(always)]
fn is_self_renewed(slot: u32, peer: u32) -> bool {
    let Some(cell) = LEASES.get_ptr(slot * SLOTS + peer) else {
        return false;
    };
    // SAFETY: a field's address within a map value.
    Lease::from_word(maps::load(unsafe { &raw const (*cell).word })).is_self_renewed()
}

/// Whether another peer was promised one of what bars a request ([`Ask::barred_by`]).
#[inline(always)]
fn is_promised_elsewhere(slot: u32, peer: u32, barring: u32, now: MonoNs) -> bool {
    let Some(instance) = INSTANCES.get(slot) else {
        return true;
    };
    for other in 0..SLOTS {
        if other >= instance.leases {
            break;
        }
        let Some(words) = promise(slot, other) else {
            break;
        };
        let bars = barring >> AskWord(maps::load(words.ask)).ask() as u32 & 1 != 0;
        let ends = Promise::from_word(maps::load(words.word)).ends();
        if other != peer && bars && ends > now {
            return true;
        }
    }
    false
}

/// Promises, unless a word is changed under it twice, or this node acts by now.
///
/// What was granted is noted before the promise is made: a release that is older leaves the promise alone.
#[inline(always)]
fn grant(slot: u32, words: &Words, expected: Promise, request: &Request) -> Verdict {
    if !raise(words.granted_sent, request.sent) {
        return Verdict::Refused;
    }
    let mut expected = expected;
    for _ in 0..2 {
        let promised = expected.granted(request.now, request.lease);
        let found = maps::compare_exchange(words.word, expected.to_word(), promised.to_word());
        if found == expected.to_word() {
            silence::promised(slot, promised.ends(), request.now);
            return Verdict::Granted;
        }
        expected = Promise::from_word(found);
        if expected.is_acting() {
            break;
        }
    }
    Verdict::Refused
}

/// Raises a word to a send time, unless it is there already. Whether it is now: one that is changed under it
/// twice is left.
#[inline(always)]
fn raise(word: *mut u64, sent: MonoNs) -> bool {
    let mut before = maps::load(word);
    for _ in 0..2 {
        if before >= sent.0 {
            return true;
        }
        let found = maps::compare_exchange(word, before, sent.0);
        if found == before {
            return true;
        }
        before = found;
    }
    false
}

/// A peer lets go: what it was promised before is void, but not what it was granted since.
#[inline(always)]
fn released(slot: u32, words: &Words, ask: AskWord, request: &Request) {
    if request.sent.0 <= maps::load(words.released_sent) {
        return;
    }
    let promised = Promise::from_word(maps::load(words.word));
    // A full barrier: a grant that changed the word before it was read is seen below, and any other one changes it
    // after that.
    maps::exchange(words.released_sent, request.sent.0);
    if maps::load(words.granted_sent) >= request.sent.0 {
        return;
    }
    maps::store(words.ask, ask.0);
    if promised.is_acting() || promised.ends() <= request.now {
        return;
    }
    let void = Promise::until(request.now);
    if maps::compare_exchange(words.word, promised.to_word(), void.to_word()) == promised.to_word()
    {
        report(
            words,
            Event::of_lease(EventKind::Released, slot, request.now, ask),
        );
    }
}

/// An entry of an answer: a grant extends the lease to that echo's send time and its length, as long as the
/// epoch is still the open one.
#[inline(always)]
fn answered(slot: u32, peer: u32, entry: &Entry, sent: MonoNs, length: Nanos, now: MonoNs) {
    let (Some(gate), Some(config)) = (GATES.get_ptr(slot), LEASE_CONFIG.get(slot)) else {
        return;
    };
    // SAFETY: field addresses within a map value.
    let (epoch, standing) = unsafe { (&raw const (*gate).epoch, &raw const (*gate).standing) };
    let epoch = Epoch::from_word(maps::load(epoch));
    let grants = matches!(entry.verdict, Verdict::Granted);
    if !grants || entry.epoch != epoch || length.0 > config.longest_ns {
        return;
    }
    let Some(cell) = LEASES.get_ptr_mut(slot * SLOTS + peer) else {
        return;
    };
    // SAFETY: as above.
    let lease = unsafe { &raw mut (*cell).word };
    let held = Lease::from_word(maps::load(lease)).holds(epoch, now);
    extend(lease, Lease::new(epoch, sent.after(length)));
    if !held
        && let Standing::Candidate | Standing::Lapsed = Standing::from_word(maps::load(standing))
        && let Some(words) = promise(slot, peer)
    {
        let word = AskWord::new(peer, entry.ask, entry.epoch, entry.rank);
        report(
            &words,
            Event::of_lease(EventKind::Answered, slot, now, word),
        );
    }
}

/// Lengthens a lease; one that is changed under it twice is left.
#[inline(always)]
fn extend(word: *mut u64, grant: Lease) {
    let mut before = maps::load(word);
    for _ in 0..2 {
        let after = Lease::from_word(before).extended(grant).to_word();
        let found = maps::compare_exchange(word, before, after);
        if found == before {
            return;
        }
        before = found;
    }
}

//! Echoes and answers (`ha_common::wire::echo`): checked, stamped, and echoes turned into their answers in
//! place.
//!
//! Whatever is whole, from a peer and rightly tagged stamps the path *first*, and only then, after a full
//! barrier, looks at a lease or promise: a daemon that renews a lease by itself writes the lease first and reads
//! the stamp then, so that one of the two sees the other.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use ha_common::{
    MonoNs, Nanos,
    abi::{
        Reason,
        lease::{PathConfig, PathKey, PathState, path_instance, rtt_bucket},
    },
    lease::{Order, PORT, RoundTrips, order},
    wire::{
        checksum::{self, Sum},
        echo::{self, ENTRY_LEN, Entry, HEAD_LEN, HEAD_WORDS, Head, Kind, MAX_ENTRIES, Verdict},
        ipv4, udp,
    },
};

use crate::{
    frame::Frame,
    gate,
    lease::{self, Place},
    maps::{self, PATH_CONFIG, PATH_INSTANCES, PATH_STATE, PATHS},
    packet::{Span, forgotten},
    udp::Datagram,
};

/// Where the head and the entries begin, after the UDP header.
const HEAD: usize = udp::HEADER_LEN;
const ENTRIES: usize = HEAD + HEAD_LEN;

/// Where the source station is in a frame.
const STATION: usize = 6;

/// The one TTL or hop limit that proves a sender on the same link.
const TTL: u8 = 255;

/// A path that a packet came on.
struct Path {
    index: u32,
    config: &'static PathConfig,
    state: *mut PathState,
}

impl Path {
    #[inline(always)]
    fn get(index: u32) -> Option<Self> {
        Some(Self {
            index,
            config: PATH_CONFIG.get(index)?,
            state: PATH_STATE.get_ptr_mut(index)?,
        })
    }
}

/// A packet of a path that is left to be served, in one word: its path, where its UDP header begins in the frame,
/// and how many bytes there are from there on.
#[derive(Clone, Copy)]
pub(crate) struct Echo(u64);

impl Echo {
    /// No packet. Others are greater than any verdict.
    pub(crate) const NONE: Self = Self(0);

    const IS_ONE: u64 = 1 << 32;

    #[inline(always)]
    fn new(path: u32, start: usize, len: u16) -> Self {
        Self(Self::IS_ONE | u64::from(path) << 24 | (start as u64 & 0xff) << 16 | u64::from(len))
    }

    #[inline(always)]
    pub(crate) const fn to_word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word < Self::IS_ONE {
            return None;
        }
        Some(Self(word))
    }

    #[inline(always)]
    const fn path(self) -> u32 {
        self.0.to_le_bytes()[3] as u32
    }

    #[inline(always)]
    const fn start(self) -> usize {
        self.0.to_le_bytes()[2] as usize
    }

    #[inline(always)]
    const fn len(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// From the UDP header on.
    #[inline(always)]
    fn datagram(self, frame: Span) -> Span {
        frame.after_unknown(self.start(), self.len().into())
    }
}

/// An echo that was taken and is left to be answered, in one word: when it came, and whether its sender is known.
#[derive(Clone, Copy)]
pub(crate) struct Asked(u64);

impl Asked {
    const STRANGER: u64 = 1 << 63;

    /// No verdict is greater than this, and no packet comes as early.
    const MOST_VERDICT: u64 = 2;

    #[inline(always)]
    const fn by_known(now: MonoNs) -> Self {
        Self(now.0)
    }

    #[inline(always)]
    const fn by_stranger(now: MonoNs) -> Self {
        Self(now.0 | Self::STRANGER)
    }

    #[inline(always)]
    pub(crate) const fn to_word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word <= Self::MOST_VERDICT {
            return None;
        }
        Some(Self(word))
    }

    #[inline(always)]
    const fn is_known(self) -> bool {
        self.0 & Self::STRANGER == 0
    }

    #[inline(always)]
    const fn now(self) -> u64 {
        self.0 & !Self::STRANGER
    }
}

/// Judges a datagram for the port of echoes: `Ok` means that it is to be served ([`Frame::echo`]), unless the
/// reason is another one. `Err`: it is none of a path; the reason holds unless it is for a VIP.
#[inline(always)]
pub(crate) fn judge(frame: &Frame, datagram: &Datagram) -> Result<Reason, Reason> {
    let key = PathKey::new(frame.ifindex, datagram.source);
    // SAFETY: the value is copied at once; the daemon may replace it meanwhile, and an index is one word.
    let Some(&path) = (unsafe { PATHS.get(key) }) else {
        return Err(Reason::PassEchoUnknown);
    };
    match PATH_CONFIG.get(path) {
        Some(config) if config.local.is(datagram.destination) => {}
        _ => return Err(Reason::PassEchoUnknown),
    }
    if datagram.ttl != TTL {
        return Ok(Reason::EchoTtl);
    }
    // Options would come between the addresses and the datagram.
    if datagram.source.is_v4() && datagram.start != ipv4::HEADER_LEN {
        return Ok(Reason::EchoFormat);
    }
    let start = forgotten(frame.header_len + datagram.start, datagram.len.into());
    frame.echo.set(Echo::new(path, start, datagram.len));
    Ok(Reason::EchoAnswer)
}

/// Stations and IP addresses change places. The addresses come last in either IP header, which has no options.
#[inline(always)]
fn turn_back(frame: Span, echo: Echo, config: &PathConfig) {
    // The destination and two bytes of the source; two bytes of the destination and the source.
    if let (Some([first]), Some([second])) = (frame.words(0), frame.words(4)) {
        let (first, second) = (u64::from_le(first), u64::from_le(second));
        frame.set_words(0, [(second >> 16 | first << 48).to_le()]);
        frame.set_words(4, [(second >> 48 | first << 16).to_le()]);
    }
    let unknown = echo.len().into();
    if config.local.is_v4() {
        let addresses = frame.after_unknown(echo.start() - 8, unknown);
        if let Some([both]) = addresses.words(0) {
            addresses.set_words(0, [both.rotate_left(u32::BITS)]);
        }
    } else {
        let addresses = frame.after_unknown(echo.start() - 32, unknown);
        if let Some([s0, s1, d0, d1]) = addresses.words(0) {
            addresses.set_words(0, [d0, d1, s0, s1]);
        }
    }
}

/// Checks a packet and takes what it says: the verdict, or what is left to be done about an echo.
///
/// This and [`answer`] are functions of their own for the stack: a program has 512 bytes with all that it calls, and
/// a function's are free when it returns. They get numbers, since the kernel's BTF has no words for other types.
#[inline(never)]
pub(crate) fn take(data: usize, data_end: usize, echo: u64) -> u64 {
    match taken(Span::new(data, data_end), Echo(echo)) {
        Ok(asked) => asked.to_word(),
        Err(reason) => crate::counted(reason) as u64,
    }
}

#[inline(always)]
fn taken(frame: Span, echo: Echo) -> Result<Asked, Reason> {
    let (Some(path), Some([station])) = (Path::get(echo.path()), frame.words(STATION)) else {
        return Err(Reason::EchoFormat);
    };
    let datagram = echo.datagram(frame);
    let (Some([udp]), Some(words)) = (datagram.words(0), datagram.words::<HEAD_WORDS>(HEAD)) else {
        return Err(Reason::EchoFormat);
    };
    let Some(head) = Head::parse(&words) else {
        return Err(Reason::EchoFormat);
    };
    check(&path, datagram, echo, udp, &words, &head)?;
    let now = gate::now();
    stamp(&path, station, head.kind, now);
    match head.kind {
        Kind::Echo => match meet(&path, &head, now) {
            Meeting::Known => Ok(Asked::by_known(now)),
            Meeting::Stranger => Ok(Asked::by_stranger(now)),
            Meeting::Old => Err(Reason::EchoOld),
        },
        _ if head.boot != path.config.boot || head.sent > now => Err(Reason::EchoForeign),
        Kind::Answer => {
            answered(datagram, echo.len(), &path, &head, now);
            Err(Reason::EchoAnswer)
        }
        Kind::Stranger => {
            // SAFETY: a field's address within a map value.
            let challenge = unsafe { &raw mut (*path.state).their_challenge };
            maps::store(challenge, head.challenge);
            Err(Reason::EchoAnswer)
        }
    }
}

/// Everything that a packet must fulfil before it means anything.
#[inline(always)]
fn check(
    path: &Path,
    datagram: Span,
    echo: Echo,
    udp: u64,
    words: &[u64; HEAD_WORDS],
    head: &Head,
) -> Result<(), Reason> {
    let len = echo.len();
    let [s0, s1, _, _, l0, l1, c0, c1] = udp.to_ne_bytes();
    let whole = u16::from_be_bytes([l0, l1]) == len && len as usize == HEAD + head.payload_len();
    if u16::from_be_bytes([s0, s1]) != PORT || !whole {
        return Err(Reason::EchoFormat);
    }
    if head.node == path.config.node {
        return Err(Reason::EchoOwn);
    }
    let mut sum = echo::summed(pseudo_header(path.config, len), &[udp]);
    sum = echo::summed(sum, words);
    let count = head.count as usize;
    let mut index = 0;
    while index < MAX_ENTRIES {
        if index >= count {
            break;
        }
        let Some(words) = entry(datagram, index, len).words::<2>(0) else {
            return Err(Reason::EchoFormat);
        };
        sum = echo::summed(sum, &words);
        index += 1;
    }
    // A checksum of 0 is none: `had` always sends one.
    if [c0, c1] == [0, 0] || sum.folded() != checksum::VALID {
        return Err(Reason::EchoChecksum);
    }
    let expected = if path.config.keyed != 0 {
        let (start, end) = datagram.bounds();
        hash(start, end, echo.0, 1)
    } else {
        0
    };
    if echo::tag_of(words) != expected {
        // SAFETY: a field's address within a map value.
        bump(unsafe { &raw mut (*path.state).bad_tags });
        return Err(Reason::EchoTag);
    }
    Ok(())
}

/// The tag that a packet must have, from the peer or (0) to it.
#[inline(never)]
fn hash(start: usize, end: usize, echo: u64, from_peer: u64) -> u64 {
    let echo = Echo(echo);
    let datagram = Span::new(start, end);
    let words = datagram.words::<HEAD_WORDS>(HEAD);
    let (Some(path), Some(words)) = (Path::get(echo.path()), words) else {
        return 0;
    };
    let (local, peer) = (path.config.local.words(), path.config.peer.words());
    let mut hash = if from_peer != 0 {
        echo::tag(path.config.key, peer, local, &words)
    } else {
        echo::tag(path.config.key, local, peer, &words)
    };
    let count = echo::count(words[0]);
    let mut index = 0;
    while index < MAX_ENTRIES {
        if index >= count {
            break;
        }
        let Some(words) = entry(datagram, index, echo.len()).words::<2>(0) else {
            return 0;
        };
        hash = hash.words(&words);
        index += 1;
    }
    hash.finish()
}

/// An entry's bytes. Where they are is kept from the verifier, which would else know after a loop how far it
/// had come, and follow all that comes then once for each number of entries.
#[inline(always)]
fn entry(datagram: Span, index: usize, unknown: u16) -> Span {
    datagram.after_unknown(ENTRIES + index * ENTRY_LEN, unknown.into())
}

/// Of UDP: over IPv4-mapped addresses it comes to what it is over IPv4 ones, but for twice 0xffff, which is
/// nothing to a one's complement sum.
#[inline(always)]
fn pseudo_header(config: &PathConfig, len: u16) -> Sum {
    let sum = echo::summed(Sum::ZERO, &config.local.words());
    let sum = echo::summed(sum, &config.peer.words());
    sum.half([0, udp::PROTOCOL]).half(len.to_be_bytes())
}

/// Notes when the peer was heard, and which station it is: the first six bytes of the word.
#[inline(always)]
fn stamp(path: &Path, station: u64, kind: Kind, now: MonoNs) {
    // SAFETY: field addresses within a map value.
    let (heard, mac) = unsafe { (&raw mut (*path.state).heard_ns, &raw mut (*path.state).mac) };
    match kind {
        // The barrier is the exchange by which it is known (`meet`): no other echo gets to a lease.
        Kind::Echo => maps::store(heard, now.0),
        Kind::Answer | Kind::Stranger => {
            maps::exchange(heard, now.0);
        }
    }
    let station = u64::from_be(station) >> 16;
    if maps::load(mac) != station {
        maps::store(mac, station);
    }
}

/// Whether an echo is of the boot that is known, and the latest.
enum Meeting {
    Known,
    Old,
    Stranger,
}

/// The send time must rise from echo to echo as time passes, and another boot, or any other send time, must carry
/// the present challenge. Whatever carries it has it drawn anew, also what needed none: no echo is taken twice,
/// whoever recorded it.
#[inline(always)]
fn meet(path: &Path, head: &Head, now: MonoNs) -> Meeting {
    // SAFETY: field addresses within a map value.
    let (boot, last_sent, met_ns, challenge, old) = unsafe {
        (
            &raw mut (*path.state).boot,
            &raw mut (*path.state).last_sent,
            &raw mut (*path.state).met_ns,
            &raw mut (*path.state).challenge,
            &raw mut (*path.state).old,
        )
    };
    let present = maps::load(challenge);
    let spent = present != 0
        && present == head.challenge
        && maps::compare_exchange(challenge, present, drawn()) == present;
    if maps::load(boot) == head.boot {
        let last = MonoNs(maps::load(last_sent));
        let passed = now.since(MonoNs(maps::load(met_ns)));
        match order(last, head.sent, passed, head.lease) {
            // Lost to another CPU: that one's echo may be the later one.
            Order::Next if maps::compare_exchange(last_sent, last.0, head.sent.0) == last.0 => {
                maps::store(met_ns, now.0);
                return Meeting::Known;
            }
            Order::Next | Order::Old => {
                bump(old);
                return Meeting::Old;
            }
            Order::Strange => {}
        }
    }
    if spent {
        maps::store(last_sent, head.sent.0);
        maps::store(met_ns, now.0);
        maps::exchange(boot, head.boot);
        return Meeting::Known;
    }
    if present == 0 {
        maps::compare_exchange(challenge, 0, drawn());
    }
    Meeting::Stranger
}

/// A number that was not there before: that it cannot be guessed is not needed, since the peer's tag is on
/// what carries it.
#[inline(always)]
fn drawn() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    let (high, low) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
    u64::from(high) << 32 | u64::from(low) | 1
}

/// Turns an echo into its answer, entry by entry; a stranger gets the challenge, and nothing else.
#[inline(never)]
pub(crate) fn answer(data: usize, data_end: usize, echo: u64, asked: u64) -> Reason {
    let (frame, echo, asked) = (Span::new(data, data_end), Echo(echo), Asked(asked));
    let Some(path) = Path::get(echo.path()) else {
        return Reason::EchoFormat;
    };
    turn_back(frame, echo, path.config);
    let (datagram, len) = (echo.datagram(frame), echo.len());
    let (known, now) = (asked.is_known(), MonoNs(asked.now()));
    let (Some([udp]), Some(words)) = (datagram.words(0), datagram.words::<HEAD_WORDS>(HEAD)) else {
        return Reason::EchoFormat;
    };
    let (sent, lease) = (echo::sent(&words), echo::lease(&words));
    let count = echo::count(words[0]);
    let kind = if known { Kind::Answer } else { Kind::Stranger };
    let mut change = Change {
        datagram,
        sum: Sum::of_checksum(checksum_of(udp)),
    };
    change.word(HEAD, words[0], echo::with_kind(words[0], kind));
    change.head_word(&words, echo::NODE_WORD, path.config.node);
    if !known {
        // SAFETY: a field's address within a map value.
        let challenge = maps::load(unsafe { &raw const (*path.state).challenge });
        change.head_word(&words, echo::CHALLENGE_WORD, challenge);
    }
    let mut index = 0;
    while index < MAX_ENTRIES {
        if index >= count {
            break;
        }
        let place = entry(datagram, index, len);
        let Some(entry) = place.words::<2>(0) else {
            return Reason::EchoFormat;
        };
        let verdict = match instance(&path, &Entry::parse(&entry)) {
            _ if !known => Verdict::None,
            Some((slot, peer)) => {
                let place = Place::new(path.index, slot, peer, lease);
                lease::ask(place, &entry, now, sent)
            }
            None => Verdict::Unknown,
        };
        let told = echo::with_verdict(entry[0], verdict);
        place.set_words(0, [told]);
        change.sum = change.sum.replaced(entry[0], told);
        index += 1;
    }
    if path.config.keyed != 0 {
        let (start, end) = datagram.bounds();
        change.head_word(&words, echo::TAG_WORD, hash(start, end, echo.0, 0));
    }
    datagram.set_words(0, [with_checksum(udp, change.sum)]);
    // SAFETY: field addresses within a map value.
    let (echoes, strangers) = unsafe {
        (
            &raw mut (*path.state).echoes,
            &raw mut (*path.state).strangers,
        )
    };
    if known {
        bump(echoes);
        Reason::EchoAnswered
    } else {
        bump(strangers);
        Reason::EchoStranger
    }
}

/// How an echo becomes an answer: word by word, and the checksum with them (RFC 1624). That addresses and ports,
/// which are alike, change places leaves it as it is.
struct Change {
    /// From the UDP header on.
    datagram: Span,
    /// Over the answer, as far as it is changed.
    sum: Sum,
}

impl Change {
    /// A number of the head, given its words.
    #[inline(always)]
    fn head_word(&mut self, words: &[u64; HEAD_WORDS], index: usize, number: u64) {
        self.word(HEAD + 8 * index, words[index], number.to_be());
    }

    /// A word, as it lies in memory.
    #[inline(always)]
    fn word(&mut self, offset: usize, before: u64, after: u64) {
        self.datagram.set_words(offset, [after]);
        self.sum = self.sum.replaced(before, after);
    }
}

/// A UDP header's checksum: its last field.
#[inline(always)]
const fn checksum_of(udp: u64) -> [u8; 2] {
    let [.., c0, c1] = udp.to_ne_bytes();
    [c0, c1]
}

/// A UDP header with the checksum for what its sum is.
#[inline(always)]
fn with_checksum(udp: u64, sum: Sum) -> u64 {
    let checksum = match sum.checksum() {
        // Written in its other form (RFC 768): zero means that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    (u64::from_be(udp) & !0xffff | u64::from(checksum)).to_be()
}

/// An answer came home: what was granted extends this node's leases.
#[inline(always)]
fn answered(datagram: Span, len: u16, path: &Path, head: &Head, now: MonoNs) {
    // SAFETY: a field's address within a map value.
    bump(unsafe { &raw mut (*path.state).answers });
    measure(path, now.since(head.sent), head.lease, now);
    // Read anew: of the one before, the verifier knows what it was when the loop in `check` ended, and would follow
    // this one for each number.
    let Some([first]) = datagram.words(HEAD) else {
        return;
    };
    let count = echo::count(first);
    let mut index = 0;
    while index < MAX_ENTRIES {
        if index >= count {
            break;
        }
        let Some(words) = entry(datagram, index, len).words::<2>(0) else {
            return;
        };
        let entry = Entry::parse(&words);
        if let Some((slot, peer)) = instance(path, &entry) {
            lease::learn(
                Place::new(path.index, slot, peer, head.lease),
                &words,
                now,
                head.sent,
            );
        }
        index += 1;
    }
}

/// Takes a round trip down. Of two CPUs that do so at once, one may lose what it adds.
#[inline(always)]
fn measure(path: &Path, rtt: Nanos, lease: Nanos, now: MonoNs) {
    // SAFETY: field addresses within a map value.
    let (last, longest, before, window, rtts) = unsafe {
        (
            &raw mut (*path.state).rtt_ns,
            &raw mut (*path.state).rtt_high_ns,
            &raw mut (*path.state).rtt_before_ns,
            &raw mut (*path.state).rtt_window,
            &raw mut (*path.state).rtts,
        )
    };
    maps::store(last, rtt.0);
    // SAFETY: the bucket is below the length, as the mask shows to the verifier.
    bump(unsafe { (&raw mut (*rtts)[0]).add(rtt_bucket(rtt) & 63) });
    // Written in the other order: where the window is the new one by now, `before` is left alone.
    let known = RoundTrips {
        longest: Nanos(maps::load(longest)),
        before: Nanos(maps::load(before)),
        window: maps::load(window),
    };
    let taken = known.taken(rtt, lease, now);
    if taken.window != known.window {
        maps::store(before, taken.before.0);
        maps::store(window, taken.window);
    }
    if taken.longest.0 != known.longest.0 {
        maps::store(longest, taken.longest.0);
    }
}

/// The instance that an entry is about, and which of its peers this path leads to.
#[inline(always)]
fn instance(path: &Path, entry: &Entry) -> Option<(u32, u32)> {
    PATH_INSTANCES
        .get(path_instance(path.index, entry.vrid, entry.family))?
        .get()
}

/// Counts: of one sender exactly, of several CPUs at once approximately.
#[inline(always)]
fn bump(counter: *mut u64) {
    maps::store(counter, maps::load(counter) + 1);
}

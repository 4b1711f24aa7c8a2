//! Echoes and their answers: how leases are asked for and granted (docs/architecture.md, "Leases").
//!
//! The payload of a UDP packet from and to [`PORT`](crate::lease::PORT), TTL or hop limit 255: a head of 64
//! bytes and 16 bytes for each instance that the sender asks for. The peer's kernel makes the answer of it in
//! place, so both have one length. Multi-byte values are in network order and aligned within the payload.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | magic, `hA` |
//! | 2 | 1 | version, 1 |
//! | 3 | 1 | [`Kind`] |
//! | 4 | 1 | number of entries, at most 32; none: the sender only shows that it lives |
//! | 5 | 3 | zero |
//! | 8 | 8 | tag: [`tag`], 0 without a key |
//! | 16 | 8 | who sent this packet: a hash of its node name |
//! | 24 | 8 | the asker's boot id: a hash of its node name and of the kernel's random boot id |
//! | 32 | 8 | challenge: the answering node's for this boot, as far as the asker knows |
//! | 40 | 8 | sequence |
//! | 48 | 8 | when the asker began this round, on its own CLOCK_MONOTONIC, in nanoseconds |
//! | 56 | 4 | for how long the asker wants its leases, from that moment on, in microseconds |
//! | 60 | 4 | zero |
//!
//! Entry: VRID, family of the adverts (4 or 6), [`Ask`], [`Verdict`], epoch (2), priority, zero, data
//! position (4), zero (4).
//!
//! Read and written as words of eight bytes, as they lie in memory: so does XDP, for which each access is an
//! instruction.

use crate::{
    gate::Epoch,
    lease::{Ask, Rank},
    siphash::SipHash,
    units::{MonoNs, Nanos},
    wire::checksum::Sum,
};

/// Words of a head.
pub const HEAD_WORDS: usize = 8;

/// Words of an entry.
pub const ENTRY_WORDS: usize = 2;

/// Bytes of a head.
pub const HEAD_LEN: usize = 8 * HEAD_WORDS;

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 8 * ENTRY_WORDS;

/// Entries of one packet at most.
pub const MAX_ENTRIES: usize = 32;

/// Bytes of the longest payload.
pub const MAX_LEN: usize = HEAD_LEN + ENTRY_LEN * MAX_ENTRIES;

/// Which word of the head is the tag.
pub const TAG_WORD: usize = 1;

/// Which is the sender.
pub const NODE_WORD: usize = 2;

/// Which is the challenge.
pub const CHALLENGE_WORD: usize = 4;

const MAGIC: u16 = 0x6841;
const VERSION: u8 = 1;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// It asks.
    Echo = 1,
    /// It answers, entry by entry.
    Answer = 2,
    /// It answers that the asker's boot is not known yet, and carries the challenge that proves it to be no
    /// replay. Nothing is granted.
    Stranger = 3,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Nothing was asked for, or nobody has answered yet.
    #[default]
    None = 0,
    /// The lease is granted.
    Granted = 1,
    /// It is not.
    Refused = 2,
    /// The answering node has no such instance.
    Unknown = 3,
}

impl Verdict {
    const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Granted,
            2 => Self::Refused,
            3 => Self::Unknown,
            _ => Self::None,
        }
    }
}

/// A head, but for its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the packet is.
    pub kind: Kind,
    /// How many entries follow, at most [`MAX_ENTRIES`].
    pub count: u8,
    /// Who sent it.
    pub node: u64,
    /// The asker's boot.
    pub boot: u64,
    /// The challenge.
    pub challenge: u64,
    /// Number of the echo.
    pub sequence: u64,
    /// When the asker began this round, on its clock.
    pub sent: MonoNs,
    /// D: for how long the asker wants its leases from then on; whole microseconds.
    pub lease: Nanos,
}

impl Head {
    /// `None`: of another protocol, version or kind, or with more entries than a packet may have.
    #[must_use]
    #[inline(always)]
    pub const fn parse(words: &[u64; HEAD_WORDS]) -> Option<Self> {
        let first = u64::from_be(words[0]);
        if first >> 40 != ((MAGIC as u64) << 8) | VERSION as u64 {
            return None;
        }
        let [_, _, _, kind, count, ..] = first.to_be_bytes();
        let kind = match kind {
            1 => Kind::Echo,
            2 => Kind::Answer,
            3 => Kind::Stranger,
            _ => return None,
        };
        if count as usize > MAX_ENTRIES {
            return None;
        }
        Some(Self {
            kind,
            count,
            node: u64::from_be(words[2]),
            boot: u64::from_be(words[3]),
            challenge: u64::from_be(words[4]),
            sequence: u64::from_be(words[5]),
            sent: sent(words),
            lease: lease(words),
        })
    }

    /// As words, with a tag of zero.
    #[must_use]
    #[inline(always)]
    pub const fn emit(&self) -> [u64; HEAD_WORDS] {
        let [m0, m1] = MAGIC.to_be_bytes();
        let first = [m0, m1, VERSION, self.kind as u8, self.count, 0, 0, 0];
        [
            u64::from_ne_bytes(first),
            0,
            self.node.to_be(),
            self.boot.to_be(),
            self.challenge.to_be(),
            self.sequence.to_be(),
            self.sent.0.to_be(),
            ((self.lease.0 / 1_000) << 32).to_be(),
        ]
    }

    /// Bytes of the payload.
    #[must_use]
    #[inline(always)]
    pub const fn payload_len(&self) -> usize {
        HEAD_LEN + ENTRY_LEN * self.count as usize
    }
}

/// The number of entries, of a head's first word.
#[must_use]
#[inline(always)]
pub const fn count(first: u64) -> usize {
    first.to_ne_bytes()[4] as usize
}

/// [`Head::sent`], of a head's words.
#[must_use]
#[inline(always)]
pub const fn sent(words: &[u64; HEAD_WORDS]) -> MonoNs {
    MonoNs(u64::from_be(words[6]))
}

/// [`Head::lease`], of a head's words.
#[must_use]
#[inline(always)]
pub const fn lease(words: &[u64; HEAD_WORDS]) -> Nanos {
    Nanos::from_micros(u64::from_be(words[7]) >> 32)
}

/// A head's first word, of another kind of packet.
#[must_use]
#[inline(always)]
pub const fn with_kind(first: u64, kind: Kind) -> u64 {
    with_fourth_byte(first, kind as u8)
}

/// An entry's first word, with another verdict.
#[must_use]
#[inline(always)]
pub const fn with_verdict(first: u64, verdict: Verdict) -> u64 {
    with_fourth_byte(first, verdict as u8)
}

#[inline(always)]
const fn with_fourth_byte(word: u64, byte: u8) -> u64 {
    const SHIFT: u32 = u64::BITS - 4 * u8::BITS;
    (u64::from_be(word) & !(0xff << SHIFT) | (byte as u64) << SHIFT).to_be()
}

/// The tag of a head's words.
#[must_use]
#[inline(always)]
pub const fn tag_of(words: &[u64; HEAD_WORDS]) -> u64 {
    u64::from_be(words[TAG_WORD])
}

/// Puts the tag into a head's words.
#[inline(always)]
pub const fn set_tag(words: &mut [u64; HEAD_WORDS], tag: u64) {
    words[TAG_WORD] = tag.to_be();
}

/// An instance's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// 4 or 6: the family of its adverts.
    pub family: u8,
    /// What is asked; of another version: nothing.
    pub ask: Ask,
    /// What became of it.
    pub verdict: Verdict,
    /// The asker's open epoch.
    pub epoch: Epoch,
    /// The asker's rank.
    pub rank: Rank,
}

impl Entry {
    /// From its words.
    #[must_use]
    #[inline(always)]
    pub const fn parse(words: &[u64; ENTRY_WORDS]) -> Self {
        let [vrid, family, ask, verdict, e0, e1, priority, _] = words[0].to_ne_bytes();
        Self {
            vrid,
            family,
            ask: match Ask::from_u8(ask) {
                Some(ask) => ask,
                None => Ask::Nothing,
            },
            verdict: Verdict::from_u8(verdict),
            epoch: Epoch::from_word(u16::from_be_bytes([e0, e1]) as u64),
            rank: Rank {
                position: (u64::from_be(words[1]) >> 32) as u32,
                priority,
            },
        }
    }

    /// As words.
    #[must_use]
    #[inline(always)]
    pub const fn emit(&self) -> [u64; ENTRY_WORDS] {
        let [e0, e1] = self.epoch.0.to_be_bytes();
        let first = [
            self.vrid,
            self.family,
            self.ask as u8,
            self.verdict as u8,
            e0,
            e1,
            self.rank.priority,
            0,
        ];
        [
            u64::from_ne_bytes(first),
            ((self.rank.position as u64) << 32).to_be(),
        ]
    }
}

/// The beginning of a packet's tag: SipHash-2-4 under the path's key over source and destination address (16
/// bytes each, IPv4 as IPv4-mapped), then the payload without the tag.
#[must_use]
#[inline(always)]
pub const fn tag(
    key: [u64; 2],
    source: [u64; 2],
    destination: [u64; 2],
    head: &[u64; HEAD_WORDS],
) -> SipHash {
    let [first, _, rest @ ..] = head;
    SipHash::new(key)
        .words(&source)
        .words(&destination)
        .word(*first)
        .words(rest)
}

/// Adds words, as they lie in memory, to a sum.
#[must_use]
#[inline(always)]
pub const fn summed<const N: usize>(sum: Sum, words: &[u64; N]) -> Sum {
    let mut sum = sum;
    let mut at = 0;
    while at < N {
        sum = sum.long(words[at]);
        at += 1;
    }
    sum
}

/// Whose packet is built, and under which key.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The sender's address as two words ([`crate::Address::words`]).
    pub source: [u64; 2],
    /// The receiver's.
    pub destination: [u64; 2],
    /// The path's key, if it has one.
    pub key: Option<[u64; 2]>,
}

/// Builds a payload. Returns the part of `buffer` that it fills; entries beyond [`MAX_ENTRIES`] are left out.
pub fn build<'b>(
    head: &Head,
    entries: &[Entry],
    route: &Route,
    buffer: &'b mut [u8; MAX_LEN],
) -> &'b [u8] {
    let entries = entries.get(..MAX_ENTRIES).unwrap_or(entries);
    let mut words = Head {
        count: u8::try_from(entries.len()).unwrap_or(0),
        ..*head
    }
    .emit();
    if let Some(key) = route.key {
        let start = tag(key, route.source, route.destination, &words);
        let hash = entries
            .iter()
            .fold(start, |hash, entry| hash.words(&entry.emit()));
        set_tag(&mut words, hash.finish());
    }
    let all = words
        .into_iter()
        .chain(entries.iter().flat_map(|entry| entry.emit()));
    let mut len = 0;
    for (bytes, word) in buffer.as_chunks_mut::<8>().0.iter_mut().zip(all) {
        *bytes = word.to_ne_bytes();
        len += bytes.len();
    }
    buffer.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! This node and its boot, as packets name them.

use std::fs;

use ha_common::siphash::SipHash;

use crate::engine::outbox::{Level, Outbox};

/// The kernel's name for this boot.
pub(super) fn boot_id(out: &mut Outbox) -> String {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(FILE).unwrap_or_else(|error| {
        let text = format!(
            "{FILE} cannot be read ({error}): to the peers of its leases this daemon's start is one of the machine"
        );
        out.log(Level::Warn, text);
        fastrand::u64(..).to_string()
    })
}

/// A name as a number.
pub(super) fn hash(text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    for (byte, from) in last.iter_mut().zip(rest) {
        *byte = *from;
    }
    let whole = words.iter().fold(SipHash::new([0; 2]), |hash, word| {
        hash.word(u64::from_ne_bytes(*word))
    });
    whole
        .word(u64::from_ne_bytes(last))
        .word(text.len() as u64)
        .finish()
}

//! What the last advert said and who sent it: more than one word, so a sequence lock binds them together.
//!
//! Written only when something changed. A writer that meets another one, on another CPU, leaves it at that:
//! the two adverts came at once, and the other one counts as the later. Its event is reported all the same.

use ha_common::{
    Address,
    abi::{AdvertWord, Received, Said},
};

use crate::maps;

/// What is written there, perhaps of two adverts: good for a comparison.
#[inline(always)]
pub(crate) fn peek(received: *const Received) -> Said {
    // SAFETY: field addresses within a map value.
    let (word, sender) = unsafe {
        (
            &raw const (*received).last_word,
            (&raw const (*received).sender).cast::<u64>(),
        )
    };
    Said {
        // SAFETY: an address is two words.
        sender: Address::from_words([maps::load(sender), maps::load(unsafe { sender.add(1) })]),
        word: AdvertWord(maps::load(word)),
    }
}

/// What one advert said; nothing while another CPU writes.
#[inline(always)]
pub(crate) fn read(received: *const Received) -> Said {
    // SAFETY: a field's address within a map value.
    let sequence = unsafe { &raw const (*received).sequence };
    let before = maps::load(sequence);
    let said = peek(received);
    if before & 1 == 0 && maps::load(sequence) == before {
        said
    } else {
        Said::default()
    }
}

/// Writes what an advert said.
#[inline(always)]
pub(crate) fn write(received: *mut Received, said: &Said) {
    // SAFETY: field addresses within a map value.
    let (sequence, word, sender) = unsafe {
        (
            &raw mut (*received).sequence,
            &raw mut (*received).last_word,
            (&raw mut (*received).sender).cast::<u64>(),
        )
    };
    let before = maps::load(sequence);
    if before & 1 != 0 || maps::compare_exchange(sequence, before, before + 1) != before {
        return;
    }
    let [high, low] = said.sender.words();
    maps::store(sender, high);
    // SAFETY: an address is two words.
    maps::store(unsafe { sender.add(1) }, low);
    maps::store(word, said.word.0);
    maps::compare_exchange(sequence, before + 1, before + 2);
}

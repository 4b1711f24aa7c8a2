//! The ingress program at tc beside that at XDP: the same verdicts in other numbers.

use ha_common::wire::{ethernet, ipv4, ipv6};
use ha_user::dataplane::Verdict;

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`, and what they are in XDP.
const CODES: [(u32, u32); 3] = [(u32::MAX, 2), (2, 1), (7, 3)];

/// Whether `BPF_PROG_TEST_RUN` makes a socket buffer of a frame: it makes none of IP without a whole header.
pub(crate) fn takes(frame: &[u8]) -> bool {
    let header_len = match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::IPV4 => ipv4::HEADER_LEN,
        ethernet::IPV6 => ipv6::HEADER_LEN,
        _ => 0,
    };
    frame.len() >= ethernet::HEADER_LEN + header_len
}

/// The verdict as XDP would say it.
pub(crate) fn as_of_xdp(verdict: Verdict) -> Verdict {
    let (_, code) = CODES
        .into_iter()
        .find(|(code, _)| *code == verdict.code)
        .unwrap_or_else(|| panic!("no such verdict: {}", verdict.code));
    Verdict { code, ..verdict }
}

//! The two programs of ingress, at XDP and at tc: the same verdicts in other numbers.

use ha_common::wire::{ethernet, ipv4, ipv6};
use ha_user::dataplane::{Dataplane, Verdict};

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`, and what they are in XDP.
const CODES: [(u32, u32); 3] = [(u32::MAX, 2), (2, 1), (7, 3)];

/// Where a frame is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Xdp,
    Tc,
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Xdp, Self::Tc];

    /// Whether `BPF_PROG_TEST_RUN` takes a frame: it makes no socket buffer of IP without a whole header.
    pub(crate) fn takes(self, frame: &[u8]) -> bool {
        let header_len = match u16::from_be_bytes([frame[12], frame[13]]) {
            ethernet::IPV4 => ipv4::HEADER_LEN,
            ethernet::IPV6 => ipv6::HEADER_LEN,
            _ => 0,
        };
        self == Self::Xdp || frame.len() >= ethernet::HEADER_LEN + header_len
    }

    /// The verdict on a frame, as XDP says it.
    pub(crate) fn run(self, dataplane: &mut Dataplane, frame: &[u8]) -> Verdict {
        match self {
            Self::Xdp => dataplane.run_ingress(frame).unwrap(),
            Self::Tc => {
                let verdict = dataplane.run_ingress_tc(frame).unwrap();
                let (_, code) = CODES
                    .into_iter()
                    .find(|(code, _)| *code == verdict.code)
                    .unwrap_or_else(|| panic!("no such verdict: {}", verdict.code));
                Verdict { code, ..verdict }
            }
        }
    }
}

//! What really happened, in true time, and whether it kept the rules.

use std::{format, string::String, vec::Vec};

use crate::Cause;

/// Rounding of deadlines to microseconds, on both sides.
const ROUNDING: u64 = 3_000;

/// By node: the stay and the send time of the last advert that an engine knew of.
pub(crate) type Known = Vec<Option<(usize, u64)>>;

/// An advert that left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    /// The time sample of its round.
    pub(crate) round: u64,
    /// Until when it keeps the gate open.
    pub(crate) until: u64,
}

/// A time in which a gate was open, or two were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// How much traffic had been recorded at its beginning: what arrives in the same nanosecond does so
    /// before or after.
    pub(crate) recorded: usize,
}

/// One time from an election to the end of its epoch, at one node.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) node: usize,
    pub(crate) instance: usize,
    pub(crate) cause: Cause,
    pub(crate) sends: Vec<Sent>,
    /// By node: one of its adverts did not get there.
    pub(crate) lost_to: Vec<bool>,
    /// By node: the stay and send time of the last advert that the engine knew of as it opened.
    pub(crate) told: Option<Known>,
    /// When the gate was open.
    pub(crate) open: Vec<Open>,
    /// When an outranking advert first arrived.
    pub(crate) outranked_at: Option<u64>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in nanoseconds of true time.
    pub at: u64,
    /// Which rule, and how.
    pub what: String,
}

/// How long two gates may be open at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest way from node to node.
    pub(crate) delay_max: u64,
    /// Whether every node has the same interval, and keeps its rank. Else a node that starts waits for
    /// three of its own intervals (RFC 9568 section 6.4.1), while an Active router that it has not heard
    /// yet may speak for three of its longer ones.
    pub(crate) uniform: bool,
}

/// Checks every stay, and every two that overlap.
pub(crate) fn judge(stays: &[Stay], limits: Limits) -> Option<Violation> {
    stays.iter().find_map(deaf).or_else(|| {
        let mut opened: Vec<(u64, usize)> = stays
            .iter()
            .enumerate()
            .filter_map(|(index, stay)| Some((stay.open.first()?.from, index)))
            .collect();
        opened.sort_unstable();
        pairs(&opened, stays, limits)
    })
}

fn pairs(opened: &[(u64, usize)], stays: &[Stay], limits: Limits) -> Option<Violation> {
    for (position, (from, newer)) in opened.iter().enumerate() {
        for (_, older) in &opened[..position] {
            let (old, new) = (&stays[*older], &stays[*newer]);
            if old.instance != new.instance || old.node == new.node {
                continue;
            }
            for both in overlaps(&old.open, &new.open) {
                let (begin, end) = (both.from, both.until);
                let found = overlap(*older, old, new, *from, begin, end, limits);
                if found.is_some() {
                    return found;
                }
            }
        }
    }
    None
}

/// A gate that stays open after an advert that outranks it has arrived.
fn deaf(stay: &Stay) -> Option<Violation> {
    let outranked = stay.outranked_at?;
    let until = stay
        .open
        .iter()
        .map(|open| open.until)
        .find(|until| *until > outranked)?;
    Some(Violation {
        at: outranked,
        what: format!(
            "invariant 1: an advert that outranks node{} reached it, and its gate for vr{} was open \
             until {} ms after",
            stay.node,
            stay.instance,
            millis(until - outranked)
        ),
    })
}

pub(crate) fn overlaps(old: &[Open], new: &[Open]) -> Vec<Open> {
    let mut found = Vec::new();
    for old in old {
        for new in new {
            let both = Open {
                from: old.from.max(new.from),
                until: old.until.min(new.until),
                recorded: old.recorded.max(new.recorded),
            };
            if both.from < both.until {
                found.push(both);
            }
        }
    }
    found
}

/// The bound of docs/architecture.md, "The gate": two gates are open at once at most for (send time of the last advert sent, which is
/// what keeps the older gate open, − send time of the last one that the newer one knew of), and if
/// nothing is lost between them at most for a one-way delay.
fn overlap(
    older: usize,
    old: &Stay,
    new: &Stay,
    opened: u64,
    begin: u64,
    end: u64,
    limits: Limits,
) -> Option<Violation> {
    let lossless = !old.lost_to[new.node] && !new.lost_to[old.node] && limits.uniform;
    if lossless && end - begin > limits.delay_max + ROUNDING {
        return Some(violation(
            old,
            new,
            begin,
            end,
            limits.delay_max,
            "nothing was lost",
        ));
    }
    let (stay, known) = new.told.as_ref()?[old.node]?;
    if stay != older {
        return None;
    }
    let last = last_renewal(old, end).unwrap_or(known);
    let allowed = last.saturating_sub(known);
    if end - opened > allowed + ROUNDING {
        let why = format!(
            "the last advert that renewed the older gate left at {} ms, the last one that the newer \
             one knew of at {} ms",
            millis(last),
            millis(known)
        );
        return Some(violation(old, new, begin, end, allowed, &why));
    }
    None
}

/// When the last advert left that may keep the gate open, up to a time: one whose round began after the
/// gate had run out may not, nor any after it.
fn last_renewal(stay: &Stay, until: u64) -> Option<u64> {
    let opened = stay.open.first()?.from;
    let mut last: Option<Sent> = None;
    for sent in &stay.sends {
        let lapsed = |before: Sent| before.until > opened && sent.round >= before.until;
        if sent.at > until || last.is_some_and(lapsed) {
            break;
        }
        last = Some(*sent);
    }
    last.map(|sent| sent.at)
}

fn violation(old: &Stay, new: &Stay, begin: u64, end: u64, allowed: u64, why: &str) -> Violation {
    Violation {
        at: begin,
        what: format!(
            "invariant 1: node{} and node{} spoke for vr{} at once from {} to {} ms: {} ms, allowed \
             {} ms ({why}; node{} had opened because {})",
            old.node,
            new.node,
            old.instance,
            millis(begin),
            millis(end),
            millis(end - begin),
            millis(allowed),
            new.node,
            new.cause
        ),
    }
}

/// Milliseconds with six digits.
pub(crate) fn millis(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000)
}

#[cfg(test)]
mod tests {
    use ha_common::Nanos;

    use super::*;

    const MS: u64 = 1_000_000;
    const LIMITS: Limits = Limits {
        delay_max: MS,
        uniform: true,
    };

    fn stay(node: usize, open: (u64, u64), sends: &[u64]) -> Stay {
        let sent = |at: &u64| Sent {
            at: *at,
            round: *at,
            until: *at + 30 * MS,
        };
        Stay {
            node,
            instance: 0,
            cause: Cause::Silence {
                lasted: Nanos::ZERO,
            },
            sends: sends.iter().map(sent).collect(),
            lost_to: std::vec![true, true],
            told: None,
            open: std::vec![Open {
                from: open.0,
                until: open.1,
                recorded: 0,
            }],
            outranked_at: None,
        }
    }

    /// Sends at 0 and 10 ms, open until 40 ms; the other one opens at 36 ms.
    fn two(known: u64) -> Vec<Stay> {
        let older = stay(0, (0, 40 * MS), &[0, 10 * MS]);
        let mut newer = stay(1, (36 * MS, 90 * MS), &[36 * MS]);
        newer.told = Some(std::vec![Some((0, known)), None]);
        std::vec![older, newer]
    }

    #[test]
    fn an_overlap_is_allowed_as_far_as_adverts_were_lost() {
        assert_eq!(judge(&two(0), LIMITS), None);
    }

    #[test]
    fn an_overlap_without_a_lost_advert_is_found() {
        assert!(judge(&two(10 * MS), LIMITS).is_some());
    }

    #[test]
    fn without_any_loss_only_a_one_way_delay_is_allowed() {
        let mut stays = two(0);
        for stay in &mut stays {
            stay.lost_to = std::vec![false, false];
        }
        assert!(judge(&stays, LIMITS).is_some());
        stays[1].open[0].from = 39 * MS + MS / 2;
        assert_eq!(judge(&stays, LIMITS), None);
    }

    #[test]
    fn a_gate_that_does_not_heed_an_outranking_advert_is_found() {
        let mut one = stay(0, (0, 40 * MS), &[0]);
        one.outranked_at = Some(40 * MS);
        assert_eq!(judge(core::slice::from_ref(&one), LIMITS), None);
        one.outranked_at = Some(39 * MS);
        assert!(judge(core::slice::from_ref(&one), LIMITS).is_some());
    }

    #[test]
    fn nodes_that_follow_each_other_keep_the_rules() {
        let mut stays = two(10 * MS);
        stays[0].open[0].until = 36 * MS;
        assert_eq!(judge(&stays, LIMITS), None);
    }
}

//! Invariant 1 with leases: two gates are never open at once, but while nothing passes between two nodes
//! in either direction on any path.

use std::{format, vec::Vec};

use super::ledger::{Open, Stay, Violation, millis, overlaps};

/// Rounding of clocks and deadlines.
const ROUNDING: u64 = 3_000;

/// An echo or an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) sent: u64,
    /// `None`: it was lost.
    pub(crate) arrives: Option<u64>,
}

/// A change of a link's state in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) link: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) at: u64,
    pub(crate) cut: bool,
}

/// A time in which a node neither sent nor received anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) node: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What the network did.
pub(crate) struct Network<'a> {
    /// In the order of what happened: each as it is sent, and again as it arrives or is lost on arrival.
    pub(crate) traffic: &'a [Packet],
    pub(crate) cuts: &'a [Cut],
    pub(crate) outages: &'a [Outage],
    pub(crate) links: usize,
    /// For how long before nothing may have passed: the shortest lease of any path, less an interval. (A
    /// node that takes over has waited for longer, and announced itself in that time.)
    pub(crate) patience: u64,
    /// How long two gates may be open after something passes again: the longest lease.
    pub(crate) grace: u64,
}

impl Network<'_> {
    /// Whether nothing passed between two nodes for so long before both spoke that each could count the
    /// other as dead. In a direction in which nothing was sent, it has to be known that nothing could pass.
    fn is_cut(&self, one: usize, other: usize, both: Open) -> bool {
        let at = both.from;
        let from = at.saturating_sub(self.patience);
        let between = |packet: &&Packet| {
            (packet.from, packet.to) == (one, other) || (packet.from, packet.to) == (other, one)
        };
        let passed = self.traffic[..both.recorded]
            .iter()
            .filter(between)
            .filter_map(|packet| packet.arrives)
            .any(|arrives| from < arrives);
        !passed && self.is_deaf(one, other, from, at) && self.is_deaf(other, one, from, at)
    }

    fn is_deaf(&self, from: usize, to: usize, begin: u64, end: u64) -> bool {
        let tried = self.traffic.iter().any(|packet| {
            (packet.from, packet.to) == (from, to) && begin < packet.sent && packet.sent <= end
        });
        tried || (0..self.links).all(|link| self.was_cut(link, from, to, begin, end))
    }

    /// Whether nothing could pass on a link all the time.
    fn was_cut(&self, link: usize, from: usize, to: usize, begin: u64, end: u64) -> bool {
        let mut closed: Vec<(u64, u64)> = self
            .outages
            .iter()
            .filter(|outage| outage.node == from || outage.node == to)
            .map(|outage| (outage.from, outage.until))
            .collect();
        let mut since = None;
        for cut in self.cuts {
            if (cut.link, cut.from, cut.to) != (link, from, to) {
                continue;
            }
            if cut.cut {
                since = since.or(Some(cut.at));
            } else if let Some(since) = since.take() {
                closed.push((since, cut.at));
            }
        }
        closed.extend(since.map(|since| (since, u64::MAX)));
        closed.sort_unstable();
        let mut covered = begin;
        for (from, until) in closed {
            if from <= covered {
                covered = covered.max(until);
            }
        }
        covered >= end
    }

    /// When something passes again after both spoke.
    fn heals(&self, one: usize, other: usize, both: Open) -> u64 {
        self.traffic[both.recorded..]
            .iter()
            .filter(|packet| {
                (packet.from, packet.to) == (one, other) || (packet.from, packet.to) == (other, one)
            })
            .filter_map(|packet| packet.arrives)
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// Checks every two stays that overlap.
pub(crate) fn judge(stays: &[Stay], network: &Network<'_>) -> Option<Violation> {
    for (index, one) in stays.iter().enumerate() {
        for other in &stays[..index] {
            if one.instance != other.instance || one.node == other.node {
                continue;
            }
            // An excuse lasts until something passes, also where one of them is frozen in between.
            let mut until = 0;
            for both in overlaps(&one.open, &other.open) {
                let (begin, end) = (both.from, both.until);
                let excused = begin <= until || network.is_cut(one.node, other.node, both);
                if begin > until {
                    until = if excused {
                        let heals = network.heals(one.node, other.node, both);
                        heals.saturating_add(network.grace)
                    } else {
                        begin
                    };
                }
                if end > until.saturating_add(ROUNDING) {
                    return Some(tell(one, other, begin, end, excused));
                }
            }
        }
    }
    None
}

fn tell(one: &Stay, other: &Stay, begin: u64, end: u64, excused: bool) -> Violation {
    let why = if excused {
        "although something passed between them again"
    } else {
        "although something passed between them, or could have"
    };
    Violation {
        at: begin,
        what: format!(
            "invariant 1: node{} and node{} spoke for vr{} at once from {} to {} ms, {} ms, {why} \
             (node{} had been elected because {}, node{} because {})",
            one.node,
            other.node,
            one.instance,
            millis(begin),
            millis(end),
            millis(end - begin),
            one.node,
            one.cause,
            other.node,
            other.cause
        ),
    }
}

#[cfg(test)]
mod tests {
    use ha_common::Nanos;

    use super::*;
    use crate::Cause;

    const MS: u64 = 1_000_000;

    fn stay(node: usize, open: &[Open]) -> Stay {
        Stay {
            node,
            instance: 0,
            cause: Cause::Silence {
                lasted: Nanos::ZERO,
            },
            sends: Vec::new(),
            lost_to: std::vec![false, false],
            told: None,
            open: open.to_vec(),
            outranked_at: None,
        }
    }

    /// A gate that opens when all of `traffic` up to that nanosecond has been recorded.
    fn open(from: u64, until: u64, traffic: &[Packet]) -> Open {
        let earlier = |packet: &&Packet| packet.arrives.unwrap_or(packet.sent) <= from;
        Open {
            from,
            until,
            recorded: traffic.iter().take_while(earlier).count(),
        }
    }

    fn packet(from: usize, to: usize, sent: u64, arrives: Option<u64>) -> Packet {
        Packet {
            from,
            to,
            sent,
            arrives,
        }
    }

    fn cut(from: usize, to: usize, at: u64, cut: bool) -> Cut {
        Cut {
            link: 0,
            from,
            to,
            at,
            cut,
        }
    }

    fn network<'a>(traffic: &'a [Packet], cuts: &'a [Cut]) -> Network<'a> {
        Network {
            traffic,
            cuts,
            outages: &[],
            links: 1,
            patience: 3 * MS,
            grace: 3 * MS,
        }
    }

    fn verdict(traffic: &[Packet], cuts: &[Cut]) -> bool {
        let stays = [
            stay(0, &[open(0, 40 * MS, traffic)]),
            stay(1, &[open(30 * MS, 90 * MS, traffic)]),
        ];
        judge(&stays, &network(traffic, cuts)).is_some()
    }

    #[test]
    fn an_overlap_is_excused_only_by_a_cut_of_both_directions() {
        assert!(verdict(&[], &[]), "nothing was sent");
        let both = [cut(0, 1, MS, true), cut(1, 0, MS, true)];
        assert!(!verdict(&[], &both));
        assert!(verdict(&[], &both[..1]), "one way");
        let lost = [packet(0, 1, 28 * MS, None), packet(1, 0, 29 * MS, None)];
        assert!(!verdict(&lost, &[]));
        assert!(verdict(&lost[..1], &[]), "nothing was tried the other way");
        assert!(!verdict(&lost[..1], &both[1..]));
        let arrived = [lost[0], lost[1], packet(0, 1, 27 * MS, Some(29 * MS))];
        assert!(verdict(&arrived, &[]));
    }

    #[test]
    fn an_excuse_outlasts_a_freeze_but_nothing_that_passes() {
        let both = [
            cut(0, 1, MS, true),
            cut(1, 0, MS, true),
            cut(0, 1, 50 * MS, false),
        ];
        let frozen = |traffic: &[Packet]| {
            let gates = [open(0, 40 * MS, traffic), open(52 * MS, 53 * MS, traffic)];
            let other = stay(1, &[open(30 * MS, 90 * MS, traffic)]);
            judge(&[stay(0, &gates), other], &network(traffic, &both)).is_some()
        };
        assert!(!frozen(&[]));
        assert!(frozen(&[packet(0, 1, 41 * MS, Some(42 * MS))]));
    }

    #[test]
    fn what_arrives_as_a_gate_opens_does_so_before_or_after() {
        let both = [cut(0, 1, MS, true), cut(1, 0, MS, true)];
        let traffic = [packet(1, 0, 30 * MS, Some(30 * MS))];
        for (recorded, lasts, broken) in [(1, 1, true), (0, 3, false), (0, 4, true)] {
            let older = stay(0, &[open(0, (30 + lasts) * MS, &traffic)]);
            let newer = Open {
                recorded,
                ..open(30 * MS, 90 * MS, &traffic)
            };
            let found = judge(&[older, stay(1, &[newer])], &network(&traffic, &both));
            assert_eq!(found.is_some(), broken, "{recorded} before, {lasts} ms");
        }
    }

    #[test]
    fn an_excuse_ends_when_something_passes() {
        let both = [cut(0, 1, MS, true), cut(1, 0, MS, true)];
        let healed = [packet(0, 1, 36 * MS, Some(37 * MS))];
        assert!(!verdict(&healed, &both));
        let healed = [packet(0, 1, 35 * MS, Some(36 * MS))];
        assert!(verdict(&healed, &both));
    }
}

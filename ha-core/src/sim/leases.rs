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
    pub(crate) fate: Fate,
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on its way.
    Sent,
    Lost,
    /// It was received, at a time.
    Arrived(u64),
}

impl Packet {
    fn arrived(&self) -> Option<u64> {
        match self.fate {
            Fate::Arrived(at) => Some(at),
            Fate::Sent | Fate::Lost => None,
        }
    }

    const fn goes(&self, from: usize, to: usize) -> bool {
        self.from == from && self.to == to
    }
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

/// A time in which something was the matter with a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) node: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What the network did.
pub(crate) struct Network<'a> {
    /// In the order of what happened: each as it is sent, and again as it arrives or is lost on arrival.
    pub(crate) traffic: &'a [Packet],
    pub(crate) cuts: &'a [Cut],
    /// When a node neither sent nor received anything.
    pub(crate) outages: &'a [Span],
    /// When its engine did not run: it sent nothing but its kernel's answers.
    pub(crate) hold_ups: &'a [Span],
    pub(crate) links: usize,
    /// For how long before nothing may have passed: the shortest lease of any path, less an interval. (A
    /// node that takes over has waited for longer, and announced itself in that time.)
    pub(crate) patience: u64,
    /// How long after an echo a node that holds an instance sends the next one, on its fastest path.
    pub(crate) interval: u64,
    /// How long two gates may be open after something passes again: the longest lease.
    pub(crate) grace: u64,
}

impl Network<'_> {
    /// Until when two gates that are open at once may be, if at all.
    ///
    /// Nothing passed between the nodes for so long before both spoke that each could count the other as dead:
    /// until something passes, and a lease more. Or nothing from the holder reached the `newcomer` for so long,
    /// and what the newcomer sent since it was heard last was lost: a lease from then on, since the holder has
    /// not gone on alone later. In a direction in which nothing was sent, it has to be known that nothing could
    /// pass.
    fn excuse(&self, holder: usize, newcomer: usize, both: Open) -> Option<u64> {
        let at = both.from;
        let from = at.saturating_sub(self.patience);
        let silent = self.arrived(holder, newcomer, both) <= from
            && (self.is_deaf(holder, newcomer, from, at)
                || self.fell_silent(holder, newcomer, both));
        let heard = self.arrived(newcomer, holder, both);
        let passed = if heard > from {
            self.tried(newcomer, holder, heard, at).then_some(heard)
        } else {
            let deaf = self.is_deaf(newcomer, holder, from, at)
                || self.fell_silent(newcomer, holder, both);
            deaf.then(|| self.heals(holder, newcomer, both))
        };
        passed
            .filter(|_| silent)
            .map(|passed| passed.saturating_add(self.grace))
    }

    /// When something was received last in one direction before both spoke.
    fn arrived(&self, from: usize, to: usize, both: Open) -> u64 {
        let sent = self.traffic[..both.recorded].iter();
        sent.filter(|packet| packet.goes(from, to))
            .filter_map(Packet::arrived)
            .max()
            .unwrap_or(0)
    }

    fn is_deaf(&self, from: usize, to: usize, begin: u64, end: u64) -> bool {
        self.tried(from, to, begin, end)
            || (0..self.links).all(|link| self.was_cut(link, from, to, begin, end))
    }

    fn tried(&self, from: usize, to: usize, begin: u64, end: u64) -> bool {
        self.traffic
            .iter()
            .any(|packet| packet.goes(from, to) && begin < packet.sent && packet.sent <= end)
    }

    /// Whether a node was held up until both spoke, from within an interval after an echo that was lost, as was
    /// all that it sent later.
    fn fell_silent(&self, from: usize, to: usize, both: Open) -> bool {
        let heard = self.arrived(from, to, both);
        self.traffic[..both.recorded]
            .iter()
            .filter(|packet| packet.goes(from, to))
            .filter(|packet| packet.fate == Fate::Lost && heard < packet.sent)
            .any(|packet| {
                self.hold_ups.iter().any(|held| {
                    held.node == from
                        && (packet.sent..=packet.sent + self.interval).contains(&held.from)
                        && held.until >= both.from
                })
            })
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
            .filter(|packet| packet.goes(one, other) || packet.goes(other, one))
            .filter_map(Packet::arrived)
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
                let excuse = [(one, other), (other, one)]
                    .into_iter()
                    .filter(|(_, newcomer)| newcomer.open.iter().any(|open| open.from == begin))
                    .find_map(|(holder, newcomer)| {
                        network.excuse(holder.node, newcomer.node, both)
                    });
                let excused = begin <= until || excuse.is_some();
                if begin > until {
                    until = excuse.unwrap_or(begin);
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
        let earlier = |packet: &&Packet| packet.arrived().unwrap_or(packet.sent) <= from;
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
            fate: arrives.map_or(Fate::Lost, Fate::Arrived),
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
            hold_ups: &[],
            links: 1,
            patience: 3 * MS,
            interval: MS,
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

    /// A gate from 0 to 40 ms, whose node is held up, and its peer's from 30 ms on, to which nothing passes.
    fn verdict_held_up(traffic: &[Packet], held: (u64, u64)) -> bool {
        let both = [cut(1, 0, MS, true)];
        let hold_ups = [Span {
            node: 0,
            from: held.0 * MS,
            until: held.1 * MS,
        }];
        let stays = [
            stay(0, &[open(0, 40 * MS, traffic)]),
            stay(1, &[open(30 * MS, 90 * MS, traffic)]),
        ];
        let network = Network {
            hold_ups: &hold_ups,
            ..network(traffic, &both)
        };
        judge(&stays, &network).is_some()
    }

    #[test]
    fn a_node_that_is_held_up_after_an_echo_that_was_lost_lets_nothing_pass() {
        let heard = packet(0, 1, 19 * MS, Some(19 * MS));
        let lost = packet(0, 1, 20 * MS, None);
        let traffic = [heard, lost];
        assert!(!verdict_held_up(&traffic, (21, 40)));
        assert!(!verdict_held_up(&traffic, (20, 30)));
        assert!(verdict_held_up(&traffic, (21, 29)), "it went on before");
        assert!(verdict_held_up(&traffic, (22, 40)), "it should have asked");
        assert!(verdict_held_up(&traffic, (19, 40)), "held up, it asked");
        assert!(verdict_held_up(&traffic[..1], (19, 40)), "nothing was lost");
        let other_path = [lost, packet(0, 1, 20 * MS, Some(20 * MS))];
        assert!(verdict_held_up(&other_path, (21, 40)));
        let answered = [heard, lost, packet(0, 1, 25 * MS, Some(25 * MS))];
        assert!(verdict_held_up(&answered, (21, 40)), "its kernel was heard");
        let other_way = [
            packet(0, 1, 19 * MS, Some(19 * MS)),
            packet(1, 0, 20 * MS, None),
        ];
        assert!(verdict_held_up(&other_way, (21, 40)));
    }

    #[test]
    fn what_passed_before_a_newcomer_s_announcements_were_lost_excuses_a_lease() {
        let asks = packet(0, 1, 28 * MS, None);
        let hello = packet(1, 0, 28 * MS, Some(28 * MS));
        let announces = packet(1, 0, 29 * MS, None);
        let broken = |traffic: &[Packet], lasts: u64| {
            let holder = stay(0, &[open(0, (28 + lasts) * MS, traffic)]);
            let newcomer = stay(1, &[open(30 * MS, 90 * MS, traffic)]);
            judge(&[holder, newcomer], &network(traffic, &[])).is_some()
        };
        assert!(!broken(&[asks, hello, announces], 3));
        assert!(broken(&[asks, hello, announces], 4), "longer than a lease");
        assert!(broken(&[asks, hello], 3), "it announced nothing");
        let heard = packet(0, 1, 28 * MS, Some(28 * MS));
        assert!(
            broken(&[heard, hello, announces], 3),
            "the holder was heard"
        );
        let late = packet(1, 0, 29 * MS, Some(29 * MS));
        assert!(
            broken(&[asks, announces, late], 3),
            "an announcement passed"
        );
        assert!(broken(&[hello, announces], 3), "the holder asked nothing");
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

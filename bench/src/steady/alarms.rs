//! Take-overs for which nothing gave a reason, and whether a CPU stood still.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use ha_tests::lab::VIP;

use super::reference::Stall;
use crate::pair::{INSTANCE, Pair, VRID};

/// keepalived announces once per take-over, which is how its take-overs are timed.
pub(super) const KEEPALIVED_LINES: &str =
    "  garp_master_delay 0\n  garp_master_repeat 1\n  garp_lower_prio_repeat 0\n";

/// A line of keepalived's log for each take-over.
const ENTERING_MASTER: &str = ") Entering MASTER STATE";

/// A node that became Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promotion {
    pub(super) node: usize,
    pub(super) at: MonoNs,
    /// Whether it had been Active itself before: it went on, and nobody took over.
    pub(super) resumed: bool,
    /// Since when the other one, from which it took over, was not heard.
    pub(super) silent_since: MonoNs,
}

/// What counts the promotions of a pair.
pub(super) struct Watch {
    since: MonoNs,
    holder: usize,
    /// Of each node, by `had`'s own word: its history of events is bounded, so that it is read often.
    told: [Told; 2],
    /// Of each node, in keepalived's log before.
    logged: [usize; 2],
}

#[derive(Default)]
struct Told {
    promoted: BTreeSet<u64>,
    closed: BTreeSet<u64>,
}

impl Watch {
    /// Counts from now on, when `holder` is Active.
    pub(super) fn start(pair: &Pair, holder: usize, since: MonoNs) -> Self {
        Self {
            since,
            holder,
            told: Default::default(),
            logged: [0, 1].map(|index| logged(pair, index)),
        }
    }

    /// Reads what `had` says.
    pub(super) fn look(&mut self, pair: &Pair) -> Result<()> {
        if !pair.system.is_had() {
            return Ok(());
        }
        for (node, told) in pair.nodes.iter().zip(&mut self.told) {
            let limit = ha_user::events::CAPACITY.to_string();
            let events = node.hactl(&["events", "--limit", &limit])?;
            let events = events.as_array().context("hactl events prints a list")?;
            for event in events.iter().filter(|event| event["instance"] == INSTANCE) {
                let at = event["at_ns"].as_u64().filter(|at| *at >= self.since.0);
                match event["kind"].as_str() {
                    Some("transition") if event["to"] == "active" => told.promoted.extend(at),
                    Some("gate_closed") => told.closed.extend(at),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Who became Active and when, up to `end`; `detection`: how long the other one must have been silent.
    pub(super) fn promotions(
        mut self,
        pair: &Pair,
        detection: Nanos,
        end: MonoNs,
    ) -> Result<Vec<Promotion>> {
        self.look(pair)?;
        pair.check_observers()?;
        let mut times = Vec::new();
        for (node, told) in self.told.iter().enumerate() {
            if pair.system.is_had() {
                times.extend(told.promoted.iter().map(|at| (MonoNs(*at), node)));
            } else {
                let frames = pair.sniffers[node].spoken(self.since, MonoNs(u64::MAX));
                let announcements = frames.iter().filter(|(_, frame)| frame.announces(VIP));
                let announced: Vec<MonoNs> = announcements.map(|(at, _)| *at).collect();
                let logged = logged(pair, node) - self.logged[node];
                if logged != announced.len() {
                    // No reason to throw away what the other daemons showed.
                    eprintln!(
                        "{}: node {} says that it took over {logged} times, but announced the VIP {} times: its \
                         figures are in doubt",
                        pair.system.name(),
                        node + 1,
                        announced.len()
                    );
                }
                times.extend(announced.into_iter().map(|at| (at, node)));
            }
        }
        times.retain(|(at, _)| *at <= end);
        times.sort_unstable();
        let mut holder = self.holder;
        let promotions = times.into_iter().map(|(at, node)| {
            let resumed = core::mem::replace(&mut holder, node) == node;
            let other = 1 - node;
            let closed = self.told[other].closed.range(..=at.0).next_back();
            let silent_since = match closed {
                Some(closed) => MonoNs(*closed).before(detection),
                None => pair.sniffers[other]
                    .last_advert_before(VRID, at)
                    .map_or(at.before(detection), |(at, _)| at),
            };
            Promotion {
                node,
                at,
                resumed,
                silent_since,
            }
        });
        Ok(promotions.collect())
    }
}

fn logged(pair: &Pair, index: usize) -> usize {
    pair.nodes[index].log().matches(ENTERING_MASTER).count()
}

/// The longest time in which neither node advertised.
pub(super) fn longest_silence(pair: &Pair, from: MonoNs, to: MonoNs) -> Nanos {
    let adverts = pair
        .sniffers
        .iter()
        .flat_map(|it| it.adverts(VRID, from, to));
    let mut times: Vec<MonoNs> = adverts.map(|(at, _)| at).chain([from, to]).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1].since(pair[0]));
    gaps.max().unwrap_or(Nanos::ZERO)
}

/// The longest stall that explains a take-over: `least` long at least, some of it in the silence that led to it.
pub(super) fn explained(it: &Promotion, least: Nanos, stalls: &[Stall]) -> Option<Stall> {
    let explains = |stall: &&Stall| {
        stall.length() >= least && stall.from < it.at && stall.to > it.silent_since
    };
    let stalls = stalls.iter().filter(explains);
    stalls.max_by_key(|stall| stall.length()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Nanos = Nanos(6);

    fn stall(from: u64, to: u64) -> Stall {
        Stall {
            cpu: 0,
            from: MonoNs(from),
            to: MonoNs(to),
        }
    }

    /// A take-over after ten of silence.
    fn take_over(at: u64) -> Promotion {
        Promotion {
            node: 0,
            at: MonoNs(at),
            resumed: false,
            silent_since: MonoNs(at - 10),
        }
    }

    #[test]
    fn a_stall_in_the_silence_before_it_explains_a_take_over() {
        for at in [101, 105, 110, 119] {
            let stalls = [stall(100, 110)];
            assert_eq!(explained(&take_over(at), LEAST, &stalls), Some(stalls[0]));
        }
    }

    #[test]
    fn a_take_over_before_a_stall_or_long_after_it_is_ours() {
        for at in [50, 100, 120, 200] {
            let stalls = [stall(100, 110)];
            assert_eq!(explained(&take_over(at), LEAST, &stalls), None);
        }
        assert_eq!(explained(&take_over(105), LEAST, &[]), None);
    }

    #[test]
    fn a_stall_that_is_too_short_explains_nothing_and_the_longest_one_most() {
        let short = stall(100, 105);
        assert_eq!(explained(&take_over(108), LEAST, &[short]), None);
        let stalls = [short, stall(100, 106), stall(99, 107)];
        let found = explained(&take_over(108), LEAST, &stalls);
        assert_eq!(found, Some(stalls[2]));
    }
}

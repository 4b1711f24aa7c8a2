//! Take-overs for which nothing gave a reason, and whether the machine stood still.

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

/// What counts the take-overs of a pair.
pub(super) struct Watch {
    since: MonoNs,
    /// Of each node, by `had`'s own word: its history of events is bounded, so that it is read often.
    told: [BTreeSet<u64>; 2],
    /// Of each node, in keepalived's log before.
    logged: [usize; 2],
}

impl Watch {
    /// Counts from now on.
    pub(super) fn start(pair: &Pair, since: MonoNs) -> Self {
        Self {
            since,
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
            told.extend(
                events
                    .iter()
                    .filter(|event| {
                        event["instance"] == INSTANCE
                            && event["kind"] == "transition"
                            && event["to"] == "active"
                    })
                    .filter_map(|event| event["at_ns"].as_u64())
                    .filter(|at| *at >= self.since.0),
            );
        }
        Ok(())
    }

    /// When each node took over, up to `end`.
    pub(super) fn take_overs(mut self, pair: &Pair, end: MonoNs) -> Result<[Vec<MonoNs>; 2]> {
        self.look(pair)?;
        pair.check_observers()?;
        let mut found: [Vec<MonoNs>; 2] = Default::default();
        for (index, found) in found.iter_mut().enumerate() {
            if pair.system.is_had() {
                found.extend(self.told[index].iter().map(|at| MonoNs(*at)));
            } else {
                let frames = pair.sniffers[index].spoken(self.since, MonoNs(u64::MAX));
                let announcements = frames.iter().filter(|(_, frame)| frame.announces(VIP));
                found.extend(announcements.map(|(at, _)| *at));
                let logged = logged(pair, index) - self.logged[index];
                if logged != found.len() {
                    // No reason to throw away what the other daemons showed.
                    eprintln!(
                        "{}: node {} says that it took over {logged} times, but announced the VIP {} times: its \
                         figures are in doubt",
                        pair.system.name(),
                        index + 1,
                        found.len()
                    );
                }
            }
            found.retain(|at| *at <= end);
        }
        Ok(found)
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

/// The stall of the machine that explains a take-over: as long as the silence that it takes, and some of it
/// within that silence.
pub(super) fn explained(at: MonoNs, detection: Nanos, stalls: &[Stall]) -> Option<Stall> {
    let silence = at.before(detection);
    let explains =
        |stall: &&Stall| stall.length() >= detection && stall.from < at && stall.to > silence;
    stalls.iter().find(explains).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECTION: Nanos = Nanos(9);

    fn stall(from: u64, to: u64) -> [Stall; 1] {
        [Stall {
            from: MonoNs(from),
            to: MonoNs(to),
        }]
    }

    #[test]
    fn a_stall_explains_the_take_over_in_it_or_right_after_it() {
        for at in [101, 105, 110, 118] {
            let stalls = stall(100, 110);
            assert_eq!(explained(MonoNs(at), DETECTION, &stalls), Some(stalls[0]));
        }
    }

    #[test]
    fn a_take_over_before_a_stall_or_long_after_it_is_ours() {
        for at in [50, 100, 119, 200] {
            assert_eq!(explained(MonoNs(at), DETECTION, &stall(100, 110)), None);
        }
        assert_eq!(explained(MonoNs(105), DETECTION, &[]), None);
    }

    #[test]
    fn a_stall_shorter_than_the_detection_explains_nothing() {
        assert_eq!(explained(MonoNs(108), DETECTION, &stall(100, 108)), None);
        assert!(explained(MonoNs(109), DETECTION, &stall(100, 109)).is_some());
    }
}

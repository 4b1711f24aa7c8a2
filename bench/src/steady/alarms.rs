//! Take-overs for which nothing gave a reason, and whether a CPU stood still.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use ha_tests::lab::VIP;

use super::reference::Stall;
use crate::pair::{INSTANCE, Pair, Timing, VRID};

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
    /// It had been Active itself and never let go: it went on, and nobody took over.
    pub(super) resumed: bool,
    /// Since when the one that had been Active, the other one or itself, was not heard.
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
    let_go: BTreeSet<u64>,
    closed: BTreeSet<u64>,
}

/// The last one of `times` after `from` and until `to`.
fn last_within(times: &BTreeSet<u64>, from: MonoNs, to: MonoNs) -> Option<MonoNs> {
    let mut within = times.iter().filter(|at| (from.0 + 1..=to.0).contains(*at));
    within.next_back().copied().map(MonoNs)
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
                    Some("transition") if event["to"] == "backup" => told.let_go.extend(at),
                    Some("gate_closed") => told.closed.extend(at),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Who became Active and when, up to `end`.
    pub(super) fn promotions(
        mut self,
        pair: &Pair,
        timing: Timing,
        end: MonoNs,
    ) -> Result<Vec<Promotion>> {
        let detection = timing.detection(pair.system);
        // A gate that closed had been open for so long after it was renewed last.
        let lease = timing
            .keeps_open(pair.system)
            .plus(timing.period(pair.system));
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
        let mut before = self.since;
        let promotions = times.into_iter().map(|(at, node)| {
            let from = std::mem::replace(&mut holder, node);
            let began = std::mem::replace(&mut before, at);
            let resumed = pair.system.is_had()
                && from == node
                && last_within(&self.told[node].let_go, began, at).is_none();
            // Of this stay: one that ended an earlier one explains nothing.
            let silent_since = match last_within(&self.told[from].closed, began, at) {
                Some(closed) => closed.before(lease),
                None => pair.sniffers[from]
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

/// The longest stall that explains a promotion: `least` long at least, some of it in the silence that led to it.
pub(super) fn explained(it: &Promotion, least: Nanos, stalls: &[Stall]) -> Option<Stall> {
    let explains = |stall: &&Stall| {
        stall.length() >= least && stall.from < it.at && stall.to > it.silent_since
    };
    let stalls = stalls.iter().filter(explains);
    stalls.max_by_key(|stall| stall.length()).copied()
}

/// Of a run from `from` to `to`, the share in which a take-over would be said to lie in a stall, whatever it came
/// from: after such a stall for as long as it takes to be found silent.
pub(super) fn excused(
    from: MonoNs,
    to: MonoNs,
    least: Nanos,
    detection: Nanos,
    stalls: &[Stall],
) -> f64 {
    let mut spans: Vec<(MonoNs, MonoNs)> = stalls
        .iter()
        .filter(|stall| stall.length() >= least)
        .map(|stall| (stall.from.max(from), stall.to.after(detection).min(to)))
        .collect();
    spans.sort_unstable();
    let (mut sum, mut seen) = (Nanos::ZERO, from);
    for (start, end) in spans {
        sum = sum.plus(end.since(start.max(seen)));
        seen = seen.max(end);
    }
    sum.0 as f64 / to.since(from).0.max(1) as f64
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
    fn what_is_excused_is_counted_once() {
        let stalls = [
            stall(100, 110),
            stall(104, 112),
            stall(150, 155),
            stall(190, 196),
        ];
        // From 100 to 120, and from 190 to the end; the third one is too short.
        let share = excused(MonoNs(100), MonoNs(200), LEAST, Nanos(8), &stalls);
        assert!((share - 0.30).abs() < 1e-9, "{share}");
    }

    #[test]
    fn what_ended_an_earlier_stay_is_not_found() {
        let times = BTreeSet::from([10, 20, 30]);
        let last = |from, to| last_within(&times, MonoNs(from), MonoNs(to));
        assert_eq!(last(5, 25), Some(MonoNs(20)));
        assert_eq!(last(20, 29), None);
        assert_eq!(last(20, 30), Some(MonoNs(30)));
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

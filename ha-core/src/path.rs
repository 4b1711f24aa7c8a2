//! The heartbeat paths: when each sends its echo, and whether it works.

use alloc::vec::Vec;

use ha_common::{MonoNs, Nanos};

use crate::{
    config::{LeaseConfig, PathConfig, PathId},
    event::Action,
    outbox::Outbox,
};

/// Between two echoes of a node that asks for nothing: they show that it lives, and measure the round
/// trip.
const HELLO: Nanos = Nanos::from_secs(1);

/// A candidate's announcements follow each other faster than echoes by this factor.
const HASTE: u64 = 8;

/// How fast echoes follow each other, from the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// No instance on the path acts.
    Hello,
    /// One is held.
    Hold,
    /// One is being taken over.
    Announce,
}

/// One path.
#[derive(Debug)]
struct Path {
    config: PathConfig,
    pace: Pace,
    due: MonoNs,
    /// From when on its silence counts.
    since: MonoNs,
    /// `None` until it is known.
    up: Option<bool>,
    /// What had been heard on it last when it was found silent: slower echoes have more patience with the same.
    silent_after: Option<MonoNs>,
}

impl Path {
    fn new(config: PathConfig, now: MonoNs) -> Self {
        Self {
            config,
            pace: Pace::Hello,
            due: now,
            since: now,
            up: None,
            silent_after: None,
        }
    }

    fn interval(&self) -> Nanos {
        match self.pace {
            Pace::Hello => HELLO,
            Pace::Hold => self.config.interval,
            Pace::Announce => Nanos(self.config.interval.0 / HASTE),
        }
    }

    /// How long it may be silent: as long as a lease lasts, or as hellos may be missing.
    fn patience(&self) -> Nanos {
        match self.pace {
            Pace::Hello => HELLO.times(self.config.multiplier.into()),
            Pace::Hold | Pace::Announce => self.config.lease(),
        }
    }
}

/// Every path that an instance uses.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    paths: Vec<Path>,
}

impl Paths {
    /// Takes in what the instances use by now; paths that stay keep their state.
    pub(crate) fn configure<'a>(
        &mut self,
        leases: impl Iterator<Item = &'a LeaseConfig>,
        now: MonoNs,
    ) {
        let mut before = core::mem::take(&mut self.paths);
        for config in leases
            .flat_map(|lease| &lease.peers)
            .flat_map(|peer| &peer.paths)
        {
            if self.paths.iter().any(|path| path.config.id == config.id) {
                continue;
            }
            let kept = before.iter().position(|path| path.config == *config);
            self.paths.push(match kept {
                Some(at) => before.swap_remove(at),
                None => Path::new(*config, now),
            });
        }
    }

    /// Whether there are none: no instance relies on leases.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Adjusts the pace of each path to what `wanted` says of it.
    pub(crate) fn set_paces(&mut self, now: MonoNs, wanted: impl Fn(PathId) -> Pace) {
        for path in &mut self.paths {
            let pace = wanted(path.config.id);
            if pace == path.pace {
                continue;
            }
            if path.pace == Pace::Hello {
                path.since = now;
            }
            path.pace = pace;
            path.due = match pace {
                Pace::Announce => now,
                _ => path.due.min(now.after(path.interval())),
            };
        }
    }

    /// When the next echo is due.
    pub(crate) fn next(&self) -> Option<MonoNs> {
        self.paths.iter().map(|path| path.due).min()
    }

    /// Sends the echoes that are due. Ticks are absolute; those that were missed are skipped, and what was not
    /// asked was not answered either.
    pub(crate) fn serve(&mut self, now: MonoNs, out: &mut Outbox) {
        for path in &mut self.paths {
            if path.due > now {
                continue;
            }
            let interval = path.interval();
            let missed = now.since(path.due).0 / interval.0.max(1);
            // Not always, lest a node that is always late never find a path silent.
            if missed > 0 && path.since.after(path.patience().times(2)) <= now {
                path.since = now;
            }
            path.due = path.due.after(interval.times(missed + 1));
            out.push(Action::SendEcho {
                path: path.config.id,
                round: now,
            });
        }
    }

    /// What was heard on a path.
    pub(crate) fn heard(&mut self, id: PathId, heard_at: MonoNs, now: MonoNs, out: &mut Outbox) {
        let Some(path) = self.paths.iter_mut().find(|path| path.config.id == id) else {
            return;
        };
        if path.due.after(path.interval()) <= now {
            // This node is held up: what is heard by then is seen after its next echo.
            return;
        }
        if path.silent_after == Some(heard_at) {
            return;
        }
        let silent = now.since(heard_at.max(path.since));
        let up = if heard_at == MonoNs::ZERO || heard_at < path.since {
            // Nothing was due from it before `since`: it is down once it had time to answer.
            (silent >= path.patience()).then_some(false).or(path.up)
        } else {
            Some(silent < path.patience())
        };
        if let Some(up) = up.filter(|_| path.up != up) {
            path.up = Some(up);
            path.silent_after = (!up).then_some(heard_at);
            out.push(Action::PathReport {
                path: id,
                up,
                heard_at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::config::{Alone, LeasePeer};

    const PATH: PathConfig = PathConfig {
        id: PathId(7),
        interval: Nanos::from_millis(1),
        multiplier: 3,
    };

    fn millis(at: u64) -> MonoNs {
        MonoNs::ZERO.after(Nanos::from_millis(at))
    }

    fn paths() -> Paths {
        let config = LeaseConfig {
            peers: vec![LeasePeer {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                paths: vec![PATH],
            }],
            alone: Alone::Serve,
        };
        let mut paths = Paths::default();
        paths.configure(core::iter::once(&config), millis(100));
        paths
    }

    fn actions(out: &mut Outbox) -> Vec<Action> {
        core::iter::from_fn(|| out.pop()).collect()
    }

    #[test]
    fn the_pace_follows_what_is_asked() {
        let mut paths = paths();
        let mut out = Outbox::default();
        paths.serve(millis(100), &mut out);
        assert_eq!(actions(&mut out).len(), 1, "a hello at once");
        assert_eq!(paths.next(), Some(millis(1_100)));
        paths.set_paces(millis(200), |_| Pace::Announce);
        assert_eq!(paths.next(), Some(millis(200)));
        paths.serve(millis(200), &mut out);
        assert_eq!(paths.next(), Some(MonoNs(200_125_000)));
        paths.set_paces(millis(200), |_| Pace::Hold);
        paths.serve(millis(203), &mut out);
        assert_eq!(actions(&mut out).len(), 2, "missed ticks are skipped");
        assert_eq!(paths.next(), Some(MonoNs(203_125_000)));
    }

    /// Sends what is due until then.
    fn serve(paths: &mut Paths, until: MonoNs) {
        while let Some(due) = paths.next().filter(|due| *due <= until) {
            paths.serve(due, &mut Outbox::default());
        }
    }

    /// What is reported by that.
    fn heard(paths: &mut Paths, heard_at: MonoNs, now: MonoNs) -> Option<bool> {
        let mut out = Outbox::default();
        paths.heard(PATH.id, heard_at, now, &mut out);
        actions(&mut out)
            .into_iter()
            .find_map(|action| match action {
                Action::PathReport { up, .. } => Some(up),
                _ => None,
            })
    }

    #[test]
    fn a_path_is_reported_when_it_changes() {
        let mut paths = paths();
        let mut report = |heard_at, now| {
            serve(&mut paths, now);
            heard(&mut paths, heard_at, now)
        };
        assert_eq!(report(MonoNs::ZERO, millis(101)), None);
        assert_eq!(report(millis(102), millis(103)), Some(true));
        assert_eq!(report(millis(102), millis(3_101)), None);
        assert_eq!(report(millis(102), millis(3_102)), Some(false), "hellos");
        assert_eq!(report(millis(102), millis(9_000)), None);
        assert_eq!(report(millis(9_001), millis(9_001)), Some(true));
        paths.set_paces(millis(9_900), |_| Pace::Hold);
        let mut report = |heard_at, now| {
            serve(&mut paths, now);
            heard(&mut paths, heard_at, now)
        };
        assert_eq!(
            report(millis(9_001), millis(9_902)),
            None,
            "its answer is on its way"
        );
        let down = report(millis(9_001), millis(9_903));
        assert_eq!(down, Some(false), "and did not come");
    }

    #[test]
    fn a_silent_path_is_up_when_something_is_heard_and_not_when_echoes_are_fewer() {
        let mut paths = paths();
        paths.set_paces(millis(101), |_| Pace::Hold);
        serve(&mut paths, millis(102));
        assert_eq!(heard(&mut paths, millis(102), millis(102)), Some(true));
        serve(&mut paths, millis(105));
        assert_eq!(heard(&mut paths, millis(102), millis(105)), Some(false));
        paths.set_paces(millis(200), |_| Pace::Hello);
        serve(&mut paths, millis(300));
        assert_eq!(heard(&mut paths, millis(102), millis(300)), None);
        assert_eq!(heard(&mut paths, millis(301), millis(301)), Some(true));
    }

    #[test]
    fn a_path_on_which_this_node_was_too_late_to_ask_is_not_silent() {
        let mut paths = paths();
        paths.set_paces(millis(101), |_| Pace::Hold);
        serve(&mut paths, millis(102));
        assert_eq!(heard(&mut paths, millis(102), millis(102)), Some(true));
        // Held up until then, by which its echo is sent.
        assert_eq!(heard(&mut paths, millis(102), millis(110)), None);
        paths.serve(millis(110), &mut Outbox::default());
        assert_eq!(heard(&mut paths, millis(102), millis(111)), None);
        serve(&mut paths, millis(113));
        assert_eq!(heard(&mut paths, millis(102), millis(113)), Some(false));
    }

    #[test]
    fn a_node_that_is_always_late_finds_a_path_silent() {
        let mut paths = paths();
        paths.set_paces(millis(101), |_| Pace::Hold);
        serve(&mut paths, millis(102));
        assert_eq!(heard(&mut paths, millis(102), millis(102)), Some(true));
        let late = (104..130).step_by(2).map(millis);
        let found = late.filter_map(|at| {
            paths.serve(at, &mut Outbox::default());
            heard(&mut paths, millis(102), at)
        });
        assert_eq!(found.collect::<Vec<_>>(), [false]);
    }
}

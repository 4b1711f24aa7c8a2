//! Paces announcements, so that those of many addresses delay no advert.
//!
//! What instances want announced waits here. A batch leaves at once, the next one after a pause, and
//! between two of them the shell serves timers and reads what arrived. Instances take turns, a round each:
//! every address is announced once before any is for the second time.

use alloc::collections::VecDeque;

use ha_common::{MonoNs, Nanos};

use crate::event::{Action, InstanceId};

/// Announcements in one batch. Sending one takes some microseconds, so a batch holds up an advert by well
/// under a millisecond, and fits into the queue of any interface.
const BATCH: u32 = 64;

/// From one batch to the next: at most 128,000 announcements in a second.
const PAUSE: Nanos = Nanos::from_micros(500);

/// Rounds of announcements that an instance wants.
#[derive(Debug)]
struct Burst {
    instance: InstanceId,
    /// Addresses of the instance; one round announces each.
    vips: u32,
    /// The next address of the present round.
    next: u32,
    /// Rounds left, the present one included.
    rounds: u32,
}

/// The announcements that wait.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    bursts: VecDeque<Burst>,
    /// When the next batch may leave.
    ready_at: MonoNs,
}

impl Announcer {
    /// Has `rounds` over all `vips` of an instance announced; a burst of it that still waits is
    /// lengthened to that.
    pub(crate) fn begin(&mut self, instance: InstanceId, vips: u32, rounds: u32) {
        if vips == 0 || rounds == 0 {
            return;
        }
        match self.bursts.iter_mut().find(|one| one.instance == instance) {
            Some(burst) => {
                burst.vips = vips;
                burst.next = burst.next.min(vips - 1);
                burst.rounds = burst.rounds.max(rounds);
            }
            None => self.bursts.push_back(Burst {
                instance,
                vips,
                next: 0,
                rounds,
            }),
        }
    }

    /// Forgets what an instance wanted; how many rounds were left.
    pub(crate) fn cancel(&mut self, instance: InstanceId) -> u32 {
        let waiting = self.bursts.iter().position(|one| one.instance == instance);
        waiting
            .and_then(|at| self.bursts.remove(at))
            .map_or(0, |burst| burst.rounds)
    }

    /// When to call [`Self::release`].
    pub(crate) fn due(&self) -> Option<MonoNs> {
        (!self.bursts.is_empty()).then_some(self.ready_at)
    }

    /// The next batch, if its time has come.
    pub(crate) fn release(&mut self, now: MonoNs, mut each: impl FnMut(Action)) {
        if self.bursts.is_empty() || now < self.ready_at {
            return;
        }
        self.ready_at = now.after(PAUSE);
        let mut room = BATCH;
        while room > 0
            && let Some(mut burst) = self.bursts.pop_front()
        {
            let count = room.min(burst.vips - burst.next);
            each(Action::Announce {
                instance: burst.instance,
                first: burst.next,
                count,
            });
            room -= count;
            burst.next += count;
            if burst.next == burst.vips {
                burst.next = 0;
                burst.rounds -= 1;
            }
            if burst.rounds > 0 {
                self.bursts.push_back(burst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    fn batch(announcer: &mut Announcer, now: MonoNs) -> Vec<(u32, u32, u32)> {
        let mut out = Vec::new();
        announcer.release(now, |action| {
            if let Action::Announce {
                instance,
                first,
                count,
            } = action
            {
                out.push((instance.0, first, count));
            }
        });
        out
    }

    #[test]
    fn one_batch_leaves_at_once_and_the_next_after_a_pause() {
        let mut announcer = Announcer::default();
        assert_eq!(announcer.due(), None);
        announcer.begin(InstanceId(7), 150, 2);
        let mut now = MonoNs(1_000);
        assert!(announcer.due().is_some_and(|due| due <= now));
        assert_eq!(batch(&mut announcer, now), [(7, 0, 64)]);
        assert_eq!(batch(&mut announcer, now), [], "not yet");
        let mut rest = Vec::new();
        while let Some(due) = announcer.due() {
            assert_eq!(due, now.after(PAUSE));
            now = due;
            rest.extend(batch(&mut announcer, now));
        }
        let wanted = vec![
            (7, 64, 64),
            (7, 128, 22),
            (7, 0, 42),
            (7, 42, 64),
            (7, 106, 44),
        ];
        assert_eq!(rest, wanted);
    }

    #[test]
    fn instances_take_turns() {
        let mut announcer = Announcer::default();
        for id in 0..3 {
            announcer.begin(InstanceId(id), 1, 2);
        }
        announcer.begin(InstanceId(3), 200, 1);
        let first = batch(&mut announcer, MonoNs(1));
        let wanted = [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 61)];
        assert_eq!(first, wanted);
        let second = batch(&mut announcer, MonoNs(1).after(PAUSE));
        assert_eq!(second, [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 61, 61)]);
    }

    #[test]
    fn a_burst_is_lengthened_and_cancelled() {
        let mut announcer = Announcer::default();
        announcer.begin(InstanceId(0), 100, 1);
        batch(&mut announcer, MonoNs(1));
        announcer.begin(InstanceId(0), 100, 3);
        announcer.begin(InstanceId(0), 0, 3);
        let next = batch(&mut announcer, MonoNs(1).after(PAUSE));
        assert_eq!(next, [(0, 64, 36), (0, 0, 28)], "it goes on where it was");
        announcer.begin(InstanceId(0), 20, 1);
        assert_eq!(announcer.cancel(InstanceId(0)), 2);
        assert_eq!(announcer.cancel(InstanceId(0)), 0);
        assert_eq!(announcer.due(), None);
    }
}

//! A client that asks each of two nodes for the VIP all the time, whoever has it, and knows when both answered.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};

use crate::{Client, Frame, Mac, Payload, capture::Capture, clock, frame, sys};

/// Between two rounds of questions.
pub const PERIOD: Nanos = Nanos::from_micros(200);

/// A node that answered twice within this time is taken to have answered all the time between: a few questions
/// may be late.
const JOINED: Nanos = Nanos(5 * PERIOD.0);

/// Real-time priority of the asking thread: below the daemons' (50), above everything usual.
const PRIORITY: i32 = 10;

/// Asks each [`PERIOD`] until it is dropped: each node at its own Ethernet address, by an ARP request for the
/// VIP and by an ICMP echo request to it.
pub struct RollCall {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    capture: Capture,
    nodes: [Mac; 2],
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    asked: Mutex<Vec<MonoNs>>,
}

/// A time during which both nodes answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The first answer by which both had answered.
    pub from: MonoNs,
    /// The last answer of the one that fell silent.
    pub to: MonoNs,
}

impl Overlap {
    /// How long it was; at least the time between two questions, since both answered.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.to.since(self.from).max(PERIOD)
    }
}

impl RollCall {
    /// Starts to ask.
    pub fn start(client: &Client, vip: Ipv4Addr, nodes: [Mac; 2]) -> Result<Self> {
        let capture = Capture::start(client.ns(), "eth0", move |frame| answers(frame, vip))?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let socket = client
            .ns()
            .enter(|| sys::packet_socket("eth0"))?
            .context("opening a packet socket")?;
        let from = (client.mac(), client.address());
        let thread = std::thread::spawn(move || -> Result<()> {
            // Without the right to real time the questions come later on a busy machine, no more.
            let _ = sys::run_in_real_time(PRIORITY);
            let mut due = clock::now();
            let mut probe = 0;
            while !for_thread.stop.load(Ordering::Relaxed) {
                due = due.after(PERIOD);
                clock::sleep_until(due);
                let now = clock::now();
                if now.since(due) > PERIOD {
                    due = now;
                }
                if for_thread.paused.load(Ordering::Relaxed) {
                    continue;
                }
                lock(&for_thread.asked).push(now);
                probe += 1;
                for node in nodes {
                    // A full queue loses one question of many.
                    let _ = socket.send(&frame::arp_request_frame_to(node, from, vip));
                    let _ = socket.send(&frame::echo_request_frame(from, (node, vip), probe));
                }
            }
            Ok(())
        });
        Ok(Self {
            shared,
            thread: Some(thread),
            capture,
            nodes,
        })
    }

    /// Asks nothing until [`Self::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Asks again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// When each node answered, from `from` to `to`.
    #[must_use]
    pub fn answers(&self, from: MonoNs, to: MonoNs) -> [Vec<MonoNs>; 2] {
        let answers = self.capture.between(from, to);
        self.nodes.map(|node| {
            let own = answers.iter().filter(|(_, frame)| frame.source == node);
            own.map(|(at, _)| *at).collect()
        })
    }

    /// The times during which both nodes answered, from `from` to `to`.
    #[must_use]
    pub fn overlaps(&self, from: MonoNs, to: MonoNs) -> Vec<Overlap> {
        let [first, second] = self.answers(from, to);
        overlaps(&first, &second)
    }

    /// Which node alone has answered since `from`, and does so still.
    #[must_use]
    pub fn sole(&self, from: MonoNs) -> Option<usize> {
        let now = clock::now();
        let lately = now.before(JOINED.times(5));
        let all_the_time = |answers: &[MonoNs]| {
            answers
                .first()
                .is_some_and(|first| *first < from.after(JOINED.times(5)))
                && answers.last().is_some_and(|last| *last > lately)
        };
        match self.answers(from, now).each_ref().map(Vec::as_slice) {
            [own, []] if all_the_time(own) => Some(0),
            [[], own] if all_the_time(own) => Some(1),
            _ => None,
        }
    }

    /// The longest time from `from` to `to` during which nobody was asked.
    #[must_use]
    pub fn longest_pause(&self, from: MonoNs, to: MonoNs) -> Nanos {
        let asked = lock(&self.shared.asked);
        let within = asked.iter().filter(|at| (from..to).contains(at)).copied();
        let ends = within.clone().chain([to]);
        let starts = [from].into_iter().chain(within);
        starts
            .zip(ends)
            .map(|(start, end)| end.since(start))
            .max()
            .unwrap_or_default()
    }

    /// Forgets what was asked and answered.
    pub fn clear(&self) {
        self.capture.clear();
        lock(&self.shared.asked).clear();
    }

    /// Frames that were missed; with any of them an overlap may have been.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.capture.lost()
    }
}

impl Drop for RollCall {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether whoever sent a frame answers for the VIP: that somebody announces it is another matter.
fn answers(frame: &Frame, vip: Ipv4Addr) -> bool {
    match frame.payload {
        Payload::ArpReply { sender, target } => sender == vip && target != vip,
        Payload::EchoReply { source, .. } => source == IpAddr::from(vip),
        _ => false,
    }
}

/// When a node answered all the time, from the first to the last answer.
fn spells(answers: &[MonoNs]) -> Vec<(MonoNs, MonoNs)> {
    let mut spells: Vec<(MonoNs, MonoNs)> = Vec::new();
    for at in answers {
        match spells.last_mut() {
            Some((_, end)) if at.since(*end) <= JOINED => *end = *at,
            _ => spells.push((*at, *at)),
        }
    }
    spells
}

fn overlaps(first: &[MonoNs], second: &[MonoNs]) -> Vec<Overlap> {
    let seconds = spells(second);
    let mut both = Vec::new();
    for (begin, end) in spells(first) {
        both.extend(seconds.iter().filter_map(|(other_begin, other_end)| {
            let overlap = Overlap {
                from: begin.max(*other_begin),
                to: end.min(*other_end),
            };
            (overlap.from <= overlap.to).then_some(overlap)
        }));
    }
    both
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_period(from: u64, to: u64) -> Vec<MonoNs> {
        (from..to).map(|period| MonoNs(period * PERIOD.0)).collect()
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        assert_eq!(overlaps(&each_period(0, 10), &each_period(10, 20)), []);
        assert_eq!(overlaps(&each_period(30, 40), &each_period(10, 20)), []);
        assert_eq!(overlaps(&[], &each_period(10, 20)), []);
    }

    #[test]
    fn both_at_once_is_one() {
        let both = overlaps(&each_period(0, 15), &each_period(10, 20));
        let expected = Overlap {
            from: MonoNs(10 * PERIOD.0),
            to: MonoNs(14 * PERIOD.0),
        };
        assert_eq!(both, [expected]);
        assert_eq!(expected.length(), PERIOD.times(4));
    }

    #[test]
    fn a_single_answer_amid_another_s_counts() {
        let both = overlaps(&each_period(0, 20), &[MonoNs(7 * PERIOD.0 + 1)]);
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].length(), PERIOD);
    }

    #[test]
    fn a_few_late_questions_end_no_spell_but_silence_does() {
        let mut first = each_period(0, 10);
        first.extend(each_period(14, 20));
        assert_eq!(overlaps(&first, &each_period(11, 13)).len(), 1);
        let mut first = each_period(0, 10);
        first.extend(each_period(30, 40));
        assert_eq!(overlaps(&first, &each_period(15, 25)), []);
    }
}

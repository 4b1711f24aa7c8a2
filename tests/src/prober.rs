//! A client that asks the VIP for an answer all the time, and knows who answered when.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, bail};
use ha_common::{MonoNs, Nanos};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Client, Frame, Mac, Payload, capture::Capture, clock, frame, guest, sys};

/// Between two probes.
pub const PERIOD: Nanos = Nanos::from_micros(200);

/// The same in a [`guest`], where a probe and its answer are a millisecond of work.
pub const PERIOD_IN_GUEST: Nanos = Nanos::from_millis(5);

/// Real-time priority of the sending thread: below the daemons' (50), above everything usual.
const PRIORITY: i32 = 10;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    /// Echo requests (ICMP or ICMPv6) through the kernel, so that its neighbour table matters.
    Echo,
    /// Echo requests, and between them questions for the VIP: broadcast ARP requests, or neighbour
    /// solicitations.
    EchoAndArp,
}

/// Sends a probe each [`PERIOD`] (in a guest [`PERIOD_IN_GUEST`]) until it is dropped.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    capture: Capture,
    vip: IpAddr,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    sent: Mutex<Vec<MonoNs>>,
}

/// An answer to an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it arrived, by the kernel's stamp.
    pub at: MonoNs,
    /// Who gave it.
    pub by: Mac,
    /// Number of the probe that it answers.
    pub probe: u64,
}

/// The longest time between two consecutive answers: what the client sees of a take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The answer before it.
    pub before: Answer,
    /// The answer after it.
    pub after: Answer,
}

impl Gap {
    /// How long the client heard nothing.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.after.at.since(self.before.at)
    }
}

impl Prober {
    /// Starts to probe `vip` from `client`.
    pub fn start(client: &Client, vip: impl Into<IpAddr>, probes: Probes) -> Result<Self> {
        let period = if guest::is_here() {
            PERIOD_IN_GUEST
        } else {
            PERIOD
        };
        Self::every(period, client, vip, probes)
    }

    /// The same, with a probe each `period`.
    pub fn every(
        period: Nanos,
        client: &Client,
        vip: impl Into<IpAddr>,
        probes: Probes,
    ) -> Result<Self> {
        let vip = vip.into();
        let keep = move |frame: &Frame| frame.speaks_for(vip);
        let capture = Capture::start(client.ns(), client.interface(), keep)?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let mac = client.mac();
        let (domain, protocol, question): (_, _, Vec<u8>) = match vip {
            IpAddr::V4(vip) => (
                Domain::IPV4,
                Protocol::ICMPV4,
                frame::arp_request_frame((mac, client.address()), vip).into(),
            ),
            IpAddr::V6(vip) => (
                Domain::IPV6,
                Protocol::ICMPV6,
                frame::solicitation_frame((mac, client.address_v6()), vip).into(),
            ),
        };
        let (echo, questions) = client.ns().enter(|| -> Result<_> {
            let echo = Socket::new(domain, Type::RAW, Some(protocol))?;
            // The answers are taken from the capture, which has stamps and Ethernet addresses.
            echo.set_recv_buffer_size(0)?;
            Ok((echo, sys::packet_socket(client.interface())?))
        })??;
        let to = SockAddr::from(SocketAddr::from((vip, 0)));
        let thread = std::thread::spawn(move || -> Result<()> {
            // Without the right to real time the probes come later on a busy machine, no more.
            let _ = sys::run_in_real_time(PRIORITY);
            let mut due = clock::now();
            while !for_thread.stop.load(Ordering::Relaxed) {
                due = due.after(period);
                clock::sleep_until(due);
                let now = clock::now();
                if now.since(due) > period {
                    due = now;
                }
                if for_thread.paused.load(Ordering::Relaxed) {
                    continue;
                }
                let probe = {
                    let mut sent = lock(&for_thread.sent);
                    sent.push(now);
                    u64::try_from(sent.len() - 1)?
                };
                // A VIP that nobody answers for yet makes the kernel refuse: the next probe tries again.
                let request = match domain {
                    Domain::IPV6 => frame::echo_request_v6(probe),
                    _ => frame::echo_request(probe),
                };
                let _ = echo.send_to(&request, &to);
                if probes == Probes::EchoAndArp {
                    let _ = questions.send(&question);
                }
            }
            Ok(())
        });
        Ok(Self {
            shared,
            thread: Some(thread),
            capture,
            vip,
        })
    }

    /// Sends nothing until [`Self::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Sends again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// The answers to echo requests from `from` to `to`, in order of arrival.
    #[must_use]
    pub fn answers(&self, from: MonoNs, to: MonoNs) -> Vec<Answer> {
        self.capture
            .between(from, to)
            .into_iter()
            .filter_map(|(at, frame)| match frame.payload {
                Payload::EchoReply { probe, .. } => Some(Answer {
                    at,
                    by: frame.source,
                    probe,
                }),
                _ => None,
            })
            .collect()
    }

    /// When a probe was sent.
    #[must_use]
    pub fn sent_at(&self, probe: u64) -> Option<MonoNs> {
        let index = usize::try_from(probe).ok()?;
        lock(&self.shared.sent).get(index).copied()
    }

    /// Who answered questions for the VIP from `from` to `to`, each answer once.
    #[must_use]
    pub fn arp_answers(&self, from: MonoNs, to: MonoNs) -> Vec<(MonoNs, Mac)> {
        self.capture
            .between(from, to)
            .into_iter()
            .filter_map(|(at, frame)| match frame.payload {
                Payload::ArpReply { sender, target }
                    if sender == self.vip && target != self.vip =>
                {
                    Some((at, frame.source))
                }
                Payload::NeighborAdvertisement {
                    solicited: true, ..
                } => Some((at, frame.source)),
                _ => None,
            })
            .collect()
    }

    /// Who gave the last answer, if that was not longer than `ago` before now.
    #[must_use]
    pub fn answered_within(&self, ago: Nanos) -> Option<Mac> {
        let now = clock::now();
        self.answers(now.before(ago), MonoNs(u64::MAX))
            .last()
            .map(|answer| answer.by)
    }

    /// How many of the probes sent from `from` to `to` have not been answered.
    #[must_use]
    pub fn unanswered(&self, from: MonoNs, to: MonoNs) -> usize {
        let answers = self.answers(from, MonoNs(u64::MAX));
        let answered: BTreeSet<u64> = answers.iter().map(|answer| answer.probe).collect();
        (0..)
            .zip(lock(&self.shared.sent).iter())
            .filter(|(probe, at)| (from..to).contains(*at) && !answered.contains(probe))
            .count()
    }

    /// The longest gap between two consecutive answers that ended between `from` and `to`. It may have
    /// begun before: a fault at `from` leaves no answer after it.
    pub fn longest_gap(&self, from: MonoNs, to: MonoNs) -> Result<Gap> {
        let answers = self.answers(MonoNs::ZERO, to);
        let longest = answers
            .windows(2)
            .filter_map(|pair| match pair {
                [before, after] if after.at >= from => Some(Gap {
                    before: *before,
                    after: *after,
                }),
                _ => None,
            })
            .max_by_key(Gap::length);
        match longest {
            Some(gap) => Ok(gap),
            None => bail!("no answer followed another: there is no gap to measure"),
        }
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.capture.clear();
    }

    /// Frames that were missed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.capture.lost()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a node for the VIP straight at its Ethernet address, whatever the neighbour tables say.
pub struct DirectProber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl DirectProber {
    /// Between two requests.
    pub const PERIOD: Nanos = Nanos::from_millis(1);

    /// Starts to send echo requests for `vip` to `station`, and ARP requests for `vip` to everybody.
    pub fn start(client: &Client, vip: Ipv4Addr, station: Mac) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let socket = client
            .ns()
            .enter(|| sys::packet_socket(client.interface()))?
            .context("opening a packet socket")?;
        let from = (client.mac(), client.address());
        let thread = std::thread::spawn(move || {
            let mut due = clock::now();
            while !for_thread.stop.load(Ordering::Relaxed) {
                due = due.after(Self::PERIOD);
                clock::sleep_until(due);
                // A full queue loses one request of a thousand a second.
                let _ = socket.send(&frame::echo_request_frame(from, (station, vip), u64::MAX));
                let _ = socket.send(&frame::arp_request_frame(from, vip));
            }
            Ok(())
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for DirectProber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

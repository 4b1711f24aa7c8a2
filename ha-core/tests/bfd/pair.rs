//! Two sessions against each other, on one clock and over a network that delays, reorders and loses.

use std::{collections::BTreeMap, num::NonZeroU32};

use ha_common::{
    MonoNs, Nanos,
    wire::bfd::{Payload, Sha1, State},
};
use ha_core::bfd::{Action, Auth, Input, Key, Session, SessionConfig};
use proptest::prelude::*;

use crate::peer::{config, ms};

/// Numbers that look random, each run of a seed the same (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default()
    }

    fn below(&mut self, limit: u64) -> u64 {
        (u64::from(self.next()) * limit) >> 32
    }
}

/// What the network does to packets.
#[derive(Clone, Copy, Debug)]
struct Faults {
    /// In 1,000 packets.
    lost: u64,
    /// Packets of one direction lost in a row, at most.
    lost_in_a_row: u32,
    /// Nanoseconds, at most.
    delay: u64,
    /// Whether a packet may overtake another one.
    reorders: bool,
    /// Nobody hears anybody.
    cut: bool,
}

const NONE: Faults = Faults {
    lost: 0,
    lost_in_a_row: 0,
    delay: 200_000,
    reorders: false,
    cut: false,
};

struct Pair {
    sessions: [Session; 2],
    now: MonoNs,
    numbers: Numbers,
    /// By arrival: to whom, and what.
    wire: BTreeMap<(MonoNs, u64), (usize, Payload)>,
    count: u64,
    losses: [u32; 2],
    arrivals: [MonoNs; 2],
    faults: Faults,
    downs: u32,
    /// Each packet of a session, with when it was sent.
    sent: [Vec<MonoNs>; 2],
}

impl Pair {
    fn new(seed: u64, auth: Option<Auth>, intervals_us: [u32; 2]) -> Self {
        let now = MonoNs(1_000_000_000_000);
        let mut numbers = Numbers(seed);
        let mut session = |which: u32, interval_us: u32| {
            let config = SessionConfig {
                local_discriminator: NonZeroU32::new(which + 1).expect("not 0"),
                desired_min_tx_us: interval_us,
                required_min_rx_us: interval_us,
                auth: auth.clone(),
                ..config()
            };
            Session::new(config, now, numbers.next())
        };
        Self {
            sessions: [session(0, intervals_us[0]), session(1, intervals_us[1])],
            now,
            numbers,
            wire: BTreeMap::new(),
            count: 0,
            losses: [0; 2],
            arrivals: [MonoNs::ZERO; 2],
            faults: NONE,
            downs: 0,
            sent: [Vec::new(), Vec::new()],
        }
    }

    fn run(&mut self, span: Nanos) {
        let end = self.now.after(span);
        // A livelock shows as steps without end.
        for _ in 0..200_000 {
            let timer = (0..2)
                .filter_map(|which| Some((self.sessions[which].poll_timeout()?, which)))
                .min();
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let next = [timer.map(|(at, _)| at), arrival]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            let random = self.numbers.next();
            if arrival == Some(next) {
                let (_, (which, payload)) = self.wire.pop_first().expect("it is there");
                let input = Input::Packet {
                    payload,
                    received_at: self.now,
                };
                self.sessions[which].handle(input, self.now, random);
                self.act(which);
            } else if let Some((_, which)) = timer {
                self.sessions[which].handle_timeout(self.now, random);
                self.act(which);
            }
        }
        panic!("no end of steps at {:?}", self.now);
    }

    fn act(&mut self, which: usize) {
        while let Some(action) = self.sessions[which].poll_action() {
            match action {
                Action::Transmit(payload) => {
                    self.sent[which].push(self.now);
                    self.send(which, payload);
                }
                Action::Report(change) if change.from == State::Up => self.downs += 1,
                _ => {}
            }
        }
    }

    fn send(&mut self, from: usize, payload: Payload) {
        let faults = self.faults;
        let unlucky =
            self.numbers.below(1_000) < faults.lost && self.losses[from] < faults.lost_in_a_row;
        if faults.cut || unlucky {
            self.losses[from] += 1;
            return;
        }
        self.losses[from] = 0;
        let delay = Nanos(self.numbers.below(faults.delay + 1));
        let mut arrival = self.now.after(delay);
        if !faults.reorders {
            arrival = arrival.max(self.arrivals[from]);
        }
        self.arrivals[from] = arrival;
        self.count += 1;
        self.wire.insert((arrival, self.count), (1 - from, payload));
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|which| self.sessions[which].status().state)
    }
}

fn secret(kind: Option<Sha1>) -> Option<Auth> {
    Some(Auth {
        kind: kind?,
        key_id: 1,
        key: Key::new(b"between the two")?,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// They come up, stay up as long as fewer than Detect Mult packets in a row are lost, notice a cut
    /// within the Detection Time, and come up again.
    #[test]
    fn sessions_come_up_stay_up_and_come_back(
        seed: u64,
        ours_us in 1_000_u32..50_000,
        theirs_us in 1_000_u32..50_000,
        lost in 0_u64..300,
        kind in prop_oneof![Just(None), Just(Some(Sha1::Keyed)), Just(Some(Sha1::Meticulous))],
    ) {
        let mut pair = Pair::new(seed, secret(kind), [ours_us, theirs_us]);
        pair.run(Nanos::from_secs(3));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        let slowest = Nanos::from_micros(u64::from(ours_us.max(theirs_us)));
        for session in &pair.sessions {
            let status = session.status();
            prop_assert_eq!(status.transmit_interval, slowest);
            prop_assert_eq!(status.detection_time, slowest.times(3));
        }

        // Jitter leaves room for the delay: the third packet comes at 2.25 to 3 intervals.
        pair.faults = Faults { lost, lost_in_a_row: 1, delay: slowest.0 / 4, ..NONE };
        pair.run(slowest.times(200));
        prop_assert_eq!((pair.states(), pair.downs), ([State::Up; 2], 0));

        pair.faults = Faults { cut: true, ..NONE };
        pair.run(slowest.times(3).plus(Nanos(slowest.0 / 4)));
        prop_assert_eq!(pair.states(), [State::Down; 2]);

        pair.faults = NONE;
        pair.run(Nanos::from_secs(3));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        prop_assert_eq!(pair.downs, 2);
    }

    /// However bad the network: no livelock, no more packets than one an interval and one for each that
    /// was heard, and when it heals both are Up.
    #[test]
    fn any_network_heals(seed: u64, phases in prop::collection::vec((0_u64..1_001, 0_u64..50_000_000, any::<bool>()), 1..8)) {
        let mut pair = Pair::new(seed, secret(Some(Sha1::Meticulous)), [10_000; 2]);
        for (lost, delay, cut) in phases {
            pair.faults = Faults { lost, lost_in_a_row: u32::MAX, delay, reorders: true, cut };
            pair.run(ms(700));
        }
        pair.faults = NONE;
        pair.run(Nanos::from_secs(7));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        let span = 700 * 8 + 7_000;
        for sent in &pair.sent {
            prop_assert!(sent.len() < 3 * span / 7, "{} packets", sent.len());
        }
    }
}

/// Each gap between two periodic packets is 75 to 100 % of the interval.
#[test]
fn the_pace_is_even() {
    let mut pair = Pair::new(7, None, [10_000; 2]);
    pair.run(Nanos::from_secs(3));
    let settled = pair.now;
    pair.run(Nanos::from_secs(2));
    for sent in &pair.sent {
        let steady: Vec<&MonoNs> = sent.iter().filter(|at| **at > settled).collect();
        let gaps: Vec<Nanos> = steady.windows(2).map(|two| two[1].since(*two[0])).collect();
        assert!(gaps.len() > 190, "{}", gaps.len());
        for gap in gaps {
            assert!(gap >= Nanos(7_500_000) && gap <= ms(10), "{gap}");
        }
    }
}

//! What the nodes track, and when it fails and recovers.

use std::{
    string::{String, ToString as _},
    vec::Vec,
};

use ha_common::Nanos;

use super::{Class, Fault, MS, Scenario};
use crate::{
    EngineConfig,
    sim::rng::Rng,
    tracking::{Effect, Source, Track, TrackedConfig},
};

/// The checks, by name.
const CHECKS: [&str; 3] = ["service", "load", "gateway"];

/// Within which the gateway answers whoever asks.
pub(crate) const ANSWER: Nanos = Nanos::from_millis(50);

/// A question that was lost before everything was put right is asked again after that, and answered.
const ASKED_AGAIN: u64 = 2 * ANSWER.0 + 2_000 * MS;

/// Its source.
pub(crate) fn check(index: usize) -> Source {
    Source::Check(CHECKS[index].to_string())
}

/// The index of a source.
pub(crate) fn index(source: &Source) -> Option<usize> {
    (0..CHECKS.len()).find(|index| check(*index) == *source)
}

impl Scenario {
    /// How many checks each node has.
    pub(crate) fn checks(&self) -> usize {
        let checks = self.nodes.iter().map(|node| node.config.tracked.len());
        checks.max().unwrap_or(0)
    }

    /// In some runs all nodes track a service that is a must, one that weighs, and a gateway that arbitrates. To be
    /// called last: everything else of the scenario stays as it is without.
    pub(super) fn draw_tracking(&mut self, rng: &mut Rng) {
        let fixed = matches!(self.class, Class::Calm | Class::BoundedLoss);
        let is_quiet = match self.trouble {
            Some(_) => self.nobody_moves(),
            None => fixed,
        };
        if is_quiet || !rng.chance(400) {
            return;
        }
        let weight = i16::try_from(rng.between(1, 253)).unwrap_or(1);
        let effects = [Effect::Veto, Effect::Weight(-weight), Effect::Arbitrate];
        let tracks: Vec<Track> = effects
            .into_iter()
            .enumerate()
            .filter(|_| rng.chance(700))
            .map(|(index, effect)| Track {
                source: check(index),
                effect,
            })
            .collect();
        let reloads = self.faults.iter_mut().filter_map(|(_, fault)| match fault {
            Fault::Reload { config, .. } => Some(config),
            _ => None,
        });
        let nodes = self.nodes.iter_mut().map(|node| &mut node.config);
        for config in nodes.chain(reloads) {
            track(config, &tracks);
        }
        let from = self.settled_after_start().min(self.quiet_at / 2);
        for _ in 0..rng.between(1, 24) {
            let at = rng.between(from, self.quiet_at - 1);
            self.faults.push((
                at,
                Fault::Check {
                    node: rng.index(self.nodes.len()),
                    check: rng.pick(&[0, 1, 1, 1, 2]),
                    up: rng.chance(500),
                },
            ));
        }
        self.faults.sort_by_key(|(at, _)| *at);
        for node in 0..self.nodes.len() {
            for check in 0..CHECKS.len() {
                let up = Fault::Check {
                    node,
                    check,
                    up: true,
                };
                self.faults.push((self.quiet_at, up));
            }
        }
        for deadline in [&mut self.served_by, &mut self.settled_by, &mut self.end_at] {
            *deadline += ASKED_AGAIN;
        }
    }
}

pub(super) fn track(config: &mut EngineConfig, tracks: &[Track]) {
    config.tracked = (0..CHECKS.len())
        .map(|index| TrackedConfig {
            source: check(index),
            up_delay: Nanos::ZERO,
            down_delay: Nanos::ZERO,
            damping: Nanos::ZERO,
            interval: Nanos::from_millis(20),
            timeout: ANSWER,
        })
        .collect();
    for instance in &mut config.instances {
        // The owner of the addresses has no weights.
        let owner = instance.priority == ha_common::Priority::OWNER;
        let fits = |track: &&Track| !owner || !matches!(track.effect, Effect::Weight(_));
        instance.track = tracks.iter().filter(fits).cloned().collect();
    }
}

/// In words.
pub(crate) fn describe(index: usize) -> String {
    check(index).to_string()
}

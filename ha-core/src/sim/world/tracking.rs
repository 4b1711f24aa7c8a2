//! The checks of a node: told when they fail and recover, and asked.

use std::{format, string::String};

use ha_common::MonoNs;

use super::super::scenario::tracking::{ANSWER, check, describe, index};
use super::{Event, Word, World};
use crate::{
    Input,
    check::Health,
    tracking::{Reading, Source},
};

/// Answers of 1000 that are lost, until everything is put right.
const LOST: u64 = 600;

impl World {
    /// A check fails, or recovers.
    pub(crate) fn check_is(&mut self, node: usize, check: usize, up: bool) {
        self.nodes[node].checks[check] = up;
        self.tell_check(node, check);
    }

    /// Tells a node's process what its checks found.
    pub(super) fn tell_checks(&mut self, node: usize) {
        for check in 0..self.scenario.checks() {
            self.tell_check(node, check);
        }
    }

    fn tell_check(&mut self, node: usize, index: usize) {
        let health = if self.nodes[node].checks[index] {
            Health::Up
        } else {
            Health::Down
        };
        let reading = Reading {
            health,
            count: 0,
            why: String::from("no answer"),
        };
        let source = check(index);
        self.tell(node, Word::Input(Input::Tracked { source, reading }));
    }

    /// Somebody asks a check; that it answers is not certain.
    pub(crate) fn ask_check(&mut self, node: usize, source: &Source, round: MonoNs) {
        let Some(check) = index(source) else {
            return;
        };
        self.say(|| format!("node{node} asks {}", describe(check)));
        if self.now < self.scenario.quiet_at && self.rng.chance(LOST) {
            return;
        }
        let at = self.now + self.rng.between(0, ANSWER.0);
        let boot = self.nodes[node].boot;
        self.at(
            at,
            Event::Answer {
                node,
                boot,
                check,
                round,
            },
        );
    }

    pub(super) fn answer(&mut self, node: usize, boot: u64, index: usize, round: MonoNs) {
        let machine = &self.nodes[node];
        if machine.process.is_none() || machine.boot != boot {
            return;
        }
        let result = if machine.checks[index] {
            Ok(())
        } else {
            Err(String::from("no answer"))
        };
        let confirmed = Input::Confirmed {
            source: check(index),
            round,
            result,
        };
        self.tell(node, Word::Input(confirmed));
    }
}

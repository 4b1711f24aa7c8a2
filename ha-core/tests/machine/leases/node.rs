//! A node with one peer, driven by hand: the engine, and what its kernel would hold.

use ha_common::{
    MonoNs, Nanos,
    lease::{Ask, Promise},
};
use ha_core::{
    Action, Alone, Cause, EngineConfig, Input, InstanceConfig, LeaseView, LeaseViews, PathConfig,
    State,
};

use super::{LEASE, PATH, PEER, with_leases};
use crate::driver::*;

/// An engine, and what its kernel holds about its only peer.
pub(crate) struct Node {
    pub(crate) driver: Driver,
    pub(crate) view: LeaseView,
    /// Whether the peer is there and grants what is asked.
    pub(crate) grants: bool,
    pub(crate) done: Vec<Action>,
}

impl Node {
    pub(crate) fn backup(alone: Alone) -> Self {
        Self::backup_with(alone, &[PATH])
    }

    pub(crate) fn backup_with(alone: Alone, paths: &[PathConfig]) -> Self {
        Self::with(with_leases(alone, paths))
    }

    pub(crate) fn with(instance: InstanceConfig) -> Self {
        Self::of(config(vec![instance]))
    }

    pub(crate) fn of(config: EngineConfig) -> Self {
        let mut node = Self {
            driver: Driver::backup_of(config),
            view: LeaseView::default(),
            grants: false,
            done: Vec::new(),
        };
        node.input(Input::PathHeard {
            path: PATH.id,
            heard_at: node.driver.now,
            round_trip: Some(Nanos::from_micros(50)),
        });
        node
    }

    /// A Backup whose peer has just asked for the last time.
    pub(crate) fn bereaved() -> Self {
        let mut node = Self::backup(Alone::Serve);
        node.driver.hear(PEER, 200);
        node.asked();
        node
    }

    pub(crate) fn active() -> Self {
        let mut node = Self::bereaved();
        node.grants = true;
        node.silence();
        node.run_for(Nanos::ZERO);
        assert_eq!(node.driver.state(), State::Active);
        node.done.clear();
        node
    }

    pub(crate) fn now(&self) -> MonoNs {
        self.driver.now
    }

    /// The peer's request to hold the instance is granted; the kernel does not say so.
    pub(crate) fn holds(&mut self) {
        let now = self.now();
        self.view.heard_at = now;
        self.view.asked_at = now;
        self.view.promised_until = Promise::default().granted(now, LEASE).ends();
    }

    /// The peer asks to hold the instance, and is granted it.
    pub(crate) fn asked(&mut self) {
        self.holds();
        self.input(Input::Asked {
            instance: ID,
            peer: 0,
            ask: Ask::Hold,
        });
    }

    /// The promise runs out, and the kernel says so.
    pub(crate) fn silence(&mut self) {
        self.driver.now = self.view.promised_until;
        self.input(Input::LeaseSilence { instance: ID });
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.read();
        self.driver.input(input);
        self.carry_out();
    }

    pub(crate) fn read(&mut self) {
        let mut views = LeaseViews::default();
        views[0] = self.view;
        let now = self.now();
        self.driver.engine.read_leases(ID, &views, now);
    }

    pub(crate) fn carry_out(&mut self) {
        while let Some(action) = self.driver.engine.poll_action() {
            self.done.push(action.clone());
            let now = self.now();
            let outcome = match action {
                Action::Act { instance } => {
                    let result = if self.view.promised_until > now {
                        Err(self.view.promised_until)
                    } else {
                        self.view.promised_until = MonoNs::ZERO;
                        Ok(())
                    };
                    Input::Acted { instance, result }
                }
                Action::SendEcho { path, round } => {
                    if self.grants {
                        self.view.heard_at = now;
                        self.view.deadline = round.after(LEASE);
                        self.view.self_renewed = false;
                    }
                    Input::EchoSent {
                        path,
                        round,
                        result: Ok(()),
                    }
                }
                Action::RenewAlone { lease, .. } => {
                    self.view.deadline = lease.deadline();
                    self.view.self_renewed = true;
                    self.read();
                    continue;
                }
                Action::SetEpoch { .. } => {
                    self.view.deadline = MonoNs::ZERO;
                    continue;
                }
                Action::SendAdvert {
                    instance, round, ..
                } => Input::AdvertSent {
                    instance,
                    round,
                    result: Ok(()),
                },
                Action::AddVips { instance } => Input::VipsAdded {
                    instance,
                    result: Ok(()),
                },
                _ => continue,
            };
            self.read();
            self.driver.input(outcome);
        }
    }

    /// To the next timer, and serves it.
    pub(crate) fn tick(&mut self) {
        let (due, _) = self.driver.engine.poll_timeout().expect("a timer runs");
        self.driver.now = self.driver.now.max(due);
        let now = self.now();
        self.read();
        self.driver.engine.handle_timeout(now);
        self.carry_out();
    }

    pub(crate) fn run_for(&mut self, span: Nanos) {
        let end = self.now().after(span);
        while self
            .driver
            .engine
            .poll_timeout()
            .is_some_and(|(due, _)| due <= end)
        {
            self.tick();
        }
        self.driver.now = end;
    }

    pub(crate) fn echoes(&self) -> usize {
        let echo = |action: &&Action| matches!(action, Action::SendEcho { .. });
        self.done.iter().filter(echo).count()
    }

    pub(crate) fn adverts(&self) -> usize {
        let advert = |action: &&Action| matches!(action, Action::SendAdvert { .. });
        self.done.iter().filter(advert).count()
    }

    /// What an operator reads of it.
    pub(crate) fn told(&self) -> Vec<&Action> {
        let told = |action: &&Action| matches!(action, Action::Report(_) | Action::Note { .. });
        self.done.iter().filter(told).collect()
    }

    pub(crate) fn cause(&self) -> Cause {
        self.driver.status_of(ID).cause
    }
}

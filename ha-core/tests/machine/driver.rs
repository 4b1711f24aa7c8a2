//! A shell for one engine: a clock that is set by hand, and outcomes that are handed in by hand.

use std::net::{IpAddr, Ipv4Addr};

use ha_common::{MonoNs, Nanos, Priority, Vrid, gate::Epoch};
use ha_core::{
    Action, Advert, AnnounceConfig, Cause, Engine, EngineConfig, GroupConfig, Input,
    InstanceConfig, InstanceId, InterfaceCondition, Mode, State, Version,
};

pub(crate) const ID: InstanceId = InstanceId(0);
pub(crate) const INTERVAL: Nanos = Nanos::from_millis(10);
/// Priority 100 at 10 ms: 30 ms and 6.09375 ms of Skew_Time.
pub(crate) const DOWN: Nanos = Nanos(36_093_750);
pub(crate) const START: MonoNs = MonoNs(1_000_000_000);

pub(crate) fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, 33, last))
}

pub(crate) fn instance(id: u32) -> InstanceConfig {
    InstanceConfig {
        id: InstanceId(id),
        name: format!("vr{id}"),
        group: None,
        version: Version::V3,
        vrid: Vrid::new(51).expect("51 is a VRID"),
        priority: Priority(100),
        preempt: true,
        preempt_delay: Nanos::ZERO,
        advert_interval: INTERVAL,
        sole_peer: false,
        vips: 1,
        announce: AnnounceConfig {
            count: 1,
            interval: Nanos::ZERO,
            repeat_after: Nanos::ZERO,
            refresh: Nanos::ZERO,
        },
        channels: Vec::new(),
        lease: None,
        track: Vec::new(),
        link_delays: ha_core::LinkDelays::default(),
        adopted_epoch: Epoch(6),
    }
}

pub(crate) fn config(instances: Vec<InstanceConfig>) -> EngineConfig {
    EngineConfig {
        start_delay: Nanos::ZERO,
        instances,
        groups: vec![GroupConfig {
            name: String::from("db"),
            track: Vec::new(),
            roles: None,
        }],
        tracked: Vec::new(),
        mode: Mode::default(),
        kernel_watch: false,
    }
}

pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) now: MonoNs,
}

impl Driver {
    pub(crate) fn new(config: EngineConfig) -> Self {
        Self {
            engine: Engine::new(config, START),
            now: START,
        }
    }

    /// One instance, its interface ready, in Backup; what happened so far is thrown away.
    pub(crate) fn backup(instance: InstanceConfig) -> Self {
        Self::backup_of(config(vec![instance]))
    }

    pub(crate) fn backup_of(config: EngineConfig) -> Self {
        let ids: Vec<InstanceId> = config.instances.iter().map(|one| one.id).collect();
        let mut driver = Self::new(config);
        for id in ids {
            driver.ready(id);
        }
        driver.take();
        driver
    }

    /// As [`Self::backup`], and then Active through silence, with no timer due.
    pub(crate) fn active(instance: InstanceConfig) -> Self {
        let mut driver = Self::backup(instance);
        driver.silence();
        driver.settle();
        assert_eq!(driver.state(), State::Active);
        driver
    }

    pub(crate) fn ready(&mut self, instance: InstanceId) {
        self.input(Input::Interface {
            instance,
            condition: InterfaceCondition::Ready {
                source: address(101),
            },
        });
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle(input, self.now);
    }

    pub(crate) fn after(&mut self, span: Nanos) -> &mut Self {
        self.now = self.now.after(span);
        self
    }

    pub(crate) fn take(&mut self) -> Vec<Action> {
        core::iter::from_fn(|| self.engine.poll_action()).collect()
    }

    /// To the next timer, and serves it.
    pub(crate) fn tick(&mut self) -> Vec<Action> {
        let (due, _) = self.engine.poll_timeout().expect("a timer runs");
        self.now = self.now.max(due);
        self.engine.handle_timeout(self.now);
        self.take()
    }

    /// Lets the Active_Down_Interval pass.
    pub(crate) fn silence(&mut self) {
        let before = self.state();
        for _ in 0..4 {
            if self.state() != before {
                return;
            }
            let (due, _) = self.engine.poll_timeout().expect("a timer runs");
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
        }
        assert_ne!(self.state(), before);
    }

    /// Carries out every action with success, and returns them in order.
    pub(crate) fn settle(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = self.engine.poll_action() {
            match &action {
                Action::SendAdvert {
                    instance, round, ..
                } => self.input(Input::AdvertSent {
                    instance: *instance,
                    round: *round,
                    result: Ok(()),
                }),
                Action::AddVips { instance } => self.input(Input::VipsAdded {
                    instance: *instance,
                    result: Ok(()),
                }),
                Action::Announce { instance, .. } => self.input(Input::Announced {
                    instance: *instance,
                    result: Ok(()),
                }),
                _ => {}
            }
            done.push(action);
        }
        done
    }

    pub(crate) fn hear(&mut self, sender: u8, priority: u8) {
        self.hear_from(ID, sender, priority);
    }

    pub(crate) fn hear_from(&mut self, instance: InstanceId, sender: u8, priority: u8) {
        self.hear_advert(instance, advert(sender, priority));
    }

    pub(crate) fn hear_advert(&mut self, instance: InstanceId, advert: Advert) {
        let received_at = self.now;
        self.input(Input::Advert {
            instance,
            advert,
            received_at,
        });
    }

    pub(crate) fn state(&self) -> State {
        self.state_of(ID)
    }

    pub(crate) fn state_of(&self, id: InstanceId) -> State {
        self.status_of(id).state
    }

    pub(crate) fn status_of(&self, id: InstanceId) -> ha_core::InstanceStatus {
        self.engine
            .status(self.now)
            .into_iter()
            .find(|status| status.instance == id)
            .expect("the instance is configured")
    }
}

/// An advert of another `had`, every 10 ms.
pub(crate) fn advert(sender: u8, priority: u8) -> Advert {
    Advert {
        sender: address(sender),
        priority: Priority(priority),
        interval: INTERVAL,
        from_had: true,
    }
}

pub(crate) fn foreign(sender: u8, priority: u8) -> Advert {
    Advert {
        from_had: false,
        ..advert(sender, priority)
    }
}

/// The states and causes of the transitions among the actions.
pub(crate) fn transitions(actions: &[Action]) -> Vec<(State, State, Cause)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Report(transition) => {
                Some((transition.from, transition.to, transition.cause.clone()))
            }
            _ => None,
        })
        .collect()
}

/// Everything but reports and notes.
pub(crate) fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Report(_) | Action::Note { .. }))
        .collect()
}

pub(crate) fn notes(actions: &[Action]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Note { sentence, .. } => Some(sentence.as_str()),
            _ => None,
        })
        .collect()
}

impl Driver {
    /// To the next timer, serves it, and carries out everything with success.
    pub(crate) fn tick_and_settle(&mut self) -> Vec<Action> {
        let (due, _) = self.engine.poll_timeout().expect("a timer runs");
        self.now = self.now.max(due);
        self.engine.handle_timeout(self.now);
        self.settle()
    }
}

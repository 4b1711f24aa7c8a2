//! Random sequences of inputs: what must hold after each.

use std::collections::BTreeMap;

use ha_common::{
    MonoNs, Nanos, Priority,
    gate::{self, Epoch},
};
use ha_core::{Action, EngineConfig, Input, InstanceId, InterfaceCondition, State, Target};
use proptest::prelude::*;

use crate::driver::*;

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Timeout,
    Advert {
        instance: u32,
        sender: u8,
        priority: u8,
        had: bool,
        age: u64,
    },
    Heard {
        instance: u32,
        age: u64,
    },
    Silence {
        instance: u32,
        age: u64,
    },
    Interface {
        instance: u32,
        ready: bool,
    },
    VipLost(u32),
    Reattached(u32),
    Switchover(u32),
    Reload {
        priority: u8,
        interval: u64,
        preempt: bool,
    },
    FailSends(bool),
    FailVips(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let id = 0..3_u32;
    let op = prop_oneof![
        4 => (0..12_000_000_u64).prop_map(Op::Wait),
        1 => (0..60_000_000_u64).prop_map(Op::Wait),
        6 => Just(Op::Timeout),
        4 => (id.clone(), prop_oneof![Just(99_u8), Just(102), Just(103)],
              prop_oneof![Just(0_u8), Just(50), Just(100), Just(150)], any::<bool>(), 0..20_000_000_u64)
            .prop_map(|(instance, sender, priority, had, age)| Op::Advert { instance, sender, priority, had, age }),
        1 => (id.clone(), 0..40_000_000_u64).prop_map(|(instance, age)| Op::Heard { instance, age }),
        1 => (id.clone(), 0..90_000_000_u64).prop_map(|(instance, age)| Op::Silence { instance, age }),
        1 => (id.clone(), any::<bool>()).prop_map(|(instance, ready)| Op::Interface { instance, ready }),
        1 => id.clone().prop_map(Op::VipLost),
        1 => id.clone().prop_map(Op::Reattached),
        1 => id.prop_map(Op::Switchover),
        1 => (prop_oneof![Just(100_u8), Just(200), Just(50)], 1..4_u64, any::<bool>())
            .prop_map(|(priority, interval, preempt)| Op::Reload { priority, interval, preempt }),
        1 => any::<bool>().prop_map(Op::FailSends),
        1 => any::<bool>().prop_map(Op::FailVips),
    ];
    prop::collection::vec(op, 1..200)
}

/// Three instances, two of them in a group.
fn three(kernel_watch: bool) -> EngineConfig {
    let mut instances: Vec<_> = (0..3).map(instance).collect();
    instances[1].group = Some(0);
    instances[2].group = Some(0);
    EngineConfig {
        kernel_watch,
        ..config(instances)
    }
}

/// The kernel's words, and what was seen so far.
#[derive(Default)]
struct Witness {
    epochs: BTreeMap<u32, Epoch>,
    /// Until when adverts that were sent keep the gate open.
    covered: BTreeMap<u32, MonoNs>,
    fail_sends: bool,
    fail_vips: bool,
}

impl Witness {
    fn settle(&mut self, driver: &mut Driver) {
        let mut steps = 0;
        while let Some(action) = driver.engine.poll_action() {
            steps += 1;
            assert!(steps < 1_000, "one call leaves a bounded number of actions");
            self.carry_out(driver, action);
        }
    }

    fn carry_out(&mut self, driver: &mut Driver, action: Action) {
        let failure = |fails: bool| {
            if fails {
                Err(String::from("no"))
            } else {
                Ok(())
            }
        };
        match action {
            Action::SetEpoch { instance, epoch } => {
                let before = self.epochs.insert(instance.0, epoch);
                let expected = before.unwrap_or(Epoch(6)).raised();
                assert_eq!(
                    epoch, expected,
                    "an epoch is raised by one, and never used again"
                );
            }
            Action::SetLease {
                instance, lease, ..
            } => {
                assert_eq!(driver.state_of(instance), State::Active);
                assert_eq!(Some(&lease.epoch()), self.epochs.get(&instance.0));
                let covered = self.covered.get(&instance.0).copied().unwrap_or_default();
                assert!(lease.deadline() <= covered, "an advert covers the lease");
                assert!(gate::is_open(lease.epoch(), Epoch::NONE, lease, driver.now));
            }
            Action::SendAdvert {
                instance,
                priority,
                interval,
                round,
            } => {
                if priority != Priority::RELEASE {
                    assert!(matches!(
                        driver.state_of(instance),
                        State::Promoting | State::Active
                    ));
                    if !self.fail_sends {
                        self.covered
                            .insert(instance.0, round.after(interval.times(3)));
                    }
                }
                let result = failure(self.fail_sends);
                driver.input(Input::AdvertSent {
                    instance,
                    round,
                    result,
                });
            }
            Action::Stand { .. }
            | Action::Act { .. }
            | Action::LetGo { .. }
            | Action::SendEcho { .. }
            | Action::SendRelease { .. }
            | Action::RenewAlone { .. }
            | Action::Confirm { .. }
            | Action::PathReport { .. }
            | Action::PromoteRoles { .. }
            | Action::DemoteRoles { .. }
            | Action::Alarm { .. } => panic!("no instance here relies on that: {action:?}"),
            Action::AddVips { instance } => {
                let result = failure(self.fail_vips);
                driver.input(Input::VipsAdded { instance, result });
            }
            Action::Announce { instance, .. } => {
                assert_eq!(driver.state_of(instance), State::Active);
                driver.input(Input::Announced {
                    instance,
                    result: Ok(()),
                });
            }
            Action::Report(transition) => assert_ne!(transition.from, transition.to),
            Action::Note { sentence, .. } => assert!(!sentence.is_empty()),
            Action::SetRank { .. }
            | Action::Watch { .. }
            | Action::RemoveVips { .. }
            | Action::Finished => {}
        }
    }

    fn apply(&mut self, driver: &mut Driver, op: Op, kernel_watch: bool) {
        let now = driver.now;
        match op {
            Op::Wait(span) => {
                driver.after(Nanos(span));
            }
            Op::Timeout => driver.engine.handle_timeout(now),
            Op::Advert {
                instance,
                sender,
                priority,
                had,
                age,
            } => {
                let mut advert = advert(sender, priority);
                advert.from_had = had;
                driver.input(Input::Advert {
                    instance: InstanceId(instance),
                    advert,
                    received_at: now.before(Nanos(age)),
                });
            }
            Op::Heard { instance, age } => driver.input(Input::Heard {
                instance: InstanceId(instance),
                received_at: now.before(Nanos(age)),
            }),
            Op::Silence { instance, age } => driver.input(Input::Silence {
                instance: InstanceId(instance),
                last_received_at: now.before(Nanos(age)),
            }),
            Op::Interface {
                instance,
                ready: true,
            } => driver.ready(InstanceId(instance)),
            Op::Interface {
                instance,
                ready: false,
            } => driver.input(Input::Interface {
                instance: InstanceId(instance),
                condition: InterfaceCondition::Down,
            }),
            Op::VipLost(instance) => driver.input(Input::VipLost {
                instance: InstanceId(instance),
            }),
            Op::Reattached(instance) => driver.input(Input::Reattached {
                instance: InstanceId(instance),
            }),
            Op::Switchover(instance) => {
                driver.input(Input::Switchover(Target::Instance(InstanceId(instance))));
            }
            Op::Reload {
                priority,
                interval,
                preempt,
            } => {
                let mut config = three(kernel_watch);
                for instance in &mut config.instances {
                    instance.priority = Priority(priority);
                    instance.advert_interval = INTERVAL.times(interval);
                    instance.preempt = preempt;
                }
                driver.input(Input::Reconfigure(config));
            }
            Op::FailSends(fails) => self.fail_sends = fails,
            Op::FailVips(fails) => self.fail_vips = fails,
        }
    }
}

proptest! {
    #[test]
    fn nothing_breaks_the_engine(ops in ops(), kernel_watch in any::<bool>()) {
        let mut driver = Driver::new(three(kernel_watch));
        let mut witness = Witness::default();
        for id in 0..3 {
            driver.ready(InstanceId(id));
        }
        witness.settle(&mut driver);
        for op in ops {
            witness.apply(&mut driver, op, kernel_watch);
            witness.settle(&mut driver);
            let status = driver.engine.status(driver.now);
            for one in &status {
                prop_assert!(!one.explanation.is_empty());
                prop_assert!(one.explanation.iter().all(|line| line.ends_with('.')));
            }
            // The group: all or none, but for a member that follows.
            let speaking = |index: usize| matches!(status[index].state, State::Promoting | State::Active);
            prop_assert_eq!(speaking(1), speaking(2));
        }
        // Left alone and able, it speaks in the end.
        witness.fail_sends = false;
        witness.fail_vips = false;
        for id in 0..3 {
            driver.ready(InstanceId(id));
        }
        for _ in 0..1_000 {
            if driver.engine.status(driver.now).iter().all(|one| one.state == State::Active) {
                break;
            }
            let (due, _) = driver.engine.poll_timeout().unwrap();
            driver.now = driver.now.max(due);
            driver.engine.handle_timeout(driver.now);
            witness.settle(&mut driver);
        }
        let status = driver.engine.status(driver.now);
        prop_assert!(status.iter().all(|one| one.state == State::Active), "{status:?}");
    }
}

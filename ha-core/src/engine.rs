//! The engine: routes inputs to instances, and moves the members of a group together.

use alloc::{format, vec::Vec};

use ha_common::{MonoNs, Priority, gate::Epoch};

use crate::{
    config::{EngineConfig, GroupConfig, InstanceConfig},
    event::{Action, Input, InstanceId, Target},
    explain,
    instance::{Departure, Instance, Verdict},
    outbox::Outbox,
    status::{Cause, InstanceStatus, State},
    timer::Timer,
};

/// Every decision of `had`, driven by the contract in the crate's documentation.
///
/// A *unit* is what moves together: the members of a group, or an instance that is in none. Members of
/// a group have the same priority and the same `preempt` (the configuration is refused otherwise):
/// with different ones, each member could wait for another for ever.
#[derive(Debug)]
pub struct Engine {
    instances: Vec<Instance>,
    groups: Vec<GroupConfig>,
    start_at: MonoNs,
    finished: bool,
    out: Outbox,
}

impl Engine {
    /// Starts. The first actions raise every epoch: nothing that an earlier daemon left can open.
    #[must_use]
    pub fn new(config: EngineConfig, now: MonoNs) -> Self {
        let mut out = Outbox::default();
        let start_at = now.after(config.start_delay);
        let instances = config
            .instances
            .into_iter()
            .map(|instance| Instance::new(instance, config.kernel_watch, start_at, now, &mut out))
            .collect();
        Self {
            instances,
            groups: config.groups,
            start_at,
            finished: false,
            out,
        }
    }

    /// Takes in something that happened. Poll the actions and the timeout afterwards.
    ///
    /// An input for an instance that is not configured does nothing.
    pub fn handle(&mut self, input: Input, now: MonoNs) {
        if self.finished {
            return;
        }
        let Some(id) = concerns(&input) else {
            self.step_down_late(now);
            return match input {
                Input::Switchover(target) => self.switch_over(&target, now),
                Input::Reconfigure(config) => self.reconfigure(config, now),
                _ => self.shut_down(now),
            };
        };
        let Some(index) = self.index(id) else {
            return;
        };
        for member in self.unit(index) {
            self.step_down_if_late(member, now);
        }
        let verdict = self.instances[index].handle(input, now, &mut self.out);
        self.apply(index, verdict, now);
        self.out.release_announcements(now);
    }

    /// Serves the timers that are due. Poll the actions and the timeout afterwards.
    ///
    /// Each timer is served once in a call; one that is due again at once is served by the next call.
    pub fn handle_timeout(&mut self, now: MonoNs) {
        if self.finished {
            return;
        }
        self.step_down_late(now);
        for index in 0..self.instances.len() {
            for timer in Timer::ALL {
                let instance = &mut self.instances[index];
                if let Some(due) = instance.timers.take_expired(timer, now) {
                    let verdict = instance.fire(timer, due, now, &mut self.out);
                    self.apply(index, verdict, now);
                }
            }
        }
        self.out.release_announcements(now);
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// When to call [`Self::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(MonoNs, Timer)> {
        if self.finished {
            return None;
        }
        self.instances
            .iter()
            .filter_map(|instance| instance.timers.next())
            .chain(
                self.out
                    .announcements_due()
                    .map(|due| (due, Timer::Announce)),
            )
            .min()
    }

    /// Every instance, with the reasons for its state. Hand in the latest stamps first.
    #[must_use]
    pub fn status(&self, now: MonoNs) -> Vec<InstanceStatus> {
        (0..self.instances.len())
            .map(|index| {
                let instance = &self.instances[index];
                let group = instance
                    .config
                    .group
                    .and_then(|group| self.groups.get(group));
                let mates: Vec<&Instance> = self
                    .unit(index)
                    .into_iter()
                    .filter(|mate| *mate != index)
                    .map(|mate| &self.instances[mate])
                    .collect();
                explain::status(instance, group, &mates, now)
            })
            .collect()
    }

    /// Breaks the rules named, to prove that the simulator's checkers notice.
    #[cfg(feature = "sim")]
    pub fn set_mutations(&mut self, mutations: crate::sim::Mutations) {
        for instance in &mut self.instances {
            instance.mutations = mutations;
        }
    }

    /// How an instance decided.
    #[cfg(feature = "sim")]
    pub(crate) fn state(&self, index: usize) -> State {
        self.instances[index].state
    }

    fn index(&self, id: InstanceId) -> Option<usize> {
        self.instances
            .iter()
            .position(|instance| instance.id() == id)
    }

    /// The members of an instance's unit, itself included.
    fn unit(&self, index: usize) -> Vec<usize> {
        match self.instances[index].config.group {
            None => alloc::vec![index],
            Some(group) => self.members(group),
        }
    }

    fn members(&self, group: usize) -> Vec<usize> {
        (0..self.instances.len())
            .filter(|index| self.instances[*index].config.group == Some(group))
            .collect()
    }

    fn apply(&mut self, index: usize, verdict: Verdict, now: MonoNs) {
        match verdict {
            Verdict::Stay => {}
            Verdict::Claim => self.promote(index, now),
            Verdict::Open => self.open(index, now),
            Verdict::Leave(departure) => self.demote(index, Some(departure), now),
            Verdict::Blocked => self.demote(index, None, now),
        }
    }

    /// Promotes a unit of which every member can be. One that joined an Active group later follows it.
    fn promote(&mut self, index: usize, now: MonoNs) {
        let unit = self.unit(index);
        let free = |member: &usize| {
            let instance = &self.instances[*member];
            instance.speaks() || instance.is_electable()
        };
        if !unit.iter().all(free) {
            return;
        }
        let elected: Vec<usize> = unit
            .into_iter()
            .filter(|member| !self.instances[*member].speaks())
            .collect();
        for member in &elected {
            self.instances[*member].promote(now, &mut self.out);
        }
        for member in &elected {
            self.instances[*member].prepare(&mut self.out);
        }
    }

    /// Opens the gates of a unit of which every member is ready.
    fn open(&mut self, index: usize, now: MonoNs) {
        let unit = self.unit(index);
        let ready = |member: &usize| {
            let instance = &self.instances[*member];
            instance.state == State::Active || instance.can_open(now)
        };
        if !unit.iter().all(ready) {
            return;
        }
        let opening: Vec<usize> = unit
            .into_iter()
            .filter(|member| self.instances[*member].state == State::Promoting)
            .collect();
        for member in &opening {
            self.instances[*member].open(now, &mut self.out);
        }
        for member in &opening {
            self.instances[*member].begin_announcing(now, &mut self.out);
        }
    }

    /// Lets a unit go because of one member: every gate is closed before anything else is done.
    /// Without a departure, that member itself does not speak.
    fn demote(&mut self, culprit: usize, departure: Option<Departure>, now: MonoNs) {
        let name = self.instances[culprit].config.name.clone();
        let unit = self.unit(culprit);
        if let Some(Departure {
            cause: Cause::PromotionFailed { .. },
            ..
        }) = departure
        {
            for member in &unit {
                self.instances[*member].hold_down(now);
            }
        }
        let mut leaving = Vec::with_capacity(unit.len());
        let mut departure = departure;
        for member in unit {
            let instance = &self.instances[member];
            if !instance.speaks() {
                continue;
            }
            let own = if member == culprit {
                departure.take()
            } else {
                instance.late(now)
            };
            let with_it = || Departure::to_backup(Cause::GroupMember { name: name.clone() });
            leaving.push((member, own.unwrap_or_else(with_it)));
        }
        self.leave(leaving, now);
    }

    fn leave(&mut self, leaving: Vec<(usize, Departure)>, now: MonoNs) {
        for (member, _) in &leaving {
            self.instances[*member].close(&mut self.out);
        }
        for (member, departure) in &leaving {
            if departure.farewell {
                self.instances[*member].send(Priority::RELEASE, now, &mut self.out);
            }
        }
        for (member, departure) in leaving {
            let instance = &mut self.instances[member];
            self.out.push(Action::RemoveVips {
                instance: instance.id(),
            });
            instance.depart(departure, now, &mut self.out);
        }
    }

    fn step_down_late(&mut self, now: MonoNs) {
        for index in 0..self.instances.len() {
            self.step_down_if_late(index, now);
        }
    }

    fn step_down_if_late(&mut self, index: usize, now: MonoNs) {
        if let Some(departure) = self.instances[index].late(now) {
            self.demote(index, Some(departure), now);
        }
    }

    fn switch_over(&mut self, target: &Target, now: MonoNs) {
        let unit = match target {
            Target::Instance(id) => self.index(*id).map_or_else(Vec::new, |at| self.unit(at)),
            Target::Group(group) => self.members(*group),
        };
        let mut leaving = Vec::new();
        for member in unit {
            let instance = &mut self.instances[member];
            if instance.speaks() {
                instance.yielded = true;
                leaving.push((member, Departure::to_backup(Cause::Switchover)));
            } else {
                instance.note(explain::nothing_to_hand_over(instance, now), &mut self.out);
            }
        }
        self.leave(leaving, now);
    }

    fn shut_down(&mut self, now: MonoNs) {
        for instance in &mut self.instances {
            instance.close(&mut self.out);
        }
        for instance in &self.instances {
            if instance.speaks() {
                instance.send(Priority::RELEASE, now, &mut self.out);
            }
        }
        for instance in &mut self.instances {
            self.out.push(Action::RemoveVips {
                instance: instance.id(),
            });
            instance.rest(State::Initialize, Cause::Shutdown, now, &mut self.out);
        }
        self.finished = true;
        self.out.finish();
    }

    fn reconfigure(&mut self, config: EngineConfig, now: MonoNs) {
        let epochs = self.remove_missing(&config.instances, now);
        let mut before = core::mem::take(&mut self.instances);
        let mut verdicts = Vec::new();
        self.groups = config.groups;
        for mut new in config.instances {
            let kept = before.iter().position(|old| old.config.name == new.name);
            let Some(mut instance) = kept.map(|at| before.swap_remove(at)) else {
                if let Some((_, epoch)) = epochs.iter().find(|(id, _)| *id == new.id) {
                    new.adopted_epoch = *epoch;
                }
                self.instances.push(Instance::new(
                    new,
                    config.kernel_watch,
                    self.start_at,
                    now,
                    &mut self.out,
                ));
                continue;
            };
            let verdict = instance.reconfigure(new, config.kernel_watch, now, &mut self.out);
            verdicts.push((self.instances.len(), verdict));
            self.instances.push(instance);
        }
        for (index, verdict) in verdicts {
            self.apply(index, verdict, now);
        }
    }

    /// Hands over what the new configuration no longer has, or has as another virtual router. Returns
    /// the epochs of what is gone: a slot that is used again continues from there.
    fn remove_missing(
        &mut self,
        configs: &[InstanceConfig],
        now: MonoNs,
    ) -> Vec<(InstanceId, Epoch)> {
        let is_kept = |instance: &Instance| {
            configs
                .iter()
                .any(|new| new.name == instance.config.name && !instance.is_other_router(new))
        };
        let leaving: Vec<usize> = (0..self.instances.len())
            .filter(|index| !is_kept(&self.instances[*index]))
            .collect();
        let departures = leaving
            .iter()
            .filter(|index| self.instances[**index].speaks())
            .map(|index| {
                let departure = Departure {
                    to: State::Initialize,
                    cause: Cause::Reconfigured,
                    farewell: true,
                };
                (*index, departure)
            })
            .collect();
        self.leave(departures, now);
        let mut epochs = Vec::with_capacity(leaving.len());
        for index in leaving.into_iter().rev() {
            let mut instance = self.instances.remove(index);
            epochs.push((instance.id(), instance.epoch));
            if instance.state != State::Initialize {
                instance.rest(State::Initialize, Cause::Reconfigured, now, &mut self.out);
            }
            instance.note(
                format!("{} is no longer configured as it was", instance.config.name),
                &mut self.out,
            );
        }
        epochs
    }
}

/// Which instance an input concerns; `None` for those that concern the node.
fn concerns(input: &Input) -> Option<InstanceId> {
    match input {
        Input::Interface { instance, .. }
        | Input::Advert { instance, .. }
        | Input::Heard { instance, .. }
        | Input::Silence { instance, .. }
        | Input::AdvertSent { instance, .. }
        | Input::VipsAdded { instance, .. }
        | Input::Announced { instance, .. }
        | Input::VipLost { instance } => Some(*instance),
        Input::Switchover(_) | Input::Reconfigure(_) | Input::Shutdown => None,
    }
}

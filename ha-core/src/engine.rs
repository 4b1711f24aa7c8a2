//! The engine: routes inputs to instances, and moves the members of a group together.

mod roles;
mod track;

use alloc::{format, vec::Vec};

use ha_common::{MonoNs, Priority, gate::Epoch, lease::Ask};

use crate::{
    config::{EngineConfig, GroupConfig, InstanceConfig, LeaseConfig, PathId},
    event::{Action, Input, InstanceId, LeaseViews, Target},
    explain,
    instance::{Departure, Instance, Verdict},
    outbox::Outbox,
    path::{Pace, Paths},
    roles::{Manner, Mode},
    status::{Cause, InstanceStatus, State},
    timer::Timer,
    tracking::Tracked,
};

pub(crate) use self::roles::GroupRoles;

/// Every decision of `had`, driven by the contract in the crate's documentation.
///
/// A *unit* is what moves together: the members of a group, or an instance that is in none. Members of
/// a group have the same priority and the same `preempt` (the configuration is refused otherwise):
/// with different ones, each member could wait for another for ever.
#[derive(Debug)]
pub struct Engine {
    instances: Vec<Instance>,
    groups: Vec<GroupConfig>,
    /// Those of the groups that have some; and those that a reload took away, until they are demoted.
    roles: Vec<GroupRoles>,
    mode: Mode,
    tracked: Vec<Tracked>,
    paths: Paths,
    /// By instance: how fast its echoes were to follow each other when that was looked at last.
    paces: Vec<Pace>,
    start_at: MonoNs,
    /// The daemon is to end, once all roles are demoted.
    ending: bool,
    finished: bool,
    out: Outbox,
}

impl Engine {
    /// Starts. The first actions raise every epoch: nothing that an earlier daemon left can open.
    #[must_use]
    pub fn new(config: EngineConfig, now: MonoNs) -> Self {
        let mut out = Outbox::default();
        let start_at = now.after(config.start_delay);
        let mut paths = Paths::default();
        paths.configure(leases(&config.instances), now);
        let tracked: Vec<Tracked> = config.tracked.into_iter().map(Tracked::new).collect();
        let (all, groups) = (&config.instances, &config.groups);
        let instances = all
            .iter()
            .map(|instance| {
                let priority = track::bearing_on(instance, all.iter(), groups, &tracked).priority;
                let watch = config.kernel_watch;
                Instance::new(instance.clone(), priority, watch, start_at, now, &mut out)
            })
            .collect();
        let roles = config.groups.iter().filter_map(GroupRoles::new).collect();
        let mut engine = Self {
            instances,
            groups: config.groups,
            roles,
            mode: Mode::default(),
            tracked,
            paths,
            paces: Vec::new(),
            start_at,
            ending: false,
            finished: false,
            out,
        };
        engine.show_roles(now);
        engine.set_mode(config.mode, now);
        engine.bring_to_bear(now);
        engine
    }

    /// Takes in something that happened. Poll the actions and the timeout afterwards.
    ///
    /// An input for an instance that is not configured does nothing. Read the leases of those that
    /// [`Self::unread`] names first: a node that was held up steps down before it answers anybody.
    pub fn handle(&mut self, input: Input, now: MonoNs) {
        if self.finished {
            return;
        }
        debug_assert!(self.unread(&input, now).is_empty(), "read the leases first");
        match concerns(&input) {
            Some(id) => self.handle_one(id, input, now),
            None => {
                self.handle_all(input, now);
                self.keep_pace(now);
            }
        }
        self.out.release_announcements(now);
    }

    /// Takes in what the maps hold about an instance's leases at present. Poll the actions and the timeout
    /// afterwards.
    ///
    /// An instance that does not rely on leases does nothing.
    pub fn read_leases(&mut self, id: InstanceId, views: &LeaseViews, now: MonoNs) {
        let Some(index) = self.index(id).filter(|_| !self.finished) else {
            return;
        };
        // The gate's deadline may have moved since it was read last.
        let holder = self.instances[index].read_leases(views, now);
        self.step_down_if_unit_late(index, now);
        if let Some(peer) = holder {
            let verdict = self.instances[index].asked(peer, Ask::Hold);
            self.apply(index, verdict, now);
        }
        let verdict = self.instances[index].consider_leases(now, &mut self.out);
        self.apply(index, verdict, now);
        self.out.release_announcements(now);
        self.keep_pace_of(index, now);
    }

    /// The instances whose leases are to be read before `input` is handed in at `now`: as far as the engine knows
    /// their gates have run out, unless the peers' kernels granted more since.
    #[must_use]
    pub fn unread(&self, input: &Input, now: MonoNs) -> Vec<InstanceId> {
        let unread = |index: usize| {
            let instance = &self.instances[index];
            instance.is_unread(now).then(|| instance.id())
        };
        let Some(id) = concerns(input) else {
            return (0..self.instances.len()).filter_map(unread).collect();
        };
        let Some(index) = self.index(id) else {
            return Vec::new();
        };
        match self.instances[index].config.group {
            Some(group) => self.members(group).into_iter().filter_map(unread).collect(),
            None => unread(index).into_iter().collect(),
        }
    }

    /// The instances whose leases are to be read before [`Self::handle_timeout`]: those that rely on leases, of
    /// which a timer is due.
    pub fn due(&self, now: MonoNs) -> impl Iterator<Item = InstanceId> {
        let is_due =
            move |instance: &&Instance| instance.leases.is_some() && instance.timers.is_due(now);
        self.instances.iter().filter(is_due).map(Instance::id)
    }

    /// Whether an echo is to be sent by now.
    #[must_use]
    pub fn is_echo_due(&self, now: MonoNs) -> bool {
        self.paths.next().is_some_and(|due| due <= now)
    }

    /// The instances whose leases are asked for on a path.
    pub fn users(&self, path: PathId) -> impl Iterator<Item = InstanceId> {
        let users = self.instances.iter();
        users
            .filter(move |instance| instance.uses(path))
            .map(Instance::id)
    }

    fn handle_all(&mut self, input: Input, now: MonoNs) {
        self.step_down_late(now);
        match input {
            Input::EchoSent {
                path,
                round,
                result,
            } => self.echo_sent(path, round, result.is_ok(), now),
            Input::PathHeard {
                path,
                heard_at,
                round_trip,
            } => {
                self.paths.heard(path, heard_at, now, &mut self.out);
                for instance in &mut self.instances {
                    instance.measured(path, round_trip);
                }
            }
            Input::Tracked { .. } | Input::Mute { .. } => self.take_in(input, now),
            Input::Confirmed {
                source,
                round,
                result,
            } => self.confirmed(&source, round, &result, now),
            Input::RolesPromoted {
                group,
                round,
                result,
            } => self.roles_promoted(&group, round, result, now),
            Input::RolesDemoted {
                group,
                round,
                result,
            } => self.roles_demoted(&group, round, result, now),
            Input::Prospect { group, prospect } => self.expect(&group, prospect, now),
            Input::RolesProgress { group, text } => {
                if let Some(roles) = self.roles_named(&group) {
                    self.roles[roles].progress(text);
                }
            }
            // What ends does nothing else any more.
            Input::Mode(_) | Input::Switchover(_) | Input::Reconfigure(_) if self.ending => {}
            Input::Mode(mode) => self.set_mode(mode, now),
            Input::Switchover(target) => self.switch_over(&target, now),
            Input::Reconfigure(config) => self.reconfigure(config, now),
            _ => self.shut_down(now),
        }
    }

    fn handle_one(&mut self, id: InstanceId, input: Input, now: MonoNs) {
        let Some(index) = self.index(id) else {
            return;
        };
        self.step_down_if_unit_late(index, now);
        let verdict = self.instances[index].handle(input, now, &mut self.out);
        self.apply(index, verdict, now);
        self.keep_pace_of(index, now);
    }

    /// Serves the timers that are due. Poll the actions and the timeout afterwards.
    ///
    /// Each timer is served once in a call; one that is due again at once is served by the next call, and one
    /// that became due after its instance's leases were read, once they were read again.
    pub fn handle_timeout(&mut self, now: MonoNs) {
        if self.finished {
            return;
        }
        self.step_down_late(now);
        for index in 0..self.instances.len() {
            for timer in Timer::ALL {
                let instance = &mut self.instances[index];
                let known = instance.known_until(now);
                if let Some(due) = instance.timers.take_expired(timer, known) {
                    let verdict = instance.fire(timer, due, now, &mut self.out);
                    self.apply(index, verdict, now);
                }
            }
        }
        if self.track_due().is_some_and(|due| due <= now) {
            self.serve_tracked(now);
        }
        if self.roles_due().is_some_and(|due| due <= now) {
            self.serve_roles(now);
        }
        self.out.release_announcements(now);
        self.keep_pace(now);
        self.paths.serve(now, &mut self.out);
    }

    fn echo_sent(&mut self, path: PathId, round: MonoNs, left: bool, now: MonoNs) {
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            let verdict = instance.echo_sent(path, round, left, now, &mut self.out);
            self.apply(index, verdict, now);
        }
    }

    /// Adjusts the paths if an instance, or one that moves with it, asks for something else than before.
    fn keep_pace_of(&mut self, index: usize, now: MonoNs) {
        let same = |at: &usize| self.paces.get(*at) == Some(&self.instances[*at].pace());
        let kept = match self.instances[index].config.group {
            None => same(&index),
            Some(group) => self.members(group).iter().all(same),
        };
        if !kept {
            self.keep_pace(now);
        }
    }

    /// Adjusts the paths to what the instances ask for, if that is something else than before.
    fn keep_pace(&mut self, now: MonoNs) {
        if self.paths.is_empty() {
            return;
        }
        let Self {
            instances,
            paths,
            paces,
            ..
        } = self;
        let same = paces.len() == instances.len()
            && instances
                .iter()
                .zip(&*paces)
                .all(|(instance, pace)| instance.pace() == *pace);
        if same {
            return;
        }
        paces.clear();
        paces.extend(instances.iter().map(Instance::pace));
        paths.set_paces(now, |path| {
            let users = instances.iter().filter(|instance| instance.uses(path));
            users.map(Instance::pace).max().unwrap_or(Pace::Hello)
        });
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// The next thing to do, if that is to send an advert: a shell may send several before it hands in their
    /// outcomes.
    #[must_use]
    pub fn poll_advert(&mut self) -> Option<Action> {
        self.out.pop_advert()
    }

    /// When to call [`Self::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(MonoNs, Timer)> {
        if self.finished {
            return None;
        }
        let echo = self.paths.next().map(|due| (due, Timer::Echo));
        self.instances
            .iter()
            .filter_map(|instance| instance.timers.next())
            .chain(
                self.out
                    .announcements_due()
                    .map(|due| (due, Timer::Announce)),
            )
            .chain(echo)
            .chain(self.track_due().map(|due| (due, Timer::Track)))
            .chain(self.roles_due().map(|due| (due, Timer::Roles)))
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
                let roles = self.roles_of(index).map(|roles| &self.roles[roles]);
                explain::status(instance, group, roles, &mates, now)
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

    /// Whether something waits to be done.
    #[cfg(feature = "sim")]
    pub(crate) fn has_action(&self) -> bool {
        !self.out.is_empty()
    }

    /// How an instance decided.
    #[cfg(feature = "sim")]
    pub(crate) fn state(&self, index: usize) -> State {
        self.instances[index].state
    }

    /// An instance's place in the list: as long as no reload changed their order, its slot.
    fn index(&self, id: InstanceId) -> Option<usize> {
        let is_it = |instance: &Instance| instance.id() == id;
        let slot = id.0 as usize;
        match self.instances.get(slot) {
            Some(instance) if is_it(instance) => Some(slot),
            _ => self.instances.iter().position(is_it),
        }
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
        for member in &unit {
            self.instances[*member].await_peers(now, &mut self.out);
        }
        let free = |member: &usize| {
            let instance = &self.instances[*member];
            instance.speaks() || instance.is_electable(now)
        };
        if !unit.iter().all(free) {
            return;
        }
        let elected: Vec<usize> = unit
            .into_iter()
            .filter(|member| !self.instances[*member].speaks())
            .collect();
        for member in &elected {
            let next = self.beat(*member, now);
            self.instances[*member].promote(now, next, &mut self.out);
        }
        for member in &elected {
            self.instances[*member].prepare(&mut self.out);
        }
    }

    /// When a member that is promoted now advertises for the second time: an interval later, or together with
    /// an instance that has the same interval, so that one wake-up serves them all.
    fn beat(&self, index: usize, now: MonoNs) -> MonoNs {
        let interval = self.instances[index].config.advert_interval;
        let latest = now.after(interval);
        self.instances
            .iter()
            .filter(|other| other.speaks() && other.config.advert_interval == interval)
            .filter_map(|other| other.timers.get(Timer::Advert))
            .find(|due| (now..latest).contains(due))
            .unwrap_or(latest)
    }

    /// Opens the gates of a unit of which every member is ready.
    fn open(&mut self, index: usize, now: MonoNs) {
        let unit = self.unit(index);
        if self.instances[index].roles.come_first() {
            self.promote_roles(index, &unit, now);
        }
        if self.instances[index].awaits_roles() {
            return;
        }
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
            if !instance.holds() {
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
        self.leave(leaving, Manner::Forced, now);
    }

    /// Lets members go at once.
    fn part(&mut self, leaving: Vec<(usize, Departure)>, now: MonoNs) {
        for (member, _) in &leaving {
            self.instances[*member].close(now, &mut self.out);
        }
        for (member, departure) in &leaving {
            if departure.farewell {
                self.instances[*member].send(Priority::RELEASE, now, &mut self.out);
            }
        }
        for (member, mut departure) in leaving {
            let instance = &mut self.instances[member];
            if instance.state != State::Demoting {
                self.out.push(Action::RemoveVips {
                    instance: instance.id(),
                });
            }
            if let Some(cause) = &instance.rests {
                departure.to = State::Initialize;
                departure.cause = cause.clone();
            }
            instance.depart(departure, now, &mut self.out);
        }
    }

    fn step_down_late(&mut self, now: MonoNs) {
        for index in 0..self.instances.len() {
            self.step_down_if_late(index, now);
        }
    }

    fn step_down_if_unit_late(&mut self, index: usize, now: MonoNs) {
        let Some(group) = self.instances[index].config.group else {
            return self.step_down_if_late(index, now);
        };
        for member in self.members(group) {
            self.step_down_if_late(member, now);
        }
    }

    fn step_down_if_late(&mut self, index: usize, now: MonoNs) {
        let Some(departure) = self.instances[index].late(now) else {
            return;
        };
        if !self.instances[index].asks_to_go_on(&departure.cause, now, &mut self.out) {
            self.demote(index, Some(departure), now);
        }
    }

    fn switch_over(&mut self, target: &Target, now: MonoNs) {
        let unit = match target {
            Target::Instance(id) => self.index(*id).map_or_else(Vec::new, |at| self.unit(at)),
            Target::Group(group) => self.members(*group),
        };
        if self.stays(&unit) {
            return;
        }
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
        self.leave(leaving, Manner::Graceful, now);
    }

    /// Hands everything over: at once, but for what waits for its roles.
    fn shut_down(&mut self, now: MonoNs) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.demote_for_good(&Cause::Shutdown, now);
        let waits = |instance: &Instance| instance.state == State::Demoting;
        for instance in self.instances.iter_mut().filter(|one| !waits(one)) {
            instance.close(now, &mut self.out);
        }
        for instance in &self.instances {
            if instance.speaks() {
                instance.send(Priority::RELEASE, now, &mut self.out);
            }
        }
        for instance in &mut self.instances {
            instance.rests = Some(Cause::Shutdown);
            if waits(instance) {
                continue;
            }
            self.out.push(Action::RemoveVips {
                instance: instance.id(),
            });
            instance.rest(State::Initialize, Cause::Shutdown, now, &mut self.out);
        }
        self.finish();
    }

    /// Ends, if nothing is waited for any more.
    fn finish(&mut self) {
        if self.ending && !self.finished && !self.roles.iter().any(GroupRoles::is_under_way) {
            self.finished = true;
            self.out.finish();
        }
    }

    fn reconfigure(&mut self, config: EngineConfig, now: MonoNs) {
        let epochs = self.remove_missing(&config.instances, now);
        self.paths.configure(leases(&config.instances), now);
        self.paces.clear();
        let mut before = core::mem::take(&mut self.instances);
        let mut verdicts = Vec::new();
        self.groups = config.groups;
        self.match_roles();
        self.tracked = track::match_tracked(&mut self.tracked, &config.tracked);
        let all = config.instances.clone();
        for mut new in config.instances {
            let bearing = track::bearing_on(&new, all.iter(), &self.groups, &self.tracked);
            let priority = bearing.priority;
            let kept = before.iter().position(|old| old.config.name == new.name);
            let Some(mut instance) = kept.map(|at| before.swap_remove(at)) else {
                if let Some((_, epoch)) = epochs.iter().find(|(id, _)| *id == new.id) {
                    new.adopted_epoch = *epoch;
                }
                self.instances.push(Instance::new(
                    new,
                    priority,
                    config.kernel_watch,
                    self.start_at,
                    now,
                    &mut self.out,
                ));
                continue;
            };
            let watch = config.kernel_watch;
            let verdict = instance.reconfigure(new, priority, watch, now, &mut self.out);
            verdicts.push((self.instances.len(), verdict));
            self.instances.push(instance);
        }
        self.show_roles(now);
        if self.mode == Mode::Maintenance {
            for instance in &mut self.instances {
                let _ = instance.set_rest(Some(Cause::Maintenance), now, &mut self.out);
            }
        }
        for (index, verdict) in verdicts {
            self.apply(index, verdict, now);
        }
        self.reconcile_roles(now);
        self.bring_to_bear(now);
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
            .filter(|index| self.instances[**index].holds())
            .map(|index| {
                let departure = Departure {
                    to: State::Initialize,
                    cause: Cause::Reconfigured,
                    farewell: true,
                };
                (*index, departure)
            })
            .collect();
        // Nothing of them is left that could wait for their roles.
        self.part(departures, now);
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
        | Input::Channel { instance, .. }
        | Input::AdvertSent { instance, .. }
        | Input::VipsAdded { instance, .. }
        | Input::Announced { instance, .. }
        | Input::VipLost { instance }
        | Input::Reattached { instance }
        | Input::LeaseSilence { instance }
        | Input::Asked { instance, .. }
        | Input::Released { instance, .. }
        | Input::Yielded { instance, .. }
        | Input::Acted { instance, .. } => Some(*instance),
        Input::EchoSent { .. }
        | Input::PathHeard { .. }
        | Input::Tracked { .. }
        | Input::Mute { .. }
        | Input::Confirmed { .. }
        | Input::RolesPromoted { .. }
        | Input::RolesDemoted { .. }
        | Input::Prospect { .. }
        | Input::RolesProgress { .. }
        | Input::Mode(_)
        | Input::Switchover(_)
        | Input::Reconfigure(_)
        | Input::Shutdown => None,
    }
}

fn leases(instances: &[InstanceConfig]) -> impl Iterator<Item = &LeaseConfig> {
    instances
        .iter()
        .filter_map(|instance| instance.lease.as_ref())
}

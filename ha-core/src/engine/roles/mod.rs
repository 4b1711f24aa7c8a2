//! Roles: promoted once a unit is elected and no other node can act, before its addresses are there; demoted before it
//! is let go of, while no other node can take over, or at once where one can.

mod stage;

use alloc::{format, string::String, vec::Vec};

use ha_common::MonoNs;

pub(crate) use self::stage::GroupRoles;
use self::stage::Stage;
use super::Engine;
use crate::{
    event::Action,
    instance::{Departure, Instance, Roles, Verdict},
    roles::{Manner, Mode, Prospect},
    status::{Cause, State},
};

impl Engine {
    pub(super) fn roles_named(&self, group: &str) -> Option<usize> {
        self.roles.iter().position(|roles| roles.name == group)
    }

    /// The roles of an instance's group.
    pub(super) fn roles_of(&self, index: usize) -> Option<usize> {
        let group = self.groups.get(self.instances[index].config.group?)?;
        group.roles?;
        self.roles_named(&group.name)
    }

    /// The instances of the group that has these roles.
    fn unit_of(&self, roles: usize) -> Vec<usize> {
        let indices = 0..self.instances.len();
        indices
            .filter(|index| self.roles_of(*index) == Some(roles))
            .collect()
    }

    /// Tells every instance how the roles of its group stand.
    pub(super) fn show_roles(&mut self, now: MonoNs) {
        let mut freed = Vec::new();
        for index in 0..self.instances.len() {
            let roles = self.roles_of(index).map(|roles| &self.roles[roles]);
            let seen = roles.map_or(Roles::None, GroupRoles::seen);
            let position = roles.map_or(0, GroupRoles::position);
            let instance = &mut self.instances[index];
            let barred = core::mem::replace(&mut instance.roles, seen).bar();
            instance.set_position(position, &mut self.out);
            if barred && !seen.bar() {
                freed.push(index);
            }
        }
        for index in freed {
            let instance = &self.instances[index];
            if instance.roles == Roles::Free && instance.claims(now) {
                self.apply(index, Verdict::Claim, now);
            }
        }
    }

    /// What a promotion would meet with.
    pub(super) fn expect(&mut self, group: &str, prospect: Prospect, now: MonoNs) {
        let Some(roles) = self.roles_named(group) else {
            return;
        };
        self.roles[roles].expect(prospect);
        self.show_roles(now);
        let Err(why) = self.roles[roles].is_eligible() else {
            return;
        };
        if matches!(self.roles[roles].stage, Stage::Free | Stage::Promoted) {
            self.let_go(roles, &Cause::NotEligible { why }, now);
        }
    }

    /// Members of a unit that hold it let go.
    fn let_go(&mut self, roles: usize, cause: &Cause, now: MonoNs) {
        let unit = self.unit_of(roles);
        let holder = unit
            .into_iter()
            .find(|index| self.instances[*index].holds());
        if let Some(holder) = holder {
            self.demote(holder, Some(Departure::to_backup(cause.clone())), now);
        }
    }

    /// A member of a unit has won, or is a step nearer: promotes the unit's roles, if no other node can act for any.
    pub(super) fn promote_roles(&mut self, index: usize, unit: &[usize], now: MonoNs) {
        let Some(roles) = self.roles_of(index) else {
            return;
        };
        let may_act = |member: &usize| self.instances[*member].may_act(now);
        if self.roles[roles].stage != Stage::Free || !unit.iter().all(may_act) {
            return;
        }
        if let Err(why) = self.roles[roles].is_eligible() {
            return self.let_go(roles, &Cause::NotEligible { why }, now);
        }
        let fell_silent = |member: &usize| {
            let cause = &self.instances[*member].elected_by;
            matches!(cause, Some(Cause::Silence { .. } | Cause::Dead { .. }))
        };
        let unplanned = unit.iter().all(fell_silent);
        self.roles[roles].promote(unplanned, now, &mut self.out);
        self.show_roles(now);
    }

    pub(super) fn roles_promoted(
        &mut self,
        group: &str,
        round: MonoNs,
        result: Result<(), String>,
        now: MonoNs,
    ) {
        let named = self.roles_named(group);
        let asked = Stage::Promoting { round };
        let Some(roles) = named.filter(|roles| self.roles[*roles].stage == asked) else {
            return;
        };
        match result {
            Ok(()) => {
                self.roles[roles].end(Stage::Promoted);
                self.show_roles(now);
                for index in self.unit_of(roles) {
                    let instance = &mut self.instances[index];
                    if instance.state == State::Promoting {
                        instance.add_vips(now, &mut self.out);
                    }
                }
            }
            Err(why) => {
                self.roles[roles].end(Stage::Free);
                self.show_roles(now);
                self.let_go(roles, &Cause::PromotionFailed { why }, now);
            }
        }
    }

    pub(super) fn roles_demoted(
        &mut self,
        group: &str,
        round: MonoNs,
        result: Result<(), String>,
        now: MonoNs,
    ) {
        let Some(roles) = self.roles_named(group) else {
            return;
        };
        match (self.roles[roles].stage, result) {
            (
                Stage::Demoting {
                    round: asked,
                    manner: Manner::Graceful,
                },
                Err(why),
            ) if asked == round => {
                self.roles[roles].end(Stage::Promoted);
                self.show_roles(now);
                for index in self.unit_of(roles) {
                    self.instances[index].take_back(why.clone(), now, &mut self.out);
                }
            }
            (Stage::Demoting { round: asked, .. } | Stage::Overdue { round: asked }, result)
                if asked == round =>
            {
                if let Err(why) = result {
                    self.raise_alarm(
                        roles,
                        &format!("it is not known whether its roles are demoted: {why}"),
                    );
                }
                self.give_way(roles, Stage::Free, now);
            }
            _ => {}
        }
    }

    /// Nothing is waited for any more before a unit is let go of.
    fn give_way(&mut self, roles: usize, stage: Stage, now: MonoNs) {
        self.roles[roles].end(stage);
        let mut leaving = Vec::new();
        for index in self.unit_of(roles) {
            let departure = self.instances[index].departure();
            leaving.extend(departure.map(|departure| (index, departure)));
        }
        self.part(leaving, now);
        self.forget_orphans();
        self.show_roles(now);
        self.finish();
    }

    /// Something for which somebody should be woken.
    fn raise_alarm(&mut self, roles: usize, sentence: &str) {
        for index in self.unit_of(roles) {
            self.out.push(Action::Alarm {
                instance: self.instances[index].id(),
                sentence: String::from(sentence),
            });
        }
    }

    /// Lets members go: at once, if they have no roles that may be promoted, or another node may act; else after
    /// these are demoted.
    pub(super) fn leave(&mut self, leaving: Vec<(usize, Departure)>, manner: Manner, now: MonoNs) {
        let (under_way, others): (Vec<_>, Vec<_>) = leaving
            .into_iter()
            .partition(|(member, _)| self.instances[*member].roles.are_under_way());
        if under_way.is_empty() {
            return self.part(others, now);
        }
        let lost: Vec<Option<usize>> = under_way
            .iter()
            .filter(|(_, departure)| departure.is_lost())
            .map(|(member, _)| self.roles_of(*member))
            .collect();
        let (gone, held): (Vec<_>, Vec<_>) = under_way
            .into_iter()
            .partition(|(member, _)| lost.contains(&self.roles_of(*member)));
        let mut units: Vec<(usize, Manner)> = Vec::new();
        for (members, manner) in [(&gone, Manner::Forced), (&held, manner)] {
            for roles in members.iter().filter_map(|(one, _)| self.roles_of(*one)) {
                if !units.iter().any(|(known, _)| *known == roles) {
                    units.push((roles, manner));
                }
            }
        }
        let mut closed = Vec::with_capacity(held.len());
        for (member, departure) in held {
            let instance = &mut self.instances[member];
            if instance.state != State::Demoting {
                closed.push(instance.id());
            }
            instance.hold_back(departure, now, &mut self.out);
        }
        self.part(gone.into_iter().chain(others).collect(), now);
        for (roles, manner) in units {
            self.roles[roles].demote(manner, now, &mut self.out);
        }
        for instance in closed {
            self.out.push(Action::RemoveVips { instance });
        }
        self.show_roles(now);
    }

    /// Has the roles of every unit demoted that has some, and lets it go then.
    pub(super) fn demote_for_good(&mut self, cause: &Cause, now: MonoNs) {
        let departure = || Departure {
            to: State::Initialize,
            cause: cause.clone(),
            farewell: true,
        };
        let holders = (0..self.instances.len())
            .filter(|index| self.instances[*index].holds())
            .filter(|index| self.instances[*index].roles.are_under_way());
        let leaving = holders.map(|index| (index, departure())).collect();
        self.leave(leaving, Manner::Forced, now);
    }

    /// Whether a unit cannot be handed over now because of its roles: says why.
    pub(super) fn stays(&mut self, unit: &[usize]) -> bool {
        let what = |instance: &Instance| match instance.roles {
            Roles::Promoting => Some("promoted"),
            Roles::Demoting => Some("demoted"),
            _ => None,
        };
        let mut members = unit.iter().map(|member| &self.instances[*member]);
        let Some(instance) = members.find(|one| one.holds() && what(one).is_some()) else {
            return false;
        };
        let name = &instance.config.name;
        let done = what(instance).unwrap_or_default();
        instance.note(
            format!("{name} cannot be moved now: its roles are being {done}"),
            &mut self.out,
        );
        true
    }

    /// When a promotion or a demotion is to be given up.
    pub(super) fn roles_due(&self) -> Option<MonoNs> {
        self.roles.iter().filter_map(|roles| roles.due).min()
    }

    /// Gives up what takes too long.
    pub(super) fn serve_roles(&mut self, now: MonoNs) {
        for roles in 0..self.roles.len() {
            let Some(one) = self.roles.get(roles) else {
                return;
            };
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            match one.stage {
                Stage::Promoting { .. } => {
                    let why = one.not_promoted();
                    self.let_go(roles, &Cause::PromotionFailed { why }, now);
                }
                Stage::Demoting {
                    manner: Manner::Graceful,
                    ..
                } => {
                    let why = one.not_demoted();
                    self.raise_alarm(roles, &format!("{why}: they are demoted in any case now"));
                    self.roles[roles].demote(Manner::Forced, now, &mut self.out);
                }
                Stage::Demoting { round, .. } => {
                    let why = one.not_demoted();
                    self.raise_alarm(
                        roles,
                        &format!("{why}: it is let go of, and this node does not take it over before they are"),
                    );
                    self.give_way(roles, Stage::Overdue { round }, now);
                }
                Stage::Free | Stage::Promoted | Stage::Overdue { .. } => {}
            }
        }
    }

    /// In another mode from now on.
    pub(super) fn set_mode(&mut self, mode: Mode, now: MonoNs) {
        if self.mode == mode {
            return;
        }
        self.mode = mode;
        let rests = (mode == Mode::Maintenance).then_some(Cause::Maintenance);
        if let Some(cause) = &rests {
            self.demote_for_good(cause, now);
            let departure = || Departure {
                to: State::Initialize,
                cause: cause.clone(),
                farewell: true,
            };
            let speaking = (0..self.instances.len()).filter(|at| self.instances[*at].speaks());
            let leaving = speaking.map(|index| (index, departure())).collect();
            self.part(leaving, now);
        }
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            let verdict = instance.set_rest(rests.clone(), now, &mut self.out);
            self.apply(index, verdict, now);
        }
    }

    /// Takes in which groups have roles by a new configuration.
    pub(super) fn match_roles(&mut self) {
        for group in &self.groups {
            let known = self.roles.iter_mut().find(|roles| roles.name == group.name);
            match (known, group.roles) {
                (Some(roles), Some(limits)) => roles.reconfigure(limits),
                (None, Some(_)) => self.roles.extend(GroupRoles::new(group)),
                (_, None) => {}
            }
        }
        self.forget_orphans();
    }

    /// Roles that are no longer configured are kept until they are demoted.
    fn forget_orphans(&mut self) {
        let configured = |roles: &GroupRoles| {
            let mut groups = self.groups.iter();
            groups.any(|group| group.name == roles.name && group.roles.is_some())
        };
        let gone = |roles: &GroupRoles| !configured(roles) && !roles.is_under_way();
        let kept: Vec<bool> = self.roles.iter().map(|roles| !gone(roles)).collect();
        let mut kept = kept.into_iter();
        self.roles.retain(|_| kept.next().unwrap_or(true));
    }

    /// After a reload: roles whose instances are gone are demoted; who came to hold what its roles do not allow lets go.
    pub(super) fn reconcile_roles(&mut self, now: MonoNs) {
        for roles in 0..self.roles.len() {
            let unit = self.unit_of(roles);
            let stage = self.roles[roles].stage;
            let holds = unit.iter().any(|index| self.instances[*index].holds());
            match stage {
                Stage::Promoting { .. } | Stage::Promoted | Stage::Demoting { .. } if !holds => {
                    self.roles[roles].demote(Manner::Forced, now, &mut self.out);
                }
                Stage::Promoting { .. } | Stage::Promoted => {}
                Stage::Free | Stage::Demoting { .. } | Stage::Overdue { .. } => {
                    let speaking = |index: &usize| self.instances[*index].speaks();
                    let leaving = unit.iter().copied().filter(speaking);
                    let departure = || Departure::to_backup(Cause::Reconfigured);
                    let leaving = leaving.map(|index| (index, departure())).collect();
                    self.leave(leaving, Manner::Forced, now);
                }
            }
        }
        self.show_roles(now);
        let mut leaving = Vec::new();
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            match (instance.state, instance.roles) {
                (State::Demoting, roles) if !roles.are_under_way() => {
                    leaving.extend(instance.departure().map(|departure| (index, departure)));
                }
                (State::Promoting, roles) if !roles.come_first() && !instance.vips => {
                    instance.add_vips(now, &mut self.out);
                }
                _ => {}
            }
        }
        self.part(leaving, now);
    }
}

//! A new configuration, applied as a difference.

use std::collections::BTreeSet;

use ha_common::gate::Epoch;
use ha_core::{Input, InstanceId};
use ipnet::IpNet;

use super::Driver;
use crate::{
    control::report::ReloadReport,
    dataplane::Dataplane,
    engine::{
        Reloaded,
        advert::Prepared,
        difference,
        outbox::Level,
        plan::{Plan, SeatPlan},
        seat::Seat,
        shell::TrackedInterfaces,
    },
    runtime::memory::Vip,
};

impl Driver {
    /// Applies a plan. Instances that stay the same virtual router (the same slot) keep their state; others
    /// are handed over and begin anew.
    pub(super) fn reload(&mut self, plan: &Plan) -> Reloaded {
        let mut changes = Vec::new();
        let known = |id: InstanceId, seats: &[Seat]| seats.iter().any(|seat| seat.id == id);
        for new in &plan.seats {
            if !known(new.id, &self.shell.seats) {
                changes.push(format!("{}: begins", new.instance.name));
                self.shell.seats.push(Seat::new(new));
            }
        }
        let (channels, _, mut world) = self.shell.channels();
        changes.extend(channels.configure(&plan.channels, &mut world));
        changes.extend(difference::of_lease_channels(
            &self.shell.lease_channels,
            &plan.lease_channels,
        ));
        self.shell.configure_paths(plan);
        self.shell.min_up_slaves = plan.min_up_slaves();
        // New interfaces are attached before the engine learns of them; it is told of all below, but for what is told
        // only once.
        let mut inputs = Vec::new();
        self.shell.match_interfaces();
        self.shell.update_links();
        self.shell.follow_links(&mut inputs);
        inputs.retain(is_told_once);

        let kernel_watch = self
            .shell
            .dataplane
            .as_ref()
            .is_some_and(Dataplane::has_watch);
        let config = plan.engine_config(kernel_watch, &self.shell.paths, |id| {
            self.shell
                .dataplane
                .as_ref()
                .map_or(Epoch::NONE, |dataplane| dataplane.epoch(id))
        });
        self.vitals.node.clone_from(&plan.node);
        self.vitals.groups = plan.group_names();
        self.limits.clone_from(&plan.roles);
        self.handle(Input::Reconfigure(config));

        self.drop_missing(plan, &mut changes);
        for new in &plan.seats {
            self.apply(new, &mut changes);
        }
        self.shell
            .seats
            .sort_by_key(|seat| plan.seats.iter().position(|new| new.id == seat.id));
        self.shell.match_interfaces();
        for seat in &mut self.shell.seats {
            seat.condition = None;
        }
        self.shell.tracked = TrackedInterfaces::of(plan);
        // What was put on and taken off just now is in the table before it is judged.
        self.shell.update_links();
        self.shell.follow_links(&mut inputs);
        for input in inputs {
            self.handle(input);
        }
        self.shell.channels.tell_again();
        self.tell_of_channels();
        Reloaded {
            report: ReloadReport {
                changes,
                warnings: Vec::new(),
            },
            left: self
                .shell
                .debts
                .iter()
                .map(|debt| Vip {
                    interface: debt.interface.clone(),
                    address: debt.vip,
                })
                .chain(self.shell.chores.removals().flat_map(|chore| {
                    chore.left.iter().map(|vip| Vip {
                        interface: chore.interface.clone(),
                        address: *vip,
                    })
                }))
                .collect(),
        }
    }

    /// Forgets the instances that the plan does not have; the engine has handed them over.
    fn drop_missing(&mut self, plan: &Plan, changes: &mut Vec<String>) {
        let is_kept = |seat: &Seat| plan.seats.iter().any(|new| new.id == seat.id);
        let ended: Vec<InstanceId> = self
            .shell
            .seats
            .extract_if(.., |seat| !is_kept(seat))
            .map(|seat| {
                changes.push(format!("{}: ends", seat.name));
                seat.id
            })
            .collect();
        self.shell.guard_owed();
        for id in ended {
            if let Some(dataplane) = &mut self.shell.dataplane
                && let Err(error) = dataplane.clear_instance(id)
            {
                let text = format!("a removed instance stays in the dataplane's maps: {error}");
                self.shell.out.log(Level::Error, text);
            }
        }
    }

    /// Brings one instance up to date in place.
    fn apply(&mut self, new: &SeatPlan, changes: &mut Vec<String>) {
        let Some(index) = self.shell.seats.iter().position(|seat| seat.id == new.id) else {
            return;
        };
        let seat = &mut self.shell.seats[index];
        let old = std::mem::replace(&mut seat.config, new.instance.clone());
        seat.prepared = Prepared::default();
        if old == new.instance {
            // Its channels may be other paths by now.
            if old.heartbeat.is_some() {
                self.shell.configure(new.id);
            }
            return;
        }
        seat.name = new.instance.name.as_str().into();
        if old.virtual_mac != new.instance.virtual_mac
            && let Some(interface) = self.shell.interfaces.get_mut(&new.instance.interface)
        {
            interface.moved = true;
        }
        changes.push(format!(
            "{}: {}",
            new.instance.name,
            difference::of_instance(&old, &new.instance)
        ));
        let without = |vips: &[IpNet], others: &[IpNet]| -> Vec<IpNet> {
            let others: BTreeSet<&IpNet> = others.iter().collect();
            let mut vips = vips.to_vec();
            vips.retain(|vip| !others.contains(vip));
            vips
        };
        let mut gone = without(&old.vips, &new.instance.vips);
        gone.retain(|vip| !seat.own.contains(vip));
        let added = without(&new.instance.vips, &old.vips);
        let (id, holds) = (seat.id, seat.holds_vips);
        // An instance that was brought up to date before this one may hold them by now.
        gone.retain(|vip| !self.shell.is_held_beside(index, vip));
        // What still is on the interface when the dataplane stops guarding it stays closed; what comes is
        // guarded before it is there.
        if holds && !gone.is_empty() {
            self.shell.take_vips(index, &gone, gone.clone(), true);
            self.work();
        }
        self.shell.guard_owed();
        self.shell.configure(id);
        if holds && !(gone.is_empty() && added.is_empty()) {
            // All of them: the kernel may have removed more than was asked for (secondary addresses). A
            // promotion that waits for the former ones waits for these.
            let waited_for = self
                .shell
                .chores
                .addition(id)
                .is_some_and(|one| !one.by_reload);
            if let Err(error) = self.shell.put_vips(index, added, !waited_for) {
                let text = format!("{}: {error}", new.instance.name);
                self.shell.out.log(Level::Error, text);
            }
            self.work();
        }
    }
}

/// Whether the next look at the interfaces would not tell it again.
fn is_told_once(input: &Input) -> bool {
    matches!(input, Input::Reattached { .. })
}

#[cfg(test)]
mod tests {
    use ha_core::InterfaceCondition;

    use super::*;

    #[test]
    fn another_place_is_told_once() {
        let instance = InstanceId(3);
        let condition = InterfaceCondition::Absent;
        let mut inputs = vec![
            Input::Interface {
                instance,
                condition,
            },
            Input::Reattached { instance },
            Input::VipLost { instance },
        ];
        inputs.retain(is_told_once);
        assert_eq!(inputs, [Input::Reattached { instance }]);
    }
}

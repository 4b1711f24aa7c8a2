//! Why an instance is in its state, in sentences.

use alloc::{format, string::String, vec::Vec};
use core::net::IpAddr;

use ha_common::{MonoNs, Nanos, Priority};

use crate::{
    config::{ChannelConfig, GroupConfig},
    engine::GroupRoles,
    event::InterfaceCondition,
    instance::{
        Claim, Instance,
        lease::{Leases, Phase},
    },
    status::{Cause, InstanceStatus, Span, State},
    timer::Timer,
    tracking::Veto,
};

/// An instance as `hactl status` and `hactl explain` show it.
pub(crate) fn status(
    instance: &Instance,
    group: Option<&GroupConfig>,
    roles: Option<&GroupRoles>,
    mates: &[&Instance],
    now: MonoNs,
) -> InstanceStatus {
    let active_peer = other_active(instance, now);
    InstanceStatus {
        instance: instance.id(),
        name: instance.config.name.clone(),
        vrid: instance.config.vrid,
        state: instance.state,
        cause: instance.cause.clone(),
        since: instance.since,
        priority: instance.config.priority,
        effective_priority: instance.priority,
        active_peer,
        active_is_foreign: active_peer.is_some_and(|active| instance.is_foreign(active)),
        awaits: awaited(instance),
        explanation: explanation(instance, group, roles, mates, now),
    }
}

/// What an operator is told who wants to move what is not here.
pub(crate) fn nothing_to_hand_over(instance: &Instance, now: MonoNs) -> String {
    let name = &instance.config.name;
    let state = instance.state;
    match other_active(instance, now) {
        Some(active) => {
            format!(
                "{name} cannot be moved away from here: it is in {state}, and {active} is Active"
            )
        }
        None => format!(
            "{name} cannot be moved away from here: it is in {state}, and no Active router is heard"
        ),
    }
}

/// The Active router, if another one is: by its adverts, else because it asks for its lease. Where the kernel
/// watches, it would have reported silence.
fn other_active(instance: &Instance, now: MonoNs) -> Option<IpAddr> {
    let watched = instance.kernel_watch
        && instance.state == State::Backup
        && !matches!(instance.claim, Some(Claim::Silence | Claim::Dead(_)));
    instance
        .active
        .filter(|_| watched || instance.heard_recently(now))
        .or_else(|| asking(instance, now))
        .filter(|_| !instance.holds())
}

fn explanation(
    instance: &Instance,
    group: Option<&GroupConfig>,
    roles: Option<&GroupRoles>,
    mates: &[&Instance],
    now: MonoNs,
) -> Vec<String> {
    let mut lines = match instance.state {
        State::Initialize => initialize(instance, now),
        State::Backup => backup(instance, now),
        State::Promoting => promoting(instance, now),
        State::Active => active(instance, now),
        State::Demoting => demoting(instance, now),
        State::Fault => fault(instance, now),
    };
    lines.extend(roles.and_then(|roles| match instance.state {
        State::Promoting | State::Active | State::Demoting => roles.during(now),
        State::Initialize | State::Backup | State::Fault => roles.beside(),
    }));
    lines.extend(tracking(instance, now));
    if let Some(interval) = instance.deferred_interval {
        lines.push(format!(
            "The configured advert interval of {} is used once this node no longer speaks for the \
             addresses.",
            Span(interval)
        ));
    }
    if let Some(group) = group {
        in_group(instance, group, mates, &mut lines, now);
    }
    lines
}

/// What it tracks does to it, but for a veto that stands.
fn tracking(instance: &Instance, now: MonoNs) -> Vec<String> {
    let mut lines = Vec::new();
    let (base, priority) = (instance.config.priority, instance.priority);
    if priority != base {
        lines.push(format!(
            "Its priority is {priority} at present and not {base}, by what it tracks: `hactl checks` shows it."
        ));
    }
    if let Some(source) = instance
        .awaits_first
        .as_ref()
        .filter(|_| !instance.speaks())
    {
        lines.push(format!(
            "It does not take over before {source} was looked at for the first time."
        ));
    }
    lines.extend(instance.muted.iter().map(|source| {
        format!("An operator muted {source}: it counts for nothing until `hactl unmute`, or as `hactl checks` says.")
    }));
    lines.extend(instance.arbitration(now));
    if let (Some(condition), Some(due)) = (instance.unsettled, instance.timers.get(Timer::Link)) {
        lines.push(format!(
            "Now {condition}, which counts if it lasts for another {}.",
            left(due, now)
        ));
    }
    lines
}

fn in_group(
    instance: &Instance,
    group: &GroupConfig,
    mates: &[&Instance],
    lines: &mut Vec<String>,
    now: MonoNs,
) {
    let waiting = instance.is_electable(now) || instance.can_open(instance.since);
    let missing = mates.iter().find(|mate| match instance.state {
        State::Backup => !mate.speaks() && !mate.is_electable(now),
        State::Promoting => mate.state == State::Promoting && (!mate.vips || mate.contested),
        _ => false,
    });
    match missing {
        Some(mate) if waiting => lines.push(format!(
            "It moves together with group {}, and waits for {}, which is in {}.",
            group.name, mate.config.name, mate.state
        )),
        _ => lines.push(format!("It moves together with group {}.", group.name)),
    }
}

/// "Backup since 12.3 s"
fn since(instance: &Instance, now: MonoNs) -> String {
    let name = match instance.state {
        State::Initialize => "Initialize",
        State::Backup => "Backup",
        State::Promoting => "Promoting",
        State::Active => "Active",
        State::Demoting => "Demoting",
        State::Fault => "Fault",
    };
    format!("{name} since {}", Span(now.since(instance.since)))
}

fn left(due: MonoNs, now: MonoNs) -> Span {
    Span(due.since(now))
}

fn initialize(instance: &Instance, now: MonoNs) -> Vec<String> {
    let since = since(instance, now);
    if instance.cause == Cause::Maintenance {
        return alloc::vec![
            format!("{since}: {}.", instance.cause),
            String::from("It takes part again after `hactl mode active-standby`."),
        ];
    }
    if matches!(instance.cause, Cause::Shutdown | Cause::Reconfigured) {
        return alloc::vec![format!("{since}: {}.", instance.cause)];
    }
    match instance.condition {
        None => alloc::vec![format!(
            "{since}: its interface has not been looked at yet."
        )],
        Some(InterfaceCondition::Ready { .. }) => alloc::vec![format!(
            "{since}: it listens for another {} before it takes part (start_delay).",
            left(instance.start_at, now)
        )],
        Some(condition) => alloc::vec![
            format!("{since}: {condition}."),
            String::from("It takes part as soon as its interface is ready."),
        ],
    }
}

fn fault(instance: &Instance, now: MonoNs) -> Vec<String> {
    let until = match &instance.veto {
        Some(Veto {
            by,
            ends_at: Some(ends_at),
            ..
        }) => format!(
            "By now {by} is up again, which counts in {}: it came and went, or a delay is configured.",
            left(*ends_at, now)
        ),
        Some(Veto { by, .. }) if instance.is_ready() => {
            format!("It returns to Backup as soon as {by} is up.")
        }
        Some(Veto { by, .. }) => {
            format!("It returns to Backup as soon as its interface is ready, and {by} is up.")
        }
        None => String::from("It returns to Backup as soon as its interface is ready."),
    };
    alloc::vec![
        format!("{}: {}.", since(instance, now), instance.cause),
        until,
    ]
}

/// The peer without which it does not serve, if that is all that it waits for.
fn awaited(instance: &Instance) -> Option<IpAddr> {
    instance.leases.as_ref().and_then(Leases::awaited)
}

/// The peer that asks for its lease at present.
fn asking(instance: &Instance, now: MonoNs) -> Option<IpAddr> {
    instance.leases.as_ref()?.asking(now)
}

fn still_asks(asker: IpAddr) -> String {
    format!(
        "{asker} still asks for its lease, and so may serve: this node takes over once that has ended as \
         well."
    )
}

fn backup(instance: &Instance, now: MonoNs) -> Vec<String> {
    let since = since(instance, now);
    let awaited = awaited(instance);
    let asking = asking(instance, now);
    let mut lines = Vec::new();
    match (instance.active, instance.heard, instance.released) {
        (Some(_), Some(advert), _) if !instance.heard_recently(now) => {
            let last = instance.stamp.unwrap_or_default();
            lines.push(format!(
                "{since}: the last advert of {}, of priority {}, came {} ago.",
                advert.sender,
                advert.priority,
                Span(now.since(last))
            ));
            lines.extend(asking.map(still_asks));
        }
        (Some(_), Some(advert), _) => {
            lines.push(format!(
                "{since}: {} advertises priority {} every {}.",
                advert.sender,
                advert.priority,
                Span(advert.interval)
            ));
            lines.push(format!(
                "Takes over if nothing is heard from it for {}.",
                Span(instance.down_interval())
            ));
            lines.extend(leases(instance));
            lines.extend(channels(instance, advert.sender, now));
            lines.extend(preemption(instance, advert.priority, now));
        }
        _ if awaited.is_some() => lines.push(format!("{since}: no Active router is heard.")),
        _ if let Some(asker) = asking => {
            lines.push(format!("{since}: no advert is heard."));
            lines.push(still_asks(asker));
        }
        (_, _, Some(by)) => lines.push(format!(
            "{since}: {by} let go; takes over in {} unless another router does.",
            wait(instance, now)
        )),
        _ if instance.arbitration(now).is_some() => {
            lines.push(format!("{since}: no Active router is heard."));
        }
        _ => lines.push(format!(
            "{since}: no Active router is heard; takes over in {} unless one is.",
            wait(instance, now)
        )),
    }
    if let Some(peer) = awaited {
        lines.push(format!(
            "It waits for {peer}: alone = \"stop\" does not let it serve while nothing is heard from that node."
        ));
    }
    lines.push(format!("It is Backup because {}.", instance.cause));
    if instance.yielded && instance.active.is_none() {
        lines.push(String::from(
            "An operator moved the addresses away; they come back if no other router takes them.",
        ));
    }
    if let Some(until) = instance.hold_until {
        let why = if instance.failures > 0 {
            format!("{} promotions in a row failed", instance.failures)
        } else {
            String::from("it has just let go itself")
        };
        lines.push(format!(
            "It does not take over for another {}: {why}.",
            left(until, now)
        ));
    }
    lines
}

fn wait(instance: &Instance, now: MonoNs) -> Span {
    Span(
        instance
            .timers
            .get(Timer::ActiveDown)
            .map_or(Nanos::ZERO, |due| due.since(now)),
    )
}

/// What its promises mean for the router that it hears.
fn leases(instance: &Instance) -> Option<String> {
    let leases = instance.leases.as_ref()?;
    Some(match leases.asker() {
        Some(peer) => format!(
            "It does not wait that long if {} stops asking for its lease as well: its promise runs out before.",
            peer.address
        ),
        None => String::from(
            "That router was not heard asking for a lease, so its adverts alone count.",
        ),
    })
}

/// What its channels say of the router that it hears.
fn channels(instance: &Instance, active: IpAddr, now: MonoNs) -> Option<String> {
    if instance.dead_due().is_some() {
        return Some(format!(
            "Every channel to {active} is dead: takes over in {} unless it advertises.",
            wait(instance, now)
        ));
    }
    let leads = |channel: &ChannelConfig| channel.lan_peer == Some(active);
    instance
        .config
        .channels
        .iter()
        .any(leads)
        .then(|| String::from("It does not wait that long if every channel to it is dead."))
}

/// Why it does or does not take over from the router that it hears.
fn preemption(instance: &Instance, theirs: Priority, now: MonoNs) -> Option<String> {
    let ours = instance.priority;
    if theirs >= ours {
        return None;
    }
    Some(if !instance.config.preempts() {
        format!("Its own priority {ours} is higher, but `preempt` is off.")
    } else if instance.yielded {
        format!(
            "Its own priority {ours} is higher, but an operator moved the addresses away: it waits \
             until that router fails or lets go."
        )
    } else if let Some(due) = instance.timers.get(Timer::Preempt) {
        format!(
            "Its own priority {ours} is higher: it pre-empts in {}.",
            left(due, now)
        )
    } else {
        format!("Its own priority {ours} is higher: it pre-empts as soon as it may.")
    })
}

fn promoting(instance: &Instance, now: MonoNs) -> Vec<String> {
    let mut lines = alloc::vec![format!("{}: {}.", since(instance, now), instance.cause)];
    if !instance.vips && !instance.roles.come_first() {
        lines.push(String::from("It waits until its addresses are in place."));
    }
    if instance.contested {
        lines.push(format!(
            "It waits until the router that it takes over from has closed its gate and said so, or \
             has been silent for another {}.",
            instance
                .timers
                .get(Timer::Rival)
                .map_or(Span(Nanos::ZERO), |due| left(due, now))
        ));
    }
    let phase = instance.leases.as_ref().map(|leases| leases.phase);
    match phase {
        Some(Phase::Promised) => lines.push(format!(
            "Another node has its promise for another {}.",
            left(instance.promised_until(), now)
        )),
        Some(Phase::Announcing) if instance.resumes() => lines.push(String::from(
            "It asks every other node whether it may go on, and lets go if one of them holds it.",
        )),
        Some(Phase::Announcing) => lines.push(String::from(
            "It has announced itself, and waits until every other node has granted a lease or proved silent.",
        )),
        Some(Phase::Won) | None => {}
    }
    match (&instance.send_error, instance.sent) {
        (Some(why), _) => lines.push(format!("Its adverts cannot be sent: {why}.")),
        (None, None) if matches!(phase, None | Some(Phase::Won)) => {
            lines.push(String::from("It waits until its first advert is sent."));
        }
        (None, _) => {}
    }
    lines
}

fn demoting(instance: &Instance, now: MonoNs) -> Vec<String> {
    let mut lines = alloc::vec![format!("{}: {}.", since(instance, now), instance.cause)];
    if let Some(departure) = &instance.departing {
        lines.push(format!("It is in {} afterwards.", departure.to));
    }
    lines
}

fn active(instance: &Instance, now: MonoNs) -> Vec<String> {
    let mut lines = Vec::new();
    let since = since(instance, now);
    match &instance.elected_by {
        Some(cause) => lines.push(format!("{since}: {cause}.")),
        None => lines.push(format!("{since}.")),
    }
    if let Some(leases) = &instance.leases {
        lines.extend(leases.peers.iter().map(|peer| {
            let how = if peer.view.self_renewed {
                "is not heard: this node renews its lease alone, which ends"
            } else {
                "has granted a lease, which ends"
            };
            format!(
                "{} {how} in {} unless it is renewed.",
                peer.address,
                left(peer.view.deadline, now)
            )
        }));
    } else if let Some(gate) = instance.gate {
        lines.push(format!(
            "Its lease ends in {} unless another advert is sent; one is due every {}.",
            left(gate, now),
            Span(instance.config.advert_interval)
        ));
    }
    if let Some(why) = &instance.send_error {
        lines.push(format!("The last advert could not be sent: {why}."));
    }
    if !instance.vips {
        lines.push(String::from("An address is being put back."));
    }
    lines.push(format!(
        "It steps down if a router with a priority above {}, or with the same and a greater \
         address, advertises.",
        instance.priority
    ));
    lines
}

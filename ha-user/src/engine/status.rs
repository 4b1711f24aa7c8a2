//! What the engine thread reports about itself.

use ha_common::{MonoNs, abi::Reason};
use ha_core::{Engine, InstanceStatus, Version};

use super::{contact, seat::Seat, shell::Shell, warnings::Warnings};
use crate::{
    control::report::{
        BondReport, Counters, DataplaneReport, EngineReport, InstanceReport, InterfaceReport,
        LeaseReport, StatusReport,
    },
    dataplane::Dataplane,
    fence::Pulse,
    sys::{clock, slew},
};

/// What does not change while the daemon runs, and what is counted.
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) node: String,
    pub(super) started: MonoNs,
    pub(super) groups: Vec<String>,
    pub(super) pin_dir: Option<std::path::PathBuf>,
    pub(super) fragile_pins: bool,
    pub(super) warnings: Warnings,
    pub(super) engine: EngineReport,
    pub(super) pulse: Pulse,
}

/// The whole status.
pub(super) fn report(engine: &Engine, shell: &Shell, vitals: &Vitals, now: MonoNs) -> StatusReport {
    let interfaces: Vec<InterfaceReport> = shell
        .interfaces
        .iter()
        .map(|(name, interface)| InterfaceReport {
            name: name.clone(),
            ifindex: (interface.ifindex != 0).then_some(interface.ifindex),
            mode: match (&interface.port, interface.attachment) {
                (None, _) => "none",
                (Some(_), None) => "off",
                (Some(_), Some(attachment)) => attachment.hook.name(),
            }
            .to_owned(),
            egress: interface
                .attachment
                .map(|attachment| if attachment.tcx { "tcx" } else { "clsact" }.to_owned()),
            adopted: interface
                .attachment
                .is_some_and(|attachment| attachment.adopted),
            error: interface.error.clone(),
            bond: shell
                .links
                .table()
                .by_name(name)
                .and_then(|link| link.bond.as_ref())
                .map(BondReport::from),
        })
        .collect();
    let statuses = engine.status(now);
    StatusReport {
        node: vitals.node.clone(),
        mode: "active-standby".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: clock::rfc3339(vitals.started),
        time: clock::rfc3339(now),
        now_ns: now.0,
        dataplane: DataplaneReport {
            mode: overall_mode(shell.dataplane.is_some(), &interfaces).to_owned(),
            pin_dir: vitals.pin_dir.clone(),
            kernel_watch: shell.dataplane.as_ref().is_some_and(Dataplane::has_watch),
            interfaces,
            guarded: Vec::new(),
            counters: counters(shell).unwrap_or_default(),
        },
        engine: EngineReport {
            lost_messages: shell.out.lost(),
            ..vitals.engine.clone()
        },
        warnings: warnings(shell, vitals, &statuses, now)
            .into_iter()
            .chain(muted(engine))
            .collect(),
        channels: shell.channels.report(shell.dataplane.as_ref(), now),
        paths: shell
            .paths
            .report(shell.dataplane.as_ref(), shell.links.table(), now),
        instances: statuses
            .iter()
            .filter_map(|status| {
                let seat = shell.seats.iter().find(|seat| seat.id == status.instance)?;
                Some(instance(shell, seat, status, &vitals.groups, now))
            })
            .collect(),
        peers: Vec::new(),
    }
}

/// What an operator muted, and may have forgotten.
fn muted(engine: &Engine) -> impl Iterator<Item = String> {
    let tracked = engine.tracked().into_iter();
    tracked.filter_map(|one| {
        let until = one.muted_until?;
        let end = match until.0 {
            u64::MAX => "it is unmuted: hactl unmute NAME".to_owned(),
            _ => clock::rfc3339(until),
        };
        Some(format!(
            "{} is muted, and counts for nothing, until {end}",
            one.source
        ))
    })
}

/// What somebody should see to.
fn warnings(
    shell: &Shell,
    vitals: &Vitals,
    statuses: &[InstanceStatus],
    now: MonoNs,
) -> Vec<String> {
    let guarded = match &shell.dataplane {
        Some(_) => "no packet for it passes",
        None => "nothing guards it",
    };
    let owed = shell.debts.iter().map(|debt| {
        format!(
            "{} cannot be taken off {}; {guarded}",
            debt.vip, debt.interface
        )
    });
    let fragile = vitals.fragile_pins.then(|| {
        "after SIGKILL there is no gate: the bpffs ends with this daemon's mount namespace"
            .to_owned()
    });
    let hidden = shell
        .interfaces
        .iter()
        .filter(|(_, interface)| {
            interface
                .attachment
                .is_some_and(|attachment| attachment.hidden_tags)
        })
        .map(|(name, _)| {
            format!(
                "frames of VLANs on {name} count as its own, since XDP does not see their tags: set dataplane.mode = \"tc\""
            )
        });
    let relies = shell
        .seats
        .iter()
        .any(|seat| seat.config.heartbeat.is_some());
    let slewed = relies.then(slew::advice).flatten();
    let contacts = statuses.iter().flat_map(|status| {
        let seat = shell.seats.iter().find(|seat| seat.id == status.instance);
        seat.map_or_else(Vec::new, |seat| contact::warnings(shell, seat, status, now))
    });
    let table = shell.links.table();
    let kinds = shell
        .interfaces
        .keys()
        .filter_map(|name| table.by_name(name))
        .flat_map(|link| link.advice(table));
    contacts
        .chain(owed)
        .chain(kinds)
        .chain(fragile)
        .chain(hidden)
        .chain(slewed)
        .chain(vitals.warnings.sentences())
        .collect()
}

/// One word for all interfaces.
fn overall_mode(has_dataplane: bool, interfaces: &[InterfaceReport]) -> &str {
    if !has_dataplane {
        return "off";
    }
    let mut modes = interfaces
        .iter()
        .map(|interface| interface.mode.as_str())
        .filter(|mode| *mode != "none");
    match modes.next() {
        None => "none",
        Some(first) if modes.all(|mode| mode == first) => first,
        Some(_) => "mixed",
    }
}

fn instance(
    shell: &Shell,
    seat: &Seat,
    status: &InstanceStatus,
    groups: &[String],
    now: MonoNs,
) -> InstanceReport {
    let (gate_open, adverts_received) = match &shell.dataplane {
        Some(dataplane) => (
            Some(dataplane.gate_open(seat.id, now)),
            dataplane.received(seat.id).adverts,
        ),
        None => (None, seat.adverts_received),
    };
    let link = shell.links.table().by_name(&seat.config.interface);
    let (vips, extra_vips) = seat.config.vips_by_key();
    InstanceReport {
        name: status.name.clone(),
        interface: seat.config.interface.clone(),
        group: seat
            .config
            .group
            .and_then(|group| groups.get(group))
            .cloned(),
        vrid: status.vrid.get(),
        vrrp_version: match seat.config.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        state: status.state.name().to_owned(),
        keepalived_state: status.state.keepalived_name().to_owned(),
        priority: status.priority.0,
        effective_priority: status.effective_priority.0,
        vips: vips.iter().map(ToString::to_string).collect(),
        extra_vips: extra_vips.iter().map(ToString::to_string).collect(),
        vips_present: link.is_some_and(|link| link.has_all(&seat.config.vips)),
        gate_open,
        active_since: seat.active_since.map(clock::rfc3339),
        since: clock::rfc3339(status.since),
        since_ns: status.since.0,
        cause: status.cause.to_string(),
        active_peer: status.active_peer,
        source: seat.source,
        peers: seat.config.peers.clone(),
        adverts_sent: seat.adverts_sent,
        adverts_received,
        leases: leases(shell, seat, now),
    }
}

fn leases(shell: &Shell, seat: &Seat, now: MonoNs) -> Vec<LeaseReport> {
    let Some(dataplane) = shell
        .dataplane
        .as_ref()
        .filter(|_| seat.config.heartbeat.is_some())
    else {
        return Vec::new();
    };
    let views = dataplane.views(seat.id);
    seat.config
        .peers
        .iter()
        .zip(views)
        .map(|(peer, view)| LeaseReport {
            peer: *peer,
            deadline_ns: view.deadline.0,
            self_renewed: view.self_renewed,
            promised_until_ns: view.promised_until.0,
            last_heard_us: (view.heard_at != MonoNs::ZERO)
                .then(|| now.since(view.heard_at).0 / 1_000),
        })
        .collect()
}

/// The verdicts by reason; none without a dataplane.
pub(super) fn counters(shell: &Shell) -> Result<Counters, String> {
    let Some(dataplane) = &shell.dataplane else {
        return Ok(Counters::new());
    };
    let counters = dataplane.counters().map_err(|error| error.to_string())?;
    Ok(counters
        .into_iter()
        .map(|(reason, count): (Reason, u64)| (reason.name().to_owned(), count))
        .collect())
}

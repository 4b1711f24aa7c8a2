//! Reports as text for people.

use std::fmt::Write as _;

use super::table::Table;
use crate::control::report::{
    BondReport, ChannelReport, Counters, EventReport, ExplainReport, InstanceReport, LeaseReport,
    PathReport, PeerReport, ReloadReport, StatusReport, SwitchoverReport,
};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Whether the terminal takes colours.
    pub(super) colour: bool,
}

impl Style {
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn state(self, text: &str) -> String {
        match text {
            "active" => self.paint("1;32", text),
            "fault" => self.paint("1;31", text),
            "promoting" | "demoting" => self.paint("33", text),
            _ => text.to_owned(),
        }
    }
}

/// `hactl status`.
pub(super) fn status(report: &StatusReport, style: Style) -> String {
    let mut text = String::new();
    let dataplane = &report.dataplane;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}  {}  had {} (process {}) since {}",
        style.paint("1", &report.node),
        report.mode,
        report.version,
        report.pid,
        report.started
    );
    let _ = writeln!(text, "dataplane: {}", mode_in_words(&dataplane.mode));
    for interface in &dataplane.interfaces {
        let _ = write!(text, "  {}: {}", interface.name, interface.mode);
        if let Some(egress) = &interface.egress {
            let _ = write!(text, ", egress guard {egress}");
        }
        if interface.adopted {
            let _ = write!(text, ", adopted");
        }
        if let Some(bond) = &interface.bond {
            let _ = write!(text, ", {}", bond_in_words(bond));
        }
        if let Some(error) = &interface.error {
            let _ = write!(text, ", {}", style.paint("1;31", error));
        } else if interface.ifindex.is_none() {
            let _ = write!(text, ", there is no such interface yet");
        }
        let _ = writeln!(text);
    }
    if !dataplane.guarded.is_empty() {
        let _ = writeln!(text, "  guarded: {}", dataplane.guarded.join(", "));
    }
    if dataplane.mode != "off" && dataplane.pin_dir.is_none() {
        let _ = writeln!(
            text,
            "  {}",
            style.paint("1;33", "nothing is pinned: no gate after SIGKILL")
        );
    }
    if report.engine.realtime_priority == 0 {
        let _ = writeln!(text, "  the engine thread has no real-time priority");
    }
    text.push_str(&warnings(&report.warnings, style));
    let _ = writeln!(text);
    if !report.channels.is_empty() {
        text.push_str(&channels(&report.channels, style));
        let _ = writeln!(text);
    }
    if !report.paths.is_empty() {
        text.push_str(&paths(&report.paths, style));
        let _ = writeln!(text);
    }
    let mut table = Table::new(&[
        "INSTANCE",
        "INTERFACE",
        "VRID",
        "STATE",
        "PRIORITY",
        "GATE",
        "ACTIVE NODE",
        "SINCE",
        "VIPS",
    ]);
    for instance in &report.instances {
        table.row(row(instance));
    }
    text.push_str(&table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 3) => style.state(cell),
        _ => cell.to_owned(),
    }));
    if report.instances.iter().any(|one| !one.leases.is_empty()) {
        let _ = writeln!(text);
        text.push_str(&leases(report, style));
    }
    if !report.peers.is_empty() {
        let _ = writeln!(text);
        text.push_str(&peers(&report.peers, style));
    }
    text
}

fn peers(peers: &[PeerReport], style: Style) -> String {
    let mut table = Table::new(&["NODE", "MODE", "HEARD", "LINK", "INSTANCES"]);
    for peer in peers {
        let paths = peer.paths.iter().map(|path| match &path.trouble {
            _ if path.up => format!("{} up", path.name),
            Some(trouble) => format!("{} down ({}: {trouble})", path.name, path.peer),
            None => format!("{} down", path.name),
        });
        let instances = peer
            .instances
            .iter()
            .map(|instance| format!("{} {}", instance.name, instance.state));
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let instances = instances.collect::<Vec<String>>().join(", ");
        table.row(vec![
            word(&peer.node),
            word(&peer.mode),
            heard(peer.last_heard_ms.map(|ms| ms.saturating_mul(1_000))),
            paths.collect::<Vec<String>>().join(", "),
            word(&Some(instances).filter(|words| !words.is_empty())),
        ]);
    }
    table.render(|row, _, cell| match row {
        0 => style.paint("2", cell),
        // Another node's words are not to move the cursor.
        _ => cell.replace(char::is_control, "?"),
    })
}

fn bond_in_words(bond: &BondReport) -> String {
    let slaves = bond.slaves.len();
    let mut text = format!(
        "bond {}: {} of {slaves} slaves can be used",
        bond.mode, bond.usable_slaves
    );
    if let Some(active) = &bond.active_slave {
        let _ = write!(text, ", {active} is active");
    }
    text
}

fn channels(channels: &[ChannelReport], style: Style) -> String {
    let mut table = Table::new(&[
        "CHANNEL",
        "KIND",
        "INTERFACE",
        "PEER",
        "STATE",
        "INTERVAL",
        "DETECTION",
        "FLAPS",
        "SINCE",
        "CAUSE",
    ]);
    for channel in channels {
        table.row(vec![
            channel.name.clone(),
            channel.kind.clone(),
            channel.interface.clone(),
            channel.peer.to_string(),
            channel.state.clone(),
            millis(channel.transmit_interval_us),
            match channel.detection_time_us {
                0 => "-".to_owned(),
                us => millis(us),
            },
            channel.flaps.to_string(),
            channel.since.clone(),
            channel.error.as_ref().unwrap_or(&channel.cause).clone(),
        ]);
    }
    table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 4) if cell == "up" => style.paint("1;32", cell),
        (_, 4) => style.paint("1;33", cell),
        _ => cell.to_owned(),
    })
}

fn paths(paths: &[PathReport], style: Style) -> String {
    let mut table = Table::new(&[
        "PATH",
        "INTERFACE",
        "PEER",
        "STATE",
        "HEARD",
        "INTERVAL",
        "LEASE",
        "ROUND TRIP",
        "P99",
        "SINCE",
        "ERROR",
    ]);
    let round_trip = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), millis);
    for path in paths {
        let lease_us = path.interval_us * u64::from(path.multiplier);
        table.row(vec![
            path.name.clone(),
            path.interface.clone(),
            path.peer.to_string(),
            match path.up {
                Some(true) => "up",
                Some(false) => "down",
                None => "unknown",
            }
            .to_owned(),
            heard(path.last_heard_us),
            millis(path.interval_us),
            millis(lease_us),
            round_trip(path.rtt_median_us),
            round_trip(path.rtt_p99_us),
            path.since.clone(),
            path.error.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 3) if cell == "up" => style.paint("1;32", cell),
        (_, 3) => style.paint("1;33", cell),
        _ => cell.to_owned(),
    })
}

fn leases(report: &StatusReport, style: Style) -> String {
    let mut table = Table::new(&["INSTANCE", "PEER", "LEASE", "PROMISED", "HEARD"]);
    for instance in &report.instances {
        for lease in &instance.leases {
            let promised = lease.promised_until_ns > report.now_ns;
            table.row(vec![
                instance.name.clone(),
                lease.peer.to_string(),
                lease_in_words(lease, report.now_ns).to_owned(),
                if promised { "yes" } else { "no" }.to_owned(),
                heard(lease.last_heard_us),
            ]);
        }
    }
    table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 2) if cell == "granted" => style.paint("1;32", cell),
        (_, 2) if cell == "self-renewed" => style.paint("1;33", cell),
        _ => cell.to_owned(),
    })
}

fn lease_in_words(lease: &LeaseReport, now_ns: u64) -> &'static str {
    match (lease.deadline_ns, lease.self_renewed) {
        (0, _) => "none",
        (deadline_ns, _) if deadline_ns <= now_ns => "run out",
        (_, true) => "self-renewed",
        (_, false) => "granted",
    }
}

fn heard(last_heard_us: Option<u64>) -> String {
    match last_heard_us {
        Some(us) if us >= 1_000_000 => format!("{:.1} s ago", us as f64 / 1_000_000.0),
        Some(us) => format!("{} ago", millis(us)),
        None => "never".to_owned(),
    }
}

fn millis(us: u64) -> String {
    format!("{} ms", us as f64 / 1_000.0)
}

fn mode_in_words(mode: &str) -> &str {
    match mode {
        "native" => "XDP in native mode",
        "generic" => "XDP in generic mode",
        "tc" => "tc, without XDP",
        "mixed" => "not the same on every interface",
        "none" => "not attached to any interface yet",
        "off" => "off: sockets alone, NO GATE",
        other => other,
    }
}

fn row(instance: &InstanceReport) -> Vec<String> {
    let priority = if instance.priority == instance.effective_priority {
        instance.priority.to_string()
    } else {
        format!("{} ({})", instance.effective_priority, instance.priority)
    };
    let active = match (&instance.active_peer, instance.state.as_str()) {
        (_, "active") => "this one".to_owned(),
        (Some(peer), _) => peer.to_string(),
        (None, _) => "-".to_owned(),
    };
    let name = match &instance.group {
        Some(group) => format!("{} ({group})", instance.name),
        None => instance.name.clone(),
    };
    vec![
        name,
        instance.interface.clone(),
        instance.vrid.to_string(),
        instance.state.clone(),
        priority,
        match instance.gate_open {
            Some(true) => "open",
            Some(false) => "closed",
            None => "none",
        }
        .to_owned(),
        active,
        instance.since.clone(),
        vips(instance),
    ]
}

/// The addresses that adverts name, and how many there are beside them.
fn vips(instance: &InstanceReport) -> String {
    let mut words = instance.vips.join(" ");
    if !instance.extra_vips.is_empty() {
        words.push_str(&format!(" and {} extra", instance.extra_vips.len()));
    }
    words
}

/// `hactl events`.
pub(super) fn events(events: &[EventReport], style: Style) -> String {
    let mut table = Table::new(&["TIME", "INSTANCE", "KIND", "WHAT"]);
    for event in events {
        let what = match (&event.from, &event.to) {
            (Some(from), Some(to)) => format!("{from} -> {to}: {}", event.sentence),
            _ => event.sentence.clone(),
        };
        table.row(vec![
            event.time.clone(),
            event.instance.clone(),
            event.kind.clone(),
            what,
        ]);
    }
    table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 2) if cell == "transition" => style.paint("1", cell),
        _ => cell.to_owned(),
    })
}

/// `hactl explain`.
pub(super) fn explain(report: &ExplainReport) -> String {
    let mut text = String::new();
    for sentence in &report.sentences {
        let _ = writeln!(text, "{sentence}");
    }
    text
}

/// `hactl switchover`, as soon as everything is released.
pub(super) fn switchover(report: &SwitchoverReport) -> String {
    format!("released: {}\n", report.released.join(", "))
}

/// `hactl switchover`, once another node is Active.
pub(super) fn taken_over(moved: &[&InstanceReport]) -> String {
    let mut text = String::new();
    for instance in moved {
        if let Some(peer) = &instance.active_peer {
            let _ = writeln!(text, "{}: {peer} is Active", instance.name);
        }
    }
    text
}

/// `hactl reload`.
pub(super) fn reload(report: &ReloadReport, style: Style) -> String {
    let mut text = String::new();
    for change in &report.changes {
        let _ = writeln!(text, "{change}");
    }
    if report.changes.is_empty() {
        text.push_str("nothing changed\n");
    }
    text.push_str(&warnings(&report.warnings, style));
    text
}

fn warnings(warnings: &[String], style: Style) -> String {
    let mut text = String::new();
    for warning in warnings {
        let _ = writeln!(text, "{} {warning}", style.paint("1;33", "warning:"));
    }
    text
}

/// `hactl counters`: without `all`, what was counted at all.
pub(super) fn counters(counters: &Counters, all: bool) -> String {
    if counters.is_empty() {
        return "nothing is counted: there is no program in the kernel\n".to_owned();
    }
    let mut table = Table::new(&["REASON", "COUNT"]);
    let shown = counters.iter().filter(|(_, count)| all || **count > 0);
    for (reason, count) in shown.clone() {
        table.row(vec![reason.clone(), count.to_string()]);
    }
    let mut text = table.render(|_, _, cell| cell.to_owned());
    let left_out = counters.len() - shown.count();
    if left_out > 0 {
        let _ = writeln!(
            text,
            "and {left_out} that are 0: `hactl counters --all` shows them"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::report::{
            DataplaneReport, EngineReport, InterfaceReport, LinkPathReport, SlaveReport,
        },
        link::message::InstanceState,
    };

    fn channel() -> ChannelReport {
        ChannelReport {
            name: "direct".to_owned(),
            kind: "bfd".to_owned(),
            interface: "eth1".to_owned(),
            local: [10, 0, 3, 1].into(),
            peer: [10, 0, 3, 2].into(),
            state: "up".to_owned(),
            since: "2026-11-21T00:59:30.000000Z".to_owned(),
            since_ns: 1,
            cause: "the peer is heard, and says init".to_owned(),
            remote_state: "up".to_owned(),
            diagnostic: "No Diagnostic".to_owned(),
            remote_diagnostic: "No Diagnostic".to_owned(),
            transmit_interval_us: 3_000,
            receive_interval_us: 3_000,
            detection_time_us: 9_000,
            last_heard_us: Some(1_200),
            authenticated: false,
            packets_sent: 30,
            packets_received: 40,
            packets_rejected: 0,
            flaps: 1,
            error: None,
        }
    }

    fn path(name: &str, up: Option<bool>) -> PathReport {
        PathReport {
            name: name.to_owned(),
            interface: "eth0".to_owned(),
            local: Some([192, 168, 33, 101].into()),
            peer: [192, 168, 33, 102].into(),
            interval_us: 1_000,
            multiplier: 3,
            keyed: false,
            up,
            last_heard_us: up.map(|up| if up { 700 } else { 3_900_000 }),
            since: "2026-11-21T00:59:40.000000Z".to_owned(),
            echoes_sent: 50,
            echoes_answered: 40,
            answers: 30,
            strangers: 1,
            bad_tags: 0,
            rtt_last_us: Some(60),
            rtt_median_us: up.map(|_| 56),
            rtt_p99_us: up.map(|_| 112),
            error: None,
        }
    }

    fn lease(
        peer: u8,
        deadline_ns: u64,
        self_renewed: bool,
        promised_until_ns: u64,
    ) -> LeaseReport {
        LeaseReport {
            peer: [192, 168, 33, peer].into(),
            deadline_ns,
            self_renewed,
            promised_until_ns,
            last_heard_us: (deadline_ns > 0).then_some(2_700),
        }
    }

    #[test]
    fn status_with_leases() {
        let mut report = report();
        report.channels.clear();
        report.paths = vec![
            path("eth0", Some(true)),
            path("direct", Some(false)),
            PathReport {
                error: Some("it has no address".to_owned()),
                ..path("spare", None)
            },
        ];
        report.instances[0].leases = vec![lease(102, 3, false, 0), lease(103, 3, true, 0)];
        report.instances[1].leases = vec![lease(102, 0, false, 3), lease(103, 2, false, 2)];
        insta::assert_snapshot!(status(&report, Style { colour: false }));
    }

    fn report() -> StatusReport {
        let instance = InstanceReport {
            name: "web".to_owned(),
            interface: "eth0".to_owned(),
            group: Some("db".to_owned()),
            vrid: 51,
            vrrp_version: 3,
            state: "active".to_owned(),
            keepalived_state: "MASTER".to_owned(),
            priority: 100,
            effective_priority: 100,
            vips: vec!["192.168.33.100/24".to_owned()],
            extra_vips: Vec::new(),
            vips_present: true,
            gate_open: Some(true),
            active_since: Some("2026-11-21T01:00:00.000000Z".to_owned()),
            since: "2026-11-21T01:00:00.000000Z".to_owned(),
            since_ns: 1,
            cause: "nothing was heard for 36 ms".to_owned(),
            active_peer: None,
            source: Some([192, 168, 33, 101].into()),
            peers: vec![],
            adverts_sent: 10,
            adverts_received: 20,
            leases: Vec::new(),
        };
        StatusReport {
            node: "node1".to_owned(),
            mode: "active-standby".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 42,
            started: "2026-11-21T00:59:00.000000Z".to_owned(),
            time: "2026-11-21T01:02:00.000000Z".to_owned(),
            now_ns: 2,
            dataplane: DataplaneReport {
                mode: "native".to_owned(),
                pin_dir: None,
                kernel_watch: true,
                interfaces: vec![
                    InterfaceReport {
                        name: "eth0".to_owned(),
                        ifindex: Some(2),
                        mode: "native".to_owned(),
                        egress: Some("tcx".to_owned()),
                        adopted: true,
                        error: None,
                        bond: Some(BondReport {
                            mode: "active-backup".to_owned(),
                            active_slave: Some("eth5".to_owned()),
                            usable_slaves: 1,
                            slaves: vec![SlaveReport {
                                name: "eth5".to_owned(),
                                usable: true,
                                mii: "up".to_owned(),
                                aggregator: None,
                                partner_in_sync: None,
                            }],
                        }),
                    },
                    InterfaceReport {
                        name: "eth1".to_owned(),
                        ifindex: None,
                        mode: "none".to_owned(),
                        egress: None,
                        adopted: false,
                        error: None,
                        bond: None,
                    },
                ],
                guarded: vec!["eth2".to_owned()],
                counters: Counters::new(),
            },
            engine: EngineReport {
                wakeups: 7,
                timeouts: 3,
                adverts: 2,
                realtime_priority: 0,
                cpu_affinity: Vec::new(),
                memory_locked: true,
                thread: 43,
                lost_messages: 0,
            },
            warnings: vec!["somebody should look at this".to_owned()],
            paths: Vec::new(),
            channels: vec![channel()],
            peers: Vec::new(),
            instances: vec![
                instance.clone(),
                InstanceReport {
                    name: "mail".to_owned(),
                    interface: "eth1".to_owned(),
                    group: None,
                    vrid: 7,
                    state: "backup".to_owned(),
                    effective_priority: 80,
                    gate_open: Some(false),
                    active_since: None,
                    active_peer: Some([192, 168, 34, 102].into()),
                    vips: vec![
                        "192.168.34.100/24".to_owned(),
                        "192.168.34.99/32".to_owned(),
                    ],
                    ..instance
                },
            ],
        }
    }

    #[test]
    fn status_for_people() {
        let plain = status(&report(), Style { colour: false });
        insta::assert_snapshot!(plain);
        let coloured = status(&report(), Style { colour: true });
        assert_ne!(coloured, plain);
        assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[1;32mactive\u{1b}[0m"));
    }

    #[test]
    fn status_with_other_nodes() {
        let path = |name: &str, up: bool, trouble: Option<&str>| LinkPathReport {
            name: name.to_owned(),
            interface: name.to_owned(),
            local: None,
            peer: [10, 0, 4, 2].into(),
            up,
            last_heard_ms: Some(12),
            refused: 0,
            trouble: trouble.map(str::to_owned),
        };
        let instance = |name: &str, state: &str| InstanceState {
            name: name.to_owned(),
            group: None,
            state: state.to_owned(),
            priority: 100,
        };
        let known = PeerReport {
            node: Some("node2".to_owned()),
            version: Some("0.1.0".to_owned()),
            mode: Some("active-standby".to_owned()),
            last_heard_ms: Some(12),
            instances: vec![
                instance("web", "backup"),
                instance("mail", "\u{1b}[2Jfault"),
            ],
            paths: vec![
                path("eth0", true, None),
                path("cable", false, Some("it does not answer any more")),
            ],
        };
        let stranger = PeerReport {
            node: None,
            version: None,
            mode: None,
            last_heard_ms: None,
            instances: Vec::new(),
            paths: vec![path("eth5", false, None)],
        };
        let shown = peers(&[known, stranger], Style { colour: true });
        insta::assert_snapshot!(shown.replace('\u{1b}', "ESC"));
    }

    /// The contract with programs: keys may be added, not changed.
    #[test]
    fn status_for_programs() {
        let value = serde_json::to_value(report()).unwrap();
        insta::assert_snapshot!(format!("{value:#}"));
    }

    #[test]
    fn events_for_people() {
        let transition = EventReport {
            at_ns: 1,
            time: "2026-11-21T01:00:00.000000Z".to_owned(),
            instance: "web".to_owned(),
            kind: "transition".to_owned(),
            from: Some("backup".to_owned()),
            to: Some("promoting".to_owned()),
            sentence: "nothing was heard for 36 ms".to_owned(),
        };
        let gate = EventReport {
            kind: "gate_open".to_owned(),
            from: None,
            to: None,
            sentence: "the gate opened".to_owned(),
            ..transition.clone()
        };
        insta::assert_snapshot!(events(&[transition, gate], Style { colour: false }));
    }
    #[test]
    fn counters_of_nothing_are_left_out_unless_they_are_asked_for() {
        let counts = [("advert_taken", 12), ("arp_answered", 0), ("pass_arp", 3)];
        let counts: Counters = counts
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect();
        insta::assert_snapshot!([counters(&counts, false), counters(&counts, true)].join("\n"));
        assert!(counters(&Counters::new(), true).starts_with("nothing is counted"));
    }

    #[test]
    fn a_reload_ends_with_its_warnings() {
        let style = Style { colour: false };
        let mut report = ReloadReport {
            changes: Vec::new(),
            warnings: vec!["somebody should look at this".to_owned()],
        };
        let unchanged = reload(&report, style);
        report.changes.push("web: priority 90".to_owned());
        insta::assert_snapshot!([unchanged, reload(&report, style)].join("\n"));
    }
}

//! `hactl checks` for people.

use std::fmt::Write as _;

use super::{render::Style, table::Table};
use crate::control::report::{CheckReport, ChecksReport, EffectReport, TrackedReport};

/// All checks and tracked interfaces, a line each.
pub(super) fn overview(report: &ChecksReport, style: Style) -> String {
    if report.checks.is_empty() && report.interfaces.is_empty() {
        return "Nothing is watched beside the instances' own interfaces: there is no [[check]], and no `track`.\n"
            .to_owned();
    }
    let mut table = Table::new(&["CHECK", "KIND", "STATE", "SINCE", "LAST", "MOVES", "WHY"]);
    for check in &report.checks {
        let tracked = check.tracked.as_ref();
        table.row(vec![
            check.name.clone(),
            check.kind.clone(),
            state(&check.state, tracked),
            check.since.clone().unwrap_or_else(|| "-".to_owned()),
            check.last_us.map_or_else(|| "-".to_owned(), millis),
            tracked.map_or_else(String::new, |tracked| effects(&tracked.effects)),
            check.why.clone(),
        ]);
    }
    for interface in &report.interfaces {
        table.row(vec![
            interface.name.clone(),
            "interface".to_owned(),
            state(&interface.reported, Some(interface)),
            "-".to_owned(),
            "-".to_owned(),
            effects(&interface.effects),
            interface.why.clone(),
        ]);
    }
    table.render(|row, column, cell| match (row, column) {
        (0, _) => style.paint("2", cell),
        (_, 2) => paint_state(style, cell),
        _ => cell.to_owned(),
    })
}

/// Everything that is known of one check.
pub(super) fn detail(check: &CheckReport, style: Style) -> String {
    let mut text = String::new();
    let tracked = check.tracked.as_ref();
    let since = check.since.as_deref().unwrap_or("its task begins");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}  {}  {} since {since}",
        style.paint("1", &check.name),
        check.kind,
        paint_state(style, &state(&check.state, tracked)),
    );
    if !check.why.is_empty() {
        let _ = writeln!(text, "  {}", check.why);
    }
    let run = match (check.passed, check.failed) {
        (0, 0) => "it was not probed so far".to_owned(),
        (0, 1) => "the last probe failed".to_owned(),
        (1, _) => "the last probe passed".to_owned(),
        (0, failed) => format!("{failed} probes in a row failed"),
        (passed, _) => format!("{passed} probes in a row passed"),
    };
    let _ = writeln!(text, "  {run}");
    if let Some(tracked) = tracked {
        text.push_str(&bearing(tracked));
    }
    if !check.history.is_empty() {
        let _ = writeln!(text, "\nlast probes:");
    }
    for probe in &check.history {
        let verdict = if probe.passed { "passed" } else { "failed" };
        let lasted = millis(probe.lasted_us);
        let _ = writeln!(
            text,
            "  {}  {verdict}  {lasted}  {}",
            probe.time, probe.text
        );
    }
    if !check.output.is_empty() {
        let _ = writeln!(text, "\nlast lines that it printed:");
    }
    for line in &check.output {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What it does to the instances, and what holds it back.
fn bearing(tracked: &TrackedReport) -> String {
    let mut text = String::new();
    if tracked.effects.is_empty() {
        let _ = writeln!(text, "  it moves nothing: no instance has it in `track`");
    }
    for effect in &tracked.effects {
        let what = match (effect.kind.as_str(), effect.weight) {
            ("veto", _) => "is in Fault while it is down".to_owned(),
            ("arbitrator", _) => {
                "neither takes over nor stays Active while it is down and nothing is heard from the other nodes"
                    .to_owned()
            }
            ("weight_per_slave", Some(weight)) => {
                format!("has {weight:+} in priority for each slave that can be used")
            }
            ("weight_per_unit", Some(weight)) => {
                format!("has {weight:+} in priority as many times as it counts, while it is up")
            }
            (_, Some(weight)) if weight < 0 => {
                format!("has {weight:+} in priority while it is down")
            }
            (_, weight) => format!("has {:+} in priority while it is up", weight.unwrap_or(0)),
        };
        let _ = writeln!(text, "  {} {what}", effect.instance);
    }
    if tracked.muted {
        let until = match &tracked.muted_until {
            Some(until) => format!("until {until}"),
            None => format!("until `hactl unmute {}`", tracked.name),
        };
        let _ = writeln!(text, "  muted {until}: it counts for nothing");
    } else if let Some(settles_at) = &tracked.settles_at {
        let _ = writeln!(
            text,
            "  it counts as {} until {settles_at}, since it came and went, or a delay is configured",
            tracked.counts
        );
    }
    text
}

fn state(state: &str, tracked: Option<&TrackedReport>) -> String {
    match tracked {
        Some(tracked) if tracked.muted => format!("{state}, muted"),
        Some(tracked) if tracked.settles_at.is_some() => {
            format!("{state}, counts as {}", tracked.counts)
        }
        _ => state.to_owned(),
    }
}

fn paint_state(style: Style, cell: &str) -> String {
    match cell.split(',').next() {
        Some("up") => style.paint("32", cell),
        Some("down") => style.paint("1;31", cell),
        _ => cell.to_owned(),
    }
}

fn effects(effects: &[EffectReport]) -> String {
    let mut words: Vec<String> = effects
        .iter()
        .map(|effect| match (effect.kind.as_str(), effect.weight) {
            ("weight_per_slave", Some(weight)) => format!("{} {weight:+}/slave", effect.instance),
            ("weight_per_unit", Some(weight)) => format!("{} {weight:+}/unit", effect.instance),
            (_, Some(weight)) => format!("{} {weight:+}", effect.instance),
            (kind, None) => format!("{} ({kind})", effect.instance),
        })
        .collect();
    if words.len() > 3 {
        let more = words.len() - 2;
        words.truncate(2);
        words.push(format!("{more} more"));
    }
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(", ")
    }
}

fn millis(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

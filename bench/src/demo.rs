//! `bench demo`: one take-over, step by step, with keepalived's beside it.

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{clock::sleep_until, lab::VIP, now};

use crate::{
    figures::Figures,
    hang::{self, End, STOPPED, Spoken},
    pair::{ACTIVE_DOWN, INTERVAL, Pair, System, VRID, events},
};

/// What happened when, in one take-over.
struct Timeline {
    steps: Vec<(MonoNs, String)>,
    silence: Nanos,
}

/// Shows `trials` take-overs of `had` and of keepalived.
pub(crate) fn run(trials: u32) -> Result<()> {
    ensure!(trials > 0, "no take-over asked for");
    println!(
        "Two nodes and a client on a switch, each in a network namespace of its own. Both nodes may\n\
         hold the virtual address {VIP}. The Active one advertises each {INTERVAL}; the other takes over\n\
         after {ACTIVE_DOWN} without an advert (RFC 9568). The client asks {VIP} for an echo each 200 us.\n"
    );
    let mut lines = Vec::new();
    for system in [System::Had, System::Keepalived] {
        println!("== {} ==", system.name());
        let mut pair = Pair::start(system)?;
        let mut silences = Vec::new();
        for _ in 0..trials {
            silences.push(take_over(&mut pair)?.silence);
        }
        let spoken = hang(&mut pair)?;
        println!();
        let figures = Figures::of(&silences).context("there is at least one trial")?;
        lines.push(format!(
            "{:<10}  power lost: the client heard nothing for {} (median of {}); daemon hangs: {} frames of the old node beside the new one",
            system.name(),
            figures.median,
            figures.count,
            spoken.stopped
        ));
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

/// Lets the Active node's daemon hang.
fn hang(pair: &mut Pair) -> Result<Spoken> {
    let old = pair.settle()?;
    let name = pair.nodes[old].name().to_owned();
    println!(
        "{name} is Active. Its daemon hangs (SIGSTOP) for {STOPPED}; packets for {VIP} go straight to {name}, and a\n\
         process on it goes on sending from {VIP}."
    );
    let spoken = hang::end_daemon(pair, End::Stop, old)?;
    println!(
        "  {} frames left {name} for {VIP} later than three intervals after its last advert: answers to the client's\n\
         {:2}packets ({} were offered), and what that process sent",
        spoken.stopped, "", spoken.offered
    );
    Ok(spoken)
}

fn take_over(pair: &mut Pair) -> Result<Timeline> {
    let old = pair.settle()?;
    let new = 1 - old;
    println!(
        "{} is Active and answers the client; {} is Backup and listens. {} loses its power.",
        pair.nodes[old].name(),
        pair.nodes[new].name(),
        pair.nodes[old].name()
    );
    let from = now();
    sleep_until(from.after(INTERVAL.times(3)));
    pair.nodes[old].power_off()?;
    pair.wait_served_by(new)?;
    sleep_until(now().after(INTERVAL.times(2)));
    let timeline = timeline(pair, old, new, from)?;
    let start = timeline.steps.first().context("a take-over has steps")?.0;
    for (at, what) in &timeline.steps {
        println!("  +{:>10}  {what}", at.since(start).to_string());
    }
    println!("  the client heard nothing for {}", timeline.silence);
    pair.nodes[old].power_on()?;
    Ok(timeline)
}

fn timeline(pair: &Pair, old: usize, new: usize, from: MonoNs) -> Result<Timeline> {
    let gap = pair.prober.longest_gap(from, now())?;
    let (old, new) = (
        (&pair.nodes[old], &pair.sniffers[old]),
        (&pair.nodes[new], &pair.sniffers[new]),
    );
    ensure!(
        gap.before.by == old.0.mac() && gap.after.by == new.0.mac(),
        "the virtual address did not move: {gap:?}"
    );
    let (last_advert, _) = old
        .1
        .last_live_advert(VRID)
        .context("the Active node never advertised")?;
    let announced = new
        .1
        .first_announcement(from)
        .context("the new node announced nothing")?;
    let mut steps = vec![
        (gap.before.at, format!("last answer of {}", old.0.name())),
        (last_advert, format!("last advert of {}", old.0.name())),
        (
            announced,
            format!("{}: GARP seen on the wire", new.0.name()),
        ),
        (gap.after.at, format!("first answer of {}", new.0.name())),
    ];
    if pair.system.is_had() {
        for event in events(new.0, from)? {
            let step = match event.kind.as_str() {
                "silence" => "silence proven by the kernel's timer",
                "vips_added" => "address added",
                "gate_open" => "gate open",
                "announced" => "GARP sent",
                "transition" => &event.sentence,
                _ => continue,
            };
            steps.push((event.at, format!("{}: {step}", new.0.name())));
        }
    }
    // What the new node does after its first answer belongs to the next chapter.
    steps.retain(|(at, _)| *at <= gap.after.at.max(announced));
    steps.sort_by_key(|(at, _)| *at);
    Ok(Timeline {
        steps,
        silence: gap.length(),
    })
}

//! What is tracked, for `hactl checks`.

use ha_core::{
    Engine,
    tracking::{Effect, Source, Track, TrackedStatus},
};

use super::seat::Seat;
use crate::{
    control::report::{EffectReport, TrackedReport},
    sys::clock,
};

/// Everything tracked, and what it does to which instance.
pub(super) fn report(engine: &Engine, seats: &[Seat]) -> Vec<TrackedReport> {
    let tracked = engine.tracked();
    tracked.iter().map(|one| of(engine, seats, one)).collect()
}

fn of(engine: &Engine, seats: &[Seat], tracked: &TrackedStatus) -> TrackedReport {
    let (kind, name) = match &tracked.source {
        Source::Check(name) => ("check", name),
        Source::Interface(name) => ("interface", name),
    };
    let effects = seats.iter().flat_map(|seat| {
        let tracks = engine.tracks(seat.id).into_iter();
        tracks
            .filter(|track| track.source == tracked.source)
            .map(|track| effect(&seat.name, &track))
    });
    let forever = tracked.muted_until.is_some_and(|until| until.0 == u64::MAX);
    TrackedReport {
        kind: kind.to_owned(),
        name: name.clone(),
        reported: tracked.reported.health.name().to_owned(),
        counts: tracked.counts.health.name().to_owned(),
        why: tracked.reported.why.clone(),
        settles_at: tracked.settles_at.map(clock::rfc3339),
        muted: tracked.muted_until.is_some(),
        muted_until: tracked.muted_until.filter(|_| !forever).map(clock::rfc3339),
        effects: effects.collect(),
    }
}

fn effect(instance: &str, track: &Track) -> EffectReport {
    let (kind, weight) = match track.effect {
        Effect::Veto => ("veto", None),
        Effect::Arbitrate => ("arbitrator", None),
        Effect::Weight(weight) => ("weight", Some(weight)),
        Effect::WeightPerUnit(weight) => match track.source {
            Source::Interface(_) => ("weight_per_slave", Some(weight)),
            Source::Check(_) => ("weight_per_unit", Some(weight)),
        },
    };
    EffectReport {
        instance: instance.to_owned(),
        kind: kind.to_owned(),
        weight,
    }
}

//! The definition: from conditions to an effective priority, a veto, and what is still to be known.

use alloc::{string::String, vec::Vec};

use ha_common::{MonoNs, Nanos, Priority};

use super::{Effect, Source, Track, Tracked};
use crate::check::Health;

/// The highest priority of a router that does not own the addresses (RFC 9568 section 5.2.4).
const HIGHEST: i32 = 254;

/// What everything that an instance tracks comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearing {
    /// The effective priority.
    pub(crate) priority: Priority,
    /// The first veto that stands.
    pub(crate) veto: Option<Veto>,
    /// What is muted.
    pub(crate) muted: Vec<Source>,
    /// The first thing with a veto of which nothing is known yet.
    pub(crate) awaits: Option<Source>,
    /// The arbitrators, but for muted ones.
    pub(crate) arbitrators: Vec<Advisor>,
}

/// A veto that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Veto {
    /// Whose.
    pub(crate) by: Source,
    /// Why.
    pub(crate) why: String,
    /// Where it is up again already: when that counts.
    pub(crate) ends_at: Option<MonoNs>,
}

/// An arbitrator, as its check sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advisor {
    pub(crate) source: Source,
    /// Since when it is down, and why.
    pub(crate) fault: Option<(MonoNs, String)>,
    /// Between two of its probes.
    pub(crate) interval: Nanos,
    /// Within which a probe answers.
    pub(crate) timeout: Nanos,
}

/// Applies everything tracked to a configured priority.
pub(crate) fn bearing<'a>(
    base: Priority,
    tracks: impl Iterator<Item = &'a Track>,
    tracked: &[Tracked],
) -> Bearing {
    let mut sum = i32::from(base.0);
    let mut veto = None;
    let mut awaits = None;
    let mut arbitrators = Vec::new();
    let mut muted = Vec::new();
    for track in tracks {
        let Some(thing) = tracked.iter().find(|thing| thing.is(&track.source)) else {
            continue;
        };
        let reading = thing.counts();
        let is_muted = thing.is_muted();
        if is_muted && !muted.contains(&track.source) {
            muted.push(track.source.clone());
        }
        let up = is_muted || reading.health == Health::Up;
        let down = !is_muted && reading.health == Health::Down;
        match track.effect {
            Effect::Veto if down => {
                veto.get_or_insert_with(|| Veto {
                    by: track.source.clone(),
                    why: reading.why.clone(),
                    ends_at: thing.rises_at(),
                });
            }
            Effect::Veto if !up => {
                awaits.get_or_insert_with(|| track.source.clone());
            }
            Effect::Arbitrate if !is_muted => {
                arbitrators.push(thing.advisor());
            }
            Effect::Weight(weight) if weight < 0 && down => sum = sum.saturating_add(weight.into()),
            Effect::Weight(weight) if weight > 0 && up => sum = sum.saturating_add(weight.into()),
            Effect::WeightPerUnit(weight) if up => {
                sum = sum.saturating_add(i32::from(weight).saturating_mul(reading.count));
            }
            Effect::Veto | Effect::Arbitrate | Effect::Weight(_) | Effect::WeightPerUnit(_) => {}
        }
    }
    Bearing {
        priority: match base {
            Priority::OWNER => base,
            _ => Priority(u8::try_from(sum.clamp(1, HIGHEST)).unwrap_or(u8::MAX - 1)),
        },
        veto,
        awaits,
        arbitrators,
        muted,
    }
}

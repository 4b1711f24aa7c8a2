//! `track`, of an instance or a group, and `[[interface]]`.

use std::collections::BTreeMap;

use ha_common::Nanos;
use ha_core::{
    LinkDelays,
    tracking::{Effect, Source, Track},
};

use super::{
    checks::DraftCheck,
    parse::{interface, span},
    reader::{At, Reader, Section, nearest},
};

/// `[[interface]]`: how an interface is judged, whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How long its carrier must be back, or away, before that counts.
    pub delays: LinkDelays,
    /// Slaves that a bond must be able to use.
    pub min_up_slaves: u32,
    /// The longest that its recovery is held back for those that track it, where it comes and goes.
    pub damping: Nanos,
}

impl Interface {
    /// One that the file does not name.
    #[must_use]
    pub fn unnamed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            delays: LinkDelays::default(),
            min_up_slaves: 1,
            damping: DAMPING,
        }
    }
}

/// The longest that a recovery is held back, unless the file says otherwise.
pub(super) const DAMPING: Nanos = Nanos::from_secs(60);

const LONGEST_DELAY: Nanos = Nanos::from_secs(3_600);
/// The strongest weight that can matter: from the highest priority to the lowest.
const HEAVIEST: u32 = 253;

pub(super) const INTERFACE_KEYS: &[&str] =
    &["name", "up_delay", "down_delay", "min_up_slaves", "damping"];
/// Of an interface and of a check: what is added as many times as it counts.
const PER_SLAVE: &str = "weight_per_slave";
const PER_UNIT: &str = "weight_per_unit";
const TRACK_KEYS: &[&str] = &["check", "interface", "weight", PER_SLAVE, PER_UNIT, "when"];

/// `[[interface]]`; `None` = its name is missing or wrong, which has been reported.
pub(super) struct DraftInterface {
    pub(super) place: String,
    pub(super) name: At<String>,
    pub(super) interface: Interface,
}

pub(super) fn parse_interface(section: &Section<'_>) -> Option<DraftInterface> {
    let name = section.require("name", interface(section, "name"), "\"eth0\"")?;
    let delay = |key| span(section, key, Nanos::ZERO, LONGEST_DELAY);
    let min_up_slaves = section.integer("min_up_slaves", 1, 64);
    let unnamed = Interface::unnamed(&name.value);
    Some(DraftInterface {
        place: section.place.clone(),
        name,
        interface: Interface {
            delays: LinkDelays {
                up: delay("up_delay").unwrap_or_default(),
                down: delay("down_delay").unwrap_or_default(),
            },
            min_up_slaves: min_up_slaves.map_or(unnamed.min_up_slaves, |number| number.value),
            damping: delay("damping").unwrap_or(unnamed.damping),
            ..unnamed
        },
    })
}

/// One item of `track`.
pub(super) struct DraftTrack {
    place: String,
    offset: usize,
    track: Track,
}

impl DraftTrack {
    /// What it does to who tracks it.
    pub(super) const fn effect(&self) -> Effect {
        self.track.effect
    }
}

/// The items of `track`.
pub(super) fn parse(section: &Section<'_>) -> Vec<DraftTrack> {
    section
        .list_of_tables("track", TRACK_KEYS)
        .iter()
        .filter_map(item)
        .collect()
}

fn item(section: &Section<'_>) -> Option<DraftTrack> {
    let check = section.string("check");
    let interface = interface(section, "interface");
    let source = match (check, interface) {
        (Some(check), None) => Source::Check(check.value),
        (None, Some(interface)) => Source::Interface(interface.value),
        (Some(_), Some(interface)) => {
            section.fail(
                interface.offset,
                "interface",
                "there is `check` as well",
                "write an item for each",
            );
            return None;
        }
        (None, None) => {
            section.require_or("check", None::<()>, || {
                "write { check = \"NAME\" } or { interface = \"NAME\" }".to_owned()
            });
            return None;
        }
    };
    let weight = weight(section, "weight");
    let per_unit = weight_per_unit(section, &source);
    let arbitrates = arbitrates(section, &source);
    let effect = match (weight, per_unit) {
        (Some(weight), _) => Effect::Weight(weight),
        (None, Some(weight)) => Effect::WeightPerUnit(weight),
        (None, None) if arbitrates => Effect::Arbitrate,
        (None, None) => Effect::Veto,
    };
    Some(DraftTrack {
        place: section.place.clone(),
        offset: section.offset,
        track: Track { source, effect },
    })
}

/// `when = "isolated"`.
fn arbitrates(section: &Section<'_>, source: &Source) -> bool {
    let Some(when) = section.choice("when", &[("isolated", ())]) else {
        return false;
    };
    let weighs = ["weight", PER_SLAVE, PER_UNIT]
        .iter()
        .any(|key| section.offset_of(key).is_some());
    let (message, fix) = match source {
        _ if weighs => (
            "an arbitrator has no weight: it only says no",
            "leave the weight out",
        ),
        Source::Interface(_) => (
            "an interface is no arbitrator",
            "track a check, as one of kind \"ping\"",
        ),
        Source::Check(_) => return true,
    };
    section.fail(when.offset, "when", message, fix);
    false
}

/// What is added as many times as the thing counts; each kind of thing has a key of its own for it.
fn weight_per_unit(section: &Section<'_>, source: &Source) -> Option<i16> {
    let (own, other, wrong, fix) = match source {
        Source::Check(_) => (
            PER_UNIT,
            PER_SLAVE,
            "a check has no slaves",
            "write `weight`, or `weight_per_unit` where it counts something",
        ),
        Source::Interface(_) => (
            PER_SLAVE,
            PER_UNIT,
            "an interface has slaves, if anything",
            "write `weight_per_slave`",
        ),
    };
    if let Some(offset) = section.offset_of(other) {
        section.fail(offset, other, wrong, fix);
        return None;
    }
    let weight = weight(section, own)?;
    if section.offset_of("weight").is_some() {
        section.fail(
            section.offset_of(own).unwrap_or_default(),
            own,
            "there is `weight` as well",
            "write an item for each",
        );
        return None;
    }
    Some(weight)
}

fn weight(section: &Section<'_>, key: &str) -> Option<i16> {
    let weight = section.signed_integer(key, HEAVIEST)?;
    if weight.value == 0 {
        section.fail(
            weight.offset,
            key,
            "0 moves nothing",
            "leave it out for a veto: the instance is then in Fault as long as it is down",
        );
        return None;
    }
    i16::try_from(weight.value).ok()
}

/// The members of a group have what each of them tracks in common, so that one thing has one effect on all.
pub(super) fn check_group<'a>(reader: &Reader<'_>, tracks: impl Iterator<Item = &'a DraftTrack>) {
    let mut seen: BTreeMap<&Source, &DraftTrack> = BTreeMap::new();
    for item in tracks {
        let first = seen.entry(&item.track.source).or_insert(item);
        if first.track.effect != item.track.effect {
            reader.fail(
                item.offset,
                format!("{}, track", item.place),
                format!(
                    "{} has another effect in line {}, on the same group",
                    item.track.source,
                    reader.line(first.offset)
                ),
                "what one member tracks bears on all of them: write it once, in the [[group]]",
            );
        }
    }
}

/// What is wrong with items that go together with other parts of the file.
pub(super) fn check<'a>(
    reader: &Reader<'_>,
    tracks: impl Iterator<Item = &'a DraftTrack>,
    owner: bool,
    own_interface: Option<&str>,
    checks: &[DraftCheck],
) -> Vec<Track> {
    let mut seen: BTreeMap<&Source, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for DraftTrack {
        place,
        offset,
        track,
    } in tracks
    {
        let fail = |key: &str, message: String, fix: &str| {
            reader.fail(*offset, format!("{place}, {key}"), message, fix);
        };
        match &track.source {
            // What is wrong with a check that stands there is said there.
            Source::Check(name) if !checks.iter().any(|check| check.is_called(name)) => fail(
                "check",
                format!("there is no check \"{name}\""),
                &fix_of_unknown(name, checks),
            ),
            Source::Interface(name)
                if own_interface == Some(name) && track.effect == Effect::Veto =>
            {
                fail(
                    "interface",
                    format!("{name} is the instance's own interface, which is watched anyway"),
                    "remove it",
                );
            }
            Source::Check(name)
                if matches!(track.effect, Effect::WeightPerUnit(_))
                    && !checks
                        .iter()
                        .any(|check| check.is_called(name) && check.counts() != Some(false)) =>
            {
                fail(
                    PER_UNIT,
                    format!("check \"{name}\" counts nothing"),
                    "write `weight`; what counts is a file with `expect = \"number\"`",
                );
            }
            _ => {}
        }
        if owner && matches!(track.effect, Effect::Weight(_) | Effect::WeightPerUnit(_)) {
            fail(
                "weight",
                "the owner of the addresses has priority 255 whatever happens (RFC 9568 section 5.2.4)"
                    .to_owned(),
                "leave the weight out for a veto, or give the instance a priority below 255",
            );
        }
        if let Some(line) = seen.insert(&track.source, reader.line(*offset)) {
            fail(
                "track",
                format!("{} is already tracked in line {line}", track.source),
                match &track.source {
                    Source::Check(_) => {
                        "track each thing once; where a check is to do two things, as be a veto and an arbitrator, add a second [[check]] with another name that looks at the same thing"
                    }
                    Source::Interface(_) => "track each thing once",
                },
            );
        }
        kept.push(track.clone());
    }
    kept
}

fn fix_of_unknown(name: &str, checks: &[DraftCheck]) -> String {
    let names: Vec<&str> = checks
        .iter()
        .filter_map(|check| Some(check.name.as_ref()?.value.as_str()))
        .collect();
    match nearest(name, &names) {
        Some(near) => {
            format!("did you mean \"{near}\"? If not, add a [[check]] with `name = \"{name}\"`")
        }
        None => format!("add a [[check]] with `name = \"{name}\"`"),
    }
}

//! The parts of a take-over by leases, from `had`'s events and what was seen on the wire.

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use serde_json::{Value, json};

use crate::{
    figures::{Figures, millis},
    pair::{Pair, VRID, take_over},
};

/// How long each part took. The address is put on while the node announces itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts([Nanos; PARTS]);

const PARTS: usize = 7;

/// Names as in JSON, and what they mean.
const NAMES: [(&str, &str); PARTS] = [
    ("detection", "power lost -> silence reported"),
    ("election", "silence -> candidate"),
    (
        "announcement",
        "candidate -> granted, or alone: first advert",
    ),
    ("netlink", "candidate -> address added, meanwhile"),
    ("gate", "advert and address -> gate open"),
    ("garp", "gate open -> GARP seen on the wire"),
    ("answer", "GARP -> first answer"),
];

impl Parts {
    /// Of the take-over by node `new` after the power was lost `from` then on.
    pub(crate) fn of(pair: &Pair, new: usize, from: MonoNs, answered: MonoNs) -> Result<Self> {
        let events = take_over(&pair.nodes[new], from)?;
        // The last one: a candidate that was held up announces itself anew.
        let gate = events
            .iter()
            .rfind(|event| event.kind == "gate_open")
            .context("no gate was opened")?
            .at;
        let at = |kind: &str| {
            let mut before = events.iter().filter(|event| event.at <= gate);
            let event = before.rfind(|event| event.kind == kind);
            event.map(|event| event.at).with_context(|| {
                let all: Vec<_> = events
                    .iter()
                    .map(|event| (event.at.since(from), &event.kind))
                    .collect();
                format!("no event of kind {kind}: {all:?}")
            })
        };
        let (candidate, added) = (at("candidate")?, at("vips_added")?);
        // An advert may have been missed first, if the machine was held up.
        let silence = at("silence")?;
        let sniffer = &pair.sniffers[new];
        let adverts = sniffer.adverts(VRID, from, answered);
        // Where the kernel has to ask the dead node for its MAC address first, none leaves: until the gate, then.
        let granted = adverts.first().map_or(gate, |(advert, _)| *advert);
        let announced = sniffer
            .first_announcement(from)
            .context("the new node announced nothing")?;
        Ok(Self([
            silence.since(from),
            candidate.since(silence),
            granted.since(candidate),
            added.since(candidate),
            gate.since(added.max(granted)),
            announced.since(gate),
            answered.since(announced),
        ]))
    }

    pub(crate) fn to_json(self) -> Value {
        NAMES
            .iter()
            .zip(self.0)
            .map(|((name, _), span)| ((*name).to_owned(), json!(millis(span))))
            .collect()
    }
}

/// A line for each part.
pub(crate) fn table(all: &[Parts]) -> String {
    let mut text = String::new();
    for (index, (name, meaning)) in NAMES.iter().enumerate() {
        let spans: Vec<Nanos> = all.iter().map(|parts| parts.0[index]).collect();
        if let Some(figures) = Figures::of(&spans) {
            text.push_str(&format!(
                "  {name:<12} median {:>7.3}, max {:>7.3} ms  {meaning}\n",
                millis(figures.median),
                millis(figures.max)
            ));
        }
    }
    text
}

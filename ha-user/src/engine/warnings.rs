//! What the dataplane's counters tell of routers that do not understand each other: with a wrong key, two
//! nodes are Active, each for itself in perfect order.

use ha_common::{MonoNs, Nanos, abi::Reason};

/// Between two looks. There is no timer for them: the engine thread looks when it is awake anyway.
const PERIOD: Nanos = Nanos::from_secs(10);

/// The counters at the last look, and what they told.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    looked_at: MonoNs,
    counts: Vec<(Reason, u64)>,
    /// Counted since the look before the last one.
    found: Vec<(Reason, u64)>,
}

impl Warnings {
    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: MonoNs) -> bool {
        now.since(self.looked_at) >= PERIOD
    }

    /// Looks. `settled`: every instance has been Active for a whole period, so that nobody else has any
    /// business with its addresses. Returns what was not there at the last look.
    pub(super) fn look(
        &mut self,
        now: MonoNs,
        counts: Vec<(Reason, u64)>,
        settled: bool,
    ) -> Vec<String> {
        let first = self.counts.is_empty();
        let before = |reason| {
            let known = self.counts.iter().find(|(known, _)| *known == reason);
            known.map_or(0, |(_, count)| *count)
        };
        let found: Vec<(Reason, u64)> = counts
            .iter()
            .map(|(reason, count)| (*reason, count.saturating_sub(before(*reason))))
            .filter(|(reason, more)| {
                let counts = settled || *reason != Reason::PassArpFromVip;
                !first && *more > 0 && counts && advice(*reason).is_some()
            })
            .collect();
        let news = found
            .iter()
            .filter(|(reason, _)| !self.found.iter().any(|(known, _)| known == reason))
            .map(|(reason, more)| sentence(*reason, *more))
            .collect();
        self.looked_at = now;
        self.counts = counts;
        self.found = found;
        news
    }

    /// What is wrong at present.
    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        self.found
            .iter()
            .map(|(reason, more)| sentence(*reason, *more))
    }

    /// How long an instance must have been Active to count as settled.
    pub(super) const fn period() -> Nanos {
        PERIOD
    }
}

fn sentence(reason: Reason, more: u64) -> String {
    format!(
        "{more} times within {PERIOD}: {} ({})",
        advice(reason).unwrap_or_default(),
        reason.name()
    )
}

/// What a verdict says about the other routers' configuration, if anything.
const fn advice(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::AdvertVersion => {
            "an advert of another VRRP version was refused: give all nodes the same `version`"
        }
        Reason::AdvertInterval => {
            "a VRRPv2 advert with another interval was refused: give all nodes the same `advert_interval`"
        }
        Reason::AdvertAuth => {
            "a VRRPv2 advert with authentication was refused: remove it from the other node"
        }
        Reason::AdvertSender => "an advert of a node that is not in `peers` was refused",
        Reason::AdvertDestination => {
            "an advert by multicast was refused though `peers` is set, or one by unicast though it is not: all nodes must do the same"
        }
        Reason::AdvertTtl => {
            "an advert with a TTL other than 255 was refused: it came through a router, or is forged"
        }
        Reason::AdvertOwn => {
            "an advert came from this node's own address: another node has it too, or the network sends frames back"
        }
        Reason::AdvertChecksum
        | Reason::AdvertLength
        | Reason::AdvertNoAddress
        | Reason::AdvertType
        | Reason::AdvertFragment => "a broken advert was refused",
        Reason::PassArpFromVip => {
            "another station claims a virtual address that this node serves: is another virtual router, with another `vrid`, or a host configured with it?"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(warnings: &mut Warnings, version: u64, arp: u64, settled: bool) -> Vec<String> {
        let counts = vec![
            (Reason::AdvertTaken, 7 * version),
            (Reason::AdvertVersion, version),
            (Reason::PassArpFromVip, arp),
        ];
        warnings.look(MonoNs(1), counts, settled)
    }

    #[test]
    fn what_grows_is_told_once_and_kept_as_long_as_it_grows() {
        let mut warnings = Warnings::default();
        assert!(
            look(&mut warnings, 5, 0, true).is_empty(),
            "of an earlier run"
        );
        assert!(look(&mut warnings, 5, 0, true).is_empty());
        let told = look(&mut warnings, 9, 0, true);
        assert!(
            told[0].starts_with("4 times") && told[0].contains("`version`"),
            "{told:?}"
        );
        assert_eq!(told.len(), 1);
        assert!(look(&mut warnings, 10, 0, true).is_empty(), "told before");
        assert_eq!(warnings.sentences().count(), 1);
        assert!(look(&mut warnings, 10, 0, true).is_empty());
        assert_eq!(warnings.sentences().count(), 0);
        assert_eq!(look(&mut warnings, 11, 0, true).len(), 1, "it is back");
    }

    #[test]
    fn a_claim_counts_only_where_nobody_else_may_make_one() {
        let mut warnings = Warnings::default();
        look(&mut warnings, 0, 1, true);
        assert!(look(&mut warnings, 0, 2, false).is_empty(), "a take-over");
        assert!(look(&mut warnings, 0, 3, true)[0].contains("`vrid`"));
    }

    #[test]
    fn looks_are_rare() {
        let mut warnings = Warnings::default();
        let now = MonoNs::ZERO.after(PERIOD);
        assert!(warnings.is_due(now));
        warnings.look(now, Vec::new(), true);
        assert!(!warnings.is_due(now.after(Nanos(PERIOD.0 - 1))));
        assert!(warnings.is_due(now.after(PERIOD)));
    }
}

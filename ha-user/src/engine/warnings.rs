//! What the dataplane's counters tell of routers that do not understand each other: with a wrong key, two
//! nodes are Active, each for itself in perfect order.

use ha_common::{MonoNs, Nanos, abi::Reason};

/// At least this long between two looks. There is no timer for them: the engine thread looks when it is awake
/// anyway.
const PERIOD: Nanos = Nanos::from_secs(10);

/// How long a warning stays after the last time: longer than the minute between two announcements of an
/// address by whoever else claims it.
const MEMORY: Nanos = Nanos::from_secs(150);

/// The counters at the last look, and what they told.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    looked_at: MonoNs,
    counts: Vec<(Reason, u64)>,
    found: Vec<Found>,
}

/// Something that is wrong.
#[derive(Debug)]
struct Found {
    reason: Reason,
    /// How often it was counted since it is known.
    count: u64,
    last: MonoNs,
}

impl Warnings {
    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: MonoNs) -> bool {
        now.since(self.looked_at) >= PERIOD
    }

    /// Looks. `alone_since`: since when every instance has been Active, so that nobody else has any
    /// business with its addresses. Returns what was not known.
    pub(super) fn look(
        &mut self,
        now: MonoNs,
        counts: Vec<(Reason, u64)>,
        alone_since: Option<MonoNs>,
    ) -> Vec<String> {
        let alone = alone_since.is_some_and(|since| since <= self.looked_at);
        self.found.retain(|found| now.since(found.last) <= MEMORY);
        let mut news = Vec::new();
        // What an earlier run counted is no news.
        for ((reason, before), (_, count)) in self.counts.iter().zip(&counts) {
            let more = count.saturating_sub(*before);
            if more == 0 || advice(*reason).is_none() {
                continue;
            }
            let claim = matches!(reason, Reason::PassArpFromVip | Reason::PassNdpFromVip);
            if claim && !alone {
                continue;
            }
            if let Some(found) = self.found.iter_mut().find(|one| one.reason == *reason) {
                found.count += more;
                found.last = now;
                continue;
            }
            let found = Found {
                reason: *reason,
                count: more,
                last: now,
            };
            news.push(found.sentence());
            self.found.push(found);
        }
        self.looked_at = now;
        self.counts = counts;
        news
    }

    /// What is wrong at present.
    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        self.found.iter().map(Found::sentence)
    }
}

impl Found {
    fn sentence(&self) -> String {
        format!(
            "{} ({} {})",
            advice(self.reason).unwrap_or_default(),
            self.reason.name(),
            self.count
        )
    }
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
        Reason::HeartbeatElsewhere => {
            "a peer's packet to this node's own address came in by another interface, and was not heard: the peer had the wrong MAC address, and was told the right one. If it comes again, something else answers ARP for that address"
        }
        Reason::AdvertOwn => {
            "an advert came from this node's own address: another node has it too, or the network sends frames back"
        }
        Reason::AdvertChecksum
        | Reason::AdvertLength
        | Reason::AdvertNoAddress
        | Reason::AdvertType
        | Reason::AdvertFragment => "a broken advert was refused",
        Reason::PassArpFromVip | Reason::PassNdpFromVip => {
            "another station claims a virtual address that this node serves: is another virtual router, with another `vrid`, or a host configured with it?"
        }
        Reason::PassEchoUnknown => {
            "a node asks for leases that is no peer here: put its address into `peers` of an instance with `heartbeat` on that interface, or into a [[channel]]"
        }
        Reason::EchoTag => {
            "an echo with another tag was refused: give the channel the same `key_file` on both nodes, or none"
        }
        Reason::EchoOwn => {
            "an echo of a node with this node's name was refused: give each node its own `node.name`; if they have, the network sends frames back"
        }
        Reason::EchoTtl => {
            "an echo with a TTL other than 255 was refused: it came through a router, or is forged"
        }
        Reason::EchoFormat => {
            "an echo of another version of had, or a broken one, was refused: run the same version on all nodes"
        }
        Reason::EchoChecksum => "a broken echo was refused",
        Reason::LeaseTooLong => {
            "a peer's request for a longer lease than four times this node's was refused: give both nodes the same `interval` and `multiplier`"
        }
        Reason::LeaseUnknown => {
            "a peer does not know an instance that needs its leases, and so grants none: give it the instance, with `heartbeat` and the same channels, or take it out of `peers`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        warnings: Warnings,
        now: MonoNs,
    }

    impl Run {
        fn look(&mut self, version: u64, arp: u64, alone_since: Option<MonoNs>) -> Vec<String> {
            self.now = self.now.after(PERIOD);
            let counts = vec![
                (Reason::AdvertTaken, 7 * version),
                (Reason::AdvertVersion, version),
                (Reason::PassArpFromVip, arp),
            ];
            self.warnings.look(self.now, counts, alone_since)
        }
    }

    fn run() -> Run {
        Run {
            warnings: Warnings::default(),
            now: MonoNs::ZERO,
        }
    }

    #[test]
    fn what_is_counted_is_told_once_and_kept_for_a_while() {
        let mut run = run();
        assert!(run.look(5, 0, None).is_empty(), "of an earlier run");
        assert!(run.look(5, 0, None).is_empty());
        let told = run.look(9, 0, None);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("`version`") && told[0].ends_with("(advert_version 4)"));
        assert!(run.look(10, 0, None).is_empty(), "told before");
        let kept: Vec<String> = run.warnings.sentences().collect();
        assert!(kept[0].ends_with("(advert_version 5)"), "{kept:?}");
        for _ in 0..MEMORY.0 / PERIOD.0 {
            assert!(run.look(10, 0, None).is_empty());
            assert_eq!(run.warnings.sentences().count(), 1);
        }
        run.look(10, 0, None);
        assert_eq!(run.warnings.sentences().count(), 0);
        assert_eq!(run.look(11, 0, None).len(), 1, "it is back");
    }

    #[test]
    fn a_claim_counts_only_where_nobody_else_may_make_one() {
        let mut run = run();
        run.look(0, 1, None);
        assert!(run.look(0, 2, None).is_empty(), "a Backup hears them");
        let since = run.now.after(Nanos(1));
        assert!(run.look(0, 3, Some(since)).is_empty(), "a take-over");
        assert!(run.look(0, 4, Some(since))[0].contains("`vrid`"));
    }

    #[test]
    fn looks_are_rare() {
        let mut run = run();
        assert!(run.warnings.is_due(MonoNs::ZERO.after(PERIOD)));
        run.look(0, 0, None);
        let next = run.now.after(PERIOD);
        assert!(!run.warnings.is_due(next.before(Nanos(1))));
        assert!(run.warnings.is_due(next));
    }
}

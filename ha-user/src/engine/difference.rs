//! What a reload changed, in the words of the configuration. Of a key file no more than that the key is another.

use ha_core::bfd::Auth;

use crate::config::{Channel, ChannelKind, Instance, LeaseChannel};

/// Which keys of an instance differ.
pub(super) fn of_instance(old: &Instance, new: &Instance) -> String {
    in_words(&[
        ("priority", old.priority != new.priority),
        ("preempt", old.preempt != new.preempt),
        ("preempt_delay", old.preempt_delay != new.preempt_delay),
        (
            "advert_interval",
            old.advert_interval != new.advert_interval,
        ),
        ("source", old.source != new.source),
        ("peers", old.peers != new.peers),
        ("heartbeat", old.heartbeat != new.heartbeat),
        ("virtual_mac", old.virtual_mac != new.virtual_mac),
        ("checksum", old.checksum != new.checksum),
        ("vips", old.vips_by_key().0 != new.vips_by_key().0),
        ("extra_vips", old.vips_by_key().1 != new.vips_by_key().1),
        ("group", old.group != new.group),
        ("channels", old.channels != new.channels),
        ("announce", old.announce != new.announce),
        ("track", old.track != new.track),
    ])
}

/// Which keys differ of a channel that keeps its BFD session.
pub(super) fn of_channel(old: &Channel, new: &Channel) -> String {
    let (ChannelKind::Bfd(before), ChannelKind::Bfd(after)) = (&old.kind, &new.kind);
    let auth = (before.auth.as_ref(), after.auth.as_ref());
    let other = |differs: fn(&Auth, &Auth) -> bool| match auth {
        (Some(before), Some(after)) => differs(before, after),
        (before, after) => before != after,
    };
    in_words(&[
        ("interval", old.interval != new.interval),
        ("multiplier", old.multiplier != new.multiplier),
        ("passive", before.passive != after.passive),
        ("auth", other(|before, after| before.kind != after.kind)),
        (
            "key_id",
            other(|before, after| before.key_id != after.key_id),
        ),
        (KEY, other(|before, after| before.key != after.key)),
    ])
}

/// The channels for leases that come, go and change.
pub(super) fn of_lease_channels(old: &[LeaseChannel], new: &[LeaseChannel]) -> Vec<String> {
    let find = |name: &str, among: &[LeaseChannel]| {
        among.iter().find(|channel| channel.name == name).cloned()
    };
    let ended = old
        .iter()
        .filter(|channel| find(&channel.name, new).is_none())
        .map(|channel| format!("channel {}: ends", channel.name));
    let others = new
        .iter()
        .filter_map(|channel| match find(&channel.name, old) {
            None => Some(format!("channel {}: begins", channel.name)),
            Some(before) if before != *channel => Some(format!(
                "channel {}: {}",
                channel.name,
                of_lease_channel(&before, channel)
            )),
            Some(_) => None,
        });
    ended.chain(others).collect()
}

fn of_lease_channel(old: &LeaseChannel, new: &LeaseChannel) -> String {
    in_words(&[
        ("interface", old.interface != new.interface),
        ("local", old.local != new.local),
        ("peer", old.peer != new.peer),
        ("interval", old.times.interval != new.times.interval),
        ("multiplier", old.times.multiplier != new.times.multiplier),
        ("alone", old.alone != new.alone),
        ("node_address", old.node_address != new.node_address),
        (KEY, old.key != new.key),
    ])
}

const KEY: &str = "its key";

fn in_words(keys: &[(&str, bool)]) -> String {
    let changed: Vec<&str> = keys
        .iter()
        .filter_map(|(key, differs)| differs.then_some(*key))
        .collect();
    format!("{} changed", changed.join(", "))
}

#[cfg(test)]
mod tests {
    use ha_common::Nanos;
    use ha_core::Alone;

    use super::*;
    use crate::config::Heartbeat;

    fn channel(name: &str, key: Option<[u64; 2]>) -> LeaseChannel {
        LeaseChannel {
            name: name.to_owned(),
            interface: "eth1".to_owned(),
            local: "10.99.0.1".parse().unwrap(),
            peer: "10.99.0.2".parse().unwrap(),
            times: Heartbeat {
                interval: Nanos::from_millis(3),
                multiplier: 3,
            },
            key,
            alone: Alone::Serve,
            node_address: None,
        }
    }

    #[test]
    fn a_key_that_changed_is_named_and_not_shown() {
        let old = [channel("direct", Some([0xdead, 0xbeef]))];
        let new = [channel("direct", Some([0xcafe, 0xf00d]))];
        let said = of_lease_channels(&old, &new);
        assert_eq!(said, ["channel direct: its key changed"]);
        assert!(of_lease_channels(&old, &old).is_empty());
    }

    #[test]
    fn channels_begin_end_and_change() {
        let mut slower = channel("b", Some([1, 2]));
        slower.times.interval = Nanos::from_millis(9);
        let old = [channel("a", None), channel("b", None)];
        let new = [slower, channel("c", None)];
        assert_eq!(
            of_lease_channels(&old, &new),
            [
                "channel a: ends",
                "channel b: interval, its key changed",
                "channel c: begins"
            ]
        );
    }
}

//! `heartbeat`, and `[[channel]]` of kind `lease`: leases that the peers' kernels grant.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use ha_common::{Nanos, abi::lease::MAX_PATHS, gate::MAX_LEASES};
use ha_core::Alone;

use super::{
    Instance, LeaseChannel, Mode,
    parse::{Draft, DraftInstance},
    reader::{At, Reader, Section},
};

/// `heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two echoes.
    pub interval: Nanos,
    /// Echoes that must be missing in a row.
    pub multiplier: u32,
}

impl Heartbeat {
    /// How long a lease lasts.
    #[must_use]
    pub fn lease(self) -> Nanos {
        self.interval.times(self.multiplier.into())
    }
}

pub(super) const DEFAULT: Heartbeat = Heartbeat {
    interval: Nanos::from_millis(3),
    multiplier: 3,
};

/// Reads `interval` and `multiplier` of a lease path.
pub(super) fn times(section: &Section<'_>) -> Heartbeat {
    let mut times = DEFAULT;
    if let Some(interval) = section.duration("interval") {
        let (low, high) = (Nanos::from_millis(1), Nanos::from_secs(60));
        if interval.value < low || interval.value > high {
            section.fail(
                interval.offset,
                "interval",
                format!("{} is out of range", interval.value),
                "write a time from 1ms to 60s",
            );
        } else {
            times.interval = interval.value;
        }
    }
    if let Some(multiplier) = section.integer("multiplier", 2, 60) {
        times.multiplier = multiplier.value;
    }
    times
}

/// Reads `heartbeat`.
pub(super) fn parse(instance: &Section<'_>) -> Option<At<Heartbeat>> {
    let place = format!("{}, heartbeat", instance.place);
    let section = instance.section("heartbeat", place, &["interval", "multiplier"], &[])?;
    Some(At {
        value: times(&section),
        offset: section.offset,
    })
}

/// What a lease channel has beside what every channel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseKeys {
    pub(super) times: Heartbeat,
    pub(super) key: Option<[u64; 2]>,
    pub(super) alone: Alone,
    pub(super) node_address: Option<IpAddr>,
}

/// The key of tags: 16 bytes as 32 hexadecimal digits.
pub(super) fn key(secret: &[u8]) -> Option<[u64; 2]> {
    let text = std::str::from_utf8(secret).ok()?.trim();
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let half = |digits: &str| Some(u64::from_str_radix(digits, 16).ok()?.swap_bytes());
    Some([half(text.get(..16)?)?, half(text.get(16..)?)?])
}

/// What goes between an interface and a peer's address: to the kernel that is one path, whoever wants it.
struct Way {
    times: Heartbeat,
    /// This node's address, where it is written.
    local: Option<IpAddr>,
    keyed: bool,
    whose: String,
}

impl Way {
    /// Why an instance's own one cannot be the same path, and the fix.
    fn differs(&self, other: &Self, interface: &str, peer: IpAddr) -> Option<(String, String)> {
        let whose = &other.whose;
        let one = "there is one path between an interface and an address";
        if self.times != other.times {
            return Some((
                format!("{peer} is reached over {interface} in other times by {whose}: {one}"),
                "write the same interval and multiplier there".to_owned(),
            ));
        }
        if other.keyed {
            return Some((
                format!("{peer} is reached over {interface} with a key by {whose}: {one}"),
                "remove the channel's key_file, or let it lead over another interface".to_owned(),
            ));
        }
        if self.local == other.local {
            return None;
        }
        let written = |local: Option<IpAddr>| match local {
            Some(local) => local.to_string(),
            None => "the interface's own address".to_owned(),
        };
        Some((
            format!(
                "{peer} is reached over {interface} from {} here, and from {} by {whose}: {one}",
                written(self.local),
                written(other.local)
            ),
            format!(
                "write one address wherever {peer} is a peer on {interface}: as an instance's `source`, as a \
                 channel's `local`"
            ),
        ))
    }
}

/// What is only wrong in combination.
pub(super) fn check(
    reader: &Reader<'_>,
    draft: &Draft,
    instances: &[Instance],
    channels: &[LeaseChannel],
) {
    let most = usize::try_from(MAX_PATHS).unwrap_or(usize::MAX);
    let mut ways: BTreeMap<(&str, IpAddr), Way> = channels
        .iter()
        .map(|channel| {
            let way = Way {
                times: channel.times,
                local: Some(channel.local),
                keyed: channel.key.is_some(),
                whose: format!("channel {}", channel.name),
            };
            ((channel.interface.as_str(), channel.peer), way)
        })
        .collect();
    if ways.len() > most {
        reader.fail(
            0,
            "channel",
            format!("there are more than {most} of kind \"lease\""),
            "remove some",
        );
    }
    let mut routers: BTreeMap<(&str, u8, u8), &str> = BTreeMap::new();
    for instance in instances {
        let Some(drafted) = draft.instances.iter().find(|drafted| {
            drafted
                .name
                .as_ref()
                .is_some_and(|name| name.value == instance.name)
        }) else {
            continue;
        };
        named_channels(reader, drafted, instance, channels);
        for channel in channels.iter().filter(|channel| {
            instance.heartbeat.is_some() && instance.channels.contains(&channel.name)
        }) {
            let router = (
                channel.name.as_str(),
                instance.vrid.get(),
                instance.family().number(),
            );
            if let Some(other) = routers.insert(router, &instance.name) {
                let named = |name: &&At<String>| name.value == channel.name;
                reader.fail(
                    drafted
                        .channels
                        .iter()
                        .find(named)
                        .map_or(drafted.offset, |name| name.offset),
                    format!("{}, channels", drafted.place),
                    format!(
                        "{other} has the same VRID, and goes over channel {} as well: the nodes could not \
                         tell them apart there",
                        channel.name
                    ),
                    "give one of the two another vrid, or another channel",
                );
            }
        }
        let (Some(heartbeat), Some(at)) = (instance.heartbeat, &drafted.heartbeat) else {
            continue;
        };
        let fail = |message: String, fix: &str| {
            reader.fail(
                at.offset,
                format!("{}, heartbeat", drafted.place),
                message,
                fix,
            );
        };
        if draft.dataplane.mode == Mode::Off {
            fail(
                "leases are granted by the kernel, and dataplane.mode is \"off\"".to_owned(),
                "write `dataplane.mode = \"auto\"`, or remove `heartbeat`",
            );
        }
        if instance.peers.is_empty() || instance.peers.len() > MAX_LEASES {
            fail(
                format!(
                    "leases need `peers`, 1 to {MAX_LEASES} of them, and there are {}",
                    instance.peers.len()
                ),
                "name every other node's address in `peers`, or remove `heartbeat`",
            );
        }
        for peer in &instance.peers {
            let way = Way {
                times: heartbeat,
                local: instance.source,
                keyed: false,
                whose: instance.name.clone(),
            };
            match ways.entry((instance.interface.as_str(), *peer)) {
                Entry::Occupied(other) => {
                    if let Some((message, fix)) =
                        way.differs(other.get(), &instance.interface, *peer)
                    {
                        fail(message, &fix);
                    }
                }
                Entry::Vacant(free) => {
                    free.insert(way);
                    if ways.len() == most + 1 {
                        fail(
                            format!(
                                "with its peers there are more than {most} paths: one for each peer on an \
                                 interface, and one for each channel"
                            ),
                            "remove `heartbeat` here, or let instances on one interface have the same peers",
                        );
                    }
                }
            }
        }
    }
}

/// Lease channels lead to one of the instance's peers.
fn named_channels(
    reader: &Reader<'_>,
    drafted: &DraftInstance,
    instance: &Instance,
    channels: &[LeaseChannel],
) {
    for name in &drafted.channels {
        let Some(channel) = channels.iter().find(|channel| channel.name == name.value) else {
            continue;
        };
        let fail = |message: String, fix: String| {
            reader.fail(
                name.offset,
                format!("{}, channels", drafted.place),
                message,
                fix,
            );
        };
        if instance.heartbeat.is_none() {
            fail(
                format!(
                    "channel {} is for leases, and this instance relies on adverts alone",
                    channel.name
                ),
                "add `heartbeat = { interval = \"3ms\", multiplier = 3 }`, or remove the channel"
                    .to_owned(),
            );
        } else if channel.leads_to(instance).is_none() {
            fail(
                format!(
                    "it is not known to which of the {} peers channel {} leads",
                    instance.peers.len(),
                    channel.name
                ),
                format!(
                    "add to that channel: node_address = \"{}\", the address of that node in `peers`",
                    instance
                        .peers
                        .first()
                        .map_or_else(|| "10.0.0.2".to_owned(), ToString::to_string)
                ),
            );
        }
    }
}

impl LeaseChannel {
    /// The address that an instance has for the node at its other end.
    #[must_use]
    pub fn leads_to(&self, instance: &Instance) -> Option<IpAddr> {
        match (self.node_address, instance.peers.as_slice()) {
            (Some(address), peers) => peers.contains(&address).then_some(address),
            (None, [only]) => Some(*only),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_digits() {
        assert_eq!(
            key(b"000102030405060708090a0b0c0d0e0f\n"),
            Some([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908])
        );
        for wrong in [
            &b"0001"[..],
            b"",
            b"zz0102030405060708090a0b0c0d0e0f",
            b"\xff",
        ] {
            assert_eq!(key(wrong), None);
        }
    }
}

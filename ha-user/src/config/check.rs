//! What is only wrong in combination: duplicates, networks, intervals, groups, senders.

use std::{collections::BTreeMap, net::IpAddr, os::unix::ffi::OsStrExt as _};

use ha_common::{Nanos, Priority, Vrid, abi};
use ha_core::{Version, tracking::Track};

use super::{
    Addresses, Check, Config, Group, Instance, Mode, Taken, channel,
    checks::DraftCheck,
    family, heartbeat, link,
    live::Live,
    parse::{Draft, DraftInstance},
    reader::{At, Reader},
    roles::{self, Role},
    track,
};

/// The priority of the addresses' owner (RFC 9568 section 5.2.4).
pub(super) const OWNER: u32 = 255;
/// `sun_path` without its closing zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Checks the whole and gives the configuration, unless an instance was too broken to check.
pub(super) fn finish(
    reader: &Reader<'_>,
    draft: Draft,
    addresses: Addresses<'_>,
    taken: Taken<'_>,
) -> Option<Config> {
    if draft.control.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        reader.fail(
            0,
            "[api], control",
            format!("the socket's path is longer than {SOCKET_PATH_MAX} bytes"),
            "write a shorter path, or a shorter node.runtime_dir",
        );
    }
    if draft.instances.len() > usize::try_from(abi::CLOSED_SLOT).unwrap_or(usize::MAX) {
        reader.fail(
            0,
            "instance",
            format!("there are more than {}", abi::CLOSED_SLOT),
            "remove some",
        );
    }
    unique(
        reader,
        "name",
        draft
            .groups
            .iter()
            .map(|group| (&group.place, &group.name))
            .collect(),
    );
    unique(
        reader,
        "name",
        draft
            .instances
            .iter()
            .filter_map(|instance| Some((&instance.place, instance.name.as_ref()?)))
            .collect(),
    );
    unique(
        reader,
        "name",
        draft
            .channels
            .iter()
            .filter_map(|channel| Some((&channel.place, channel.name.as_ref()?)))
            .collect(),
    );
    unique(
        reader,
        "name",
        draft
            .checks
            .iter()
            .filter_map(|check| Some((&check.place, check.name.as_ref()?)))
            .collect(),
    );
    unique(
        reader,
        "name",
        draft
            .roles
            .iter()
            .filter_map(|role| Some((&role.place, role.name.as_ref()?)))
            .collect(),
    );
    let checks: Vec<Check> = draft.checks.iter().filter_map(DraftCheck::finish).collect();
    let (channels, lease_channels) = channel::check(reader, &draft.channels);
    vrids(reader, &draft.instances);
    vips(reader, &draft.instances);
    groups(reader, &draft);
    let live = Live::new(&draft, addresses, taken);
    live.check_channels(reader, &draft.channels);
    unique(
        reader,
        "name",
        draft
            .interfaces
            .iter()
            .map(|interface| (&interface.place, &interface.name))
            .collect(),
    );
    let interfaces = draft
        .interfaces
        .iter()
        .map(|interface| interface.interface.clone())
        .collect();
    let roles = roles::check(reader, &draft);
    let groups = resolved_groups(reader, &draft, roles.as_deref().unwrap_or_default());
    let mut instances = Vec::new();
    for instance in &draft.instances {
        let interval = interval(reader, instance);
        peers(reader, instance);
        virtual_mac(reader, instance, draft.dataplane.mode);
        family::check(reader, instance);
        channel::check_names(reader, &instance.place, &instance.channels, &draft.channels);
        live.check_instance(reader, instance);
        let owner = instance.priority.value == OWNER;
        let own = instance.interface.as_ref().map(|name| name.value.as_str());
        let track = track::check(reader, instance.track.iter(), owner, own, &draft.checks);
        instances.extend(resolved(instance, interval, track, &draft));
    }
    heartbeat::check(reader, &draft, &instances, &lease_channels);
    let complete = instances.len() == draft.instances.len()
        && channels.len() + lease_channels.len() == draft.channels.len()
        && checks.len() == draft.checks.len();
    if !complete {
        return None;
    }
    if let Some(section) = &draft.link {
        link::check(reader, section.offset, &instances, &lease_channels);
    }
    Some(Config {
        node: draft.node,
        dataplane: draft.dataplane,
        control: draft.control,
        link: draft.link.and_then(|link| link.value),
        instances,
        channels,
        lease_channels,
        checks,
        interfaces,
        groups,
        roles: roles?,
        modes: draft.modes,
    })
}

/// The groups, with what their members track in common, and their roles.
fn resolved_groups(reader: &Reader<'_>, draft: &Draft, roles: &[Role]) -> Vec<Group> {
    let mut groups = Vec::new();
    for group in &draft.groups {
        let owner = draft.instances.iter().any(|instance| {
            let wanted = instance.group.as_ref();
            instance.priority.value == OWNER
                && wanted.is_some_and(|wanted| wanted.value == group.name.value)
        });
        let members = draft.instances.iter().filter(|instance| {
            let wanted = instance.group.as_ref();
            wanted.is_some_and(|wanted| wanted.value == group.name.value)
        });
        let tracks = members.flat_map(|instance| &instance.track);
        track::check_group(reader, group.track.iter().chain(tracks));
        groups.push(Group {
            name: group.name.value.clone(),
            track: track::check(reader, group.track.iter(), owner, None, &draft.checks),
            roles: roles::of_group(group, roles),
        });
    }
    groups
}

fn resolved(
    instance: &DraftInstance,
    interval: Option<Nanos>,
    track: Vec<Track>,
    draft: &Draft,
) -> Option<Instance> {
    let vrid = instance.vrid.as_ref()?.value;
    Some(Instance {
        name: instance.name.as_ref()?.value.clone(),
        interface: instance.interface.as_ref()?.value.clone(),
        vrid: Vrid::new(u8::try_from(vrid).ok()?)?,
        version: instance.version.value,
        priority: Priority(u8::try_from(instance.priority.value).ok()?),
        preempt: instance.preempt.value,
        preempt_delay: instance.preempt_delay,
        advert_interval: interval?,
        source: instance.source.as_ref().map(|source| source.value),
        peers: instance.peers.iter().map(|peer| peer.value).collect(),
        checksum: instance.checksum,
        vips: instance.addresses().map(|(_, vip)| vip.value).collect(),
        advertised: instance.vips.len(),
        group: instance.group.as_ref().and_then(|wanted| {
            draft
                .groups
                .iter()
                .position(|group| group.name.value == wanted.value)
        }),
        channels: instance
            .channels
            .iter()
            .map(|name| name.value.clone())
            .collect(),
        heartbeat: instance.heartbeat.as_ref().map(|heartbeat| heartbeat.value),
        virtual_mac: instance.virtual_mac.value,
        announce: instance.announce,
        track,
    })
}

fn unique(reader: &Reader<'_>, key: &str, names: Vec<(&String, &At<String>)>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, name) in names {
        if let Some(first) = seen.get(name.value.as_str()) {
            reader.fail(
                name.offset,
                format!("{place}, {key}"),
                format!("\"{}\" is already used in line {first}", name.value),
                "give each its own name",
            );
        } else {
            seen.insert(&name.value, reader.line(name.offset));
        }
    }
}

fn vrids(reader: &Reader<'_>, instances: &[DraftInstance]) {
    let mut seen: BTreeMap<(&str, u32, u8), (usize, &str)> = BTreeMap::new();
    for instance in instances {
        let (Some(interface), Some(vrid)) = (&instance.interface, &instance.vrid) else {
            continue;
        };
        // The virtual routers of the two families are independent (RFC 9568 section 5.2.3).
        let family = instance.family().number();
        let key = (interface.value.as_str(), vrid.value, family);
        if let Some((line, place)) = seen.get(&key) {
            reader.fail(
                vrid.offset,
                format!("{}, vrid", instance.place),
                format!(
                    "VRID {} on interface \"{}\" is already used by {place} in line {line}",
                    vrid.value, interface.value
                ),
                "give each virtual router on an interface its own VRID",
            );
        } else {
            seen.insert(key, (reader.line(vrid.offset), &instance.place));
        }
    }
}

fn vips(reader: &Reader<'_>, instances: &[DraftInstance]) {
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for instance in instances {
        if let Some(first) = instance.vips.first()
            && instance.vips.len() > usize::from(u8::MAX)
        {
            reader.fail(
                first.offset,
                format!("{}, vips", instance.place),
                format!(
                    "{} addresses do not fit into one advert",
                    instance.vips.len()
                ),
                "move those beyond 255 to extra_vips, which adverts do not name",
            );
        }
        for (key, vip) in instance.addresses() {
            if let Some(line) = seen.get(&vip.value.addr()) {
                reader.fail(
                    vip.offset,
                    format!("{}, {key}", instance.place),
                    format!("{} is already a VIP in line {line}", vip.value.addr()),
                    "name each VIP once",
                );
            } else {
                seen.insert(vip.value.addr(), reader.line(vip.offset));
            }
        }
    }
    if seen.len() > usize::try_from(abi::MAX_VIPS).unwrap_or(usize::MAX) {
        reader.fail(
            0,
            "vips, extra_vips",
            format!("there are {} addresses", seen.len()),
            format!("name at most {} in all", abi::MAX_VIPS),
        );
    }
}

fn groups(reader: &Reader<'_>, draft: &Draft) {
    for group in &draft.groups {
        let members: Vec<&DraftInstance> = draft
            .instances
            .iter()
            .filter(|instance| {
                instance
                    .group
                    .as_ref()
                    .is_some_and(|wanted| wanted.value == group.name.value)
            })
            .collect();
        let Some((first, rest)) = members.split_first() else {
            // Without any instance, that is the mistake to mend.
            if draft.instances.is_empty() {
                continue;
            }
            reader.fail(
                group.name.offset,
                format!("{}, name", group.place),
                "no instance is in this group",
                format!(
                    "write `group = \"{}\"` in an [[instance]], or remove the group",
                    group.name.value
                ),
            );
            continue;
        };
        for member in rest {
            if member.priority.value != first.priority.value {
                reader.fail(
                    member.priority.offset,
                    format!("{}, priority", member.place),
                    format!(
                        "is {}, but {} of the same group has {}",
                        member.priority.value, first.place, first.priority.value
                    ),
                    "give all instances of a group the same priority: they move together",
                );
            }
            if member.preempt.value != first.preempt.value {
                reader.fail(
                    member.preempt.offset,
                    format!("{}, preempt", member.place),
                    format!(
                        "is {}, but {} of the same group has {}",
                        member.preempt.value, first.place, first.preempt.value
                    ),
                    "give all instances of a group the same preempt: they move together",
                );
            }
        }
    }
    for instance in &draft.instances {
        let Some(wanted) = &instance.group else {
            continue;
        };
        if !draft
            .groups
            .iter()
            .any(|group| group.name.value == wanted.value)
        {
            reader.fail(
                wanted.offset,
                format!("{}, group", instance.place),
                format!("there is no group \"{}\"", wanted.value),
                format!("add a [[group]] with `name = \"{}\"`", wanted.value),
            );
        }
    }
}

/// VRRPv3 carries centiseconds in 12 bits (RFC 9568 section 5.2.7), VRRPv2 seconds in 8 (RFC 3768
/// section 5.3.7).
fn interval(reader: &Reader<'_>, instance: &DraftInstance) -> Option<Nanos> {
    let (unit, low, high, default) = match instance.version.value {
        Version::V3 => (
            Nanos::from_millis(10),
            Nanos::from_millis(10),
            Nanos::from_millis(40_950),
            Nanos::from_millis(10),
        ),
        Version::V2 => (
            Nanos::from_secs(1),
            Nanos::from_secs(1),
            Nanos::from_secs(255),
            Nanos::from_secs(1),
        ),
    };
    let Some(interval) = &instance.advert_interval else {
        return Some(default);
    };
    let key = || format!("{}, advert_interval", instance.place);
    let (range, steps) = match instance.version.value {
        Version::V3 => ("10ms to 40.95s", "steps of 10ms"),
        Version::V2 => ("1s to 255s", "whole seconds"),
    };
    if interval.value < low || interval.value > high {
        reader.fail(
            interval.offset,
            key(),
            format!("{} is out of range", interval.value),
            match instance.version.value {
                Version::V3 => format!("write a time from {range}, in {steps}"),
                Version::V2 => {
                    format!("write a time from {range}, in {steps}; shorter ones need version = 3")
                }
            },
        );
        return None;
    }
    if !interval.value.0.is_multiple_of(unit.0) {
        reader.fail(
            interval.offset,
            key(),
            format!("{} does not fit into an advert", interval.value),
            format!("write a time in {steps}, from {range}"),
        );
        return None;
    }
    Some(interval.value)
}

fn virtual_mac(reader: &Reader<'_>, instance: &DraftInstance, mode: Mode) {
    let At { value, offset } = instance.virtual_mac;
    if !value {
        return;
    }
    let fail = |message: &str, fix: &str| {
        let key = format!("{}, virtual_mac", instance.place);
        reader.fail(offset, key, message.to_owned(), fix.to_owned());
    };
    if mode == Mode::Off {
        fail(
            "it is the dataplane that has frames leave from that MAC address and come in to it, and dataplane.mode is \"off\"",
            "write `dataplane.mode = \"auto\"`, or remove `virtual_mac`",
        );
    }
    if instance.priority.value == OWNER {
        fail(
            "priority 255 says that the virtual addresses are this node's own, which have the interface's MAC address",
            "remove `virtual_mac`, or write a priority from 1 to 254",
        );
    }
}

fn peers(reader: &Reader<'_>, instance: &DraftInstance) {
    let key = || format!("{}, peers", instance.place);
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for peer in &instance.peers {
        if instance
            .source
            .as_ref()
            .is_some_and(|source| source.value == peer.value)
        {
            reader.fail(
                peer.offset,
                key(),
                format!("{} is this node itself (source)", peer.value),
                "name only the other nodes",
            );
        }
        if instance
            .addresses()
            .any(|(_, vip)| vip.value.addr() == peer.value)
        {
            reader.fail(
                peer.offset,
                key(),
                format!("{} is a VIP of this instance", peer.value),
                "name the other node's own address",
            );
        }
        if let Some(line) = seen.insert(peer.value, reader.line(peer.offset)) {
            reader.fail(
                peer.offset,
                key(),
                format!("{} is already named in line {line}", peer.value),
                "name each peer once",
            );
        }
    }
}

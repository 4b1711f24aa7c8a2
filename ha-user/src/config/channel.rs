//! `[[channel]]`: a further way on which two nodes hear each other.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use ha_common::{Nanos, abi::bfd::MAX_SESSIONS, wire::bfd::Sha1};
use ha_core::{
    Alone,
    bfd::{Auth, Key},
};

use super::{
    heartbeat::{self, Heartbeat, LeaseKeys},
    parse::{interface, name_if_any, path},
    reader::{At, Reader, Section},
};

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// The interface's name.
    pub interface: String,
    /// This node's address on it.
    pub local: IpAddr,
    /// The other node's.
    pub peer: IpAddr,
    /// Between two packets, both ways.
    pub interval: Nanos,
    /// Packets that must be missing in a row.
    pub multiplier: u8,
    /// What goes over it.
    pub kind: ChannelKind,
}

/// `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// A BFD session (RFC 5880).
    Bfd(BfdChannel),
}

/// A path for leases beside the instances' own LANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChannel {
    /// Its name.
    pub name: String,
    /// The interface's name.
    pub interface: String,
    /// This node's address on it.
    pub local: IpAddr,
    /// The other node's.
    pub peer: IpAddr,
    /// How often, and for how long.
    pub times: Heartbeat,
    /// The key of its tags.
    pub key: Option<[u64; 2]>,
    /// Whether the instances on it go on while nothing is heard of the peer.
    pub alone: Alone,
    /// Which address instances have in `peers` for the other node.
    pub node_address: Option<IpAddr>,
}

/// What only a BFD session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdChannel {
    /// Whether to wait for the peer's first packet.
    pub passive: bool,
    /// TTL or hop limit that packets must have at least, of a session over several hops (RFC 5883);
    /// `None`: the peer is on the same link (RFC 5881).
    pub min_ttl: Option<u8>,
    /// How packets are authenticated.
    pub auth: Option<Auth>,
}

pub(super) const KEYS: &[&str] = &[
    "name",
    "kind",
    "interface",
    "local",
    "peer",
    "interval",
    "multiplier",
    "key_file",
    "passive",
    "multihop",
    "min_ttl",
    "auth",
    "key_id",
    "alone",
    "node_address",
];

/// What was missing or wrong is `None` and has been reported.
pub(super) struct DraftChannel {
    pub(super) place: String,
    pub(super) offset: usize,
    pub(super) name: Option<At<String>>,
    pub(super) interface: Option<At<String>>,
    pub(super) local: Option<At<IpAddr>>,
    pub(super) peer: Option<At<IpAddr>>,
    interval: Nanos,
    multiplier: u8,
    kind: Option<DraftKind>,
}

impl DraftChannel {
    /// Whether routers may lie between the two nodes.
    pub(super) fn is_multihop(&self) -> bool {
        match &self.kind {
            Some(DraftKind::Bfd(ChannelKind::Bfd(bfd))) => bfd.min_ttl.is_some(),
            Some(DraftKind::Lease(_)) | None => false,
        }
    }
}

enum DraftKind {
    Bfd(ChannelKind),
    Lease(LeaseKeys),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bfd,
    Lease,
}

const DEFAULT_INTERVAL: Nanos = Nanos::from_millis(3);
const DEFAULT_MULTIPLIER: u32 = 3;
/// A packet that came over at most one router.
const DEFAULT_MIN_TTL: u8 = 254;
/// Bytes of the longest key file that is read.
const KEY_FILE_LIMIT: u64 = 4_096;

pub(super) fn parse(section: &Section<'_>) -> DraftChannel {
    let kind = section.choice("kind", &[("bfd", Kind::Bfd), ("lease", Kind::Lease)]);
    let name = section.require("name", name_if_any(section), "\"direct\"");
    let interface = section.require("interface", interface(section, "interface"), "\"eth1\"");
    let (local, peer) = ends(section);
    DraftChannel {
        place: section.place.clone(),
        offset: section.offset,
        name,
        interface,
        local,
        peer,
        interval: interval(section),
        multiplier: section
            .integer("multiplier", 1, 255)
            .map_or(DEFAULT_MULTIPLIER, |multiplier| multiplier.value)
            .try_into()
            .unwrap_or(u8::MAX),
        kind: section
            .require_or("kind", kind, || {
                "add `kind = \"lease\"` for leases between two had, or `kind = \"bfd\"` for a BFD session"
                    .to_owned()
            })
            .and_then(|kind| match kind.value {
                Kind::Bfd => bfd(section).map(DraftKind::Bfd),
                Kind::Lease => lease(section).map(DraftKind::Lease),
            }),
    }
}

/// `local` and `peer`. Where one is missing, the example lies beside the other one.
fn ends(section: &Section<'_>) -> (Option<At<IpAddr>>, Option<At<IpAddr>>) {
    let (local, peer) = (section.address("local"), section.address("peer"));
    let example = |other: &Option<At<IpAddr>>, default: &str| match other {
        Some(other) => beside(other.value).to_string(),
        None => default.to_owned(),
    };
    let for_local = example(&peer, "10.0.3.1");
    let for_peer = example(&local, "10.0.3.2");
    let local = section.require_or("local", local, || {
        format!("add this node's address on that interface, as `local = \"{for_local}\"`")
    });
    let peer = section.require_or("peer", peer, || {
        format!("add the other node's address there, as `peer = \"{for_peer}\"`")
    });
    (local, peer)
}

/// Another host's address in the smallest network that has two: an odd one's ends in binary 10, an even one's in 01.
const fn beside(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            IpAddr::V4(Ipv4Addr::from_bits(bits & !3 | 1 << (bits & 1)))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            IpAddr::V6(Ipv6Addr::from_bits(bits & !3 | 1 << (bits & 1)))
        }
    }
}

fn interval(section: &Section<'_>) -> Nanos {
    let (low, high) = (Nanos::from_millis(1), Nanos::from_secs(60));
    let Some(interval) = section.duration("interval") else {
        return DEFAULT_INTERVAL;
    };
    if interval.value < low || interval.value > high {
        section.fail(
            interval.offset,
            "interval",
            format!("{} is out of range", interval.value),
            "write a time from 1ms to 60s",
        );
        return DEFAULT_INTERVAL;
    }
    interval.value
}

fn bfd(section: &Section<'_>) -> Option<ChannelKind> {
    let multihop = section.boolean("multihop").is_some_and(|flag| flag.value);
    let min_ttl = section.integer("min_ttl", 1, 255);
    if let (Some(min_ttl), false) = (&min_ttl, multihop) {
        section.fail(
            min_ttl.offset,
            "min_ttl",
            "is only for a session over several hops: on one link the TTL is always 255",
            "add `multihop = true`, or remove it",
        );
    }
    let min_ttl = min_ttl.map_or(DEFAULT_MIN_TTL, |min_ttl| {
        min_ttl.value.try_into().unwrap_or(u8::MAX)
    });
    Some(ChannelKind::Bfd(BfdChannel {
        passive: section.boolean("passive").is_some_and(|flag| flag.value),
        min_ttl: multihop.then_some(min_ttl),
        auth: auth(section)?,
    }))
}

/// What a channel of kind `lease` has.
fn lease(section: &Section<'_>) -> Option<LeaseKeys> {
    for key in ["passive", "multihop", "min_ttl", "auth", "key_id"] {
        if let Some(offset) = section.offset_of(key) {
            section.fail(
                offset,
                key,
                "is only for a channel of kind \"bfd\"",
                "remove it",
            );
        }
    }
    let key = match section.string("key_file") {
        None => None,
        Some(file) => {
            let path = path(section, "key_file")?;
            let secret = read_key(&path)
                .map_err(|(message, fix)| section.fail(file.offset, "key_file", message, fix))
                .ok()?;
            let key = heartbeat::key(&secret);
            if key.is_none() {
                section.fail(
                    file.offset,
                    "key_file",
                    format!(
                        "{} does not begin with 32 hexadecimal digits",
                        path.display()
                    ),
                    "write 16 random bytes into it, the same on both nodes: \
                     openssl rand -hex 16",
                );
            }
            Some(key?)
        }
    };
    Some(LeaseKeys {
        times: heartbeat::times(section),
        key,
        alone: alone(section),
        node_address: section.address("node_address").map(|address| address.value),
    })
}

fn alone(section: &Section<'_>) -> Alone {
    match section.string("alone") {
        None => Alone::Serve,
        Some(word) if word.value == "ask" => {
            section.fail(
                word.offset,
                "alone",
                "not supported by this version of had: there is no witness to ask yet",
                "write \"serve\" or \"stop\"",
            );
            Alone::Serve
        }
        Some(_) => section
            .choice("alone", &[("serve", Alone::Serve), ("stop", Alone::Stop)])
            .map_or(Alone::Serve, |alone| alone.value),
    }
}

/// `None`: it is wrong, and has been reported.
fn auth(section: &Section<'_>) -> Option<Option<Auth>> {
    let kind = section.choice(
        "auth",
        &[
            ("keyed-sha1", Sha1::Keyed),
            ("meticulous-keyed-sha1", Sha1::Meticulous),
        ],
    );
    let key_id = section.integer("key_id", 0, 255);
    let Some(file) = section.string("key_file") else {
        for (key, offset) in [
            ("auth", kind.as_ref().map(|kind| kind.offset)),
            ("key_id", key_id.as_ref().map(|key_id| key_id.offset)),
        ] {
            if let Some(offset) = offset {
                section.fail(
                    offset,
                    key,
                    "there is no key to authenticate with",
                    "add `key_file = \"/etc/had/channel.key\"`, or remove it",
                );
            }
        }
        return Some(None);
    };
    let path = path(section, "key_file")?;
    let secret = match read_key(&path) {
        Ok(secret) => secret,
        Err((message, fix)) => {
            section.fail(file.offset, "key_file", message, fix);
            return None;
        }
    };
    let Some(key) = Key::new(&secret) else {
        section.fail(
            file.offset,
            "key_file",
            format!("the key in {} has {} bytes", path.display(), secret.len()),
            "write 1 to 20 bytes into it (RFC 5880 section 4.4), as the peer has them",
        );
        return None;
    };
    Some(Some(Auth {
        kind: kind.map_or(Sha1::Meticulous, |kind| kind.value),
        key_id: key_id
            .and_then(|key_id| u8::try_from(key_id.value).ok())
            .unwrap_or(1),
        key,
    }))
}

/// The first line of a file that only its owner and group may read. `Err`: what is wrong, and the fix.
pub(super) fn read_key(path: &Path) -> Result<Vec<u8>, (String, String)> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        (
            format!("{shown} cannot be read: {error}"),
            "name a file that has the key as its first line".to_owned(),
        )
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err((
            format!("everybody on this host may read {shown}, or write it"),
            format!("run: chmod 600 {shown}"),
        ));
    }
    let mut secret = Vec::new();
    file.take(KEY_FILE_LIMIT)
        .read_to_end(&mut secret)
        .map_err(unreadable)?;
    if let Some(end) = secret.iter().position(|byte| *byte == b'\n') {
        secret.truncate(end);
    }
    Ok(secret)
}

/// What is only wrong in combination. Channels that are right.
pub(super) fn check(
    reader: &Reader<'_>,
    drafts: &[DraftChannel],
) -> (Vec<Channel>, Vec<LeaseChannel>) {
    let mut peers: BTreeMap<(&str, IpAddr, u8), (usize, &str)> = BTreeMap::new();
    let mut channels = Vec::new();
    let mut leases = Vec::new();
    for draft in drafts {
        let (Some(name), Some(interface), Some(local), Some(peer), Some(kind)) = (
            &draft.name,
            &draft.interface,
            &draft.local,
            &draft.peer,
            &draft.kind,
        ) else {
            continue;
        };
        let fail = |message: String, fix: &str| {
            reader.fail(peer.offset, format!("{}, peer", draft.place), message, fix);
        };
        if local.value.is_ipv4() != peer.value.is_ipv4() {
            fail(
                format!(
                    "{} and {} (local) are of different families",
                    peer.value, local.value
                ),
                "write two IPv4 addresses, or two IPv6 addresses",
            );
        } else if local.value == peer.value {
            fail(
                format!("{} is this node itself (local)", peer.value),
                "name the other node's address",
            );
        }
        let sort = match kind {
            DraftKind::Bfd(ChannelKind::Bfd(bfd)) => u8::from(bfd.min_ttl.is_some()),
            DraftKind::Lease(_) => 2,
        };
        let key = (interface.value.as_str(), peer.value, sort);
        if let Some((line, place)) = peers.get(&key) {
            fail(
                format!(
                    "{} on {} is already the peer of {place} in line {line}",
                    peer.value, interface.value
                ),
                "remove one of the two: there is one session of a kind between two addresses",
            );
        } else {
            peers.insert(key, (reader.line(peer.offset), &draft.place));
        }
        match kind {
            DraftKind::Bfd(kind) => channels.push(Channel {
                name: name.value.clone(),
                interface: interface.value.clone(),
                local: local.value,
                peer: peer.value,
                interval: draft.interval,
                multiplier: draft.multiplier,
                kind: kind.clone(),
            }),
            DraftKind::Lease(keys) => leases.push(LeaseChannel {
                name: name.value.clone(),
                interface: interface.value.clone(),
                local: local.value,
                peer: peer.value,
                times: keys.times,
                key: keys.key,
                alone: keys.alone,
                node_address: keys.node_address,
            }),
        }
    }
    if channels.len() > usize::try_from(MAX_SESSIONS).unwrap_or(usize::MAX) {
        reader.fail(
            drafts.first().map_or(0, |draft| draft.offset),
            "channel",
            format!("there are more than {MAX_SESSIONS}"),
            "remove some",
        );
    }
    (channels, leases)
}

/// The channels that an instance names exist, each once.
pub(super) fn check_names(
    reader: &Reader<'_>,
    place: &str,
    names: &[At<String>],
    drafts: &[DraftChannel],
) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        let key = || format!("{place}, channels");
        let known = drafts
            .iter()
            .filter_map(|draft| draft.name.as_ref())
            .any(|known| known.value == name.value);
        if !known {
            reader.fail(
                name.offset,
                key(),
                format!("there is no channel \"{}\"", name.value),
                format!("add a [[channel]] with `name = \"{}\"`", name.value),
            );
        }
        if let Some(line) = seen.insert(&name.value, reader.line(name.offset)) {
            reader.fail(
                name.offset,
                key(),
                format!("\"{}\" is already named in line {line}", name.value),
                "name each channel once",
            );
        }
    }
}

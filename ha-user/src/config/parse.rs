//! From the file's text to values, each with its place: names, types and ranges.

use std::{net::IpAddr, path::PathBuf, str::FromStr as _};

use ha_common::Nanos;
use ha_core::{Version, config::AnnounceConfig};
use ipnet::IpNet;
use toml::de::DeTable;

use super::{
    Checksum, Dataplane, Link, Mode, Node,
    channel::{self, DraftChannel},
    checks::{self, DraftCheck},
    heartbeat::{self, Heartbeat},
    link,
    reader::{At, Later, Reader, Section, is_host},
    roles::{self, DraftRole, Modes},
    track::{self, DraftInterface, DraftTrack},
};
use crate::sys::realtime::MAX_CPU;

/// The file, with values that are still to be checked against each other.
pub(super) struct Draft {
    pub(super) node: Node,
    pub(super) dataplane: Dataplane,
    pub(super) control: PathBuf,
    /// `[link]`; the inner one is `None` where it is wrong, and has been reported.
    pub(super) link: Option<At<Option<Link>>>,
    pub(super) instances: Vec<DraftInstance>,
    pub(super) groups: Vec<DraftGroup>,
    pub(super) channels: Vec<DraftChannel>,
    pub(super) checks: Vec<DraftCheck>,
    pub(super) interfaces: Vec<DraftInterface>,
    pub(super) roles: Vec<DraftRole>,
    pub(super) modes: Modes,
    /// Whether there is a `[link]`, be it right or wrong.
    pub(super) has_link: bool,
}

/// `[[group]]`.
pub(super) struct DraftGroup {
    pub(super) place: String,
    pub(super) name: At<String>,
    pub(super) track: Vec<DraftTrack>,
    pub(super) roles: Vec<At<String>>,
}

/// `[[instance]]`; what was missing or wrong is `None` and has been reported.
pub(super) struct DraftInstance {
    pub(super) place: String,
    pub(super) offset: usize,
    pub(super) name: Option<At<String>>,
    pub(super) interface: Option<At<String>>,
    pub(super) vrid: Option<At<u32>>,
    pub(super) version: At<Version>,
    pub(super) priority: At<u32>,
    pub(super) preempt: At<bool>,
    pub(super) preempt_delay: Nanos,
    pub(super) advert_interval: Option<At<Nanos>>,
    pub(super) source: Option<At<IpAddr>>,
    pub(super) peers: Vec<At<IpAddr>>,
    pub(super) checksum: Checksum,
    pub(super) vips: Vec<At<IpNet>>,
    pub(super) extra_vips: Vec<At<IpNet>>,
    pub(super) group: Option<At<String>>,
    pub(super) channels: Vec<At<String>>,
    pub(super) heartbeat: Option<At<Heartbeat>>,
    pub(super) virtual_mac: At<bool>,
    pub(super) announce: AnnounceConfig,
    pub(super) track: Vec<DraftTrack>,
}

impl DraftInstance {
    /// Its virtual addresses, each with its key: those that adverts name, then the others.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, &At<IpNet>)> {
        let advertised = self.vips.iter().map(|vip| ("vips", vip));
        advertised.chain(self.extra_vips.iter().map(|vip| ("extra_vips", vip)))
    }
}

const HOUR: Nanos = Nanos::from_secs(3_600);

const LATER_SECTIONS: &[Later] = &[("link", "the link between nodes comes later")];

/// Reads the whole file; `None` when its syntax is broken.
pub(super) fn document<'a>(reader: &'a Reader<'a>, text: &'a str) -> Option<Draft> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            broken(reader, text, &error);
        }
        return None;
    }
    walk(reader, &document)
}

/// Reports broken syntax. The parser takes a value that is not there for a string without quotes.
fn broken(reader: &Reader<'_>, text: &str, error: &toml::de::Error) {
    let span = error.span().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    if span.is_empty() && before.trim_end_matches([' ', '\t']).ends_with('=') {
        reader.fail(
            span.start,
            "",
            "there is no value after `=`",
            "write a value there, or remove the key",
        );
        return;
    }
    reader.fail(
        span.start,
        "",
        error.message().trim().replace('\n', ", "),
        "correct the TOML syntax of this line",
    );
}

fn walk(reader: &Reader<'_>, document: &toml::Spanned<DeTable<'_>>) -> Option<Draft> {
    let root = Section::new(
        reader,
        String::new(),
        document.get_ref(),
        document.span(),
        &[
            "node",
            "dataplane",
            "api",
            "link",
            "channel",
            "instance",
            "group",
            "interface",
            "check",
            "role",
            "mode",
        ],
        LATER_SECTIONS,
    );
    if !root.has_any("instance") {
        root.fail(
            0,
            "instance",
            "there is none",
            "add an [[instance]] with name, interface, vrid and vips",
        );
    }
    let node = node(root.section(
        "node",
        "[node]".to_owned(),
        &["name", "state_dir", "runtime_dir", "start_delay"],
        &[],
    ));
    let dataplane = dataplane(root.section(
        "dataplane",
        "[dataplane]".to_owned(),
        &[
            "mode",
            "realtime_priority",
            "cpu_affinity",
            "pin_dir",
            "guard_others",
        ],
        &[],
    ));
    let control = root
        .section("api", "[api]".to_owned(), &["listen", "control"], &[])
        .and_then(|api| {
            http_is_off(&api);
            path(&api, "control")
        })
        .unwrap_or_else(|| node.runtime_dir.join("control.sock"));
    let link = root.section("link", "[link]".to_owned(), link::KEYS, &[]);
    let link = link.map(|section| At {
        value: link::parse(&section),
        offset: section.offset,
    });
    let groups = root
        .sections("group", &["name", "track", "roles"], &[])
        .iter()
        .filter_map(|group| {
            Some(DraftGroup {
                place: group.place.clone(),
                name: name(group)?,
                track: track::parse(group),
                roles: group
                    .strings("roles")
                    .map(|list| list.value)
                    .unwrap_or_default(),
            })
        })
        .collect();
    let roles = root
        .sections_of_kinds("role", roles::keys)
        .iter()
        .map(roles::parse)
        .collect();
    let modes = root.section("mode", "[mode]".to_owned(), roles::MODE_KEYS, &[]);
    let channels = root
        .sections("channel", channel::KEYS, &[])
        .iter()
        .map(channel::parse)
        .collect();
    let interfaces = root
        .sections("interface", track::INTERFACE_KEYS, &[])
        .iter()
        .filter_map(track::parse_interface)
        .collect();
    let checks = root
        .sections_of_kinds("check", checks::keys)
        .iter()
        .map(checks::parse)
        .collect();
    let instances = root
        .sections(
            "instance",
            &[
                "name",
                "interface",
                "vrid",
                "version",
                "priority",
                "preempt",
                "preempt_delay",
                "advert_interval",
                "source",
                "peers",
                "checksum",
                "vips",
                "extra_vips",
                "group",
                "channels",
                "heartbeat",
                "virtual_mac",
                "announce",
                "track",
            ],
            &[],
        )
        .iter()
        .map(instance)
        .collect();
    Some(Draft {
        node,
        dataplane,
        control,
        link,
        instances,
        groups,
        channels,
        checks,
        interfaces,
        roles,
        modes: roles::parse_mode(modes),
        has_link: root.has_any("link"),
    })
}

/// `listen = ""` says that HTTP is not to be served, and it is not.
fn http_is_off(api: &Section<'_>) {
    if let Some(listen) = api.string("listen")
        && !listen.value.is_empty()
    {
        api.fail(
            listen.offset,
            "listen",
            "not supported by this version of had: HTTP is not served yet",
            "write `listen = \"\"`, or remove it",
        );
    }
}

fn node(section: Option<Section<'_>>) -> Node {
    let host_name = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    let default = |path: &str| PathBuf::from(path);
    let Some(section) = section else {
        return Node {
            name: host_name(),
            state_dir: default("/var/lib/had"),
            runtime_dir: default("/run/had"),
            start_delay: Nanos::ZERO,
        };
    };
    Node {
        name: name_if_any(&section).map_or_else(host_name, |name| name.value),
        state_dir: path(&section, "state_dir").unwrap_or_else(|| default("/var/lib/had")),
        runtime_dir: path(&section, "runtime_dir").unwrap_or_else(|| default("/run/had")),
        start_delay: span(&section, "start_delay", Nanos::ZERO, HOUR).unwrap_or_default(),
    }
}

fn dataplane(section: Option<Section<'_>>) -> Dataplane {
    let mut dataplane = Dataplane {
        mode: Mode::Auto,
        realtime_priority: 50,
        cpu_affinity: Vec::new(),
        pin_dir: PathBuf::from("/sys/fs/bpf/had"),
        guard_others: true,
    };
    let Some(section) = section else {
        return dataplane;
    };
    if let Some(mode) = section.choice(
        "mode",
        &[
            ("auto", Mode::Auto),
            ("native", Mode::Native),
            ("generic", Mode::Generic),
            ("tc", Mode::Tc),
            ("off", Mode::Off),
        ],
    ) {
        dataplane.mode = mode.value;
    }
    if let Some(priority) = section.integer("realtime_priority", 0, 99) {
        dataplane.realtime_priority = priority.value;
    }
    if let Some(cpus) = section.integers("cpu_affinity", 0, MAX_CPU) {
        dataplane.cpu_affinity = cpus;
    }
    if let Some(pin_dir) = path(&section, "pin_dir") {
        dataplane.pin_dir = pin_dir;
    }
    if let Some(guard) = section.boolean("guard_others") {
        dataplane.guard_others = guard.value;
    }
    dataplane
}

fn instance(section: &Section<'_>) -> DraftInstance {
    let version = section
        .choice_of_numbers("version", &[(2, Version::V2), (3, Version::V3)])
        .unwrap_or(At {
            value: Version::V3,
            offset: section.offset,
        });
    let at_section = |value| At {
        value,
        offset: section.offset,
    };
    let unset = || At {
        value: false,
        offset: section.offset,
    };
    DraftInstance {
        place: section.place.clone(),
        offset: section.offset,
        name: section.require("name", name_if_any(section), "\"web\""),
        interface: section.require("interface", interface(section, "interface"), "\"eth0\""),
        vrid: section.require("vrid", section.integer("vrid", 1, 255), "51"),
        version,
        priority: section
            .integer("priority", 1, 255)
            .unwrap_or_else(|| at_section(100)),
        preempt: section.boolean("preempt").unwrap_or_else(unset),
        preempt_delay: span(section, "preempt_delay", Nanos::ZERO, HOUR).unwrap_or_default(),
        advert_interval: section.duration("advert_interval"),
        source: section.address("source"),
        peers: peers(section),
        checksum: section
            .choice(
                "checksum",
                &[
                    ("auto", Checksum::Auto),
                    ("rfc9568", Checksum::Rfc9568),
                    ("pseudo-header", Checksum::PseudoHeader),
                ],
            )
            .map_or(Checksum::Auto, |checksum| checksum.value),
        vips: vips(section),
        extra_vips: extra_vips(section),
        group: section.string("group"),
        channels: section
            .strings("channels")
            .map_or_else(Vec::new, |list| list.value),
        heartbeat: heartbeat::parse(section),
        virtual_mac: section.boolean("virtual_mac").unwrap_or_else(unset),
        announce: announce(section),
        track: track::parse(section),
    }
}

fn peers(section: &Section<'_>) -> Vec<At<IpAddr>> {
    let Some(list) = section.strings("peers") else {
        return Vec::new();
    };
    if list.value.is_empty() {
        section.fail(
            list.offset,
            "peers",
            "the list is empty",
            "name the other nodes' addresses, or remove the key for multicast",
        );
    }
    list.value
        .iter()
        .filter_map(|text| {
            Some(At {
                value: section.parse_address("peers", text)?,
                offset: text.offset,
            })
        })
        .collect()
}

fn vips(section: &Section<'_>) -> Vec<At<IpNet>> {
    let Some(list) = section.require("vips", section.strings("vips"), "[\"192.168.33.100/24\"]")
    else {
        return Vec::new();
    };
    if list.value.is_empty() {
        section.fail(
            list.offset,
            "vips",
            "the list is empty",
            "name at least one address with its prefix length, as \"192.168.33.100/24\"",
        );
    }
    nets(section, "vips", &list)
}

fn extra_vips(section: &Section<'_>) -> Vec<At<IpNet>> {
    section
        .strings("extra_vips")
        .map(|list| nets(section, "extra_vips", &list))
        .unwrap_or_default()
}

fn nets(section: &Section<'_>, key: &str, list: &At<Vec<At<String>>>) -> Vec<At<IpNet>> {
    list.value
        .iter()
        .filter_map(|text| {
            Some(At {
                value: vip(section, key, text)?,
                offset: text.offset,
            })
        })
        .collect()
}

fn vip(section: &Section<'_>, key: &str, text: &At<String>) -> Option<IpNet> {
    let fail = |message: String, fix: &str| {
        section.fail(text.offset, key, message, fix);
    };
    let Ok(vip) = IpNet::from_str(&text.value) else {
        let (address, prefix) = match text.value.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.value.as_str(), None),
        };
        match (IpAddr::from_str(address), prefix) {
            (Ok(address), None) => {
                let (usual, longest) = prefix_lengths(address);
                fail(
                    format!("{address} lacks its prefix length"),
                    &format!(
                        "write \"{address}/{usual}\" with the network's prefix length, or \"{address}/{longest}\""
                    ),
                );
            }
            (Ok(address), Some(prefix)) => {
                let (usual, longest) = prefix_lengths(address);
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                fail(
                    format!("\"/{prefix}\" is no prefix length of an {family} network"),
                    &format!("write \"{address}/{usual}\", from /1 to /{longest}"),
                );
            }
            (Err(_), _) => fail(
                format!("\"{}\" is no IP address with a prefix length", text.value),
                "write it as \"192.168.33.100/24\" or \"2001:db8::100/64\"",
            ),
        }
        return None;
    };
    if vip.prefix_len() == 0 {
        let (usual, longest) = prefix_lengths(vip.addr());
        fail(
            "\"/0\" would be every address there is".to_owned(),
            &format!("write \"{}/{usual}\", from /1 to /{longest}", vip.addr()),
        );
        return None;
    }
    // IPv6 has no broadcast; a network's own address is its routers' (RFC 4291 section 2.6.1).
    let edge = vip.prefix_len() + 1 < vip.max_prefix_len()
        && (vip.addr() == vip.network() || vip.addr().is_ipv4() && vip.addr() == vip.broadcast());
    if edge || !is_host(vip.addr()) {
        fail(
            format!("{vip} is no address of a host"),
            "write a unicast address inside the network, not the network's own or its broadcast address",
        );
        return None;
    }
    Some(vip)
}

/// The usual prefix length of a network, and the longest.
fn prefix_lengths(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() {
        (24, 32)
    } else {
        (64, 128)
    }
}

fn announce(section: &Section<'_>) -> AnnounceConfig {
    let mut announce = AnnounceConfig {
        count: 5,
        interval: Nanos::ZERO,
        repeat_after: Nanos::from_secs(5),
        refresh: Nanos::from_secs(60),
    };
    let Some(table) = section.section(
        "announce",
        format!("{}, announce", section.place),
        &["count", "interval", "repeat_after", "refresh"],
        &[],
    ) else {
        return announce;
    };
    if let Some(count) = table.integer("count", 1, 100) {
        announce.count = count.value;
    }
    if let Some(interval) = span(&table, "interval", Nanos::ZERO, Nanos::from_secs(60)) {
        announce.interval = interval;
    }
    if let Some(repeat_after) = span(&table, "repeat_after", Nanos::ZERO, HOUR) {
        announce.repeat_after = repeat_after;
    }
    if let Some(refresh) = span(&table, "refresh", Nanos::ZERO, HOUR.times(24)) {
        if refresh > Nanos::ZERO && refresh < Nanos::from_secs(1) {
            table.fail(
                table.offset,
                "refresh",
                format!("{refresh} is too often"),
                "write \"1s\" or more, or \"0s\" for none",
            );
        }
        announce.refresh = refresh;
    }
    announce
}

/// A duration from `low` to `high`.
pub(super) fn span(section: &Section<'_>, key: &str, low: Nanos, high: Nanos) -> Option<Nanos> {
    let duration = section.duration(key)?;
    if duration.value < low || duration.value > high {
        section.fail(
            duration.offset,
            key,
            format!("{} is out of range", duration.value),
            format!("write a time from {low} to {high}"),
        );
        return None;
    }
    Some(duration.value)
}

pub(super) fn path(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = section.string(key)?;
    if !text.value.starts_with('/') {
        section.fail(
            text.offset,
            key,
            format!("\"{}\" is no absolute path", text.value),
            "begin it with /",
        );
        return None;
    }
    Some(PathBuf::from(text.value))
}

fn name(section: &Section<'_>) -> Option<At<String>> {
    section.require("name", name_if_any(section), "\"db\"")
}

pub(super) fn name_if_any(section: &Section<'_>) -> Option<At<String>> {
    let name = section.string("name")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Names are those of files, too.
    let reserved = matches!(name.value.as_str(), "" | "." | "..");
    if reserved || name.value.len() > 63 || !name.value.chars().all(legal) {
        section.fail(
            name.offset,
            "name",
            format!("\"{}\" cannot be a name", name.value),
            "use 1 to 63 letters, digits, '-', '_' and '.'",
        );
        return None;
    }
    Some(name)
}

/// An interface name that the kernel could have (`dev_valid_name`).
pub(super) fn interface(section: &Section<'_>, key: &str) -> Option<At<String>> {
    let name = section.string(key)?;
    let legal = |c: char| !c.is_whitespace() && c != '/' && c != ':';
    let reserved = matches!(name.value.as_str(), "" | "." | "..");
    if reserved || name.value.len() > 15 || !name.value.chars().all(legal) {
        section.fail(
            name.offset,
            key,
            format!("\"{}\" cannot be an interface's name", name.value),
            "write a name of at most 15 characters, as `ip link` shows it",
        );
        return None;
    }
    Some(name)
}

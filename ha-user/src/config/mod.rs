//! The configuration file: `docs/configuration.md` describes every key.
//!
//! Read in two steps. `parse` turns text into values and reports unknown keys, wrong types and ranges;
//! `check` reports what is only wrong in combination. Every mistake of one step is reported at once,
//! each with file, line, key and fix; a [`Config`] that exists is valid.

mod channel;
mod check;
mod checks;
mod counts;
mod diagnostic;
mod family;
mod foreign;
mod heartbeat;
mod link;
mod live;
mod parse;
mod reader;
mod roles;
mod track;

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ha_common::{
    Nanos, Priority, Vrid,
    wire::{ipv4, ipv6},
};
use ha_core::{Version, config::AnnounceConfig, tracking::Track};
use ipnet::IpNet;

#[cfg(test)]
pub(crate) use self::checks::{config_of, kind_of};
pub use self::{
    channel::{BfdChannel, Channel, ChannelKind, LeaseChannel},
    checks::{
        Check, CheckKind, CommandLine, CommandPlace, Drbd, FILE_NUMBERS, FileExpect, Galera,
        Gluster, Http, HttpHeader, HttpMethod, HttpTls, Mdadm, Mysql, MysqlPlace, MysqlServer,
        MysqlTls, Ping, Process, Script, Secret, Tcp, Unit, WatchedFile,
    },
    diagnostic::{ConfigError, Diagnostic},
    heartbeat::Heartbeat,
    link::{Link, LinkKey, LinkPath},
    roles::{
        AfterFailover, BinlogRole, Bootstrap, CronRole, DrbdRole, GaleraRole, Modes, MountRole,
        MysqlRole, Role, RoleCommand, RoleKind, ScriptRole, ServerProcess, SyncRole, UnitRole,
        mount_flags,
    },
    track::Interface,
};

/// Everything that the file says, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[dataplane]`.
    pub dataplane: Dataplane,
    /// `api.control`: the socket of `hactl`.
    pub control: PathBuf,
    /// `[link]`; `None`: the nodes say nothing to each other beside adverts and leases.
    pub link: Option<Link>,
    /// Each `[[instance]]`.
    pub instances: Vec<Instance>,
    /// Each `[[channel]]` of kind `bfd`.
    pub channels: Vec<Channel>,
    /// Each `[[channel]]` of kind `lease`.
    pub lease_channels: Vec<LeaseChannel>,
    /// Each `[[check]]`.
    pub checks: Vec<Check>,
    /// Each `[[interface]]`.
    pub interfaces: Vec<Interface>,
    /// Each `[[group]]`.
    pub groups: Vec<Group>,
    /// Each `[[role]]`.
    pub roles: Vec<Role>,
    /// `[mode]`.
    pub modes: Modes,
}

impl Config {
    /// The instances to whose other nodes only one link leads: their own.
    pub fn single_paths(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| {
            let further = |interface: &str, name: &String| {
                interface != instance.interface && instance.channels.contains(name)
            };
            let bfd = &self.channels;
            let leases = &self.lease_channels;
            !bfd.iter().any(|one| further(&one.interface, &one.name))
                && !leases.iter().any(|one| further(&one.interface, &one.name))
        })
    }
}

/// Instances that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What all its members track.
    pub track: Vec<Track>,
    /// Indices into [`Config::roles`], in the order of promotion.
    pub roles: Vec<usize>,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// This node's name, by default its host name.
    pub name: String,
    /// What must outlive a reboot.
    pub state_dir: PathBuf,
    /// What must outlive the process, but not a reboot.
    pub runtime_dir: PathBuf,
    /// How long to listen after the start before taking part.
    pub start_delay: Nanos,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// `mode`.
    pub mode: Mode,
    /// SCHED_FIFO priority of the engine thread; 0 = ordinary scheduling.
    pub realtime_priority: u32,
    /// CPUs on which the engine thread may run; none = on any.
    pub cpu_affinity: Vec<u32>,
    /// Where programs, links and maps are pinned, if that is on a bpffs.
    pub pin_dir: PathBuf,
    /// Whether interfaces that nothing names are guarded, and sysctls set.
    pub guard_others: bool,
}

/// `dataplane.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native XDP, else generic, else tc, else sockets alone.
    Auto,
    /// Native XDP or an error.
    Native,
    /// Generic XDP or an error.
    Generic,
    /// tc ingress, which leaves XDP to others.
    Tc,
    /// Sockets alone: no gate.
    Off,
}

/// How the checksum of VRRPv3 adverts for IPv4 is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// As the peer does; before one was heard, with a pseudo-header, which most routers in use check.
    Auto,
    /// RFC 9568 section 5.2.8: over the VRRP message alone.
    Rfc9568,
    /// With a pseudo-header, as keepalived and FRR do by default.
    PseudoHeader,
}

/// The family of an instance's adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// As it stands in IP headers and in the maps.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => ipv4::VERSION,
            Self::V6 => ipv6::VERSION,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whether an address holds on one link only (RFC 4291 section 2.5.6).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// `[[instance]]`: one virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// The interface's name.
    pub interface: String,
    /// Virtual Router Identifier.
    pub vrid: Vrid,
    /// VRRP version.
    pub version: Version,
    /// 1 to 255.
    pub priority: Priority,
    /// Whether to take over from a live router of lower priority.
    pub preempt: bool,
    /// How long to hear such a router before that.
    pub preempt_delay: Nanos,
    /// Between two adverts.
    pub advert_interval: Nanos,
    /// Source of this node's adverts; `None` = the interface's first address of the family.
    pub source: Option<IpAddr>,
    /// Unicast peers; empty = multicast.
    pub peers: Vec<IpAddr>,
    /// Checksum dialect of what is sent; both are accepted.
    pub checksum: Checksum,
    /// Virtual addresses with their networks: `vips`, and behind them `extra_vips`.
    pub vips: Vec<IpNet>,
    /// How many of them are `vips`, which adverts name.
    pub advertised: usize,
    /// Index into [`Config::groups`].
    pub group: Option<usize>,
    /// The names of the channels to its other nodes, beside its own LAN.
    pub channels: Vec<String>,
    /// Leases that the peers' kernels grant; `None` = adverts alone.
    pub heartbeat: Option<Heartbeat>,
    /// Whether its VIPs have the virtual router's MAC address, not the interface's.
    pub virtual_mac: bool,
    /// Gratuitous ARP.
    pub announce: AnnounceConfig,
    /// What it tracks beside its own interface.
    pub track: Vec<Track>,
}

impl Instance {
    /// The virtual addresses that adverts name, and those that they do not.
    #[must_use]
    pub fn vips_by_key(&self) -> (&[IpNet], &[IpNet]) {
        self.vips
            .split_at_checked(self.advertised)
            .unwrap_or((&self.vips, &[]))
    }

    /// Which family its adverts are of: that of its source or peers, else IPv4 if it has such a VIP.
    #[must_use]
    pub fn family(&self) -> Family {
        family::of(
            self.source.iter().chain(&self.peers).copied(),
            self.vips_by_key().0.iter().map(IpNet::addr),
        )
    }

    /// Whether an address of the interface can be the source of its adverts, if none is configured: over IPv6 a
    /// link-local one (RFC 9568 section 5.1.2.1), unless its peers have others.
    #[must_use]
    pub fn suits_as_source(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family()
            && (address.is_ipv4()
                || is_link_local(address)
                    == self.peers.first().is_none_or(|peer| is_link_local(*peer)))
    }

    /// Whether it has anything to do with IPv6.
    #[must_use]
    pub fn uses_v6(&self) -> bool {
        self.family() == Family::V6 || self.vips.iter().any(|vip| vip.addr().is_ipv6())
    }

    /// The VIPs that its adverts name: those `vips` that are of their family.
    pub fn named_in_adverts(&self) -> impl Iterator<Item = &IpNet> {
        let family = self.family();
        let (vips, _) = self.vips_by_key();
        vips.iter()
            .filter(move |vip| Family::of(vip.addr()) == family)
    }
}

/// The addresses of an interface, to check VIPs against; `None` = not known (there is no such interface).
pub type Addresses<'a> = &'a dyn Fn(&str) -> Option<Vec<IpNet>>;

/// Whether an interface has an address that is not one that `had` put there.
pub type Taken<'a> = &'a dyn Fn(&str, IpAddr) -> bool;

/// Reads and validates a file.
///
/// `addresses` are this node's live ones where the interfaces should be there (`--check`, reload), or
/// answer `None` (start: an interface may yet come). A VIP that is `taken` is refused: as soon as this node
/// is Backup, nobody would reach it.
pub fn load(
    file: &Path,
    addresses: Addresses<'_>,
    taken: Taken<'_>,
) -> Result<Config, ConfigError> {
    let failed = |message: String, fix: &str| ConfigError {
        file: file.to_owned(),
        diagnostics: vec![Diagnostic {
            line: None,
            excerpt: None,
            key: String::new(),
            message,
            fix: fix.to_owned(),
        }],
    };
    let text = fs::read_to_string(file).map_err(|error| {
        failed(
            format!("cannot be read: {error}"),
            "name an existing, readable file: had --config FILE",
        )
    })?;
    parse_and_check(&text, addresses, taken).map_err(|diagnostics| ConfigError {
        file: file.to_owned(),
        diagnostics,
    })
}

/// A configuration for the tests of other modules.
#[cfg(test)]
pub(crate) fn for_tests(text: &str) -> Config {
    parse_and_check(text, &|_| None, &|_, _| false).expect("a valid configuration")
}

fn parse_and_check(
    text: &str,
    addresses: Addresses<'_>,
    taken: Taken<'_>,
) -> Result<Config, Vec<Diagnostic>> {
    let reader = reader::Reader::new(text);
    let config = parse::document(&reader, text)
        .and_then(|draft| check::finish(&reader, draft, addresses, taken))
        .filter(|_| reader.is_clean());
    config.ok_or_else(|| reader.into_diagnostics())
}

#[cfg(test)]
pub(crate) mod tests;

//! `[[check]]`: a watched service. The keys of each kind stand in a file of their own.

mod drbd;
mod file;
mod galera;
mod gluster;
mod http;
mod mdadm;
pub(super) mod mysql;
mod ping;
mod process;
mod script;
mod secret;
pub(super) mod tcp;
pub(super) mod unit;

use std::net::IpAddr;

use ha_common::Nanos;
use ha_core::check::CheckConfig;

pub(super) use self::script::{surroundings, words};
pub use self::{
    drbd::Drbd,
    file::{FILE_NUMBERS, FileExpect, WatchedFile},
    galera::Galera,
    gluster::Gluster,
    http::{Http, HttpHeader, HttpMethod, HttpTls},
    mdadm::Mdadm,
    mysql::{Mysql, MysqlPlace, MysqlServer, MysqlTls},
    ping::Ping,
    process::{CommandLine, CommandPlace, Process},
    script::Script,
    secret::Secret,
    tcp::Tcp,
    unit::Unit,
};
pub(in crate::config) use self::{drbd::resource, unit::unit_name};
use super::{
    parse::{name_if_any, span},
    reader::{At, Section},
    track::DAMPING,
};

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How often it is probed, and how many results in a row count.
    pub times: CheckConfig,
    /// The longest that a recovery is held back where the service comes and goes; zero = never.
    pub damping: Nanos,
    /// What is looked at, and how.
    pub kind: CheckKind,
}

/// `kind`, with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A resource of DRBD that this node could use.
    Drbd(Drbd),
    /// A file that must be there, or must not.
    File(WatchedFile),
    /// A node of a Galera cluster that may serve.
    Galera(Galera),
    /// A GlusterFS volume of which this node has bricks.
    Gluster(Gluster),
    /// A URL whose answer is judged.
    Http(Http),
    /// Disk arrays that must be whole.
    Mdadm(Mdadm),
    /// A MariaDB or MySQL server that answers a statement.
    Mysql(Mysql),
    /// Hosts that must answer.
    Ping(Ping),
    /// Processes that must run.
    Process(Process),
    /// A program whose exit code says it.
    Script(Script),
    /// A TCP port that accepts.
    Tcp(Tcp),
    /// A unit of systemd.
    Unit(Unit),
}

impl CheckKind {
    /// As in the file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Drbd(_) => drbd::FORM.name,
            Self::File(_) => file::FORM.name,
            Self::Galera(_) => galera::FORM.name,
            Self::Gluster(_) => gluster::FORM.name,
            Self::Http(_) => http::FORM.name,
            Self::Mdadm(_) => mdadm::FORM.name,
            Self::Mysql(_) => mysql::FORM.name,
            Self::Ping(_) => ping::FORM.name,
            Self::Process(_) => process::FORM.name,
            Self::Script(_) => script::FORM.name,
            Self::Tcp(_) => tcp::FORM.name,
            Self::Unit(_) => unit::FORM.name,
        }
    }
}

impl CheckKind {
    /// Whether it counts something, so that a weight can be added as many times.
    #[must_use]
    pub fn counts(&self) -> bool {
        matches!(self, Self::File(file) if file.expect == FileExpect::Number)
    }

    /// The addresses at which it looks.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Http(http) => vec![http.address.ip()],
            Self::Ping(ping) => ping.targets.clone(),
            Self::Galera(galera) => galera.mysql.server.address().into_iter().collect(),
            Self::Mysql(mysql) => mysql.server.address().into_iter().collect(),
            Self::Tcp(tcp) => vec![tcp.address.ip()],
            Self::Drbd(_)
            | Self::File(_)
            | Self::Gluster(_)
            | Self::Mdadm(_)
            | Self::Process(_)
            | Self::Script(_)
            | Self::Unit(_) => Vec::new(),
        }
    }
}

/// What a kind of check looks like in the file.
struct Form {
    /// `kind`.
    name: &'static str,
    /// Its own keys, beside [`KEYS`].
    keys: &'static [&'static str],
    /// Reads them; what is missing or wrong has been reported where the answer is `None`.
    parse: fn(&Section<'_>) -> Option<CheckKind>,
}

const FORMS: &[&Form] = &[
    &drbd::FORM,
    &file::FORM,
    &galera::FORM,
    &gluster::FORM,
    &http::FORM,
    &mdadm::FORM,
    &mysql::FORM,
    &ping::FORM,
    &process::FORM,
    &script::FORM,
    &tcp::FORM,
    &unit::FORM,
];

/// The keys that every check has.
const KEYS: &[&str] = &[
    "name",
    "kind",
    "interval",
    "timeout",
    "rise",
    "fall",
    "start_delay",
    "damping",
];

/// What was missing or wrong is `None` and has been reported.
pub(super) struct DraftCheck {
    pub(super) place: String,
    pub(super) name: Option<At<String>>,
    /// What stands there as its name, even if it cannot be one.
    called: Option<String>,
    times: CheckConfig,
    damping: Nanos,
    kind: Option<CheckKind>,
}

impl DraftCheck {
    pub(super) fn finish(&self) -> Option<Check> {
        Some(Check {
            name: self.name.as_ref()?.value.clone(),
            times: self.times,
            damping: self.damping,
            kind: self.kind.clone()?,
        })
    }

    /// Whether the file calls it so, be it right or wrong.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.called.as_deref() == Some(name)
    }

    /// Whether it counts something; `None`: its kind was wrong, or what its kind needs.
    pub(super) fn counts(&self) -> Option<bool> {
        self.kind.as_ref().map(CheckKind::counts)
    }
}

const SHORTEST: Nanos = Nanos::from_millis(10);
const LONGEST: Nanos = Nanos::from_secs(3_600);
const DEFAULT_TIME: Nanos = Nanos::from_secs(1);
const DEFAULT_RESULTS: u32 = 2;

/// The keys that a check of this kind has; those of all kinds, where none is written. `None`: there is no such kind.
pub(super) fn keys(kind: Option<&str>) -> Option<Vec<&'static str>> {
    let mut forms = FORMS
        .iter()
        .filter(|form| kind.is_none_or(|kind| kind == form.name))
        .peekable();
    forms.peek()?;
    let own = forms.flat_map(|form| form.keys);
    Some(KEYS.iter().chain(own).copied().collect())
}

pub(super) fn parse(section: &Section<'_>) -> DraftCheck {
    let kinds: Vec<(&str, &Form)> = FORMS.iter().map(|form| (form.name, *form)).collect();
    let words: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
    let kind = section.require_or("kind", section.choice("kind", &kinds), || {
        format!("add `kind`, one of \"{}\"", words.join("\", \""))
    });
    let results = |key| {
        let number = section.integer(key, 1, 1_000);
        number.map_or(DEFAULT_RESULTS, |number| number.value)
    };
    let time = |key, default| span(section, key, SHORTEST, LONGEST).unwrap_or(default);
    DraftCheck {
        place: section.place.clone(),
        name: section.require("name", name_if_any(section), "\"mysql\""),
        called: section.string("name").map(|name| name.value),
        times: CheckConfig {
            interval: time("interval", DEFAULT_TIME),
            timeout: time("timeout", DEFAULT_TIME),
            rise: results("rise"),
            fall: results("fall"),
            start_delay: span(section, "start_delay", Nanos::ZERO, LONGEST).unwrap_or_default(),
        },
        damping: span(section, "damping", Nanos::ZERO, LONGEST).unwrap_or(DAMPING),
        kind: kind.and_then(|kind| (kind.value.parse)(section)),
    }
}

/// What the keys of a check, as they stand in a file, make of it.
#[cfg(test)]
pub(crate) fn kind_of(keys: &str) -> CheckKind {
    config_of(keys).checks[0].kind.clone()
}

/// A configuration with such a check.
#[cfg(test)]
pub(crate) fn config_of(keys: &str) -> super::Config {
    let text = format!(
        "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\n[[check]]\nname = \"watched\"\n{keys}\n"
    );
    let config = super::parse_and_check(&text, &|_| None, &|_, _| false);
    config.unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
}

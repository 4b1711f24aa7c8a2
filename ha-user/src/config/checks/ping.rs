//! `kind = "ping"`: hosts that must answer, such as the gateway.

use std::net::IpAddr;

use ha_common::Nanos;

use super::{CheckKind, DEFAULT_TIME, Form, LONGEST, SHORTEST};
use crate::config::{
    parse::{interface, span},
    reader::Section,
};

/// Keys of `kind = "ping"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Who is asked.
    pub targets: Vec<IpAddr>,
    /// How many of them must answer.
    pub need: u32,
    /// Through which interface; `None`: as routed.
    pub interface: Option<String>,
    /// From which address; `None`: as routed.
    pub source: Option<IpAddr>,
    /// The time in which the requests are spread: that of the check.
    pub timeout: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "ping",
    keys: &["targets", "need", "interface", "source"],
    parse,
};

/// Targets of one check.
const MOST: usize = 16;

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let targets = section.require("targets", section.strings("targets"), "[\"192.168.33.1\"]");
    let interface = match section.offset_of("interface") {
        Some(_) => Some(interface(section, "interface")?.value),
        None => None,
    };
    let source = match section.offset_of("source") {
        Some(_) => Some(section.address("source")?),
        None => None,
    };
    let need = section.integer("need", 1, 255);
    let targets = targets?;
    let fail = |key: &str, offset: usize, message: String, fix: &str| {
        section.fail(offset, key, message, fix);
        None
    };
    if targets.value.is_empty() || targets.value.len() > MOST {
        let message = format!("{} targets are not possible", targets.value.len());
        let fix = format!("name 1 to {MOST}, as [\"192.168.33.1\"]");
        return fail("targets", targets.offset, message, &fix);
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for target in &targets.value {
        // Loopback is of use in a test only, but does no harm.
        let address = match target.value.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => address,
            _ => section.parse_address("targets", target)?,
        };
        let wrong = if addresses.contains(&address) {
            Some(("is already named", "name each target once"))
        } else if is_link_local(address) && interface.is_none() {
            Some(("is on every interface", "add `interface`"))
        } else if source
            .as_ref()
            .is_some_and(|source| source.value.is_ipv4() != address.is_ipv4())
        {
            Some((
                "is of another family than `source`",
                "make a check for each family",
            ))
        } else {
            None
        };
        if let Some((wrong, fix)) = wrong {
            return fail("targets", target.offset, format!("{address} {wrong}"), fix);
        }
        addresses.push(address);
    }
    if let Some(need) = &need
        && usize::try_from(need.value).is_ok_and(|need| need > addresses.len())
    {
        let message = format!("{} of {} can never answer", need.value, addresses.len());
        return fail(
            "need",
            need.offset,
            message,
            "write at most as many as there are targets",
        );
    }
    Some(CheckKind::Ping(Ping {
        targets: addresses,
        need: need.map_or(1, |need| need.value),
        interface,
        source: source.map(|source| source.value),
        timeout: span(section, "timeout", SHORTEST, LONGEST).unwrap_or(DEFAULT_TIME),
    }))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

//! Whether replicas reach a server where its role says that they do.

use alloc::{format, string::String};
use core::net::{IpAddr, SocketAddr};

use crate::data::{Finding, Settings, Severity};

const WHY: &str = "the other nodes' replicas do not reach the server once it is the primary";

/// What stands against it, by the values of [`super::SETTINGS`]. `address`: what `replication_address` says.
#[must_use]
pub fn unreachable(settings: &Settings, address: SocketAddr) -> Option<Finding> {
    let found = |what: String, how: String| {
        Some(Finding {
            severity: Severity::Advice,
            what,
            why: WHY,
            how,
        })
    };
    if settings.value("skip_networking").is_some_and(super::on) {
        return found(
            "skip_networking is ON".into(),
            "remove it from the server's configuration".into(),
        );
    }
    let port = settings.value("port").unwrap_or_default();
    if port.parse().is_ok_and(|port: u16| port != address.port()) {
        return found(
            format!("port is {port}, and `replication_address` is {address}"),
            "write the server's port into `replication_address`".into(),
        );
    }
    let bound = settings.value("bind_address").unwrap_or_default();
    (!listens(bound, address.ip())).then_some(())?;
    found(
        format!("bind_address is {bound}, and `replication_address` is {address}"),
        format!(
            "write `bind_address = *`, or an address list with {}, into the server's configuration, or the address where it listens into `replication_address`",
            address.ip()
        ),
    )
}

/// A list of addresses, of which MySQL's may have a network namespace each. Of a host's name nothing is known.
fn listens(bound: &str, at: IpAddr) -> bool {
    bound.is_empty()
        || bound.split(',').any(|entry| {
            let entry = entry.trim();
            let entry = entry.split_once('/').map_or(entry, |(entry, _)| entry);
            match entry.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() => ip.is_ipv6() || at.is_ipv4(),
                Ok(ip) => ip == at,
                Err(_) => true,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(changes: &[(&str, &str)], address: &str) -> String {
        let settings = Settings::but_for(changes, &[("port", "3306"), ("skip_networking", "OFF")]);
        let found = unreachable(&settings, address.parse().expect("an address"));
        found.map(|found| format!("{found}")).unwrap_or_default()
    }

    #[test]
    fn a_server_that_listens_elsewhere_is_found() {
        for (name, value) in [
            ("skip_networking", "ON"),
            ("port", "3307"),
            ("bind_address", "127.0.0.1"),
            ("bind_address", "10.0.0.2,127.0.0.1"),
            ("bind_address", "::1"),
        ] {
            let found = found(&[(name, value)], "10.0.0.1:3306");
            assert!(found.contains(&format!("{name} is {value}")), "{found}");
        }
        let v6 = found(&[("bind_address", "0.0.0.0")], "[fd00::1]:3306");
        assert!(v6.contains("fd00::1"), "{v6}");
    }

    #[test]
    fn one_that_listens_there_is_not() {
        for bound in [
            "",
            "*",
            "::",
            "0.0.0.0",
            "127.0.0.1, 10.0.0.1",
            "10.0.0.1/red",
            "db1",
        ] {
            assert_eq!(
                found(&[("bind_address", bound)], "10.0.0.1:3306"),
                "",
                "{bound}"
            );
        }
    }
}

//! The file against the addresses that the interfaces have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    GOOD, GOOD_V6, absent,
    channels::{channel, lease_channel},
    errors, errors_with, free, parse_and_check, shown,
};

#[test]
fn live_addresses_are_used_where_the_interface_is_there() {
    let live = |interface: &str| {
        (interface == "eth0").then(|| {
            vec![
                "10.0.0.1/8".parse().expect("a network"),
                "192.168.33.101/24".parse().expect("a network"),
            ]
        })
    };
    parse_and_check(GOOD, &live, &free).expect("inside 192.168.33.0/24");
    let without_source = GOOD
        .replace("source = \"192.168.33.101\"\n", "")
        .replace("33.100/24", "34.100/24");
    insta::assert_snapshot!(errors_with(&without_source, &live));
    insta::assert_snapshot!(errors_with(&GOOD.replace("33.101", "33.109"), &live));

    // Two networks of one address, which is the source too, are one address to say.
    let twice = |_: &str| {
        Some(vec![
            "192.168.33.101/24".parse().expect("a network"),
            "192.168.33.101/16".parse().expect("a network"),
        ])
    };
    let elsewhere = GOOD.replace("192.168.33.100/24", "10.9.9.100/24");
    insta::assert_snapshot!(errors_with(&elsewhere, &twice));
    insta::assert_snapshot!(errors_with(&GOOD.replace("33.101", "33.109"), &twice));
}

#[test]
fn a_vip_that_is_an_ordinary_address() {
    let taken = |interface: &str, address: IpAddr| {
        interface == "eth0" && address == IpAddr::from([192, 168, 33, 100])
    };
    insta::assert_snapshot!(shown(
        parse_and_check(GOOD, &absent, &taken).expect_err("somebody has it")
    ));
    insta::assert_snapshot!(errors(&GOOD.replace("33.101", "33.100")));
    let owner = GOOD.replace("vrid = 51", "vrid = 51\npriority = 255");
    parse_and_check(&owner, &absent, &taken).expect("its owner has it");
}

#[test]
fn networks_are_compared_within_a_family_and_scope() {
    let live = |_: &str| {
        Some(vec![
            "fe80::1/64".parse().expect("a network"),
            "192.168.33.101/24".parse().expect("a network"),
        ])
    };
    parse_and_check(GOOD_V6, &live, &free).expect("no global address to compare with");
    let with_global = |_: &str| Some(vec!["2001:db8:1::1/64".parse().expect("a network")]);
    insta::assert_snapshot!(errors_with(GOOD_V6, &with_global));
    let routed = GOOD_V6.replace("100/64", "100/128");
    parse_and_check(&routed, &with_global, &free).expect("routed here");
}

fn taken(interface: &str, address: IpAddr) -> bool {
    interface == "eth0" && address == IpAddr::from([192, 168, 33, 100])
}

/// Addresses of eth0 and eth3 with a VIP among them, as on an Active node.
fn active(interface: &str) -> Option<Vec<IpNet>> {
    let addresses: &[&str] = match interface {
        "eth0" => &["192.168.33.101/24", "192.168.33.100/24"],
        "eth3" => &["10.0.3.1/24", "fe80::1/64"],
        _ => return None,
    };
    let parsed = addresses
        .iter()
        .map(|address| address.parse().expect("a network"));
    Some(parsed.collect())
}

/// The VIP that another daemon put there is in no list of what the node has as its own.
#[test]
fn a_vip_of_another_daemon_is_not_called_the_node_s_own() {
    let other = r#"
[node]
runtime_dir = "/run/had2"
[[instance]]
name = "mail"
interface = "eth0"
vrid = 52
source = "192.168.33.109"
vips = ["192.168.34.100/24"]
"#;
    insta::assert_snapshot!(shown(
        parse_and_check(&format!("{GOOD}{other}"), &active, &taken).expect_err("it is taken")
    ));
}

#[test]
fn a_channel_s_own_address_is_on_its_interface() {
    for text in [lease_channel("heartbeat = {}\n", ""), channel("")] {
        parse_and_check(&text, &active, &free).expect("as the interface has it");
        parse_and_check(&text.replace("eth3", "eth9"), &active, &free).expect("not there yet");
        let errors = |from: &str, to: &str| errors_with(&text.replace(from, to), &active);
        let lacking = errors("local = \"10.0.3.1\"", "local = \"10.0.3.7\"");
        assert!(
            lacking.contains("local: the interface does not have the address 10.0.3.7")
                && lacking.ends_with("write one that it has: 10.0.3.1"),
            "{lacking}"
        );
        let itself = text
            .replace("local = \"10.0.3.1\"", "local = \"10.0.3.2\"")
            .replace("peer = \"10.0.3.2\"", "peer = \"10.0.3.1\"");
        let itself = errors_with(&itself, &active);
        assert!(
            itself.contains("peer: 10.0.3.1 is this node itself"),
            "{itself}"
        );
        let v6 = text
            .replace("10.0.3.1", "2001:db8::1")
            .replace("10.0.3.2", "2001:db8::2");
        let v6 = errors_with(&v6, &|interface| {
            let mut addresses = active(interface)?;
            addresses.retain(|net| net.addr().is_ipv4());
            Some(addresses)
        });
        assert!(
            v6.ends_with("give the interface that address, or correct it here"),
            "{v6}"
        );
    }
    // Over several hops any address of the node will do, as one on the loopback interface.
    let text = channel("multihop = true\n").replace("10.0.3.1", "10.255.0.1");
    parse_and_check(&text, &active, &free).expect("several hops");
}

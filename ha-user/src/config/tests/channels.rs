//! `[[channel]]` of both kinds, and `heartbeat`.

use std::fs;

use ha_common::{Nanos, wire::bfd::Sha1};
use ha_core::{
    Alone,
    bfd::{Auth, Key},
};

use super::{
    super::{BfdChannel, ChannelKind, Heartbeat},
    GOOD, absent, errors, free, parse, parse_and_check, shown,
};
use crate::config::Config;

/// A valid channel, and what follows it.
pub(super) fn channel(rest: &str) -> String {
    format!(
        "{GOOD}channels = [\"direct\"]\n[[channel]]\nname = \"direct\"\nkind = \"bfd\"\ninterface = \"eth3\"\nlocal = \"10.0.3.1\"\npeer = \"10.0.3.2\"\n{rest}"
    )
}

fn bfd(config: &Config) -> &BfdChannel {
    let ChannelKind::Bfd(bfd) = &config.channels[0].kind;
    bfd
}

#[test]
fn channels_have_defaults() {
    let config = parse(&channel(""));
    let channel = &config.channels[0];
    assert_eq!((channel.name.as_str(), channel.multiplier), ("direct", 3));
    assert_eq!(channel.interval, Nanos::from_millis(3));
    assert_eq!(config.instances[0].channels, ["direct"]);
    assert_eq!(
        bfd(&config),
        &BfdChannel {
            passive: false,
            min_ttl: None,
            auth: None,
        }
    );
    assert_eq!(config.single_paths().count(), 0);
}

#[test]
fn a_channel_on_the_instance_s_own_lan_is_no_second_path() {
    let text = channel("").replace("eth3", "eth0");
    assert_eq!(parse(&text).single_paths().count(), 1);
    assert_eq!(parse(GOOD).single_paths().count(), 1);
}

#[test]
fn a_multihop_channel_has_a_minimum_ttl() {
    let config = parse(&channel("multihop = true\n"));
    assert_eq!(bfd(&config).min_ttl, Some(254));
    let config = parse(&channel("multihop = true\nmin_ttl = 200\n"));
    assert_eq!(bfd(&config).min_ttl, Some(200));
}

#[test]
fn keys_are_read_from_a_file_that_is_not_everybody_s() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("channel.key");
    let with = |content: &[u8], mode: u32, rest: &str| {
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        parse_and_check(
            &channel(&format!("key_file = \"{}\"\n{rest}", path.display())),
            &absent,
            &free,
        )
    };
    let auth = |config: &Config| bfd(config).auth.clone().expect("authentication");
    let config = with(b"secret\n", 0o600, "").expect("valid");
    assert_eq!(
        auth(&config),
        Auth {
            kind: Sha1::Meticulous,
            key_id: 1,
            key: Key::new(b"secret").expect("a key"),
        }
    );
    let rest = "auth = \"keyed-sha1\"\nkey_id = 7\n";
    let config = with(b"twenty bytes exactly", 0o640, rest).expect("valid");
    assert_eq!((auth(&config).kind, auth(&config).key_id), (Sha1::Keyed, 7));
    for (content, mode, message) in [
        (&b"secret"[..], 0o604, "everybody on this host may read"),
        (b"secret", 0o602, "or write it"),
        (b"", 0o600, "has 0 bytes"),
        (b"\nsecret", 0o600, "has 0 bytes"),
        (b"more than twenty bytes", 0o600, "has 22 bytes"),
    ] {
        let errors = shown(with(content, mode, "").expect_err(message));
        assert!(errors.contains(message), "{errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

/// An instance with leases, whose section goes on with `instance`, and a channel for them.
pub(super) fn lease_channel(instance: &str, rest: &str) -> String {
    format!(
        "{GOOD}peers = [\"192.168.33.102\"]\n{instance}channels = [\"direct\"]\n[[channel]]\nname = \"direct\"\n\
         kind = \"lease\"\ninterface = \"eth3\"\nlocal = \"10.0.3.1\"\npeer = \"10.0.3.2\"\n{rest}"
    )
}

#[test]
fn leases_have_defaults() {
    let config = parse(&lease_channel("heartbeat = {}\n", ""));
    let heartbeat = Heartbeat {
        interval: Nanos::from_millis(3),
        multiplier: 3,
    };
    assert_eq!(config.instances[0].heartbeat, Some(heartbeat));
    let channel = &config.lease_channels[0];
    assert_eq!((channel.times, channel.key), (heartbeat, None));
    assert_eq!(channel.alone, Alone::Serve);
    assert_eq!(
        channel.leads_to(&config.instances[0]),
        Some([192, 168, 33, 102].into())
    );
    assert_eq!(config.single_paths().count(), 0);
    assert!(parse(GOOD).instances[0].heartbeat.is_none());
}

#[test]
fn a_lease_channel_has_a_key_of_its_own_form() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("channel.key");
    let rest = format!("key_file = \"{}\"\nalone = \"stop\"\n", path.display());
    let text = lease_channel("heartbeat = {}\n", &rest);
    fs::write(&path, "000102030405060708090a0b0c0d0e0f\n").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    let channel = parse(&text).lease_channels.remove(0);
    let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    assert_eq!((channel.key, channel.alone), (Some(key), Alone::Stop));
    fs::write(&path, "secret\n").expect("a file");
    let shown = errors(&text);
    assert!(
        shown.contains("32 hexadecimal digits") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn leases_that_cannot_be() {
    let peers = "peers = [\"192.168.33.102\", \"192.168.33.103\"]\n";
    let texts = [
        lease_channel("", ""),
        lease_channel("heartbeat = { interval = \"500us\", multiplier = 1 }\n", ""),
        lease_channel("heartbeat = {}\n", "alone = \"ask\"\npassive = true\n"),
        lease_channel("heartbeat = {}\n", "").replace("peers = [\"192.168.33.102\"]\n", peers),
        format!(
            "[dataplane]\nmode = \"off\"\n{}",
            lease_channel("heartbeat = {}\n", "")
        ),
    ];
    let shown: Vec<String> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// A second instance with leases on the same interface.
fn second(lines: &str) -> String {
    format!(
        "[[instance]]\nname = \"mail\"\ninterface = \"eth0\"\nvrid = 52\n\
         vips = [\"192.168.33.110/32\"]\nheartbeat = {{}}\n{lines}"
    )
}

#[test]
fn one_peer_on_one_interface_is_one_path() {
    use std::os::unix::fs::PermissionsExt as _;
    let first = format!("{GOOD}peers = [\"192.168.33.102\"]\nheartbeat = {{}}\n");
    let peers = "peers = [\"192.168.33.102\"]\n";
    let source = "source = \"192.168.33.101\"\n";
    parse(&format!("{first}{}", second(&format!("{peers}{source}"))));
    let sourceless = first.replace(source, "").replace("/24", "/32");
    parse(&format!("{sourceless}{}", second(peers)));

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("channel.key");
    fs::write(&path, "000102030405060708090a0b0c0d0e0f\n").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    let over_lan = lease_channel("heartbeat = {}\n", "")
        .replace("eth3", "eth0")
        .replace("10.0.3.2", "192.168.33.102");
    let texts = [
        format!("{first}{}", second(peers)),
        format!(
            "{first}{}",
            second(&format!("{peers}source = \"192.168.33.103\"\n"))
        ),
        over_lan.replace("10.0.3.1", "192.168.33.103"),
        format!(
            "{}key_file = \"{}\"\n",
            over_lan.replace("10.0.3.1", "192.168.33.101"),
            path.display()
        ),
    ];
    let shown: Vec<String> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(shown.join("\n"));
    parse(&over_lan.replace("10.0.3.1", "192.168.33.101"));
}

#[test]
fn more_paths_than_there_can_be_are_named() {
    let instance = |number: u32| {
        let peers: Vec<String> = (1..=8)
            .map(|peer| format!("\"10.{number}.0.{peer}\""))
            .collect();
        format!(
            "[[instance]]\nname = \"i{number}\"\ninterface = \"eth{number}\"\nvrid = 51\n\
             vips = [\"10.{number}.0.100/32\"]\nheartbeat = {{}}\npeers = [{}]\n",
            peers.join(", ")
        )
    };
    let most: String = (0..8).map(instance).collect();
    parse(&most);
    let shown = errors(&format!("{most}{}", instance(8)));
    assert!(
        shown.contains("[[instance]] \"i8\", heartbeat") && shown.contains("more than 64 paths"),
        "{shown}"
    );
}

#[test]
fn channels_that_cannot_be() {
    let text = format!(
        "{GOOD}channels = [\"direct\", \"direct\", \"other\"]\n{}",
        r#"
[[channel]]
name = "direct"
kind = "bdf"
interface = "eth3"
local = "10.0.3.1"
peer = "10.0.3.2"
interval = "500us"
multiplier = 0
[[channel]]
name = "direct"
kind = "bfd"
interface = "eth3"
local = "10.0.3.1"
peer = "10.0.3.1"
min_ttl = 200
auth = "keyed-sha1"
key_id = 7
[[channel]]
name = "third"
kind = "bfd"
interface = "eth3"
local = "10.0.3.1"
peer = "10.0.3.1"
key_file = "/nowhere/key"
[[channel]]
name = "fourth"
[[channel]]
name = "fifth"
kind = "bfd"
interface = "eth3"
local = "10.0.3.1"
peer = "10.0.3.1"
"#
    );
    insta::assert_snapshot!(errors(&text));
}

/// The line and the excerpt are of the key that is wrong.
#[test]
fn keys_of_the_other_kind_are_shown_where_they_stand() {
    let shown = errors(&lease_channel(
        "heartbeat = {}\n",
        "passive = true\nmultihop = false\n",
    ));
    for key in ["passive = true", "multihop = false"] {
        assert!(shown.contains(&format!("| {key}\n")), "{shown}");
    }
}

#[test]
fn the_word_that_is_refused_is_not_offered() {
    let with = |word: &str| {
        errors(&lease_channel(
            "heartbeat = {}\n",
            &format!("alone = \"{word}\"\n"),
        ))
    };
    insta::assert_snapshot!([with("halt"), with("ask"), with("aks")].join("\n"));
}

#[test]
fn what_is_missing_is_suggested_in_the_network_of_what_is_there() {
    let without = |key: &str, text: &str| {
        let kept = text.lines().filter(|line| !line.starts_with(key));
        errors(&kept.collect::<Vec<_>>().join("\n"))
    };
    let lease = lease_channel("heartbeat = {}\n", "");
    let elsewhere = lease
        .replace("10.0.3.1", "172.16.9.254")
        .replace("10.0.3.2", "172.16.9.255");
    insta::assert_snapshot!(
        [
            without("kind", &lease),
            without("peer =", &elsewhere),
            without("local", &lease),
            without("peer =", &lease.replace("10.0.3.1", "2001:db8:7::1")),
        ]
        .join("\n")
    );
}

#[test]
fn instances_that_share_a_vrid_and_a_channel_are_shown_with_that_line() {
    let mail = r#"
[[instance]]
name = "mail"
interface = "eth1"
vrid = 51
vips = ["10.9.9.100/32"]
peers = ["10.9.9.2"]
heartbeat = {}
channels = [
    "direct",
]
"#;
    let shown = errors(&format!("{}{mail}", lease_channel("heartbeat = {}\n", "")));
    assert!(shown.contains("web has the same VRID"), "{shown}");
    assert!(shown.contains("| \"direct\",\n"), "{shown}");
}

use std::{fs, net::IpAddr, path::Path};

use ha_common::{Nanos, Priority, wire::bfd::Sha1};
use ha_core::{
    Alone, Version,
    bfd::{Auth, Key},
};
use ipnet::IpNet;

use super::{
    BfdChannel, ChannelKind, Checksum, Config, ConfigError, Family, Heartbeat, Mode,
    diagnostic::Diagnostic, load, parse_and_check,
};

const GOOD: &str = r#"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
source = "192.168.33.101"
vips = ["192.168.33.100/24"]
"#;

fn absent(_interface: &str) -> Option<Vec<IpNet>> {
    None
}

fn free(_interface: &str, _address: IpAddr) -> bool {
    false
}

fn parse(text: &str) -> Config {
    parse_and_check(text, &absent, &free).expect("a valid configuration")
}

fn errors(text: &str) -> String {
    errors_with(text, &absent)
}

fn errors_with(text: &str, addresses: super::Addresses<'_>) -> String {
    shown(parse_and_check(text, addresses, &free).expect_err("an invalid configuration"))
}

fn shown(diagnostics: Vec<Diagnostic>) -> String {
    assert!(!diagnostics.is_empty());
    ConfigError {
        file: "had.toml".into(),
        diagnostics,
    }
    .to_string()
}

#[test]
fn defaults_are_filled_in() {
    let config = parse(GOOD);
    assert_eq!(config.dataplane.mode, Mode::Auto);
    assert_eq!(config.dataplane.realtime_priority, 50);
    assert!(config.dataplane.cpu_affinity.is_empty());
    assert_eq!(config.dataplane.pin_dir, Path::new("/sys/fs/bpf/had"));
    assert_eq!(config.control, Path::new("/run/had/control.sock"));
    assert!(!config.node.name.is_empty());
    let instance = &config.instances[0];
    assert_eq!(instance.version, Version::V3);
    assert_eq!(instance.priority, Priority(100));
    assert!(!instance.preempt);
    assert_eq!(instance.advert_interval, Nanos::from_millis(10));
    assert_eq!(instance.checksum, Checksum::Auto);
    assert_eq!(instance.announce.count, 5);
    assert_eq!(instance.announce.refresh, Nanos::from_secs(60));
}

#[test]
fn the_packaged_file_is_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/had.toml");
    let config = load(&file, &absent, &free).expect("packaging/had.toml");
    assert_eq!(config.instances.len(), 1);
}

/// The example of docs/keepalived.md is a whole file.
#[test]
fn the_example_beside_keepalived_is_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keepalived.md");
    let text = fs::read_to_string(&file).expect("docs/keepalived.md");
    let examples: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 1);
    let config = parse(examples[0]);
    assert_eq!(config.instances[0].version, Version::V3);
}

/// What the packaged file shows as comments is valid too, and every key is shown.
#[test]
fn the_packaged_file_shows_every_key_truly() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/had.toml");
    let text = fs::read_to_string(&file).expect("packaging/had.toml");
    let shown: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    assert_ne!(shown, text);
    parse(&shown);
    for key in [
        "name",
        "state_dir",
        "runtime_dir",
        "start_delay",
        "mode",
        "realtime_priority",
        "cpu_affinity",
        "pin_dir",
        "control",
        "listen",
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
        "announce",
        "kind",
        "local",
        "peer",
        "multiplier",
        "passive",
        "multihop",
        "min_ttl",
        "key_file",
        "auth",
        "key_id",
        "count",
        "interval",
        "repeat_after",
        "refresh",
    ] {
        assert!(
            shown.contains(&format!("{key} = ")),
            "packaging/had.toml does not show {key}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Path::new("/nowhere/had.toml"), &absent, &free).expect_err("no such file");
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn broken_syntax() {
    insta::assert_snapshot!(errors("[node\nname = \"n1\"\n"));
}

#[test]
fn a_missing_value_and_an_unquoted_one() {
    insta::assert_snapshot!(errors(
        "name =\nvrid = # which one?\ninterface = eth0\nannounce = { count = }\n"
    ));
}

#[test]
fn unknown_keys_and_sections() {
    let text = format!(
        "colour = 1\n{GOOD}prioritty = 5\n[nodes]\nname = \"n1\"\n[dataplane]\nmod = \"auto\"\n"
    );
    insta::assert_snapshot!(errors(&text));
}

/// What somebody who comes from keepalived or Heartbeat types first.
#[test]
fn keys_of_other_daemons() {
    let text = format!(
        r#"
vrrp_script = "chk"
[vrrp_sync_group]
group = ["web"]
[global_defs]
router_id = "n1"
{GOOD}
nopreempt = true
state = "BACKUP"
virtual_router_id = 51
router_id = "n1"
advert_int = 1
virtual_ipaddress = ["192.168.33.100/24"]
virtual_ipaddress_excluded = ["192.168.33.99/24"]
unicast_peer = ["192.168.33.102"]
unicast_src_ip = "192.168.33.101"
mcast_src_ip = "192.168.33.101"
vrrp_version = 3
garp_master_delay = 5
vrrp_garp_master_repeat = 5
garp_master_refresh = 60
garp_interval = 0.1
garp_lower_prio_repeat = 5
authentication = {{ auth_type = "PASS", auth_pass = "1234" }}
auth_pass = "1234"
notify_master = "/bin/true"
notify = "/bin/true"
track_interface = ["eth1"]
track_script = ["chk"]
virtual_routes = ["10.0.0.0/8 via 192.168.33.1"]
use_vmac = true
auto_failback = "on"
deadtime = 10
ucast = ["eth0 192.168.33.102"]
announce = {{ garp_master_repeat = 5 }}
[node]
router_id = "n1"
initdead = 30
[dataplane]
vrrp_rt_priority = 50
"#
    );
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn keys_of_later_versions() {
    let text = format!(
        "{GOOD}heartbeat = {{ interval = \"3ms\" }}\n[api]\nlisten = \"127.0.0.1:9746\"\n[[check]]\nname = \"mysql\"\n"
    );
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn wrong_types_and_ranges() {
    insta::assert_snapshot!(errors(
        r#"
[node]
name = "two words"
runtime_dir = "run/had"
start_delay = 5
[dataplane]
mode = "xdp"
realtime_priority = 100
[[instance]]
name = "web"
interface = "a-very-long-interface-name"
vrid = 256
version = 4
priority = 0
preempt = "no"
preempt_delay = "soon"
advert_interval = "10ms"
source = "ff02::1"
peers = []
checksum = "rfc5798"
vips = ["192.168.33.100", "192.168.33.1/33", "192.168.33.0/24", "192.168.33/24", 7]
extra_vips = ["2001:db8::1", "2001:db8::1/129", "2001:db8::/64", "::1/128", "::ffff:10.0.0.1/128", "2001:db8::1/0"]
announce = { count = 0, refresh = "1ms" }
"#
    ));
}

#[test]
fn cpu_affinity() {
    let with = |value: &str| format!("[dataplane]\ncpu_affinity = {value}\n{GOOD}");
    assert_eq!(parse(&with("[2, 3]")).dataplane.cpu_affinity, [2, 3]);
    insta::assert_snapshot!([errors(&with("[0, 1024, \"2\"]")), errors(&with("3"))].join("\n"));
}

#[test]
fn missing_keys() {
    insta::assert_snapshot!(errors("[[instance]]\n"));
}

#[test]
fn no_instance() {
    insta::assert_snapshot!(errors("[node]\nname = \"n1\"\n"));
}

#[test]
fn single_brackets() {
    insta::assert_snapshot!(errors(&format!(
        "[node]\nname = \"n1\"\n[[group]]\nname = \"db\"{}group = \"db\"\n",
        GOOD.replace("[[instance]]", "[instance]")
    )));
}

#[test]
fn intervals() {
    let with = |version: u8, interval: &str| {
        errors(&format!(
            "{GOOD}version = {version}\nadvert_interval = \"{interval}\"\n"
        ))
    };
    insta::assert_snapshot!(
        [
            with(3, "5ms"),
            with(3, "15ms"),
            with(3, "41s"),
            with(2, "100ms"),
            with(2, "1500ms"),
            with(2, "256s"),
        ]
        .join("\n")
    );
}

#[test]
fn legal_intervals() {
    for (version, interval) in [(3, "10ms"), (3, "40s 950ms"), (2, "1s"), (2, "255s")] {
        parse(&format!(
            "{GOOD}version = {version}\nadvert_interval = \"{interval}\"\n"
        ));
    }
}

#[test]
fn duplicates() {
    insta::assert_snapshot!(errors(
        r#"
[[group]]
name = "db"
[[group]]
name = "db"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
vips = ["192.168.33.100/24"]
group = "db"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
vips = ["192.168.33.100/32"]
group = "db"
"#
    ));
}

#[test]
fn adverts_name_no_extra_vips() {
    let text = format!("{GOOD}extra_vips = [\"192.168.33.110/24\", \"192.168.33.111/32\"]\n");
    let instance = &parse(&text).instances[0];
    let (advertised, extra) = instance.vips_by_key();
    assert_eq!(advertised, &instance.vips[..1]);
    assert_eq!(extra, &instance.vips[1..]);
    assert_eq!(extra[1], "192.168.33.111/32".parse().unwrap());
}

#[test]
fn extra_vips_are_checked_like_vips() {
    insta::assert_snapshot!(errors(
        r#"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
source = "192.168.33.101"
peers = ["192.168.33.111"]
vips = ["192.168.33.100/24"]
extra_vips = [
    "192.168.33.100/24",
    "192.168.33.101/24",
    "192.168.33.111/24",
    "192.168.34.1/24",
]
"#
    ));
}

#[test]
fn more_vips_than_an_advert_names_are_sent_to_extra_vips() {
    let vips = |count: u8, key: &str| {
        let list: Vec<String> = (0..=count)
            .map(|n| format!("\"10.9.{key}.{n}/32\""))
            .collect();
        list.join(", ")
    };
    let text = GOOD.replace("\"192.168.33.100/24\"", &vips(254, "1"));
    parse(&format!("{text}extra_vips = [{}]\n", vips(255, "2")));
    let text = GOOD.replace("\"192.168.33.100/24\"", &vips(255, "1"));
    assert!(errors(&text).contains("move those beyond 255 to extra_vips"));
}

#[test]
fn the_same_vrid_on_two_interfaces_is_legal() {
    parse(
        r#"
[[instance]]
name = "one"
interface = "eth0"
vrid = 51
vips = ["192.168.33.100/24"]
[[instance]]
name = "two"
interface = "eth1"
vrid = 51
vips = ["192.168.34.100/24"]
"#,
    );
}

#[test]
fn groups_that_cannot_move_together() {
    insta::assert_snapshot!(errors(
        r#"
[[group]]
name = "db"
[[group]]
name = "nobody"
[[instance]]
name = "one"
interface = "eth0"
vrid = 51
priority = 100
vips = ["192.168.33.100/24"]
group = "db"
[[instance]]
name = "two"
interface = "eth1"
vrid = 51
priority = 90
preempt = true
vips = ["192.168.34.100/24"]
group = "db"
[[instance]]
name = "three"
interface = "eth2"
vrid = 51
vips = ["192.168.35.100/24"]
group = "bd"
"#
    ));
}

#[test]
fn peers_that_cannot_be() {
    let text = format!(
        "{GOOD}peers = [\"192.168.33.101\", \"192.168.33.102\", \"192.168.33.102\", \"192.168.33.100\", \"224.0.0.18\"]\n"
    );
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_vip_outside_any_network() {
    insta::assert_snapshot!(errors(&GOOD.replace("33.100/24", "34.100/24")));
    parse(&GOOD.replace("33.100/24", "34.100/32"));
    // The owner's VIP is its own address; where it is not, the interface shows.
    parse(&format!(
        "{}priority = 255\n",
        GOOD.replace("33.100/24", "34.100/24")
    ));
}

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

const GOOD_V6: &str = r#"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
vips = ["fe80::33/64", "2001:db8::100/64"]
"#;

#[test]
fn the_family_of_adverts() {
    let family = |text: &str| parse(text).instances[0].family();
    assert_eq!(family(GOOD_V6), Family::V6);
    let both = GOOD_V6.replace("[\"fe80", "[\"192.168.33.100/24\", \"fe80");
    let instance = &parse(&both).instances[0];
    assert_eq!(instance.family(), Family::V4);
    let named: Vec<String> = instance.named_in_adverts().map(IpNet::to_string).collect();
    assert_eq!(named, ["192.168.33.100/24"]);
    assert_eq!(instance.vips.len(), 3);
    // The source decides, and so do the peers.
    assert_eq!(family(&format!("{both}source = \"fe80::1\"")), Family::V6);
    assert_eq!(
        family(&format!("{both}peers = [\"2001:db8::2\"]")),
        Family::V6
    );
    assert_eq!(family(GOOD), Family::V4);
}

#[test]
fn the_source_over_ipv6_is_link_local_unless_the_peers_are_not() {
    let suits = |text: &str, address: &str| {
        let instance = &parse(text).instances[0];
        instance.suits_as_source(address.parse().expect("an address"))
    };
    let unicast = format!("{GOOD_V6}peers = [\"2001:db8::2\"]\n");
    for (address, by_multicast, by_unicast) in [
        ("fe80::1", true, false),
        ("2001:db8::1", false, true),
        ("192.168.33.101", false, false),
    ] {
        assert_eq!(suits(GOOD_V6, address), by_multicast, "{address}");
        assert_eq!(suits(&unicast, address), by_unicast, "{address}");
    }
    assert!(suits(GOOD, "192.168.33.101") && !suits(GOOD, "fe80::1"));
}

#[test]
fn the_same_vrid_in_two_families_is_legal() {
    parse(&format!(
        "{GOOD}{}",
        GOOD_V6.replace("name = \"web\"", "name = \"web6\"")
    ));
}

#[test]
fn what_ipv6_demands() {
    let mut texts = vec![
        GOOD_V6.replace("\"fe80::33/64\", ", ""),
        format!("{GOOD_V6}version = 2\n"),
        format!("{GOOD_V6}source = \"2001:db8::1\"\n"),
        format!("{GOOD_V6}source = \"fe80::1\"\npeers = [\"fe80::2\", \"192.168.33.102\"]\n"),
        format!("{GOOD_V6}peers = [\"192.168.33.102\"]\n"),
        format!("{GOOD}peers = [\"2001:db8::2\"]\n"),
    ];
    let many: Vec<String> = (0..91).map(|n| format!("\"fe80::{n:x}:1/64\"")).collect();
    texts.push(GOOD_V6.replace("\"fe80::33/64\", \"2001:db8::100/64\"", &many.join(", ")));
    let shown: Vec<String> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(shown.join("\n"));
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

/// A valid channel, and what follows it.
fn channel(rest: &str) -> String {
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
fn lease_channel(instance: &str, rest: &str) -> String {
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

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use ha_common::{Nanos, Priority};
use ha_core::Version;
use ipnet::IpNet;

use super::{
    Checksum, Config, ConfigError, Family, Mode, diagnostic::Diagnostic, load, parse_and_check,
    roles as forms,
};

mod channels;
mod checks;
pub(crate) mod databases;
mod disks;
mod examples;
mod link;
mod live;
mod roles;
mod systems;
mod track;

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

/// What stands as TOML in a page of the documentation.
fn examples(page: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let text = fs::read_to_string(&file).expect(page);
    text.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(str::to_owned)
        .collect()
}

/// The example of docs/keepalived.md is a whole file.
#[test]
fn the_example_beside_keepalived_is_valid() {
    let examples = examples("keepalived.md");
    assert_eq!(examples.len(), 1);
    let config = parse(&examples[0]);
    assert_eq!(config.instances[0].version, Version::V3);
}

/// Those of README.md are parts of one file, beside a link.
#[test]
fn the_examples_of_the_readme_fit_together() {
    let [instance, roles] = examples("../README.md").try_into().expect("two parts");
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("link.key");
    fs::write(&key, "a0".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let instance = instance.replacen("vrid = 51\n", "vrid = 51\ngroup = \"web\"\n", 1);
    let link = format!("[link]\nkey_file = \"{}\"\n", key.display());
    let config = parse(&format!("{instance}\n{link}\n{roles}"));
    assert_eq!(config.groups[0].roles, [0, 1, 2]);
    assert_eq!(config.instances[0].group, Some(0));
}

/// Those of docs/pair.md are two whole files, of nodes that name each other.
#[test]
fn the_example_of_a_pair_fits_together() {
    let [one, other] = examples("pair.md")
        .try_into()
        .expect("a file for each of two nodes");
    let (one, other) = (parse(&one), parse(&other));
    assert_ne!(one.node.name, other.node.name);
    for (this, that) in [(&one, &other), (&other, &one)] {
        let (here, there) = (&this.instances[0], &that.instances[0]);
        assert_eq!(here.peers, [there.source.unwrap()]);
        assert_eq!(here.heartbeat, there.heartbeat);
        assert_eq!((here.vrid, &here.vips), (there.vrid, &there.vips));
        let (here, there) = (&this.lease_channels[0], &that.lease_channels[0]);
        assert_eq!((here.local, here.times), (there.peer, there.times));
    }
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
    // The keys that it names are not on this machine.
    let dir = tempfile::tempdir().unwrap();
    let mut there = shown.clone();
    for (name, key) in [
        ("channel.key", "a secret"),
        ("cable.key", &*"a0".repeat(16)),
        ("link.key", &*"a0".repeat(32)),
        ("mysql.password", "a secret"),
        ("repl.password", "a secret"),
        ("mysql-ca.pem", "-----BEGIN CERTIFICATE-----"),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, key).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let named = format!("/etc/had/{name}");
        assert!(shown.contains(&named), "{named}");
        there = there.replace(&named, file.to_str().unwrap());
    }
    // A group has one database.
    there.push_str(
        "\n[[group]]\nname = \"galera\"\nroles = [\"cluster\"]\n[[instance]]\nname = \"galera\"\ninterface = \"eth0\"\n\
         vrid = 99\ngroup = \"galera\"\nvips = [\"192.168.33.99/24\"]\npeers = [\"192.168.33.102\"]\n",
    );
    let config = parse(&there);
    assert_eq!(config.groups[0].roles.len() + 1, config.roles.len());
    for kind in forms::kinds() {
        let shown: Vec<&str> = shown
            .split("\n[")
            .filter(|section| {
                section.starts_with("[role]") && section.contains(&format!("kind = \"{kind}\""))
            })
            .collect();
        assert_eq!(
            shown.len(),
            1,
            "packaging/had.toml shows one role of kind {kind}"
        );
        for key in forms::keys(Some(kind)).unwrap() {
            // Of a server that is a check's as well, it names them.
            let words = [format!("{key} = "), format!("{key},"), format!("{key}.")];
            assert!(
                words.iter().any(|words| shown[0].contains(words)),
                "packaging/had.toml does not show {key} of kind {kind}"
            );
        }
    }
    for key in [
        "name",
        "state_dir",
        "runtime_dir",
        "start_delay",
        "mode",
        "realtime_priority",
        "cpu_affinity",
        "pin_dir",
        "guard_others",
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
        "timeout",
        "rise",
        "fall",
        "damping",
        "url",
        "address",
        "host",
        "method",
        "headers",
        "status",
        "body",
        "ca_file",
        "server_name",
        "insecure",
        "keep_open",
        "process",
        "command",
        "command_match",
        "pid_file",
        "user",
        "env",
        "directory",
        "targets",
        "need",
        "path",
        "expect",
        "contains",
        "content",
        "array",
        "allow_recovery",
        "min",
        "max",
        "socket",
        "address",
        "user",
        "password_file",
        "database",
        "query",
        "expect",
        "keep_open",
        "ca_file",
        "server_name",
        "donor",
        "min_size",
        "unit",
        "resource",
        "promote_within",
        "volume",
        "port",
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
vmac_xmit_base = true
use_ipvlan = true
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
fn a_virtual_mac() {
    assert!(!parse(GOOD).instances[0].virtual_mac);
    let text = format!("{GOOD}virtual_mac = true\n");
    assert!(parse(&text).instances[0].virtual_mac);
    let text = text.replace("virtual_mac", "priority = 255\nvirtual_mac");
    let text = format!("{text}[dataplane]\nmode = \"off\"\n");
    insta::assert_snapshot!(errors(&text));
    let unset = text.replace("virtual_mac = true", "virtual_mac = false");
    parse(&unset);
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
fn other_interfaces_are_guarded_unless_somebody_says_no() {
    assert!(parse(GOOD).dataplane.guard_others);
    let text = format!("[dataplane]\nguard_others = false\n{GOOD}");
    assert!(!parse(&text).dataplane.guard_others);
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

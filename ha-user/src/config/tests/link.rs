//! `[link]`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use super::{GOOD, errors, parse};
use crate::config::LinkPath;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A key file with this text and mode, and `[link]` that names it.
fn with_file(dir: &TempDir, text: &str, mode: u32) -> String {
    let file = dir.path().join("link.key");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    format!("[link]\nkey_file = \"{}\"\n", file.display())
}

fn anonymous(text: &str, dir: &Path) -> String {
    text.replace(&dir.display().to_string(), "/etc/had")
}

#[test]
fn it_has_a_key_and_a_port_and_each_pair_of_addresses_once() {
    let dir = tempfile::tempdir().unwrap();
    let link = with_file(&dir, &format!("{KEY}\nnot the key\n"), 0o640);
    let instances = r#"
peers = ["192.168.33.102", "192.168.33.103"]
heartbeat = {}
[[instance]]
name = "mail"
interface = "eth0"
vrid = 52
peers = ["192.168.33.102"]
vips = ["192.168.33.99/32"]
[[instance]]
name = "news"
interface = "eth1"
vrid = 52
peers = ["fe80::2"]
vips = ["fe80::99/64"]
[[channel]]
name = "cable"
kind = "lease"
interface = "eth2"
local = "10.0.4.1"
peer = "10.0.4.2"
[[channel]]
name = "bfd"
kind = "bfd"
interface = "eth3"
local = "10.0.5.1"
peer = "10.0.5.2"
[[channel]]
name = "same"
kind = "lease"
interface = "eth0"
local = "192.168.33.101"
peer = "192.168.33.102"
"#;
    let text = format!("{link}port = 9000\n{GOOD}{instances}");
    let config = parse(&text);
    let found = config.link.as_ref().expect("a link");
    assert_eq!((found.port, found.key.reveal()[31]), (9_000, 0x1f));
    assert!(!format!("{config:?}").contains("1e1f"));
    let shown = |path: &LinkPath| {
        let local = path.local.map_or("-".to_owned(), |local| local.to_string());
        format!("{} {} {local} {}", path.name, path.interface, path.peer)
    };
    let paths: Vec<String> = config.link_paths().iter().map(shown).collect();
    assert_eq!(
        paths,
        [
            "eth0 eth0 192.168.33.101 192.168.33.102",
            "eth0 eth0 192.168.33.101 192.168.33.103",
            "eth1 eth1 - fe80::2",
            "cable eth2 10.0.4.1 10.0.4.2",
        ]
    );
    assert_eq!(
        parse(&format!("{link}{GOOD}peers = [\"192.168.33.102\"]"))
            .link
            .unwrap()
            .port,
        9_747
    );
    let without = format!("{GOOD}peers = [\"192.168.33.102\"]");
    assert!(
        parse(&without).link_paths().is_empty(),
        "without a key there is no link"
    );
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let peers = "peers = [\"192.168.33.102\"]\n";
    let of_file =
        |text: &str, mode: u32| errors(&format!("{}{GOOD}{peers}", with_file(&dir, text, mode)));
    let said = [
        of_file(KEY, 0o644),
        of_file(&KEY[..32], 0o600),
        of_file("", 0o600),
        errors(&format!("[link]\n{GOOD}{peers}")),
        errors(&format!(
            "[link]\nkey_file = \"{}/none\"\nport = 0\n{GOOD}{peers}",
            dir.path().display()
        )),
        errors(&format!(
            "{}key = \"a0a0\"\n{GOOD}{peers}",
            with_file(&dir, KEY, 0o600)
        )),
        errors(&format!("{}{GOOD}", with_file(&dir, KEY, 0o600))),
    ]
    .join("\n");
    let said = anonymous(&said, dir.path());
    assert!(
        !said.contains(&KEY[..32]) || said.contains("key = "),
        "{said}"
    );
    insta::assert_snapshot!(said);
}

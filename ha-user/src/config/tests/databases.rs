//! `[[check]]` of kinds `mysql` and `galera`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{GOOD, errors, parse};
use crate::config::{CheckKind, Mysql, MysqlPlace};

fn check(rest: &str) -> String {
    format!("{GOOD}[[check]]\nname = \"db\"\n{rest}")
}

fn mysql(text: &str) -> Mysql {
    match parse(text).checks.remove(0).kind {
        CheckKind::Mysql(mysql) => mysql,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_this_host_needs_no_key() {
    let mysql = mysql(&check("kind = \"mysql\"\n"));
    assert_eq!(
        mysql.server.place,
        MysqlPlace::Socket("/run/mysqld/mysqld.sock".into())
    );
    assert_eq!(mysql.server.user, "root");
    assert!(mysql.server.keep_open && mysql.server.password.is_none() && mysql.query.is_none());
}

#[test]
fn a_password_is_read_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "hunter2\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let text = check(&format!(
        "kind = \"mysql\"\naddress = \"[::1]:3306\"\nuser = \"had\"\npassword_file = \"{}\"\n",
        file.display()
    ));
    let mysql = mysql(&text);
    let password = mysql.server.password.as_ref().unwrap();
    assert_eq!(password.reveal(), "hunter2");
    assert!(!format!("{mysql:?}").contains("hunter2"));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = errors(&text).replace(&dir.path().display().to_string(), "/etc/had");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "\n").unwrap();
    let empty = errors(&text).replace(&dir.path().display().to_string(), "/etc/had");
    insta::assert_snapshot!(format!("{open}\n{empty}"));
}

#[test]
fn a_galera_node_has_the_keys_of_both() {
    let text = check("kind = \"galera\"\nquery = \"SELECT 1 FROM t\"\nmin_size = 2\n");
    let CheckKind::Galera(galera) = parse(&text).checks.remove(0).kind else {
        panic!("no galera");
    };
    assert_eq!(galera.mysql.query.as_deref(), Some("SELECT 1 FROM t"));
    assert!(!galera.donor);
    assert_eq!(galera.min_size, 2);
}

#[test]
fn what_is_wrong_with_a_server_is_said() {
    let both = check(
        "kind = \"mysql\"\nsocket = \"mysqld.sock\"\naddress = \"db1:3306\"\nexpect = \"1\"\nserver_name = \"db1\"\ndonor = true\n",
    );
    let remote = check(
        "kind = \"galera\"\naddress = \"db1:3306\"\npassword_file = \"/nowhere/password\"\nca_file = \"/nowhere/ca.pem\"\nquery = \" \"\nmin_size = 0\n",
    );
    let local = check("kind = \"mysql\"\nca_file = \"/dev/null\"\nkeep_open = 1\n");
    insta::assert_snapshot!([both, remote, local].map(|text| errors(&text)).join("\n"));
}

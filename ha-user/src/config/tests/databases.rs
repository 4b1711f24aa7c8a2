//! `[[check]]` of kinds `mysql` and `galera`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{GOOD, errors, parse};
use ha_common::Nanos;

use crate::config::{Bootstrap, CheckKind, Config, Mysql, MysqlPlace, RoleKind};

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

/// A role with what it must have, and more.
fn role(more: &str) -> String {
    format!(
        "{GOOD}peers = [\"192.168.33.102\"]\ngroup = \"db\"\n[link]\nkey_file = \"KEY\"\n[[group]]\nname = \"db\"\nroles = [\"mariadb\"]\n[[role]]\nname = \"mariadb\"\nkind = \"mysql\"\nreplication_address = \"10.0.0.1:3306\"\nreplication_user = \"repl\"\n{more}"
    )
}

#[test]
fn a_database_role_has_defaults() {
    let config = with_role("unit = \"mariadb.service\"\n");
    let RoleKind::Mysql(role) = &config.roles[0].kind else {
        panic!("{:?}", config.roles);
    };
    assert!(role.semi_sync && !role.master_master);
    assert_eq!(role.process.unit.as_deref(), Some("mariadb.service"));
    assert_eq!(role.replication_address.to_string(), "10.0.0.1:3306");
    assert_eq!(role.sync_lease, Nanos::from_secs(3));
    assert_eq!(role.demote_limit, Nanos::from_secs(2));
    let config = with_key(&role_text_without_systemd(), parse);
    let RoleKind::Mysql(role) = &config.roles[0].kind else {
        panic!("{:?}", config.roles);
    };
    assert!(!role.semi_sync && role.master_master);
    assert_eq!(
        role.process.start_command,
        ["/usr/sbin/mariadbd", "--port=1"]
    );
}

fn role_text_without_systemd() -> String {
    role(
        "pid_file = \"/run/mysqld/pid\"\nstart_command = [\"/usr/sbin/mariadbd\", \"--port=1\"]\ndurability = \"async\"\nmaster_master = true\n",
    )
}

#[test]
fn a_database_role_that_cannot_be_is_refused() {
    for (more, words) in [
        ("", "a server that hangs could not be ended"),
        ("unit = \"mariadb\"\n", "lacks its type"),
        (
            "unit = \"mariadb.service\"\nstart_command = [\"/usr/sbin/mariadbd\"]\n",
            "there is a `unit` already",
        ),
        (
            "unit = \"mariadb.service\"\ndurability = \"sync\"\n",
            "\"sync\" is not possible here",
        ),
        (
            "unit = \"mariadb.service\"\nreplication_password_file = \"/nowhere/password\"\n",
            "replication_password_file",
        ),
        (
            "unit = \"mariadb.service\"\nsync_lease = \"1ms\"\n",
            "out of range",
        ),
    ] {
        let found = with_key(&role(more), errors);
        assert!(found.contains(words), "{more}: {found}");
    }
}

#[test]
fn a_group_has_one_database() {
    let text = role("unit = \"mariadb.service\"\n");
    let text = text.replace("roles = [\"mariadb\"]", "roles = [\"mariadb\", \"second\"]");
    let text = format!(
        "{text}[[role]]\nname = \"second\"\nkind = \"mysql\"\nunit = \"mariadb@second.service\"\n\
         replication_address = \"10.0.0.1:3307\"\nreplication_user = \"repl\"\n"
    );
    insta::assert_snapshot!(with_key(&text, errors));
}

/// A configuration with such a role.
pub(crate) fn with_role(more: &str) -> Config {
    with_key(&role(more), parse)
}

/// A node of a cluster of two, with a check of its server, and an arbitrator.
fn galera(more: &str, check: &str) -> String {
    format!(
        "{GOOD}peers = [\"192.168.33.102\"]\ngroup = \"db\"\nheartbeat = {{ interval = \"20ms\", multiplier = 5 }}\n\
         track = [{{ check = \"gateway\", when = \"isolated\" }}, {{ check = \"db\" }}]\n\
         [link]\nkey_file = \"KEY\"\n[[group]]\nname = \"db\"\nroles = [\"mariadb\"]\n\
         [[check]]\nname = \"gateway\"\nkind = \"ping\"\ntargets = [\"192.168.33.1\"]\n\
         [[check]]\nname = \"db\"\nkind = \"{check}\"\n\
         [[role]]\nname = \"mariadb\"\nkind = \"galera\"\nunit = \"mariadb.service\"\n{more}"
    )
}

pub(crate) fn with_galera(more: &str, check: &str) -> Config {
    with_key(&galera(more, check), parse)
}

#[test]
fn a_node_of_a_cluster_has_defaults() {
    let config = with_galera("", "mysql");
    let RoleKind::Galera(role) = &config.roles[0].kind else {
        panic!("{:?}", config.roles);
    };
    assert_eq!((role.bootstrap, role.donor), (Bootstrap::Never, false));
    assert_eq!(role.process.unit.as_deref(), Some("mariadb.service"));
    assert_eq!(role.drain_limit, Nanos::from_secs(30));
    let config = with_galera("bootstrap = \"alone\"\ndonor = true\n", "mysql");
    let RoleKind::Galera(role) = &config.roles[0].kind else {
        panic!("{:?}", config.roles);
    };
    assert_eq!((role.bootstrap, role.donor), (Bootstrap::Alone, true));
}

#[test]
fn who_may_go_on_alone_needs_to_know_that_it_is_not_cut_off() {
    let alone = galera("bootstrap = \"alone\"\n", "mysql");
    let unarbitrated = alone.replace("{ check = \"gateway\", when = \"isolated\" }, ", "");
    let deaf = alone.replace("heartbeat = { interval = \"20ms\", multiplier = 5 }\n", "");
    let three = alone.replace(
        "[\"192.168.33.102\"]",
        "[\"192.168.33.102\", \"192.168.33.103\"]",
    );
    for (text, words) in [
        (&unarbitrated, "there is no arbitrator"),
        (&deaf, "by adverts an Active node cannot know"),
        (&three, "more than two nodes"),
    ] {
        let found = with_key(text, errors);
        assert!(found.contains(words), "{found}");
        // Who does not go on alone needs none of it.
        with_key(&text.replace("\"alone\"", "\"never\""), parse);
    }
    let found = with_key(
        &galera("bootstrap = \"always\"\ndurability = \"async\"\n", "mysql"),
        errors,
    );
    for words in ["\"always\" is not possible here", "durability"] {
        assert!(found.contains(words), "{found}");
    }
}

/// The link needs a key.
pub(super) fn with_key<T>(text: &str, read: impl FnOnce(&str) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, format!("{}\n", "0123456789abcdef".repeat(4))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    read(&text.replace("KEY", &file.display().to_string()))
}

/// A group with a database and more, by their roles.
fn with_binlogs(roles: &str, more: &str) -> String {
    let text = role("unit = \"mariadb.service\"\n");
    let text = text.replace("roles = [\"mariadb\"]", &format!("roles = {roles}"));
    format!("{text}[[role]]\nname = \"binlogs\"\nkind = \"binlog\"\n{more}")
}

#[test]
fn binary_logs_are_those_of_the_database_before_them() {
    let directory = "directory = \"/srv/backup/binlog\"\n";
    let text = with_binlogs("[\"mariadb\", \"binlogs\"]", directory);
    let config = with_key(&text, parse);
    let RoleKind::Binlog(role) = &config.roles[1].kind else {
        panic!("{:?}", config.roles);
    };
    assert_eq!(role.every, Nanos::from_secs(900));
    assert_eq!(role.keep, Nanos::from_secs(3 * 86_400));
    assert_eq!(
        (role.keep_backups, role.give_up_replica_after),
        (None, None)
    );
    let wrong = "directory = \"backup\"\nevery = \"2d\"\nkeep = \"now\"\nkeep_backups = \"0s\"\n";
    insta::assert_snapshot!(
        [
            with_binlogs("[\"binlogs\", \"mariadb\"]", directory),
            with_binlogs("[\"mariadb\", \"binlogs\"]", ""),
            with_binlogs("[\"mariadb\", \"binlogs\"]", wrong),
        ]
        .map(|text| with_key(&text, errors))
        .join("\n")
    );
}

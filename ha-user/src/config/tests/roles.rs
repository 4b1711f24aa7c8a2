//! `[[role]]`, `[[group]] roles`, `[mode]`.

use std::path::Path;

use ha_common::Nanos;

use super::{GOOD, databases::with_key, errors, parse};
use crate::config::{AfterFailover, Config, RoleKind, ScriptRole};

/// A file with a group of such roles, and them.
fn with(roles: &str, rest: &str) -> String {
    format!("{GOOD}group = \"db\"\n[[group]]\nname = \"db\"\nroles = {roles}\n{rest}")
}

fn script<'a>(config: &'a Config, name: &str) -> &'a ScriptRole {
    let role = config.roles.iter().find(|role| role.name == name).unwrap();
    let RoleKind::Script(script) = &role.kind else {
        panic!("{role:?}");
    };
    script
}

#[test]
fn a_group_has_roles_in_the_order_that_it_names() {
    let config = parse(&with(
        "[\"data\", \"web\"]",
        r#"
[[role]]
name = "web"
kind = "script"
command = ["/usr/local/lib/had/notify-web", "--quietly"]
[[role]]
name = "data"
kind = "script"
promote = ["/usr/local/lib/had/data", "up"]
demote = ["/usr/local/lib/had/data", "down"]
fault = ["/usr/local/lib/had/data", "off"]
status = ["/usr/local/lib/had/data", "is-up"]
user = "root"
env = { PASSWORD = "hidden" }
directory = "/tmp"
promote_limit = "2s"
demote_limit = "500ms"
"#,
    ));
    let names: Vec<&str> = config.groups[0]
        .roles
        .iter()
        .map(|index| config.roles[*index].name.as_str())
        .collect();
    assert_eq!(names, ["data", "web"]);
    let web = script(&config, "web");
    let notify = ["/usr/local/lib/had/notify-web", "--quietly"].map(str::to_owned);
    assert_eq!(web.notify.as_deref(), Some(&notify[..]));
    assert_eq!((&web.promote, &web.status), (&None, &None));
    assert_eq!(web.promote_limit, Nanos::from_secs(10));
    let data = script(&config, "data");
    assert_eq!(data.demote.as_ref().unwrap()[1], "down");
    assert_eq!(data.fault.as_ref().unwrap()[1], "off");
    assert_eq!(data.demote_limit, Nanos::from_millis(500));
    assert_eq!(data.surroundings.user.as_deref(), Some("root"));
    assert!(!format!("{config:?}").contains("hidden"));
    assert!(!config.roles[0].kind.has_data());
}

#[test]
fn roles_and_groups_that_do_not_fit_together() {
    insta::assert_snapshot!(errors(&format!(
        "{}\n{}",
        with("[\"web\", \"wbe\", \"web\", 7]", ""),
        r#"
[[group]]
name = "other"
roles = ["web", "nowhere"]
[[role]]
name = "web"
kind = "script"
command = ["/usr/local/lib/had/notify-web"]
[[role]]
name = "idle"
kind = "script"
command = ["/usr/local/lib/had/notify-idle"]
[[role]]
name = "idle"
kind = "script"
command = ["/usr/local/lib/had/notify-idle"]
"#
    )));
}

#[test]
fn an_owner_of_its_addresses_has_no_roles() {
    let text = with(
        "[\"web\"]",
        "[[role]]\nname = \"web\"\nkind = \"script\"\ncommand = [\"/bin/true\"]\n",
    );
    parse(&text);
    let text = text.replace("vrid = 51", "vrid = 51\npriority = 255");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn roles_are_not_taken_from_a_node_that_serves() {
    let text = with(
        "[\"web\"]",
        "[[role]]\nname = \"web\"\nkind = \"script\"\ncommand = [\"/bin/true\"]\n",
    );
    let text = text.replace("vrid = 51", "vrid = 51\npreempt = true");
    let errors = errors(&text);
    assert!(errors.contains("preempt: its group has roles"), "{errors}");
}

#[test]
fn jobs_of_cron() {
    let keys = "kind = \"cron\"\nfile = \"/etc/had/cron/backup\"\n";
    let role = |name: &str, more: &str| {
        let role = format!("[[role]]\nname = \"{name}\"\n{keys}{more}");
        with(&format!("[\"{name}\"]"), &role)
    };
    let config = parse(&role("backup", ""));
    let RoleKind::Cron(cron) = &config.roles[0].kind else {
        panic!("{config:?}");
    };
    assert_eq!(cron.file, Path::new("/etc/had/cron/backup"));
    assert_eq!(cron.entry, Path::new("/etc/cron.d/backup"));
    insta::assert_snapshot!(
        [
            errors(&role("back.up", "")),
            errors(&role("backup", "directory = \"/etc/had/cron\"\n")),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_wrong_with_a_role_by_itself() {
    insta::assert_snapshot!(errors(&with(
        "[\"a\", \"b\", \"c\", \"d\"]",
        r#"
[[role]]
name = "a"
kind = "skript"
[[role]]
kind = "script"
command = []
promote_limit = "1ms"
[[role]]
name = "b"
kind = "script"
promote = ["up"]
[[role]]
name = "c"
kind = "script"
promote = ["/usr/local/lib/had/up"]
comand = ["/usr/local/lib/had/notify"]
[[role]]
name = "d"
"#
    )));
}

#[test]
fn modes() {
    let modes = parse(GOOD).modes;
    assert_eq!(modes.after_failover, AfterFailover::Rejoin);
    assert!(modes.mask_units);
    let text = format!("{GOOD}[mode]\nafter_failover = \"maintenance\"\nmask_units = false\n");
    let modes = parse(&text).modes;
    assert_eq!(modes.after_failover, AfterFailover::Maintenance);
    assert!(!modes.mask_units);
    insta::assert_snapshot!(errors(&format!(
        "{GOOD}[mode]\nafter_failover = \"standby\"\nmask_units = 1\nmode = \"maintenance\"\n"
    )));
}

/// A group of which directories are copied; a second role mounts something.
fn with_files(keys: &str) -> String {
    let mount = "[[role]]\nname = \"disk\"\nkind = \"mount\"\ndevice = \"/dev/sdb1\"\nwhere = \"/srv/data\"\ntype = \"ext4\"\n";
    let link = "[link]\nkey_file = \"KEY\"\n";
    let text = with(
        "[\"files\", \"disk\"]",
        &format!("{link}{mount}[[role]]\nname = \"files\"\nkind = \"sync\"\n{keys}"),
    );
    // The link's way.
    let peers = "peers = [\"192.168.33.102\"]\ngroup = \"db\"";
    text.replacen("group = \"db\"", peers, 1)
}

#[test]
fn directories_are_copied_that_belong_to_nobody_else() {
    let text = with_files("paths = [\"/etc/web/rules/\", \"/srv/templates\"]\n");
    let config = with_key(&text, parse);
    let files = config.roles.iter().find(|role| role.name == "files");
    let RoleKind::Sync(files) = &files.unwrap().kind else {
        panic!("{:?}", config.roles);
    };
    let paths = ["/etc/web/rules", "/srv/templates"].map(std::path::PathBuf::from);
    assert_eq!(files.paths, paths);
    assert_eq!(files.every, Nanos::from_secs(600));
    assert!(files.exclude.is_empty());
    insta::assert_snapshot!(
        [
            "",
            "paths = []\n",
            "paths = [\"rules\", \"/etc\", \"/etc/ssh/keys\", \"/srv/../etc/web\", \"/srv/a%b\", \"/srv/a \"]\n",
            "paths = [\"/srv/a\", \"/srv/a/b\"]\n",
            "paths = [\"/srv/data/rules\", \"/var/lib/had/kept\"]\nevery = \"2d\"\nexclude = [\"\"]\n",
            "paths = [\"/srv/data/rules\", \"/var/lib/had/kept\"]\n",
        ]
        .map(|keys| with_key(&with_files(keys), errors))
        .join("\n")
    );
    let said = errors(&text.replace("[link]\nkey_file = \"KEY\"\n", ""));
    assert!(said.contains("add a [link]"), "{said}");
}

#[test]
fn of_a_kind_that_is_refused_no_key_is_told_as_well() {
    let said = errors(&format!(
        "{GOOD}[[role]]\nname = \"files\"\nkind = \"rsync\"\ndirectories = [\"/srv\"]\n"
    ));
    assert!(
        said.contains("rsync") && !said.contains("unknown key"),
        "{said}"
    );
}

#[test]
fn a_section_of_which_there_is_one_stands_in_single_brackets() {
    let said = errors(&format!("{GOOD}[[link]]\nkey_file = \"/nowhere\"\n"));
    assert!(said.contains("write [link], in single brackets"), "{said}");
}

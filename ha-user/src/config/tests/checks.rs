//! `[[check]]`, kind by kind.

use super::{GOOD, errors};

/// What is wrong with checks of a kind, each with other keys.
fn errors_of(kind: &str, checks: &[&str]) -> String {
    let checks: Vec<String> = checks
        .iter()
        .enumerate()
        .map(|(number, keys)| {
            format!("[[check]]\nname = \"c{number}\"\nkind = \"{kind}\"\n{keys}\n")
        })
        .collect();
    errors(&format!("{GOOD}{}", checks.concat()))
}

#[test]
fn http_checks() {
    insta::assert_snapshot!(errors_of(
        "http",
        &[
            "",
            "url = \"ftp://127.0.0.1/\"",
            "url = \"http://www.example.org:8080/health\"",
            "url = \"http://operator:secret@127.0.0.1/\"",
            "url = \"http://127.0.0.1/ two words\"",
            "url = \"http://127.0.0.1/\"\naddress = \"localhost:80\"\nmethod = \"get\"\nstatus = [\"2xx\", \"399-200\", \"700\"]",
            "url = \"http://127.0.0.1/\"\nmethod = \"HEAD\"\nbody = \"ok\"",
            "url = \"http://127.0.0.1/\"\nca_file = \"/etc/ssl/ca.pem\"\nstatus = []",
            "url = \"https://127.0.0.1/\"\nca_file = \"/etc/ssl/ca.pem\"\ninsecure = true",
            "url = \"https://127.0.0.1/\"\nserver_name = \"not a name\"\nhost = \"two words\"",
            "url = \"http://127.0.0.1/\"\nheaders = { Host = \"a\", \"Ac cept\" = \"b\", Accept = 5 }",
            "url = \"http://127.0.0.1/\"\nheaders = [\"Accept: text/plain\"]",
        ]
    ));
}

#[test]
fn process_checks() {
    insta::assert_snapshot!(errors_of(
        "process",
        &[
            "",
            "user = \"mysql\"",
            "process = \"\"",
            "process = \"/usr/sbin/mariadbd\"",
            "process = \"mariadbd\"\ncommand_match = \"exact\"",
            "command = \"/usr/sbin/mariadbd\"\ncommand_match = \"regex\"",
            "pid_file = \"run/mariadbd.pid\"",
            "pid_file = \"/run/mariadbd.pid\"\nmin = 2",
            "process = \"nginx\"\nmin = 3\nmax = 2",
            "process = [\"nginx\"]\nmin = 0",
        ]
    ));
}

#[test]
fn script_checks() {
    insta::assert_snapshot!(errors_of(
        "script",
        &[
            "",
            "command = []",
            "command = \"/usr/bin/true\"",
            "command = [\"check.sh\", \"web\"]",
            "command = [\"/usr/bin/true\", 5]",
            "command = [\"/usr/bin/true\"]\ndirectory = \"tmp\"",
            "command = [\"/usr/bin/true\"]\nenv = { \"1ST\" = \"secret\" }",
            "command = [\"/usr/bin/true\"]\nenv = { PASSWORD = 5 }",
            "command = [\"/usr/bin/true\"]\nuser = 0\ncwd = \"/\"",
        ]
    ));
}

#[test]
fn ping_checks() {
    insta::assert_snapshot!(errors_of(
        "ping",
        &[
            "",
            "targets = []",
            "targets = [\"gateway\"]",
            "targets = [\"192.168.33.1\", \"224.0.0.1\"]",
            "targets = [\"192.168.33.1\", \"192.168.33.1\"]",
            "targets = [\"fe80::1\"]",
            "targets = [\"192.168.33.1\", \"2001:db8::1\"]\nsource = \"192.168.33.101\"",
            "targets = [\"192.168.33.1\"]\nneed = 2",
            "targets = [\"192.168.33.1\"]\nneed = 0\ninterface = \"eth0 eth1\"\ntimeout = \"1ms\"",
        ]
    ));
}

#[test]
fn file_checks() {
    insta::assert_snapshot!(errors_of(
        "file",
        &[
            "",
            "path = \"ready\"",
            "path = \"/\"",
            "path = \"/run/web/ready\"\nexpect = \"there\"",
            "path = \"/run/web/ready\"\nexpect = \"absent\"\ncontent = \"yes\"",
            "path = \"/run/web/ready\"\ncontains = \"yes\"\ncontent = \"yes\"",
            "path = \"/run/web/ready\"\ncontains = \"\"",
        ]
    ));
}

#[test]
fn mdadm_checks() {
    insta::assert_snapshot!(errors_of(
        "mdadm",
        &[
            "array = \"\"",
            "array = \"/dev/md/data\"",
            "array = \"md0\"\nallow_recovery = \"no\"",
            "arrays = [\"md0\"]",
        ]
    ));
}

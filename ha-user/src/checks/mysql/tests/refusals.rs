//! A server that does not do what it is asked.

use std::{fs, process::Command};

use super::mariadbd::{Mariadbd, alone, check, free_address, probed};
use crate::{
    checks::{
        mysql::{
            MysqlProbe,
            session::{Session, opts},
        },
        probe::Probe as _,
    },
    config::{Mysql, MysqlPlace, MysqlServer, MysqlTls},
};

const PASSWORD: &str = "correct horse";

#[tokio::test]
async fn what_is_configured_wrongly_is_said_so() {
    let server = Mariadbd::start(&alone(&[])).await;
    server
        .sql(&format!(
            "CREATE USER had@localhost IDENTIFIED BY '{PASSWORD}'"
        ))
        .await;
    // The default needs no privilege.
    let right = server.config_of("had", PASSWORD);
    assert!(probed(&check(right.clone())).await.is_ok());

    let wrong = server.config_of("had", "hunter2");
    let error = probed(&check(wrong.clone())).await.unwrap_err();
    assert!(
        error.starts_with("configuration: the server refuses had: wrong password"),
        "{error}"
    );
    assert!(!error.contains("hunter2") && !format!("{wrong:?}").contains("hunter2"));

    let without = MysqlServer {
        password: None,
        ..right.clone()
    };
    let error = probed(&check(without)).await.unwrap_err();
    assert!(error.contains("without a password"), "{error}");

    let nowhere = MysqlServer {
        database: Some("nowhere".to_owned()),
        ..server.config()
    };
    let error = probed(&check(nowhere)).await.unwrap_err();
    assert!(
        error.starts_with("configuration: see `database`"),
        "{error}"
    );

    let forbidden = Mysql {
        server: right.clone(),
        query: Some("SELECT COUNT(*) FROM mysql.global_priv".to_owned()),
        expect: None,
    };
    let error = probed(&forbidden).await.unwrap_err();
    assert!(error.starts_with("configuration: had may not"), "{error}");

    let absent = MysqlServer {
        place: MysqlPlace::Socket("/nowhere/mysqld.sock".into()),
        ..right
    };
    let error = probed(&check(absent)).await.unwrap_err();
    assert!(
        error.starts_with("/nowhere/mysqld.sock: No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_is_compared_as_a_whole() {
    let server = Mariadbd::start(&alone(&[])).await;
    let asking = |query: &str, expect: Option<&str>| Mysql {
        server: server.config(),
        query: Some(query.to_owned()),
        expect: expect.map(str::to_owned),
    };
    for (query, expect, right) in [
        ("SELECT @@global.read_only", Some("0"), true),
        ("SELECT @@global.read_only", Some("1"), false),
        ("SELECT 'non-Primary'", Some("Primary"), false),
        ("SELECT NULL", Some("NULL"), false),
        ("SELECT 1 FROM DUAL WHERE FALSE", None, false),
        ("DO 1", None, true),
        // More than is kept, and more than one answer.
        ("SELECT seq FROM mysql.seq_1_to_100000", Some("1"), true),
    ] {
        let found = probed(&asking(query, expect)).await;
        assert_eq!(found.is_ok(), right, "{query}: {found:?}");
    }
    // The same session goes on after a long answer, and after an error.
    let mut probe = MysqlProbe::new(&asking("SELECT seq FROM mysql.seq_1_to_100000", None));
    let before = server.counter("CONNECTIONS").await;
    probe.probe().await.unwrap();
    probe.probe().await.unwrap();
    let mut wrong = MysqlProbe::new(&asking("SELEKT 1", None));
    for _ in 0..2 {
        let error = wrong.probe().await.unwrap_err();
        assert!(error.contains("(1064)"), "{error}");
    }
    assert_eq!(server.counter("CONNECTIONS").await, before + 3);
}

#[tokio::test]
async fn a_server_with_no_room_is_said_so() {
    let server = Mariadbd::start(&alone(&["--max-connections=10"])).await;
    server
        .sql(&format!(
            "CREATE USER had@localhost IDENTIFIED BY '{PASSWORD}'"
        ))
        .await;
    let config = server.config_of("had", PASSWORD);
    let mut kept = MysqlProbe::new(&check(config.clone()));
    kept.probe().await.unwrap();

    let mut taken = Vec::new();
    while let Ok(session) = Session::open(&opts(&config)).await {
        taken.push(session);
        assert!(taken.len() <= 10);
    }
    let error = probed(&check(config)).await.unwrap_err();
    assert!(
        error.starts_with("the server takes no more connections") && error.contains("(1040)"),
        "{error}"
    );
    // A session that is open works on; that there is none to wait for the end is said.
    let refused = tokio::time::timeout(std::time::Duration::from_millis(500), kept.watch()).await;
    assert!(refused.is_err());
    let detail = kept.probe().await.unwrap();
    assert!(
        detail.contains("a crash is noticed only by probes") && detail.contains("(1040)"),
        "{detail}"
    );
    drop(taken);
}

/// A certificate for 127.0.0.1 and one authority that signed it, and another that did not.
fn certificates(server: &std::path::Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(server)
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{output:?}");
    };
    for name in ["ca", "other"] {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        openssl(&[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject,
            "-keyout", &key, "-out", &pem,
        ]);
    }
    fs::write(
        server.join("san"),
        "subjectAltName=IP:127.0.0.1,DNS:db.example",
    )
    .unwrap();
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=db",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "server.pem",
    ]);
}

#[tokio::test]
async fn tls_proves_who_the_server_is() {
    let certified = tempfile::tempdir().unwrap();
    certificates(certified.path());
    let port = free_address();
    let file = |name: &str| certified.path().join(name);
    let option = |key: &str, name: &str| format!("--{key}={}", file(name).display());
    let server = Mariadbd::start(&[
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={}", port.port()),
        option("ssl-ca", "ca.pem"),
        option("ssl-cert", "server.pem"),
        option("ssl-key", "server.key"),
    ])
    .await;
    server
        .sql(&format!(
            "CREATE USER had@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL"
        ))
        .await;
    let with = |authority: Option<&str>, name: Option<&str>| Mysql {
        server: MysqlServer {
            place: MysqlPlace::Address(port),
            tls: authority.map(|authority| MysqlTls {
                authorities: fs::read(file(authority)).unwrap(),
                server_name: name.map(str::to_owned),
            }),
            ..server.config_of("had", PASSWORD)
        },
        query: Some("SHOW STATUS LIKE 'Ssl_cipher'".to_owned()),
        expect: None,
    };
    for (authority, name, right) in [
        (Some("ca.pem"), None, true),
        (Some("ca.pem"), Some("db.example"), true),
        (Some("ca.pem"), Some("other.example"), false),
        (Some("other.pem"), None, false),
        (None, None, false),
    ] {
        let found = probed(&with(authority, name)).await;
        assert_eq!(found.is_ok(), right, "{authority:?} {name:?}: {found:?}");
        if let Err(error) = found {
            let hint = if authority.is_some() {
                "see `ca_file` and `server_name`"
            } else {
                "see `user`"
            };
            assert!(error.contains(hint) && !error.contains(PASSWORD), "{error}");
        }
    }
}

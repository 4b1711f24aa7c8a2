//! `kind = "mysql"`: a MariaDB or MySQL server that answers a statement.

use std::{
    fs, io,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{CheckKind, Form, Secret, tcp::socket_address};
use crate::config::{channel::read_key, parse::path, reader::Section};

/// Keys of `kind = "mysql"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mysql {
    /// Where the server is, and who asks.
    pub server: MysqlServer,
    /// The statement; `None`: one that asks the storage engine for its state.
    pub query: Option<String>,
    /// What the first column of its first row must be.
    pub expect: Option<String>,
}

/// How to reach a server, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlServer {
    /// Where it listens.
    pub place: MysqlPlace,
    /// The account.
    pub user: String,
    /// Its password, from the file.
    pub password: Option<Secret>,
    /// The default database of the session.
    pub database: Option<String>,
    /// How the server proves who it is; without it nothing is encrypted.
    pub tls: Option<MysqlTls>,
    /// Whether sessions stay open between the probes, so that the server's end is noticed at once.
    pub keep_open: bool,
}

impl MysqlServer {
    /// The address at which it is looked for.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match &self.place {
            MysqlPlace::Socket(_) => None,
            MysqlPlace::Address(address) => Some(address.ip()),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MysqlPlace {
    /// A Unix socket.
    Socket(PathBuf),
    /// An address with its port.
    Address(SocketAddr),
}

/// What encrypted sessions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlTls {
    /// The certificates, one of which must have signed the server's: the text of the file.
    pub authorities: Vec<u8>,
    /// The name in the server's certificate, where that is not its address.
    pub server_name: Option<String>,
}

pub(super) const FORM: Form = Form {
    name: "mysql",
    keys: &[
        "socket",
        "address",
        "user",
        "password_file",
        "database",
        "ca_file",
        "server_name",
        "keep_open",
        "query",
        "expect",
    ],
    parse: |section| Some(CheckKind::Mysql(parse(section)?)),
};

/// As Debian and Ubuntu have it.
const DEFAULT_SOCKET: &str = "/run/mysqld/mysqld.sock";
/// It may come in by the socket without a password, as the daemon's own account.
const DEFAULT_USER: &str = "root";
/// Bytes of the longest file of certificates that is read.
const CA_FILE_LIMIT: u64 = 1 << 20;
/// How each certificate in it begins.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

pub(super) fn parse(section: &Section<'_>) -> Option<Mysql> {
    let server = server(section);
    let query = text(section, "query");
    let expect = section.string("expect");
    if let (Some(expect), None) = (&expect, section.offset_of("query")) {
        section.fail(
            expect.offset,
            "expect",
            "there is no `query` whose answer it could be",
            "add `query = \"SELECT …\"`, or remove it",
        );
    }
    Some(Mysql {
        server: server?,
        query,
        expect: expect.map(|expect| expect.value),
    })
}

pub(in crate::config) fn server(section: &Section<'_>) -> Option<MysqlServer> {
    let place = place(section);
    let user = text(section, "user");
    let user = match &place {
        Some(MysqlPlace::Address(_)) => section.require("user", user, "\"had\""),
        _ => user.or_else(|| Some(DEFAULT_USER.to_owned())),
    };
    let tls = tls(section);
    Some(MysqlServer {
        place: place?,
        user: user?,
        password: password(section, "password_file")?,
        database: text(section, "database"),
        tls: tls?,
        keep_open: section
            .boolean("keep_open")
            .is_none_or(|keep_open| keep_open.value),
    })
}

fn place(section: &Section<'_>) -> Option<MysqlPlace> {
    match (section.offset_of("socket"), section.offset_of("address")) {
        (Some(_), Some(offset)) => {
            section.fail(
                offset,
                "address",
                "there is a `socket` already",
                "remove one of the two",
            );
            None
        }
        (None, Some(_)) => socket_address(section, "address").map(MysqlPlace::Address),
        (Some(_), None) => path(section, "socket").map(MysqlPlace::Socket),
        (None, None) => Some(MysqlPlace::Socket(PathBuf::from(DEFAULT_SOCKET))),
    }
}

/// `None`: it is wrong, and has been reported.
pub(in crate::config) fn password(section: &Section<'_>, key: &str) -> Option<Option<Secret>> {
    let Some(file) = section.string(key) else {
        return section.offset_of(key).is_none().then_some(None);
    };
    let path = path(section, key)?;
    let secret = read_key(&path)
        .map_err(|(message, fix)| (message, fix.replace("the key", "the password")))
        .and_then(|secret| match String::from_utf8(secret) {
            Ok(secret) if !secret.is_empty() => Ok(Secret::new(secret)),
            _ => Err((
                format!("the first line of {} is no password", path.display()),
                "write the password there, as UTF-8".to_owned(),
            )),
        });
    match secret {
        Ok(secret) => Some(Some(secret)),
        Err((message, fix)) => {
            section.fail(file.offset, key, message, fix);
            None
        }
    }
}

/// `None`: it is wrong, and has been reported.
fn tls(section: &Section<'_>) -> Option<Option<MysqlTls>> {
    let server_name = text(section, "server_name");
    let Some(offset) = section.offset_of("ca_file") else {
        if let Some(offset) = section.offset_of("server_name") {
            section.fail(
                offset,
                "server_name",
                "is only for TLS",
                "add `ca_file = \"/etc/had/mysql-ca.pem\"`, or remove it",
            );
        }
        return Some(None);
    };
    if section.offset_of("address").is_none() {
        section.fail(
            offset,
            "ca_file",
            "is only for an `address`: a Unix socket needs no TLS",
            "remove it, or name the server's `address`",
        );
    }
    let path = path(section, "ca_file")?;
    match authorities(&path) {
        Ok(authorities) => Some(Some(MysqlTls {
            authorities,
            server_name,
        })),
        Err(message) => {
            section.fail(
                offset,
                "ca_file",
                message,
                "name the certificate, as PEM, that signed the server's: its ssl_ca",
            );
            None
        }
    }
}

fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} cannot be read: {error}");
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(CA_FILE_LIMIT)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if !text.windows(PEM.len()).any(|window| window == PEM) {
        return Err(format!("there is no certificate in {shown}"));
    }
    Ok(text)
}

/// A string that is not empty.
fn text(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.string(key)?;
    if text.value.trim().is_empty() {
        section.fail(text.offset, key, "is empty", "write it, or remove the key");
        return None;
    }
    Some(text.value)
}

//! `kind = "http"`: a URL whose answer is judged.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{CheckKind, Form, tcp::socket_address};
use crate::config::{
    parse::path,
    reader::{At, Section},
};

/// Keys of `kind = "http"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to connect to.
    pub address: SocketAddr,
    /// What is asked for: path and query.
    pub target: String,
    /// The Host header.
    pub host: String,
    /// TLS, with `https`.
    pub tls: Option<HttpTls>,
    /// How it is asked for.
    pub method: HttpMethod,
    /// The answers that are right.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the answer must contain.
    pub body: Option<String>,
    /// More headers of the request.
    pub headers: Vec<HttpHeader>,
    /// Whether a probe's connection stays open until the next one, so that its end is noticed at once.
    pub keep_open: bool,
}

/// Whom to believe with `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTls {
    /// Certificates of those who may have issued the server's; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The name that must stand in the server's certificate.
    pub server_name: ServerName<'static>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// The method of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// GET.
    Get,
    /// HEAD: the answer has no body.
    Head,
}

/// A header of the request. Its value may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
}

impl fmt::Debug for HttpHeader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: …", self.name)
    }
}

pub(super) const FORM: Form = Form {
    name: "http",
    keys: &[
        "url",
        "address",
        "host",
        "method",
        "status",
        "body",
        "headers",
        "ca_file",
        "server_name",
        "insecure",
        "keep_open",
    ],
    parse,
};

/// Those that say that nothing is wrong, and those that lead elsewhere.
const DEFAULT_STATUS: RangeInclusive<u16> = 200..=399;
/// What HTTP knows.
const ANY_STATUS: RangeInclusive<u16> = 100..=599;

/// Headers that follow from other keys or from the connection.
const OWN_HEADERS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
];

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let url = section.require("url", url(section), "\"http://127.0.0.1:8080/health\"");
    let address = address(section, url.as_ref());
    let method = section.choice(
        "method",
        &[("GET", HttpMethod::Get), ("HEAD", HttpMethod::Head)],
    );
    let method = method.map_or(HttpMethod::Get, |method| method.value);
    let body = section.string("body");
    if let Some(body) = &body {
        let wrong = if method == HttpMethod::Head {
            Some("the answer to HEAD has no body")
        } else if body.value.is_empty() {
            Some("every answer contains \"\"")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            section.fail(body.offset, "body", wrong, "remove it");
            return None;
        }
    }
    let status = status(section);
    let headers = headers(section);
    let host = host(section);
    let keep_open = section.boolean("keep_open");
    let tls = tls(section, url.as_ref());
    let url = url?;
    Some(CheckKind::Http(Http {
        address: address?,
        target: url.target,
        host: host?.unwrap_or(url.authority),
        tls: tls?,
        method,
        status: status?,
        body: body.map(|body| body.value),
        headers: headers?,
        keep_open: keep_open.is_none_or(|keep_open| keep_open.value),
    }))
}

/// A URL, taken apart.
struct Url {
    offset: usize,
    tls: bool,
    /// As in the Host header.
    authority: String,
    /// Without brackets.
    host: String,
    port: u16,
    target: String,
}

fn url(section: &Section<'_>) -> Option<Url> {
    let text = section.string("url")?;
    let fail = |message: String, fix: &str| {
        section.fail_unshown(text.offset, "url", message, fix);
        None
    };
    let write = "write it as \"http://127.0.0.1:8080/health\"";
    let Ok(uri) = text.value.parse::<Uri>() else {
        return fail("is no URL".to_owned(), write);
    };
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => {
            return fail("must begin with http:// or https://".to_owned(), write);
        }
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return fail(
            "has a user name in it".to_owned(),
            "remove it, and write it as a header: headers = { Authorization = \"…\" }",
        );
    }
    let host = authority.host();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = match uri.port() {
        Some(port) => port.as_u16(),
        None if tls => 443,
        None => 80,
    };
    if host.is_empty() || port == 0 {
        return fail("names no host or port".to_owned(), write);
    }
    Some(Url {
        offset: text.offset,
        tls,
        authority: authority.as_str().to_owned(),
        host: host.to_owned(),
        port,
        target: uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

/// `address`, or what stands in the URL. No host name: a check that waits for a name server says nothing of the
/// service.
fn address(section: &Section<'_>, url: Option<&Url>) -> Option<SocketAddr> {
    if section.has_any("address") {
        return socket_address(section, "address");
    }
    let url = url?;
    let address = url.host.parse::<IpAddr>().ok();
    if address.is_none() {
        section.fail(
            url.offset,
            "url",
            format!(
                "\"{}\" is a name, and had asks no name server: its answer would be a part of the check",
                url.host
            ),
            format!("say where it is: address = \"127.0.0.1:{}\"", url.port),
        );
    }
    Some(SocketAddr::new(address?, url.port))
}

/// `None`: it is wrong, and has been reported.
fn host(section: &Section<'_>) -> Option<Option<String>> {
    let Some(host) = section.string("host") else {
        return Some(None);
    };
    let legal = HeaderValue::from_str(&host.value).is_ok_and(|_| !host.value.contains(' '));
    if host.value.is_empty() || !legal {
        section.fail(
            host.offset,
            "host",
            "cannot be a Host header",
            "write a name, as \"www.example.org\"",
        );
        return None;
    }
    Some(Some(host.value))
}

fn status(section: &Section<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let Some(words) = section.strings("status") else {
        return Some(vec![DEFAULT_STATUS]);
    };
    let fix = "write numbers and ranges, as [\"200\", \"300-399\"]";
    if words.value.is_empty() {
        section.fail(words.offset, "status", "is empty: no answer is right", fix);
        return None;
    }
    let ranges = words.value.iter().map(|word| {
        let range = range(&word.value);
        if range.is_none() {
            let message = format!("\"{}\" is no status, nor a range of them", word.value);
            section.fail(word.offset, "status", message, fix);
        }
        range
    });
    // Each of them is looked at, also where one is wrong.
    let ranges: Vec<Option<RangeInclusive<u16>>> = ranges.collect();
    ranges.into_iter().collect()
}

/// As `200` or `200-399`.
fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let known = ANY_STATUS.contains(&first) && ANY_STATUS.contains(&last);
    (known && first <= last).then_some(first..=last)
}

fn headers(section: &Section<'_>) -> Option<Vec<HttpHeader>> {
    let header = |(name, value): (At<String>, String)| {
        let fail = |message: &str, fix: &str| {
            let message = format!("{} {message}", name.value);
            section.fail_unshown(name.offset, "headers", message, fix);
            None
        };
        if OWN_HEADERS.contains(&name.value.to_ascii_lowercase().as_str()) {
            return fail(
                "is not yours to set",
                "remove it; `host` sets the Host header",
            );
        }
        match (
            HeaderName::from_bytes(name.value.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            (Ok(name), Ok(value)) => Some(HttpHeader { name, value }),
            _ => fail(
                "cannot be a header",
                "write it as headers = { Accept = \"text/plain\" }",
            ),
        }
    };
    let headers: Vec<Option<HttpHeader>> =
        section.pairs("headers")?.into_iter().map(header).collect();
    headers.into_iter().collect()
}

/// `None`: something is wrong, and has been reported.
fn tls(section: &Section<'_>, url: Option<&Url>) -> Option<Option<HttpTls>> {
    let url = url?;
    let ca_file = section.has_any("ca_file").then(|| path(section, "ca_file"));
    let named = section.string("server_name");
    let insecure = section.boolean("insecure");
    if !url.tls {
        for key in ["ca_file", "server_name", "insecure"] {
            if let Some(offset) = section.offset_of(key) {
                section.fail(offset, key, "is only for https", "remove it");
                return None;
            }
        }
        return Some(None);
    }
    let insecure = insecure.is_some_and(|insecure| insecure.value);
    if insecure && let Some(offset) = section.offset_of("ca_file") {
        section.fail(
            offset,
            "ca_file",
            "says nothing where any certificate will do",
            "remove it, or `insecure`",
        );
        return None;
    }
    let (name, key, offset) = match named {
        Some(name) => (name.value, "server_name", name.offset),
        None => (url.host.clone(), "url", url.offset),
    };
    let Ok(server_name) = ServerName::try_from(name) else {
        section.fail(
            offset,
            key,
            "cannot be the name in a certificate",
            "write a host name or an IP address as server_name",
        );
        return None;
    };
    Some(Some(HttpTls {
        ca_file: match ca_file {
            Some(path) => Some(path?),
            None => None,
        },
        server_name,
        insecure,
    }))
}

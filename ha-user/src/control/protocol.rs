//! Requests and responses. A line is at most [`MAX_LINE`] bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Grows with every change that an older client could not read.
pub const VERSION: u32 = 1;

/// The longest request line; a response may be longer.
pub const MAX_LINE: usize = 64 * 1024;

/// A request, as it stands in a line: `{"version":1,"request":"status"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub request: Request,
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// A [`super::report::StatusReport`].
    Status,
    /// The last events, as [`super::report::EventReport`]s.
    Events {
        /// At most so many, the latest.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Why an instance is in its state, as an [`super::report::ExplainReport`].
    Explain {
        /// Its name.
        instance: String,
    },
    /// Another node is to become Active; a [`super::report::SwitchoverReport`].
    Switchover {
        /// The name of a group or an instance.
        target: String,
        /// The node that is to take over.
        #[serde(default)]
        to: Option<String>,
    },
    /// What that would do, of a group with roles; a [`super::report::PreviewReport`].
    Preview {
        /// The name of a group or an instance.
        target: String,
        /// The node that is to take over.
        #[serde(default)]
        to: Option<String>,
    },
    /// This node may be promoted although another one may have newer data; a [`super::report::GroupReport`].
    AcceptLoss {
        /// The name of a group or an instance.
        target: String,
    },
    /// How the groups' roles stand, as a [`super::report::RolesReport`].
    Roles,
    /// Prepares this node's database for replication; a [`super::report::PreparedReport`].
    InitReplication {
        /// The role's name.
        role: String,
    },
    /// Begins a Galera cluster anew of which no node commits any more; a [`super::report::BootstrapReport`].
    Bootstrap {
        /// The role's name.
        role: String,
        /// Only show how the nodes are.
        #[serde(default)]
        dry_run: bool,
        /// What another node alone has may be lost.
        #[serde(default)]
        accept_loss: bool,
    },
    /// The node's mode, as a [`super::report::ModeReport`].
    Mode {
        /// Which it is to be from now on.
        #[serde(default)]
        set: Option<String>,
    },
    /// Read the configuration again; a [`super::report::ReloadReport`].
    Reload,
    /// What is watched and tracked, as a [`super::report::ChecksReport`].
    Checks,
    /// Lets a check count for nothing.
    Mute {
        /// Its name.
        check: String,
        /// For how long; `None`: until [`Self::Unmute`].
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// Lets a check count again.
    Unmute {
        /// Its name.
        check: String,
    },
    /// The dataplane's verdicts, by reason.
    Counters,
}

/// An answer, as it stands in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`] of the daemon.
    pub version: u32,
    /// Whether the request was carried out.
    pub ok: bool,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it was not carried out, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Request {
    /// How long the answer may take.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        match self {
            // A server's data is read, and the server started.
            Self::Bootstrap { .. } => Duration::from_secs(120),
            _ => Duration::from_secs(5),
        }
    }
}

impl Response {
    /// The request was carried out.
    #[must_use]
    pub fn done(result: Value) -> Self {
        Self {
            version: VERSION,
            ok: true,
            result: Some(result),
            error: None,
        }
    }

    /// The request was refused.
    #[must_use]
    pub fn refused(error: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            ok: false,
            result: None,
            error: Some(error.into()),
        }
    }
}

/// Reads a request line.
///
/// # Errors
/// What is wrong with it, in words for the client.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("the request is no JSON: {error}"))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!(
                "this had speaks version {VERSION} of the control protocol, not {version}: use the hactl of the same release"
            ));
        }
        None => return Err("the request lacks its version".to_owned()),
    }
    serde_json::from_value::<Envelope>(value)
        .map(|envelope| envelope.request)
        .map_err(|error| format!("the request is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire() {
        for request in [
            Request::Status,
            Request::Events { limit: Some(3) },
            Request::Explain {
                instance: "web".to_owned(),
            },
            Request::Switchover {
                target: "db".to_owned(),
                to: Some("192.168.33.102".to_owned()),
            },
            Request::Preview {
                target: "db".to_owned(),
                to: None,
            },
            Request::AcceptLoss {
                target: "db".to_owned(),
            },
            Request::Roles,
            Request::InitReplication {
                role: "mariadb".to_owned(),
            },
            Request::Bootstrap {
                role: "mariadb".to_owned(),
                dry_run: true,
                accept_loss: false,
            },
            Request::Mode {
                set: Some("maintenance".to_owned()),
            },
            Request::Reload,
            Request::Checks,
            Request::Mute {
                check: "mysql".to_owned(),
                for_ms: Some(60_000),
            },
            Request::Unmute {
                check: "mysql".to_owned(),
            },
            Request::Counters,
        ] {
            let line = serde_json::to_vec(&Envelope {
                version: VERSION,
                request: request.clone(),
            })
            .unwrap();
            assert_eq!(parse(&line), Ok(request));
        }
        assert_eq!(
            parse(br#"{"version":1,"request":"events"}"#),
            Ok(Request::Events { limit: None })
        );
    }

    #[test]
    fn bad_requests_are_explained() {
        insta::assert_snapshot!(
            [
                &b"status"[..],
                br#"{"request":"status"}"#,
                br#"{"version":2,"request":"status"}"#,
                br#"{"version":1,"request":"dance"}"#,
                br#"{"version":1,"request":"explain"}"#,
            ]
            .map(|line| parse(line).unwrap_err())
            .join("\n")
        );
    }
}

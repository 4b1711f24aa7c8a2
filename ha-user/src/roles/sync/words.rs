//! What two nodes say about files: JSON, as pieces of a stream.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::link::{Reader, Writer};

/// The first that a standby says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Which changes there are: it goes on with [`Have`].
    Changes {
        /// In which the other node is Active.
        epoch: u64,
    },
    /// A directory: after the answer rsync speaks.
    Files {
        /// In which the other node is Active.
        epoch: u64,
        /// Which directory.
        path: PathBuf,
    },
}

/// How far a standby is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Have {
    /// The last change that it has, of this stream; `None`: it does not know.
    pub(super) change: Option<u64>,
}

/// What the Active node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// There is this change.
    Change {
        /// They are numbered.
        number: u64,
    },
    /// rsync follows.
    Ready,
    /// Nothing is sent.
    Refused {
        /// In words.
        why: String,
    },
    /// What a later release says.
    #[serde(other)]
    Unknown,
}

/// Says something.
pub(super) async fn say(writer: &mut Writer, words: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_vec(words).map_err(|error| error.to_string())?;
    let said = writer.write(&text).await;
    said.map_err(|error| broken(&error))
}

/// Hears what is said next.
pub(super) async fn hear<T: DeserializeOwned>(reader: &mut Reader) -> Result<T, String> {
    let text = reader.read().await.map_err(|error| broken(&error))?;
    serde_json::from_slice(text)
        .map_err(|error| format!("what it says is not understood ({error}): run closer releases"))
}

/// In words for people.
pub(super) fn broken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof
        | std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::BrokenPipe => "it broke the stream off".to_owned(),
        _ => error.to_string(),
    }
}

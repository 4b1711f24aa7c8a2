//! The client's side of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::protocol::{Envelope, Request, Response, VERSION};

/// A daemon that does not answer within so much more than it may take is taken for hung.
const SPARE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Why a request got no answer. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach had at {}: {source}. {}", path.display(), advice(source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// It did not answer in time, or hung up.
    #[error(
        "had did not answer: {}. See its log; a daemon that is stopped or hangs answers nothing, and its gate closes by itself",
        in_time(.0)
    )]
    Silent(#[source] io::Error),
    /// Its answer cannot be read.
    #[error("had answered something else than expected: {0}. Use the hactl of the same release")]
    Garbled(#[source] serde_json::Error),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// A receive timeout is an odd error number.
fn in_time(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "nothing came in time".to_owned(),
        _ => error.to_string(),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "Be root or a member of the group had",
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "Is it running? Name its socket with --control if it is elsewhere"
        }
        _ => "See the daemon's log",
    }
}

/// Asks one question.
///
/// # Errors
/// See [`ClientError`].
pub fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T, ClientError> {
    let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
        path: path.to_owned(),
        source,
    })?;
    let line = exchange(&stream, request)?;
    let response: Response = serde_json::from_slice(&line).map_err(ClientError::Garbled)?;
    if !response.ok {
        return Err(ClientError::Refused(response.error.unwrap_or_default()));
    }
    serde_json::from_value(response.result.unwrap_or_default()).map_err(ClientError::Garbled)
}

fn exchange(stream: &UnixStream, request: Request) -> Result<Vec<u8>, ClientError> {
    let limit = request.limit() + SPARE;
    let envelope = Envelope {
        version: VERSION,
        request,
    };
    let mut line = serde_json::to_vec(&envelope).map_err(ClientError::Garbled)?;
    line.push(b'\n');
    let mut answer = Vec::new();
    let result = (|| {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        (&mut &*stream).write_all(&line)?;
        BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(())
    })();
    result.map_err(ClientError::Silent)?;
    Ok(answer)
}

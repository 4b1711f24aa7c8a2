//! What makes an answer right.

use std::{future::poll_fn, ops::RangeInclusive, pin::Pin};

use hyper::{
    Response, StatusCode, Version,
    body::{Body as _, Incoming},
    header::CONNECTION,
};

use super::LONGEST_BODY;
use crate::{checks::words, config::Http};

/// An answer that is right.
pub(super) struct Judged {
    pub(super) detail: String,
    /// What was not read of it.
    pub(super) rest: Incoming,
    /// Whether the server leaves the connection open.
    pub(super) stays: bool,
}

/// Judges status and, where it matters, body.
pub(super) async fn judge(
    response: Response<Incoming>,
    config: &Http,
    place: &str,
) -> Result<Judged, String> {
    let code = response.status();
    let status = shown(code);
    if !config
        .status
        .iter()
        .any(|range| range.contains(&code.as_u16()))
    {
        let wanted: Vec<String> = config.status.iter().map(shown_range).collect();
        return Err(format!(
            "{place} answered {status} instead of {}",
            wanted.join(", ")
        ));
    }
    let stays = response.version() == Version::HTTP_11
        && !response.headers().get_all(CONNECTION).iter().any(closes);
    let mut rest = response.into_body();
    if let Some(text) = &config.body {
        let text = words::clean(text);
        match contains(&mut rest, config.body.as_deref().unwrap_or_default()).await {
            Ok(Found::Yes) => {}
            Ok(Found::No) => {
                return Err(format!(
                    "{place} answered {status} without \"{text}\" in it"
                ));
            }
            Ok(Found::TooLong) => {
                return Err(format!(
                    "{place} answered {status} without \"{text}\" in its first {} KiB",
                    LONGEST_BODY / 1024
                ));
            }
            Err(error) => {
                return Err(format!(
                    "{place} answered {status}, and then: {}",
                    words::of_error(&error)
                ));
            }
        }
    }
    Ok(Judged {
        detail: format!("{place} answered {status}"),
        rest,
        stays,
    })
}

fn closes(value: &hyper::header::HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("close"))
    })
}

fn shown(code: StatusCode) -> String {
    match code.canonical_reason() {
        Some(reason) => format!("{} {reason}", code.as_u16()),
        None => code.as_u16().to_string(),
    }
}

fn shown_range(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

enum Found {
    Yes,
    No,
    TooLong,
}

/// Whether a text is in a body, also across the pieces in which it comes. What was searched is not kept.
async fn contains(body: &mut Incoming, text: &str) -> hyper::Result<Found> {
    let text = text.as_bytes();
    let mut piece: Vec<u8> = Vec::new();
    let mut read = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        piece.extend_from_slice(&data);
        if piece.windows(text.len().max(1)).any(|part| part == text) {
            return Ok(Found::Yes);
        }
        read += data.len();
        if read > LONGEST_BODY {
            return Ok(Found::TooLong);
        }
        let searched = piece.len().saturating_sub(text.len().saturating_sub(1));
        piece.drain(..searched);
    }
    Ok(Found::No)
}

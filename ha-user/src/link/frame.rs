//! Frames on a stream, and the letters within them.
//!
//! A frame is its length (two bytes, network order) and so many bytes, which are encrypted. A letter is its number (eight
//! bytes, network order) and a [`Message`] as JSON.

use std::{io, sync::Arc};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::message::Message;

/// Bytes of the longest frame: Noise's longest message (section 3 of its specification).
pub(super) const MAX_FRAME: usize = 65_535;
/// Bytes that encryption adds.
pub(super) const TAG: usize = 16;
/// Bytes of a frame's length.
pub(super) const HEAD: usize = 2;
/// Bytes of a letter's number.
const NUMBER: usize = 8;
/// Bytes of the longest letter.
const MAX_LETTER: usize = MAX_FRAME - TAG;

/// Reads one frame into `buffer`, which is [`MAX_FRAME`] bytes long; how many it has.
///
/// # Errors
/// As read(2); `InvalidData` where it is too short to be one.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes(head));
    let room = buffer.get_mut(..length).filter(|_| length >= TAG + NUMBER);
    let room = room.ok_or(io::ErrorKind::InvalidData)?;
    stream.read_exact(room).await?;
    Ok(length)
}

/// A letter, ready to be encrypted; `None` where it would be too long.
pub(super) fn letter(number: u64, message: &[u8]) -> Option<Arc<[u8]>> {
    let letter = [&number.to_be_bytes(), message].concat();
    (letter.len() <= MAX_LETTER).then(|| letter.into())
}

/// Reads a letter: its number, and what it says.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn open(letter: &[u8]) -> Result<(u64, Message), String> {
    let (number, message) = letter
        .split_first_chunk::<NUMBER>()
        .ok_or("it has no number")?;
    let message = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    Ok((u64::from_be_bytes(*number), message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::link::message::{Ask, NodeReport};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    /// The frames at the beginning of some bytes, found another way.
    fn expected(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let [high, low, rest @ ..] = bytes {
            let length = usize::from(*high) << 8 | usize::from(*low);
            let Some((frame, rest)) = rest.split_at_checked(length).filter(|_| length >= 24) else {
                break;
            };
            frames.push(frame.to_vec());
            bytes = rest;
        }
        frames
    }

    fn read_all(bytes: &[u8]) -> (Vec<Vec<u8>>, io::Error) {
        runtime().block_on(async {
            let mut stream = bytes;
            let mut buffer = vec![0; MAX_FRAME];
            let mut frames = Vec::new();
            loop {
                match read(&mut stream, &mut buffer).await {
                    Ok(length) => frames.push(buffer[..length].to_vec()),
                    Err(error) => return (frames, error),
                }
            }
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(read_all(&bytes).0, expected(&bytes));
        }

        #[test]
        fn frames_of_any_length_are_taken_one_by_one(lengths in proptest::collection::vec(0_u16..=u16::MAX, 1..5)) {
            let mut bytes = Vec::new();
            for length in &lengths {
                bytes.extend(length.to_be_bytes());
                bytes.extend(vec![7; usize::from(*length)]);
            }
            let (frames, error) = read_all(&bytes);
            let whole = lengths.iter().take_while(|length| **length >= 24).count();
            prop_assert_eq!(frames.len(), whole);
            let kind = if whole == lengths.len() { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
            prop_assert_eq!(error.kind(), kind);
        }

        #[test]
        fn any_bytes_are_a_letter_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // That it comes back at all is the point.
            let _ = open(&bytes);
        }

        #[test]
        fn any_json_is_a_letter_or_an_error(text in r#"\{("(kind|body|what|serial|group|epoch)":("(ask|group|report|answer)"|-?[0-9]{1,25}|\{|\}|\[|null|true),?){0,6}\}?"#) {
            let bytes = [&[0; NUMBER], text.as_bytes()].concat();
            let _ = open(&bytes);
        }
    }

    #[test]
    fn what_says_nothing_of_its_kind_or_nests_for_ever_is_refused() {
        for text in ["", "{}", "[]", "7", "{\"kind\":7}"] {
            assert!(
                open(&[&[0; NUMBER], text.as_bytes()].concat()).is_err(),
                "{text}"
            );
        }
        let deep = format!("{{\"kind\":\"group\",\"x\":{}", "[".repeat(60_000));
        assert!(open(&[&[0; NUMBER], deep.as_bytes()].concat()).is_err());
        assert!(open(&[0; 7]).is_err());
    }

    #[test]
    fn a_letter_is_read_as_it_was_written_unless_it_is_too_long() {
        let message = Message::Report(NodeReport::default());
        let bytes = letter(42, &serde_json::to_vec(&message).unwrap()).unwrap();
        assert_eq!(open(&bytes), Ok((42, message)));
        let long = Message::Ask(Ask {
            group: "x".repeat(70_000),
            ..Ask::default()
        });
        assert_eq!(letter(1, &serde_json::to_vec(&long).unwrap()), None);
    }
}

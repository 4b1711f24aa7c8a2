//! The handshake, and the encryption of what follows: Noise's NN pattern with a pre-shared key at its beginning. Who has
//! not the key gets nothing out of either end, and what passed on one connection is worth nothing on another.

use std::io;

use snow::{Builder, HandshakeState, StatelessTransportState};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};

use super::{
    VERSION,
    frame::{HEAD, MAX_FRAME},
};
use crate::config::LinkKey;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Where the pattern takes the key.
const PSK: u8 = 0;
/// Bytes of each of the two messages: an ephemeral public key, and the tag of an empty payload.
const MESSAGE: usize = 32 + 16;

/// Bytes of another version's handshake that are read to no purpose.
const REST: u64 = 1_024;

const MAGIC: [u8; 4] = *b"hadL";
const PREAMBLE: usize = MAGIC.len() + 2;

/// What each end says first, in the clear. It is the handshake's prologue, too: both must have said the same.
const fn preamble() -> [u8; PREAMBLE] {
    let [a, b, c, d] = MAGIC;
    let [high, low] = VERSION.to_be_bytes();
    [a, b, c, d, high, low]
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The stream ended or failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else is at the other end.
    #[error("what is there does not speak had's link protocol")]
    Stranger,
    /// Another version.
    #[error(
        "it speaks version {0} of the link protocol, and this had version {VERSION}: run releases that are closer to each other"
    )]
    Version(u16),
    /// Another key.
    #[error(
        "it has another key: put the same file at `[link] key_file` on both nodes, and reload had on the one where it changed"
    )]
    Key,
    /// Noise itself failed, as for want of random numbers.
    #[error("the handshake failed: {0}")]
    Noise(snow::Error),
}

/// The encryption of one connection, both ways. Each direction counts its own frames.
#[derive(Debug)]
pub(super) struct Cipher(StatelessTransportState);

impl Cipher {
    /// Encrypts the `number`th frame into `buffer`, with its length before it; how long it is with that.
    pub(super) fn seal(
        &self,
        number: u64,
        letter: &[u8],
        buffer: &mut [u8],
    ) -> Result<usize, String> {
        let (head, frame) = buffer
            .split_first_chunk_mut::<HEAD>()
            .ok_or("there is no room for a frame")?;
        let length = self.0.write_message(number, letter, frame);
        let length = length.map_err(|error| error.to_string())?;
        *head = u16::try_from(length)
            .map_err(|error| error.to_string())?
            .to_be_bytes();
        Ok(length + HEAD)
    }

    /// Decrypts the `number`th frame; how many bytes it had.
    pub(super) fn open(
        &self,
        number: u64,
        frame: &[u8],
        letter: &mut [u8],
    ) -> Result<usize, String> {
        let length = self.0.read_message(number, frame, letter);
        length.map_err(|_| "a frame that the other node did not send".to_owned())
    }
}

/// Room for any frame with its length.
pub(super) fn room() -> Vec<u8> {
    vec![0; HEAD + MAX_FRAME]
}

/// The part of who connects.
pub(super) async fn initiate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    key: &LinkKey,
) -> Result<Cipher, Refusal> {
    let preamble = preamble();
    let state = builder(key, &preamble)?.build_initiator();
    let mut state = state.map_err(Refusal::Noise)?;
    let mut first = [0; PREAMBLE + MESSAGE];
    let (head, message) = first.split_at_mut(PREAMBLE);
    head.copy_from_slice(&preamble);
    state.write_message(&[], message).map_err(Refusal::Noise)?;
    stream.write_all(&first).await?;
    read_preamble(stream).await?;
    let mut message = [0; MESSAGE];
    match stream.read_exact(&mut message).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Refusal::Key),
        read => read?,
    };
    finish(state, &message)
}

/// The part of who was connected to. Nothing is computed for who has not the key but a hash or two; and that the other end
/// is alive, and its first message no old one, only the first frame proves.
pub(super) async fn respond(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    key: &LinkKey,
) -> Result<Cipher, Refusal> {
    let read = read_preamble(stream).await;
    if matches!(read, Err(Refusal::Version(_))) {
        stream.write_all(&preamble()).await?;
        stream.shutdown().await?;
        // Closed with something unread, the connection would be reset, and the answer lost with it.
        copy(&mut (&mut *stream).take(REST), &mut sink()).await?;
    }
    read?;
    let mut message = [0; MESSAGE];
    stream.read_exact(&mut message).await?;
    let preamble = preamble();
    let state = builder(key, &preamble)?.build_responder();
    let mut state = state.map_err(Refusal::Noise)?;
    let is_known = state.read_message(&message, &mut []).is_ok();
    stream.write_all(&preamble).await?;
    if !is_known {
        return Err(Refusal::Key);
    }
    state
        .write_message(&[], &mut message)
        .map_err(Refusal::Noise)?;
    stream.write_all(&message).await?;
    let state = state.into_stateless_transport_mode();
    Ok(Cipher(state.map_err(Refusal::Noise)?))
}

fn builder<'a>(key: &'a LinkKey, prologue: &'a [u8]) -> Result<Builder<'a>, Refusal> {
    let parameters = PATTERN.parse().map_err(Refusal::Noise)?;
    Builder::new(parameters)
        .psk(PSK, key.reveal())
        .and_then(|builder| builder.prologue(prologue))
        .map_err(Refusal::Noise)
}

fn finish(mut state: HandshakeState, message: &[u8]) -> Result<Cipher, Refusal> {
    state
        .read_message(message, &mut [])
        .map_err(|_| Refusal::Key)?;
    let state = state.into_stateless_transport_mode();
    Ok(Cipher(state.map_err(Refusal::Noise)?))
}

async fn read_preamble(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Refusal> {
    let mut read = [0; PREAMBLE];
    stream.read_exact(&mut read).await?;
    let [magic @ .., high, low] = read;
    match u16::from_be_bytes([high, low]) {
        _ if magic != MAGIC => Err(Refusal::Stranger),
        VERSION => Ok(()),
        other => Err(Refusal::Version(other)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn key(byte: u8) -> LinkKey {
        LinkKey::new([byte; 32])
    }

    async fn pair(one: u8, other: u8) -> (Result<Cipher, Refusal>, Result<Cipher, Refusal>) {
        let (mut near, mut far) = duplex(1_024);
        let respond = async {
            let result = respond(&mut far, &key(other)).await;
            drop(far);
            result
        };
        let near_key = key(one);
        tokio::join!(initiate(&mut near, &near_key), respond)
    }

    #[tokio::test]
    async fn with_one_key_each_reads_what_the_other_wrote_once() {
        let (near, far) = pair(1, 1).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        let (mut frame, mut letter) = (room(), room());
        let length = near.seal(0, b"hello", &mut frame).unwrap();
        assert_eq!(frame[..HEAD], [0, 5 + 16]);
        let frame = &frame[HEAD..length];
        assert!(!frame.windows(5).any(|part| part == b"hello"));
        assert_eq!(far.open(0, frame, &mut letter), Ok(5));
        assert_eq!(letter[..5], *b"hello");
        assert!(far.open(1, frame, &mut letter).is_err(), "replayed");
        assert!(near.open(0, frame, &mut letter).is_err(), "reflected");
        let mut forged = frame.to_vec();
        forged[3] ^= 1;
        assert!(far.open(0, &forged, &mut letter).is_err());
        let (_, other) = pair(1, 1).await;
        assert!(other.unwrap().open(0, frame, &mut letter).is_err());
    }

    #[tokio::test]
    async fn another_key_is_told_at_both_ends() {
        let (near, far) = pair(1, 2).await;
        assert!(matches!(near, Err(Refusal::Key)));
        assert!(matches!(far, Err(Refusal::Key)));
    }

    /// What `bytes` are answered with, and what comes of it.
    async fn answer_to(bytes: &[u8]) -> (Vec<u8>, Result<Cipher, Refusal>) {
        let (mut near, mut far) = duplex(1_024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let result = respond(&mut far, &key(1)).await;
        drop(far);
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        (answer, result)
    }

    #[tokio::test]
    async fn another_version_is_named_and_a_stranger_gets_no_answer() {
        let (answer, result) = answer_to(b"hadL\x01\x02").await;
        assert_eq!(answer, preamble());
        let error = result.expect_err("another version").to_string();
        assert!(error.contains("version 258 of the link"), "{error}");
        let (answer, result) = answer_to(b"GET / HTTP/1.1\r\n").await;
        assert!(answer.is_empty() && matches!(result, Err(Refusal::Stranger)));
        let (answer, result) = answer_to(b"hadL").await;
        assert!(answer.is_empty() && matches!(result, Err(Refusal::Io(_))));
        let rubbish = [&preamble()[..], &[7; MESSAGE]].concat();
        let (answer, result) = answer_to(&rubbish).await;
        assert_eq!(answer, preamble());
        assert!(matches!(result, Err(Refusal::Key)));
    }

    #[tokio::test]
    async fn the_one_who_connects_says_what_is_there() {
        for (bytes, said) in [
            (&b"220 smtp.example.com\r\n"[..], "does not speak"),
            (b"hadL\0\x09", "version 9"),
            (&preamble(), "another key"),
            (&[&preamble()[..], &[9; MESSAGE]].concat(), "another key"),
            (b"", "eof"),
        ] {
            let (mut near, mut far) = duplex(1_024);
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let error = initiate(&mut near, &key(1)).await.expect_err("refused");
            let error = error.to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}

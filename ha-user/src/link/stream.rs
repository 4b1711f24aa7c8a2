//! Streams of bytes between roles of two nodes, each a connection of its own: what would be too much for the messages.

use std::{io, sync::Arc};

use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    frame,
    noise::{self, Cipher},
};

/// Bytes that are sent at one go at most.
pub(crate) const PIECE: usize = 32 * 1_024;
/// Bytes of a letter's number.
const NUMBER: usize = 8;

/// A stream that somebody asks for.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who asks.
    pub(crate) node: String,
    pub(crate) stream: Stream,
}

/// A stream, both ways: encrypted, and between two who have the key. It ends when both halves are dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// What the other end sends.
#[derive(Debug)]
pub(crate) struct Reader {
    half: OwnedReadHalf,
    cipher: Arc<Cipher>,
    received: u64,
    frame: Vec<u8>,
    letter: Vec<u8>,
}

/// What the other end is sent.
#[derive(Debug)]
pub(crate) struct Writer {
    half: OwnedWriteHalf,
    cipher: Arc<Cipher>,
    sent: u64,
    frame: Vec<u8>,
}

impl Stream {
    /// What goes on as a stream after so many frames either way.
    pub(super) fn of(stream: TcpStream, cipher: Cipher, sent: u64, received: u64) -> Self {
        let cipher = Arc::new(cipher);
        let (reader, writer) = stream.into_split();
        Self {
            reader: Reader {
                half: reader,
                cipher: Arc::clone(&cipher),
                received,
                frame: noise::room(),
                letter: noise::room(),
            },
            writer: Writer {
                half: writer,
                cipher,
                sent,
                frame: noise::room(),
            },
        }
    }
}

impl Stream {
    /// From now on much is sent: who is there and takes nothing, since it waits for its disk, is waited for.
    pub(crate) fn allow_for_disks(&self) {
        let socket = self.writer.half.as_ref();
        // It would only end sooner.
        let _ = SockRef::from(socket).set_tcp_user_timeout(None);
    }
}

impl Reader {
    /// The next piece, which is empty at the end that the other node has sent. What is dropped before it is ready may have
    /// read a part: nothing can be read after it.
    ///
    /// # Errors
    /// As read(2); `UnexpectedEof` where the connection ended without an end; `InvalidData` where somebody meddled with it.
    pub(crate) async fn read(&mut self) -> io::Result<&[u8]> {
        let length = frame::read(&mut self.half, &mut self.frame).await?;
        let frame = self.frame.get(..length).unwrap_or_default();
        let opened = self.cipher.open(self.received, frame, &mut self.letter);
        let length = opened.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        self.received += 1;
        let piece = self.letter.get(NUMBER..length);
        piece.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Writer {
    /// Sends a piece of at most [`PIECE`] bytes; an empty one is the end.
    ///
    /// # Errors
    /// As write(2); `InvalidInput` where it is too long.
    pub(crate) async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let letter = frame::letter(0, piece).ok_or(io::ErrorKind::InvalidInput)?;
        let sealed = self.cipher.seal(self.sent, &letter, &mut self.frame);
        let length = sealed.map_err(io::Error::other)?;
        self.sent += 1;
        let frame = self.frame.get(..length).unwrap_or_default();
        self.half.write_all(frame).await
    }
}

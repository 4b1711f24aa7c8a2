//! One connection, from its first frame to its end.

use std::{io, sync::Arc, time::Duration};

use ha_common::Nanos;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

use super::{
    frame,
    hub::Hub,
    message::{Hello, Message, StreamAsk},
    noise::{self, Cipher, Refusal},
    pace::Pace,
    queue::Queue,
    stream::Stream,
};
use crate::{
    config::{LinkKey, LinkPath},
    sys::clock,
};

/// How long both ends may take to know each other.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);
/// How long the other node may say nothing that has not said yet how often it speaks, and the least that it is given.
const SILENCE: (Nanos, Nanos) = (Nanos::from_secs(3), Nanos::from_secs(1));
/// The most that it is given.
const LONGEST_SILENCE: Nanos = Nanos::from_secs(10);
const NAMELESS: &str = "it did not say who it is";
/// Reports that may be missing in a row.
const MISSING: u64 = 3;
/// How long the kernel may take nothing more.
const WRITE_LIMIT: Duration = Duration::from_secs(3);
/// What the other node may send on the long run: a KiB, or a frame of less, each millisecond; and for a second at once.
const KIB_EACH: Nanos = Nanos::from_millis(1);
const KIB_BURST: Nanos = Nanos::from_secs(1);

/// A connection whose other end has proved that it has the key, and that it is there now.
pub(super) struct Session {
    stream: TcpStream,
    cipher: Cipher,
    /// Who it is.
    pub(super) hello: Hello,
    /// Frames sent so far, and received.
    sent: u64,
    received: u64,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) why: String,
    /// Whether one end refused the other, which somebody should see to; else it broke off.
    pub(super) is_refusal: bool,
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        let (why, is_refusal) = match refusal {
            Refusal::Io(error) => (ended(&error), false),
            refusal => (refusal.to_string(), true),
        };
        Self { why, is_refusal }
    }
}

/// It broke off.
impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self {
            why,
            is_refusal: false,
        }
    }
}

/// What somebody wants who connected.
pub(super) enum Arrival {
    /// To exchange messages.
    Session(Session),
    /// A stream of bytes.
    Stream(Stream, StreamAsk),
}

impl Session {
    /// Handshake and hello of who connected, within their limit.
    pub(super) async fn begin(
        stream: TcpStream,
        key: &LinkKey,
        own: &Hello,
    ) -> Result<Self, Unfit> {
        within_limit(async {
            let mut stream = stream;
            let cipher = noise::initiate(&mut stream, key).await?;
            let mut session = Self::new(stream, cipher);
            session.say_hello(own).await?;
            match session.hear().await? {
                Message::Hello(hello) => session.meet(hello, own)?,
                _ => return Err(NAMELESS.to_owned().into()),
            }
            Ok(session)
        })
        .await
    }

    /// Handshake of who was connected to, and what the other node wants, within their limit.
    pub(super) async fn welcome(
        stream: TcpStream,
        key: &LinkKey,
        own: &Hello,
    ) -> Result<Arrival, Unfit> {
        within_limit(async {
            let mut stream = stream;
            let cipher = noise::respond(&mut stream, key).await?;
            let mut session = Self::new(stream, cipher);
            let hello = match session.hear().await? {
                Message::Hello(hello) => hello,
                Message::Stream(ask) if is_name(&ask.node) && ask.node != own.node => {
                    return Ok(Arrival::Stream(session.into_stream(), ask));
                }
                _ => return Err(NAMELESS.to_owned().into()),
            };
            // Before anything is refused: the other end is to know why, too.
            session.say_hello(own).await?;
            session.meet(hello, own)?;
            Ok(Arrival::Session(session))
        })
        .await
    }

    /// Handshake of who connected and asks for a stream, within its limit.
    pub(super) async fn ask(
        stream: TcpStream,
        key: &LinkKey,
        ask: StreamAsk,
    ) -> Result<Stream, Unfit> {
        within_limit(async {
            let mut stream = stream;
            let cipher = noise::initiate(&mut stream, key).await?;
            let mut session = Self::new(stream, cipher);
            session.say(&Message::Stream(ask)).await?;
            Ok(session.into_stream())
        })
        .await
    }

    fn new(stream: TcpStream, cipher: Cipher) -> Self {
        Self {
            stream,
            cipher,
            hello: Hello::default(),
            sent: 0,
            received: 0,
        }
    }

    fn into_stream(self) -> Stream {
        Stream::of(self.stream, self.cipher, self.sent, self.received)
    }

    fn meet(&mut self, hello: Hello, own: &Hello) -> Result<(), Unfit> {
        if !is_name(&hello.node) {
            return Err(NAMELESS.to_owned().into());
        }
        if hello.node == own.node {
            return Err(Unfit {
                why: format!(
                    "it says that it is {}, which is this node's name: give each node its own node.name",
                    hello.node
                ),
                is_refusal: true,
            });
        }
        self.hello = hello;
        Ok(())
    }

    async fn say_hello(&mut self, own: &Hello) -> Result<(), String> {
        self.say(&Message::Hello(own.clone())).await
    }

    async fn say(&mut self, message: &Message) -> Result<(), String> {
        let message = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let letter = frame::letter(0, &message).ok_or("this node's name is too long")?;
        let mut buffer = noise::room();
        let length = self.cipher.seal(self.sent, &letter, &mut buffer)?;
        self.sent += 1;
        let frame = buffer.get(..length).unwrap_or_default();
        let written = self.stream.write_all(frame).await;
        written.map_err(|error| ended(&error))
    }

    async fn hear(&mut self) -> Result<Message, String> {
        let mut buffers = (noise::room(), noise::room());
        let read = frame::read(&mut self.stream, &mut buffers.0).await;
        let (_, message) = unseal(&self.cipher, self.received, read, &mut buffers)?;
        self.received += 1;
        Ok(message)
    }

    /// Carries messages both ways until the connection ends; why it did.
    pub(super) async fn run(self, hub: &Hub, path: &LinkPath, queue: &Arc<Queue>) -> String {
        let Self {
            stream,
            cipher,
            hello,
            sent,
            received,
        } = self;
        let (reader, writer) = stream.into_split();
        let inwards = Inwards {
            hub,
            path,
            from: &hello,
            received,
        };
        tokio::select! {
            why = inwards.run(&cipher, reader) => why,
            why = outwards(&cipher, writer, queue, sent) => why,
        }
    }
}

async fn within_limit<T>(begin: impl Future<Output = Result<T, Unfit>>) -> Result<T, Unfit> {
    let limit = HANDSHAKE_LIMIT.as_secs();
    let begun = timeout(HANDSHAKE_LIMIT, begin).await;
    begun.unwrap_or_else(|_| Err(format!("it did not answer within {limit} s").into()))
}

/// A name that a node can have.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

async fn outwards(
    cipher: &Cipher,
    mut writer: OwnedWriteHalf,
    queue: &Queue,
    mut sent: u64,
) -> String {
    let mut buffer = noise::room();
    loop {
        let letter = match queue.next().await {
            Ok(letter) => letter,
            Err(why) => return why,
        };
        let length = match cipher.seal(sent, &letter, &mut buffer) {
            Ok(length) => length,
            Err(why) => return why,
        };
        sent += 1;
        let frame = buffer.get(..length).unwrap_or_default();
        match timeout(WRITE_LIMIT, writer.write_all(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return ended(&error),
            Err(_) => return "it takes nothing more".to_owned(),
        }
    }
}

struct Inwards<'a> {
    hub: &'a Hub,
    path: &'a LinkPath,
    from: &'a Hello,
    received: u64,
}

impl Inwards<'_> {
    async fn run(mut self, cipher: &Cipher, mut reader: OwnedReadHalf) -> String {
        let mut buffers = (noise::room(), noise::room());
        let mut pace = Pace::new(KIB_EACH, KIB_BURST);
        let mut silence = SILENCE.0;
        loop {
            let read = frame::read(&mut reader, &mut buffers.0);
            let Ok(read) = timeout(Duration::from_nanos(silence.0), read).await else {
                return format!("it has said nothing for {silence}");
            };
            let now = clock::now();
            let length = read.as_ref().copied().unwrap_or(0);
            let (number, message) = match unseal(cipher, self.received, read, &mut buffers) {
                Ok(letter) => letter,
                Err(why) => return why,
            };
            self.received += 1;
            if let Message::Report(report) = &message {
                silence = patience(report.every_ms);
            }
            self.hub.receive(self.path, self.from, number, message, now);
            let kib = u64::try_from(length / 1_024).unwrap_or(u64::MAX) + 1;
            let wait = pace.take(kib, now);
            if wait > Nanos::ZERO {
                sleep(Duration::from_nanos(wait.0)).await;
            }
        }
    }
}

/// How long a node may be silent that reports so often.
fn patience(every_ms: u64) -> Nanos {
    match every_ms {
        0 => SILENCE.0,
        every_ms => Nanos::from_millis(every_ms)
            .times(MISSING)
            .max(SILENCE.1)
            .min(LONGEST_SILENCE),
    }
}

/// Decrypts the frame in the first buffer into the second one, and reads the letter.
fn unseal(
    cipher: &Cipher,
    number: u64,
    read: io::Result<usize>,
    (frame, letter): &mut (Vec<u8>, Vec<u8>),
) -> Result<(u64, Message), String> {
    let length = read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => "what came is no frame".to_owned(),
        _ => ended(&error),
    })?;
    let frame = frame.get(..length).unwrap_or_default();
    let length = cipher.open(number, frame, letter)?;
    let letter = letter.get(..length).unwrap_or_default();
    frame::open(letter).map_err(|why| format!("what it says is not understood: {why}"))
}

/// Why a connection ended, in words.
pub(super) fn ended(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "it closed the connection".to_owned(),
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: had does not run, or has no [link], or another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "its interface does not have this node's address at present".to_owned()
        }
        io::ErrorKind::TimedOut => "it does not answer any more".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_borne_for_three_reports_within_bounds() {
        assert_eq!(patience(0), Nanos::from_secs(3));
        assert_eq!(patience(100), Nanos::from_secs(1));
        assert_eq!(patience(1_000), Nanos::from_secs(3));
        assert_eq!(patience(u64::MAX), LONGEST_SILENCE);
    }

    #[test]
    fn names() {
        assert!(is_name("node-1.example") && !is_name("") && !is_name(&"x".repeat(256)));
        assert!(!is_name("a\nb") && !is_name("a b") && !is_name("\u{1b}[2J"));
    }
}

//! `kind = "ping"`: asks hosts whether they are there. All at once, and each again where an answer is missing: a
//! single lost packet is no failure.

mod echo;

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    task::{Context, Poll},
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use self::echo::Token;
use super::{
    probe::{Pending, Probe},
    words,
};
use crate::{
    config::Ping,
    sys::{clock, readiness},
};

/// Requests to each target that does not answer.
const REQUESTS: u16 = 3;
/// Between two of them, and the end of all, in hundredths of the check's timeout: the end comes before that, so that
/// the sentence names who is missing.
const SPACING: u64 = 30;
const END: u64 = 90;

/// Packets that are looked at when a socket has some.
const MOST_PACKETS: usize = 64;
/// Bytes of a packet that are read.
const LONGEST: usize = 256;
/// Targets that a sentence names.
const MOST_NAMED: usize = 3;

/// See [`Ping`].
pub(super) struct PingProbe {
    config: Ping,
}

/// One host, during a probe.
struct Target {
    address: IpAddr,
    socket: Result<AsyncFd<OwnedFd>, String>,
    /// The last thing that went wrong.
    error: Option<String>,
    answered: bool,
}

impl PingProbe {
    pub(super) fn new(config: &Ping) -> Self {
        Self {
            config: config.clone(),
        }
    }

    async fn ask(&self) -> Result<String, String> {
        let token = Token {
            id: fastrand::u16(..),
            secret: fastrand::u64(..).to_ne_bytes(),
        };
        let mut targets: Vec<Target> = self
            .config
            .targets
            .iter()
            .map(|address| Target::new(*address, &self.config))
            .collect();
        let began = clock::now();
        let part = |hundredths: u64| began.after(Nanos(self.config.timeout.0 / 100 * hundredths));
        for sent in 1..=REQUESTS {
            for target in targets.iter_mut().filter(|target| !target.answered) {
                target.send(token, sent - 1);
            }
            let until = match sent {
                REQUESTS => part(END),
                _ => part(SPACING * u64::from(sent)),
            };
            if self.listen(&mut targets, token, sent, until).await {
                return Ok(self.shown(&targets));
            }
        }
        Err(self.shown(&targets))
    }

    /// Takes answers until enough have come (`true`), or until a time.
    async fn listen(&self, targets: &mut [Target], token: Token, sent: u16, until: MonoNs) -> bool {
        let enough = poll_fn(|context| {
            for target in targets.iter_mut() {
                target.poll(context, token, sent);
            }
            if self.has_enough(targets) {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        let left = Duration::from_nanos(until.since(clock::now()).0);
        tokio::select! {
            biased;
            () = enough => true,
            () = sleep(left) => false,
        }
    }

    fn has_enough(&self, targets: &[Target]) -> bool {
        let answered = targets.iter().filter(|target| target.answered).count();
        u32::try_from(answered).is_ok_and(|answered| answered >= self.config.need)
    }

    fn shown(&self, targets: &[Target]) -> String {
        let all = targets.len();
        let (there, missing): (Vec<&Target>, Vec<&Target>) =
            targets.iter().partition(|target| target.answered);
        if self.has_enough(targets) {
            return match there.as_slice() {
                [one] => format!("{} answers", one.address),
                _ => format!("{} of {all} answer", there.len()),
            };
        }
        let mut names: Vec<String> = missing
            .iter()
            .take(MOST_NAMED)
            .map(|one| one.shown())
            .collect();
        if missing.len() > MOST_NAMED {
            names.push("…".to_owned());
        }
        let names = names.join(", ");
        if all == 1 {
            return names;
        }
        format!(
            "{} of {all} answered, fewer than {}: {names}",
            there.len(),
            self.config.need
        )
    }
}

impl Probe for PingProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.ask())
    }
}

impl Target {
    fn new(address: IpAddr, config: &Ping) -> Self {
        let socket = open(address, config).map_err(|error| words::of_io(&error));
        Self {
            address,
            error: socket.as_ref().err().cloned(),
            socket,
            answered: false,
        }
    }

    fn send(&mut self, token: Token, sequence: u16) {
        let Ok(socket) = &self.socket else {
            return;
        };
        let request = token.request(self.address.is_ipv4(), sequence);
        self.error = send(socket.get_ref(), &request, SendFlags::empty())
            .err()
            .map(|error| words::of_io(&error.into()));
    }

    /// Takes what has come, and has the task woken by what comes.
    fn poll(&mut self, context: &mut Context<'_>, token: Token, sent: u16) {
        let Ok(socket) = &self.socket else {
            return;
        };
        let mut packet = [0; LONGEST];
        for _ in 0..MOST_PACKETS {
            if self.answered {
                return;
            }
            let Poll::Ready(Ok(mut ready)) = socket.poll_read_ready(context) else {
                return;
            };
            match recv(socket.get_ref(), &mut packet, RecvFlags::empty()) {
                Ok((length, _)) => {
                    let packet = &packet[..length];
                    self.answered = token.is_answered_by(self.address.is_ipv4(), packet, sent);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => self.error = Some(words::of_io(&error.into())),
            }
        }
        // There is more: the task comes back to it when others had their turn.
        context.waker().wake_by_ref();
    }

    fn shown(&self) -> String {
        match &self.error {
            Some(error) => format!("{}: {error}", self.address),
            None => format!("{} does not answer", self.address),
        }
    }
}

/// A raw socket that hears this host alone.
fn open(address: IpAddr, config: &Ping) -> io::Result<AsyncFd<OwnedFd>> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &config.interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENODEV) => {
                    io::Error::other(format!("there is no interface {interface}"))
                }
                _ => error,
            })?;
    }
    if let Some(source) = config.source {
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => {
                    io::Error::other(format!("this node does not have {source}"))
                }
                _ => error,
            })?;
    }
    socket.connect(&SocketAddr::new(address, 0).into())?;
    readiness::of(socket.into(), Interest::READABLE)
}

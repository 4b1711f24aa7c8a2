//! Where other nodes connect to: one listening socket for each address to which paths lead.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ha_common::Nanos;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    hub::Hub,
    pace::Pace,
    session::{Arrival, Session, ended},
    socket::{Place, is_still_there},
};
use crate::{
    config::{Link as LinkConfig, LinkPath},
    sys::clock,
};

/// How often the socket is looked at, and until it is opened again where that failed.
const LOOK: Duration = Duration::from_secs(1);
const OPEN_AGAIN: Duration = Duration::from_millis(250);
/// Handshakes that one peer may have under way; the oldest gives way.
const HANDSHAKES: usize = 4;
/// Connections that are accepted: one each so often, and a burst at once. More wait in the kernel, up to its backlog.
const ACCEPT_EACH: Nanos = Nanos::from_millis(10);
const ACCEPT_BURST: Nanos = Nanos::from_millis(200);

/// A peer that may come in, the path that it comes by, and the task of that.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) path: LinkPath,
    pub(super) to_path: mpsc::Sender<Session>,
}

/// A listening socket, and what its task needs.
pub(super) struct Door {
    pub(super) hub: Arc<Hub>,
    pub(super) config: LinkConfig,
    pub(super) vips: Arc<BTreeSet<IpAddr>>,
    /// They have the interface, this node's address and the family in common.
    pub(super) guests: Vec<Guest>,
    /// Whether all of them may ask for streams, also those to which this node connects.
    pub(super) streams: bool,
}

impl Door {
    /// Lets other nodes in, for ever.
    pub(super) async fn keep(self) {
        loop {
            if let Some((place, listener)) = self.open().await {
                self.serve(&place, &listener).await;
            }
            sleep(OPEN_AGAIN).await;
        }
    }

    async fn open(&self) -> Option<(Place, TcpListener)> {
        let first = self.guests.first()?;
        let place = match Place::find(&first.path, &self.vips).await {
            Ok(place) => place,
            Err(why) => {
                self.say(&why);
                return None;
            }
        };
        let peers: Vec<IpAddr> = self
            .guests
            .iter()
            .map(|guest| guest.path.peer)
            .filter(|peer| self.streams || connects(*peer, &place))
            .collect();
        if peers.is_empty() {
            sleep(LOOK).await;
            return None;
        }
        match place.listen(self.config.port, &peers) {
            Ok(listener) => {
                for guest in &self.guests {
                    if connects(guest.path.peer, &place) {
                        self.hub.miss(&guest.path, "it has not connected yet");
                    }
                }
                Some((place, listener))
            }
            Err(error) => {
                self.say(&why_not_open(&place, self.config.port, &error));
                None
            }
        }
    }

    fn say(&self, why: &str) {
        for guest in &self.guests {
            self.hub.miss(&guest.path, why);
        }
    }

    /// Until the interface is no longer the one that it was.
    async fn serve(&self, place: &Place, listener: &TcpListener) {
        let mut handshakes = Handshakes::default();
        let mut pace = Pace::new(ACCEPT_EACH, ACCEPT_BURST);
        loop {
            match timeout(LOOK, listener.accept()).await {
                Ok(Ok((stream, from))) => {
                    let wait = pace.take(1, clock::now());
                    let from = from.ip();
                    let mut guests = self.guests.iter();
                    if let Some(guest) = guests.find(|guest| guest.path.peer == from) {
                        handshakes.begin(from, self.welcome(stream, guest, place));
                    }
                    if wait > Nanos::ZERO {
                        sleep(Duration::from_nanos(wait.0)).await;
                    }
                }
                // A connection that broke before it was taken, or no descriptor: the next one may do better.
                Ok(Err(_)) => sleep(OPEN_AGAIN).await,
                Err(_) if is_still_there(listener, place) => {}
                Err(_) => return,
            }
        }
    }

    fn welcome(
        &self,
        stream: TcpStream,
        guest: &Guest,
        place: &Place,
    ) -> impl Future<Output = ()> + Send + 'static {
        let hub = Arc::clone(&self.hub);
        let key = self.config.key.clone();
        let Guest { path, to_path } = guest.clone();
        let connects = connects(path.peer, place);
        async move {
            match Session::welcome(stream, &key, &hub.hello).await {
                // Where one waits already, the other node has got no answer on it: it connects again.
                Ok(Arrival::Session(session)) if connects => drop(to_path.try_send(session)),
                Ok(Arrival::Session(_)) => hub.count_refused(&path),
                Ok(Arrival::Stream(stream, ask)) => hub.bring(stream, ask),
                Err(unfit) if unfit.is_refusal => hub.trouble(&path, &unfit.why),
                Err(_) => hub.count_refused(&path),
            }
        }
    }
}

/// Whether a peer connects to this node to exchange messages: those with a higher address are connected to.
fn connects(peer: IpAddr, place: &Place) -> bool {
    peer < place.local
}

/// Handshakes under way. They end with this.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    order: VecDeque<(IpAddr, AbortHandle)>,
}

impl Handshakes {
    fn begin(&mut self, from: IpAddr, handshake: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.order.retain(|(_, task)| !task.is_finished());
        let of_it = self.order.iter().filter(|(peer, _)| *peer == from);
        if of_it.count() >= HANDSHAKES
            && let Some(oldest) = self.order.iter().position(|(peer, _)| *peer == from)
            && let Some((_, task)) = self.order.remove(oldest)
        {
            task.abort();
        }
        let task = self.tasks.spawn(handshake);
        self.order.push_back((from, task));
    }
}

fn why_not_open(place: &Place, port: u16, error: &io::Error) -> String {
    let address = place.local;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens on TCP port {port} of {address}: write another `[link] port` on all nodes"
        ),
        _ => format!(
            "nobody can connect to TCP port {port} of {address}: {}",
            ended(error)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn of_too_many_handshakes_the_oldest_of_the_same_peer_gives_way() {
        let mut handshakes = Handshakes::default();
        let [one, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        handshakes.begin(other, pending());
        for _ in 0..100 {
            handshakes.begin(one, pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(handshakes.order.len(), HANDSHAKES + 1);
        assert_eq!(handshakes.order[0].0, other, "it is not to blame");
        assert!(handshakes.tasks.len() <= HANDSHAKES + 2);
    }
}

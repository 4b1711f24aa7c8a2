//! The task of one path: has a connection on it, whenever that is possible.
//!
//! Of two nodes the one with the lower address connects, so that there is one connection and nobody has to choose.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    hub::Hub,
    message::Hello,
    queue::Queue,
    session::{Session, ended},
    socket::Place,
};
use crate::config::{Link as LinkConfig, LinkPath};

/// How long a connection may take to be there.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// Until the next try: twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A path, and what its task needs.
pub(super) struct Path {
    pub(super) hub: Arc<Hub>,
    pub(super) config: LinkConfig,
    pub(super) path: LinkPath,
    /// Addresses that are not this node's own.
    pub(super) vips: Arc<BTreeSet<IpAddr>>,
    /// Connections that the other node made.
    pub(super) incoming: mpsc::Receiver<Session>,
}

impl Path {
    /// Has a connection, for ever.
    pub(super) async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(session) = self.begin(pause).await {
                self.carry(session).await;
                pause = FIRST_PAUSE;
            } else {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Tries to get a connection, and takes at least as long as `pause` where it gets none.
    async fn begin(&mut self, pause: Duration) -> Option<Session> {
        match Place::find(&self.path, &self.vips).await {
            Ok(place) if place.local < self.path.peer => {
                sleep(pause).await;
                self.connect(&place).await
            }
            Ok(_) => timeout(LONGEST_PAUSE, self.incoming.recv()).await.ok()?,
            Err(why) => {
                self.hub.miss(&self.path, &why);
                sleep(pause).await;
                None
            }
        }
    }

    async fn connect(&self, place: &Place) -> Option<Session> {
        let LinkConfig { key, port } = &self.config;
        let stream = match timeout(CONNECT_LIMIT, place.connect(self.path.peer, *port)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.hub.miss(&self.path, &ended(&error));
                return None;
            }
            Err(_) => {
                self.hub.miss(&self.path, "it does not answer");
                return None;
            }
        };
        match Session::begin(stream, key, &self.hub.hello).await {
            Ok(session) => Some(session),
            Err(unfit) if unfit.is_refusal => {
                self.hub.trouble(&self.path, &unfit.why);
                None
            }
            Err(unfit) => {
                self.hub.miss(&self.path, &unfit.why);
                None
            }
        }
    }

    /// Uses a connection as long as it lasts, or until the other node makes another one.
    async fn carry(&mut self, session: Session) {
        let mut next = Some(session);
        while let Some(session) = next.take() {
            let mut connected = Connected::new(&self.hub, &self.path, &session.hello);
            tokio::select! {
                why = session.run(&self.hub, &self.path, &connected.queue) => connected.ends(&why),
                Some(newer) = self.incoming.recv() => {
                    connected.ends("the other node has made another connection");
                    next = Some(newer);
                }
            }
        }
    }
}

/// There is a connection as long as there is this: a task may end at any time.
struct Connected<'a> {
    hub: &'a Hub,
    path: &'a LinkPath,
    hello: Hello,
    queue: Arc<Queue>,
    why: String,
}

impl<'a> Connected<'a> {
    fn new(hub: &'a Hub, path: &'a LinkPath, hello: &Hello) -> Self {
        Self {
            hub,
            path,
            hello: hello.clone(),
            queue: hub.connect(path, hello),
            why: "this node's configuration of it changed".to_owned(),
        }
    }

    fn ends(&mut self, why: &str) {
        why.clone_into(&mut self.why);
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.hub
            .disconnect(self.path, &self.queue, &self.hello, &self.why);
    }
}

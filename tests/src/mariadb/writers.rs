//! Clients that write all the time, and know what became of each write.
//!
//! They are as simple as clients can be: a connection each, no pool, nothing tried twice. While nobody has got an
//! acknowledgement for a while, *scouts* set out as well, each with a new connection and one write: so the first
//! instant at which a write is possible again is not missed by clients that wait for a server that has no power.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use ha_common::{MonoNs, Nanos};
use mysql_async::{Conn, Opts, prelude::Queryable as _};
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use super::{
    DATABASE, Server, WRITER, bank,
    ledger::{Ledger, Outcome, Write},
    session::{Failure, Place, opts, within},
};
use crate::{NetNs, clock::span, eventually, now};

/// How long a connection may take; a lost SYN is sent again only after a second.
const CONNECT_LIMIT: Duration = Duration::from_millis(250);

/// How long a client waits for an answer before it gives its connection up.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// After a failure, before the next try.
const PAUSE: Duration = Duration::from_millis(2);

/// Without any acknowledgement for so long, scouts set out.
const SILENCE: Nanos = Nanos::from_millis(25);

/// Between two scouts.
const SCOUT_PERIOD: Duration = Duration::from_millis(5);

/// Scouts that are on their way at a time.
const SCOUTS: usize = 80;

/// The clients' number that scouts have in common.
pub const SCOUT: u32 = u32::MAX;

/// What the clients are like.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients that insert rows.
    pub clients: u32,
    /// Writes a second of all of them together; 0: as many as possible.
    pub rate: u32,
    /// Clients that move money between accounts.
    pub tellers: u32,
}

/// Writing clients; they end when it is dropped.
pub struct Writers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

pub(super) struct Shared {
    pub(super) opts: Opts,
    stop: AtomicBool,
    paused: AtomicBool,
    /// Writes and transfers under way.
    busy: AtomicU32,
    next: AtomicU64,
    /// When a write was last acknowledged, in nanoseconds.
    last: AtomicU64,
    log: Mutex<Vec<Write>>,
    pub(super) transfers: AtomicU32,
}

/// Makes the tables that the clients write to; they must be writable at `server`.
pub fn prepare(server: &Server) -> Result<()> {
    let mut session = server.session_of(WRITER)?;
    // Nothing in it keeps a write from being there twice, as a unique key would: that is for the checker to see.
    session.ask(&format!(
        "CREATE TABLE {DATABASE}.writes (id BIGINT UNSIGNED NOT NULL, client INT UNSIGNED NOT NULL, server INT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL, KEY (id)) \
         ENGINE = InnoDB"
    ))?;
    bank::prepare(&mut session)?;
    Ok(())
}

impl Writers {
    /// Starts clients inside a namespace that write to the server at `address`, whichever that is; `like` has the
    /// account.
    pub fn start(
        namespace: &NetNs,
        address: SocketAddr,
        like: &Server,
        load: Load,
    ) -> Result<Self> {
        let password = like.password(WRITER)?;
        let shared = Arc::new(Shared {
            opts: opts(&Place::Address(address), WRITER.user, Some(&password)),
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            next: AtomicU64::new(1),
            last: AtomicU64::new(now().0),
            log: Mutex::default(),
            transfers: AtomicU32::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let (told, outcome) = std::sync::mpsc::channel();
        let thread = namespace.spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let begun = runtime.as_ref().map(|_| ()).map_err(ToString::to_string);
            // Whoever asked may be gone.
            let _ = told.send(begun);
            if let Ok(runtime) = runtime {
                runtime.block_on(for_thread.run(load));
                // Connections to a server that hangs would be waited for.
                runtime.shutdown_background();
            }
        })?;
        let begun = outcome.recv().context("the clients' thread ended")?;
        begun.map_err(|error| anyhow!("no runtime for the clients: {error}"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What they know so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger {
            writes: self.shared.log().clone(),
        }
    }

    /// The same, and forgets it.
    #[must_use]
    pub fn take_ledger(&self) -> Ledger {
        Ledger {
            writes: std::mem::take(&mut *self.shared.log()),
        }
    }

    /// The number of the next write.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// When a write was last acknowledged.
    #[must_use]
    pub fn last_acknowledged(&self) -> MonoNs {
        MonoNs(self.shared.last.load(Ordering::Relaxed))
    }

    /// Transfers that were acknowledged.
    #[must_use]
    pub fn transfers(&self) -> u32 {
        self.shared.transfers.load(Ordering::Relaxed)
    }

    /// Lets nobody write any more, and waits until the outcome of all that was sent is known.
    pub fn pause(&self) -> Result<()> {
        self.shared.paused.store(true, Ordering::Relaxed);
        let limit = ANSWER_LIMIT.saturating_mul(3);
        eventually(limit, "the clients pause", || {
            Ok(self.shared.busy.load(Ordering::Relaxed) == 0)
        })
    }

    /// Lets them write again.
    pub fn resume(&self) {
        self.shared.last.store(now().0, Ordering::Relaxed);
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// Ends all of them, after the answers that they wait for; returns what they know.
    pub fn stop(mut self) -> Result<Ledger> {
        self.end()?;
        Ok(self.take_ledger())
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // What went wrong was seen by whoever stopped them before.
        let _ = self.end();
    }
}

/// Something that is under way.
pub(super) struct Busy<'a>(&'a AtomicU32);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<Write>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// For as long as it is held something is under way; `None` while nothing may be.
    pub(super) fn begin(&self) -> Option<Busy<'_>> {
        if self.paused.load(Ordering::Relaxed) {
            return None;
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        Some(Busy(&self.busy))
    }

    async fn run(self: &Arc<Self>, load: Load) {
        let mut tasks = JoinSet::new();
        let clients = load.clients.max(1);
        let period = match load.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1).saturating_mul(clients) / rate,
        };
        for client in 0..load.clients {
            let this = Arc::clone(self);
            let offset = period / clients * client;
            tasks.spawn(async move { this.client(client, period, offset).await });
        }
        for teller in 0..load.tellers {
            tasks.spawn(bank::teller(Arc::clone(self), teller));
        }
        let this = Arc::clone(self);
        tasks.spawn(async move { this.send_scouts().await });
        while tasks.join_next().await.is_some() {}
    }

    async fn client(&self, client: u32, period: Duration, offset: Duration) {
        let mut next = now().after(span(offset));
        let mut conn = None;
        while !self.is_stopped() {
            let wait = next.since(now());
            if wait > Nanos::ZERO {
                sleep(Duration::from_nanos(wait.0)).await;
            }
            // What could not be sent in time is not made up for: the rate is an upper bound.
            next = now().max(next.after(span(period)));
            let Some(_busy) = self.begin() else {
                sleep(PAUSE).await;
                continue;
            };
            conn = match conn.take() {
                Some(conn) => self.write(conn, client).await,
                None => self.connect().await,
            };
            if conn.is_none() {
                sleep(PAUSE).await;
            }
        }
        close(conn).await;
    }

    /// A new connection, if one can be had.
    pub(super) async fn connect(&self) -> Option<Conn> {
        within(CONNECT_LIMIT, Conn::new(self.opts.clone()))
            .await
            .ok()
    }

    /// Writes one row. A connection that brought anything but an acknowledgement is given up.
    async fn write(&self, mut conn: Conn, client: u32) -> Option<Conn> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let statement = format!(
            "INSERT INTO {DATABASE}.writes (id, client, server, at) VALUES ({id}, {client}, @@server_id, SYSDATE(6)) RETURNING server"
        );
        let sent = now();
        let result = within(ANSWER_LIMIT, conn.query_first(statement)).await;
        let done = now();
        let outcome = Outcome::of(&result);
        self.log().push(Write {
            id,
            client,
            sent,
            done,
            outcome,
            server: result.ok().flatten(),
        });
        match outcome {
            Outcome::Acknowledged => {
                self.last.fetch_max(done.0, Ordering::Relaxed);
                Some(conn)
            }
            Outcome::Refused(_) => {
                close(Some(conn)).await;
                None
            }
            Outcome::Unknown => None,
        }
    }

    /// Sends scouts while nobody gets acknowledgements.
    async fn send_scouts(self: &Arc<Self>) {
        let mut scouts = JoinSet::new();
        while !self.is_stopped() {
            sleep(SCOUT_PERIOD).await;
            while scouts.try_join_next().is_some() {}
            let silent = now().since(MonoNs(self.last.load(Ordering::Relaxed)));
            if silent > SILENCE && scouts.len() < SCOUTS {
                let this = Arc::clone(self);
                scouts.spawn(async move {
                    let Some(_busy) = this.begin() else {
                        return;
                    };
                    if let Some(conn) = this.connect().await {
                        let conn = this.write(conn, SCOUT).await;
                        close(conn).await;
                    }
                });
            }
        }
        while scouts.join_next().await.is_some() {}
    }
}

/// Ends a connection as clients do, but waits for no server that hangs.
pub(super) async fn close(conn: Option<Conn>) {
    if let Some(conn) = conn {
        let _: Result<(), Failure> = within(CONNECT_LIMIT, conn.disconnect()).await;
    }
}

//! Asking a server how it is, between the steps.

use std::{future::Future, pin::Pin, time::Duration};

use ha_common::MonoNs;
use ha_core::plan::Observation;
use mysql_async::{Error, Opts};
use tokio::time::timeout;

use super::{Presence, Process};
use crate::{
    checks::mysql::{
        session::{Session, opts},
        trouble::Who,
    },
    config::MysqlServer,
    roles::Pending,
    sys::clock,
};

/// How long an answer may take before the server counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

type Work<T> = Pin<Box<dyn Future<Output = (Option<Session>, Result<T, Error>)> + Send>>;

/// What a look came back with.
pub(in crate::roles) struct Taken<T> {
    /// When it began. The server may have answered long after: what it says is true of any time between.
    pub(in crate::roles) began_at: MonoNs,
    pub(in crate::roles) found: Result<T, Error>,
}

/// See the module. A look at a server that hangs goes on from one observation to the next: it is not given one more
/// session to carry with each.
pub(in crate::roles) struct Glance<T> {
    who: Who,
    opts: Opts,
    session: Option<Session>,
    /// The look under way, and when it began.
    work: Option<(MonoNs, Work<T>)>,
}

impl<T: Send + 'static> Glance<T> {
    pub(in crate::roles) fn new(server: &MysqlServer) -> Self {
        Self {
            who: Who::new(server),
            opts: opts(server),
            session: None,
            work: None,
        }
    }

    /// Its own session with the server.
    pub(in crate::roles) fn session(&self) -> Option<u32> {
        self.session.as_ref().map(Session::id)
    }

    /// An error in words.
    pub(in crate::roles) fn words(&self, error: &Error) -> String {
        self.who.words(error)
    }

    /// What `ask` finds; `None`: the server hangs.
    pub(in crate::roles) async fn take<A>(&mut self, ask: A) -> Option<Taken<T>>
    where
        A: for<'a> Fn(&'a mut Session) -> Pending<'a, Result<T, Error>> + Clone + Send + 'static,
    {
        let was_under_way = self.work.is_some();
        let taken = self.go_on(ask.clone()).await?;
        // What went wrong with a look that began long ago may be put right.
        if taken.found.is_err() && was_under_way {
            return self.go_on(ask).await;
        }
        Some(taken)
    }

    async fn go_on<A>(&mut self, ask: A) -> Option<Taken<T>>
    where
        A: for<'a> Fn(&'a mut Session) -> Pending<'a, Result<T, Error>> + Send + 'static,
    {
        let under_way = match self.work.take() {
            Some(under_way) => under_way,
            None => (clock::now(), self.begin(ask)),
        };
        let (began_at, work) = self.work.insert(under_way);
        let began_at = *began_at;
        let (session, found) = timeout(PATIENCE, work).await.ok()?;
        self.work = None;
        self.session = session;
        Some(Taken { began_at, found })
    }

    fn begin<A>(&mut self, ask: A) -> Work<T>
    where
        A: for<'a> Fn(&'a mut Session) -> Pending<'a, Result<T, Error>> + Send + 'static,
    {
        let (session, opts) = (self.session.take(), self.opts.clone());
        Box::pin(async move {
            let mut session = match session {
                Some(session) => session,
                None => match Session::open(&opts).await {
                    Ok(session) => session,
                    Err(error) => return (None, Err(error)),
                },
            };
            let found = ask(&mut session).await;
            let broken = matches!(&found, Err(error) if error.is_fatal());
            ((!broken).then_some(session), found)
        })
    }
}

/// The server did not answer.
pub(in crate::roles) async fn without(
    words: &str,
    error: &Error,
    process: &mut Process,
) -> Observation {
    let mut observation = Observation::unknown(words);
    if !matches!(error, Error::Io(_) | Error::Driver(_)) {
        return observation;
    }
    match process.find().await {
        Presence::Gone => {
            // Whose process has ended takes no writes.
            observation.promoted = Some(false);
            observation.runs = Some(false);
            observation.able = Err(format!("the server does not run: {words}"));
        }
        // It will take some, perhaps.
        Presence::Returning(why) => {
            observation.runs = Some(false);
            observation.able = Err(format!("{why}: {words}"));
        }
        Presence::Unknown(why) => {
            observation.able = Err(format!(
                "{words}; whether the server runs is not known: {why}"
            ));
        }
        Presence::Running(_) => {}
    }
    observation
}

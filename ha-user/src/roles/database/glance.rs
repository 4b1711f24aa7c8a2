//! Asking a server how it is, between the steps.

use std::{future::Future, pin::Pin, time::Duration};

use ha_core::plan::Observation;
use mysql_async::{Error, Opts};
use tokio::time::timeout;

use super::Process;
use crate::{
    checks::mysql::{
        session::{Session, opts},
        trouble::Who,
    },
    config::MysqlServer,
    roles::Pending,
};

/// How long an answer may take before the server counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

type Work<T> = Pin<Box<dyn Future<Output = (Option<Session>, Result<T, Error>)> + Send>>;

/// See the module. A look at a server that hangs goes on from one observation to the next: it is not given one more
/// session to carry with each.
pub(in crate::roles) struct Glance<T> {
    who: Who,
    opts: Opts,
    session: Option<Session>,
    work: Option<Work<T>>,
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
    pub(in crate::roles) async fn take<A>(&mut self, ask: A) -> Option<Result<T, Error>>
    where
        A: for<'a> Fn(&'a mut Session) -> Pending<'a, Result<T, Error>> + Clone + Send + 'static,
    {
        let was_under_way = self.work.is_some();
        let found = self.go_on(ask.clone()).await?;
        // What went wrong with a look that began long ago may be put right.
        if found.is_err() && was_under_way {
            return self.go_on(ask).await;
        }
        Some(found)
    }

    async fn go_on<A>(&mut self, ask: A) -> Option<Result<T, Error>>
    where
        A: for<'a> Fn(&'a mut Session) -> Pending<'a, Result<T, Error>> + Send + 'static,
    {
        let work = match self.work.take() {
            Some(work) => work,
            None => self.begin(ask),
        };
        let work = self.work.insert(work);
        let (session, found) = timeout(PATIENCE, work).await.ok()?;
        self.work = None;
        self.session = session;
        Some(found)
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
    // Whose process has ended takes no writes.
    let broken = matches!(error, Error::Io(_) | Error::Driver(_));
    if broken && process.find().await.is_ok_and(|found| found.is_none()) {
        observation.promoted = Some(false);
        observation.runs = Some(false);
        observation.able = Err(format!("the server does not run: {words}"));
    }
    observation
}

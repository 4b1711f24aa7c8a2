//! A server, as a check sees it: at most one statement under way, and a session that only waits.

use std::{future::Future, pin::Pin};

use ha_common::{MonoNs, Nanos};
use ha_core::check::Observation;
use mysql_async::{Error, Opts};

use super::{
    session::{Session, opts},
    statement::Answer,
    trouble::Who,
};
use crate::{config::MysqlServer, sys::clock};

/// After which a statement without an answer is given up, together with its session. Until then the probes wait
/// for that one: a server that hangs is not given one more session to carry with each of them.
const GIVE_UP: Nanos = Nanos::from_secs(30);

/// Something under way, which outlives the probe that began it.
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// See the module.
pub(super) struct Server {
    who: Who,
    opts: Opts,
    keep_open: bool,
    line: Line,
    waiter: Waiter,
    /// Why the server did not take the session that waits.
    refused: Option<String>,
}

/// The session that is asked.
enum Line {
    Closed,
    Ready(Session),
    Busy { since: MonoNs, work: Work<Asked> },
}

/// The session if it can be used again, and the answer.
type Asked = (Option<Session>, Result<Answer, Error>);

/// The session whose end is news.
enum Waiter {
    /// Until a probe passes.
    None,
    /// To be opened at the next opportunity.
    Wanted,
    Opening(Work<Result<Session, Error>>),
    Waiting(Work<Error>),
}

impl Server {
    pub(super) fn new(config: &MysqlServer) -> Self {
        Self {
            who: Who::new(config),
            opts: opts(config),
            keep_open: config.keep_open,
            line: Line::Closed,
            waiter: Waiter::None,
            refused: None,
        }
    }

    /// Carries a statement out in the session that is open, or in a new one where that breaks.
    pub(super) async fn ask(&mut self, statement: &str) -> Result<Answer, String> {
        self.finish_earlier().await;
        let kept = matches!(self.line, Line::Ready(_));
        let mut result = self.turn(statement).await;
        if kept && matches!(&result, Err(error) if error.is_fatal()) {
            result = self.turn(statement).await;
        }
        result.map_err(|error| self.who.words(&error))
    }

    /// The end of a probe: in words what is right, or what is wrong.
    pub(super) fn conclude(&mut self, found: Result<String, String>) -> Result<String, String> {
        if !self.keep_open {
            self.line = Line::Closed;
        }
        let found = found?;
        if self.keep_open && matches!(self.waiter, Waiter::None) {
            self.waiter = Waiter::Wanted;
        }
        let place = self.who.place();
        Ok(match &self.refused {
            Some(why) => format!(
                "{place} {found}; a crash is noticed only by probes, for the session that would wait for it is refused: {why}"
            ),
            None => format!("{place} {found}"),
        })
    }

    /// What an earlier probe began.
    async fn finish_earlier(&mut self) {
        if let Line::Busy { since, .. } = &self.line
            && clock::now().since(*since) > GIVE_UP
        {
            self.line = Line::Closed;
        }
        if matches!(self.line, Line::Busy { .. }) {
            let _ = self.finish().await;
        }
    }

    async fn turn(&mut self, statement: &str) -> Result<Answer, Error> {
        let session = match std::mem::replace(&mut self.line, Line::Closed) {
            Line::Ready(session) => Some(session),
            Line::Closed | Line::Busy { .. } => None,
        };
        self.line = Line::Busy {
            since: clock::now(),
            work: Box::pin(asked(session, self.opts.clone(), statement.to_owned())),
        };
        self.finish().await
    }

    /// Waits for what is under way.
    async fn finish(&mut self) -> Result<Answer, Error> {
        let Line::Busy { work, .. } = &mut self.line else {
            return Ok(Answer::default());
        };
        let (session, result) = work.await;
        self.line = session.map_or(Line::Closed, Line::Ready);
        result
    }

    /// Waits for the end of the session that only waits.
    pub(super) async fn watch(&mut self) -> Observation {
        if matches!(self.waiter, Waiter::Wanted) {
            let opts = self.opts.clone();
            self.waiter = Waiter::Opening(Box::pin(async move { Session::open(&opts).await }));
        }
        if let Waiter::Opening(work) = &mut self.waiter {
            let opened = work.await;
            self.refused = opened.as_ref().err().map(|error| self.who.words(error));
            self.waiter = match opened {
                Ok(session) => Waiter::Waiting(Box::pin(session.wait())),
                Err(_) => Waiter::None,
            };
        }
        let Waiter::Waiting(work) = &mut self.waiter else {
            return std::future::pending().await;
        };
        let error = work.await;
        self.waiter = Waiter::None;
        Observation::Suspect(format!(
            "the session that waits ended: {}",
            self.who.words(&error)
        ))
    }
}

/// The answer, and the session that gave it.
async fn asked(session: Option<Session>, opts: Opts, statement: String) -> Asked {
    let mut session = match session {
        Some(session) => session,
        None => match Session::open(&opts).await {
            Ok(session) => session,
            Err(error) => return (None, Err(error)),
        },
    };
    let result = session.ask(&statement).await;
    let broken = matches!(&result, Err(error) if error.is_fatal());
    ((!broken).then_some(session), result)
}

//! The server, as steps speak to it: by one session that is kept open.

use std::{sync::Arc, time::Duration};

use ha_common::MonoNs;
use ha_core::data::mysql::Dialect;
use mysql_async::{Error, IoError, Opts};
use tokio::time::{sleep, timeout};

use super::{Failure, Runs, Sighting, listener::listens, pause, value};
use crate::{
    checks::mysql::{
        session::{Named, Session, opts},
        statement::Answer,
        trouble::Who,
    },
    config::{MysqlPlace, MysqlServer},
    roles::Pending,
};

/// What a server answered.
pub(in crate::roles) type Asked<T> = Result<T, Failure>;

/// How a refused connection begins.
const REFUSED: &str = "nobody listens: ";
/// How long a session that was ended may take to be gone.
const ENDING: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// See the module.
pub(in crate::roles) struct Server {
    who: Who,
    opts: Opts,
    kept: Option<Session>,
    runs: Arc<Runs>,
    /// The run of the server that was spoken to last.
    incarnation: Option<u64>,
    /// The one that the step under way met first.
    met: Option<u64>,
    dialect: Option<Dialect>,
    place: MysqlPlace,
    /// Sessions of which a statement was given up before it was answered: the server may be at it still.
    abandoned: Vec<u32>,
    /// The sessions of this role that are not asked by this.
    pub(in crate::roles) others: Vec<u32>,
}

impl Server {
    pub(in crate::roles) fn new(config: &MysqlServer) -> Self {
        Self {
            who: Who::new(config),
            opts: opts(config),
            kept: None,
            runs: Arc::default(),
            incarnation: None,
            met: None,
            dialect: None,
            place: config.place.clone(),
            abandoned: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Whether nobody listened where the server should be.
    pub(in crate::roles) fn refuses(&self, failure: &Failure) -> bool {
        failure.why.starts_with(REFUSED)
    }

    fn words(&self, error: &Error) -> Failure {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        let words = self.who.words(error);
        match error {
            Error::Io(IoError::Io(error))
                if matches!(error.kind(), ConnectionRefused | NotFound) =>
            {
                format!("{REFUSED}{words}").into()
            }
            _ => words.into(),
        }
    }

    /// A session, with what every one needs.
    async fn open(&self) -> Result<Session, Error> {
        let mut session = Session::open(&self.opts).await?;
        session.ask("SET SESSION sql_mode = ''").await?;
        Ok(session)
    }

    /// By which who else speaks to it knows its runs.
    pub(in crate::roles) fn runs(&self) -> Arc<Runs> {
        Arc::clone(&self.runs)
    }

    /// The run of the server that was spoken to last: a number that no other run of it has.
    pub(in crate::roles) const fn incarnation(&self) -> Option<u64> {
        self.incarnation
    }

    /// A step begins: what it finds of the server is of the run that it meets first.
    pub(in crate::roles) const fn begin(&mut self) {
        self.met = None;
    }

    /// The run of the server that the step under way was carried out on. Of two that it has met, the one that is not
    /// expected: it rests on both.
    pub(in crate::roles) fn carried_out_on(&self, expected: Option<u64>) -> Option<u64> {
        self.met
            .filter(|_| self.met != expected)
            .or(self.incarnation)
    }

    /// Asks in the session; in a new one where the kept one has ended meanwhile. Should the future be dropped, the
    /// session is closed, and what the server is still at is ended before anything else is asked. What `changes`
    /// something is not told to a server that was started again since: it rests on what the one before was.
    async fn put<T>(&mut self, question: Question<'_, T>, changes: bool) -> Result<T, Error> {
        self.end_abandoned().await?;
        let mut ended = None;
        for again in [true, false] {
            let was_kept = self.kept.is_some();
            let mut session = match self.kept.take() {
                Some(session) => session,
                None => self.open().await?,
            };
            let seen = Sighting::of(&mut session).await?;
            let run = self.runs.number(seen);
            let before = self.incarnation.replace(run);
            self.met.get_or_insert(run);
            if let Some(error) = ended.take()
                && changes
                && before != self.incarnation
            {
                return Err(error);
            }
            let id = session.id();
            self.abandoned.push(id);
            let result = question(&mut session).await;
            self.abandoned.retain(|&abandoned| abandoned != id);
            match result {
                Err(error) if error.is_fatal() => {
                    if !(again && was_kept) {
                        return Err(error);
                    }
                    ended = Some(error);
                }
                result => {
                    self.kept = Some(session);
                    return result;
                }
            }
        }
        Err(Error::Driver(mysql_async::DriverError::ConnectionClosed))
    }

    async fn end_abandoned(&mut self) -> Result<(), Error> {
        if self.abandoned.is_empty() {
            return Ok(());
        }
        let mut session = self.open().await?;
        while let Some(&id) = self.abandoned.last() {
            end(&mut session, id).await?;
            self.abandoned.pop();
        }
        self.kept = Some(session);
        Ok(())
    }

    /// Ends what a step began that was given up; where the server does not answer, later.
    pub(in crate::roles) async fn sweep(&mut self) {
        if !self.abandoned.is_empty() {
            let ended = timeout(ENDING, self.end_abandoned()).await;
            if ended.is_err() {
                self.kept = None;
            }
        }
    }

    async fn state(&mut self, statement: &str) -> Result<Answer, Error> {
        let statement: Arc<str> = statement.into();
        self.put(
            &move |session: &mut Session| {
                let statement = Arc::clone(&statement);
                Box::pin(async move { session.ask(&statement).await })
            },
            true,
        )
        .await
    }

    /// Carries a statement out.
    pub(in crate::roles) async fn ask(&mut self, statement: &str) -> Asked<Answer> {
        let answer = self.state(statement).await;
        answer.map_err(|error| self.words(&error))
    }

    /// As [`Self::ask`], where an error of the server is an answer as well: its number.
    pub(in crate::roles) async fn try_ask(
        &mut self,
        statement: &str,
    ) -> Asked<Result<Answer, u16>> {
        match self.state(statement).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Error::Server(error)) => Ok(Err(error.code)),
            Err(error) => Err(self.words(&error)),
        }
    }

    /// Carries a statement out with the rows by the names of their columns.
    pub(in crate::roles) async fn table(&mut self, statement: &str) -> Asked<Vec<Named>> {
        let statement: Arc<str> = statement.into();
        self.inquire(&move |session: &mut Session| {
            let statement = Arc::clone(&statement);
            Box::pin(async move { session.table(&statement).await })
        })
        .await
    }

    /// MariaDB or MySQL.
    pub(in crate::roles) async fn dialect(&mut self) -> Asked<Dialect> {
        if let Some(dialect) = self.dialect {
            return Ok(dialect);
        }
        let version = self.ask("SELECT @@global.version").await?;
        let dialect = Dialect::of(&value(&version, 0))?;
        self.dialect = Some(dialect);
        Ok(dialect)
    }

    /// Puts a question that takes several statements of one session.
    pub(in crate::roles) async fn inquire<T: Send + 'static>(
        &mut self,
        question: Question<'_, T>,
    ) -> Asked<T> {
        let answer = self.put(question, false).await;
        answer.map_err(|error| self.words(&error))
    }

    /// The sessions that are this role's own.
    pub(in crate::roles) fn own(&self) -> Vec<u32> {
        let kept = self.kept.as_ref().map(Session::id);
        kept.into_iter()
            .chain(self.others.iter().copied())
            .collect()
    }

    /// Its process has ended: nobody listens any more where it was.
    pub(in crate::roles) async fn nobody_listens(&self, deadline: MonoNs) -> Result<(), Failure> {
        while listens(&self.place).await {
            if !pause(deadline).await {
                return Err(format!(
                    "somebody listens at {} still, though the server's process has ended: another server, or a unit mariadb.socket?",
                    self.who.place()
                )
                .into());
            }
        }
        Ok(())
    }

    /// The server has ended: no session of it is any good.
    pub(in crate::roles) fn forget(&mut self) {
        self.kept = None;
        self.incarnation = None;
        self.met = None;
        self.abandoned.clear();
        // Another one may be started.
        self.dialect = None;
    }
}

/// What is asked in one go.
pub(in crate::roles) type Question<'q, T> =
    &'q (dyn for<'s> Fn(&'s mut Session) -> Pending<'s, Result<T, Error>> + Sync);

/// Ends a session with what it is doing, and waits until it is gone.
async fn end(session: &mut Session, id: u32) -> Result<(), Error> {
    const NO_SUCH_SESSION: u16 = 1094;
    // A node of a cluster that has lost its quorum ends no sessions; they have lost it as well.
    const NOT_NOW: u16 = 1047;
    match session.ask(&format!("KILL CONNECTION {id}")).await {
        Ok(_) => {}
        Err(Error::Server(error)) if matches!(error.code, NO_SUCH_SESSION | NOT_NOW) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let there = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {id}");
    let gone = async {
        while !session.ask(&there).await?.rows.is_empty() {
            sleep(LOOK).await;
        }
        Ok(())
    };
    // One that does not end yet is marked: the server ends it at the next opportunity.
    timeout(ENDING, gone).await.unwrap_or(Ok(()))
}

//! Whether a server may become the primary.

use alloc::{format, string::String};

use super::{Link, Receiving, ServerState};

impl ServerState {
    /// How far it is when everything is applied that it has received.
    #[must_use]
    pub fn reached(&self) -> super::Place {
        match &self.link {
            Some(link) => self.here.with(&link.received),
            None => self.here.clone(),
        }
    }

    /// Whether both threads are stopped that would apply what is received: one that is started now throws that away.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let stopped = |link: &Link| link.receiving == Receiving::Stopped && !link.applying;
        self.link.as_ref().is_some_and(stopped)
    }

    /// Whether it could be promoted, as far as it shows that by itself.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub fn able(&self) -> Result<(), String> {
        let Some(link) = &self.link else {
            return match self.mark {
                Some(mark) if mark.server != self.server => Err(format!(
                    "it follows nobody, and the last primary that its data knows of, of epoch {}, was the server with server_id {}: whether it has everything cannot be proved",
                    mark.epoch, mark.server
                )),
                _ => Ok(()),
            };
        };
        if !link.by_gtid {
            return Err(format!(
                "it follows {} by file and position: only with GTIDs can be proved that it has everything",
                link.source
            ));
        }
        match &link.apply_error {
            Some(error) => Err(format!("what it received could not be applied: {error}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Dialect, History, Mark, Place, SemiSync},
        *,
    };

    fn replica() -> ServerState {
        let place = |text| Place::parse(Dialect::MariaDb, text).unwrap();
        ServerState {
            dialect: Dialect::MariaDb,
            server: 2,
            read_only: true,
            link: Some(Link {
                source: "10.0.0.1:3306".into(),
                receiving: Receiving::Connected,
                applying: true,
                receive_error: None,
                apply_error: None,
                by_gtid: true,
                received: place("0-1-9"),
                lag_seconds: Some(0),
            }),
            here: place("0-1-7"),
            history: History::parse(Dialect::MariaDb, "0-1-7").unwrap(),
            semi_sync: SemiSync::default(),
            mark: Some(Mark {
                epoch: 3,
                server: 1,
            }),
        }
    }

    fn with(change: impl FnOnce(&mut ServerState, &mut Link)) -> ServerState {
        let mut state = replica();
        let mut link = state.link.take().unwrap();
        change(&mut state, &mut link);
        state.link = Some(link);
        state
    }

    #[test]
    fn a_replica_that_applies_may_be_promoted() {
        assert_eq!(replica().able(), Ok(()));
        assert_eq!(
            replica().reached(),
            Place::parse(Dialect::MariaDb, "0-1-9").unwrap()
        );
        let unplugged = with(|_, link| {
            link.receiving = Receiving::Connecting;
            link.receive_error = Some("2003: cannot connect".into());
        });
        assert_eq!(unplugged.able(), Ok(()));
    }

    #[test]
    fn a_replica_with_an_error_may_not() {
        let broken = with(|_, link| link.apply_error = Some("1062: Duplicate entry".into()));
        assert!(broken.able().unwrap_err().contains("1062"));
        let by_file = with(|_, link| link.by_gtid = false);
        assert!(by_file.able().unwrap_err().contains("file and position"));
    }

    #[test]
    fn a_server_that_follows_nobody_has_to_be_the_last_primary() {
        let mut alone = replica();
        alone.link = None;
        assert!(alone.able().unwrap_err().contains("epoch 3"));
        alone.mark = Some(Mark {
            epoch: 3,
            server: 2,
        });
        assert_eq!(alone.able(), Ok(()));
        // One that was never managed: a new pair's first primary.
        alone.mark = None;
        assert_eq!(alone.able(), Ok(()));
    }

    #[test]
    fn only_both_threads_together_are_stopped() {
        assert!(!replica().is_stopped());
        assert!(!with(|_, link| link.applying = false).is_stopped());
        assert!(!with(|_, link| link.receiving = Receiving::Stopped).is_stopped());
        let stopped = with(|_, link| {
            link.receiving = Receiving::Stopped;
            link.applying = false;
        });
        assert!(stopped.is_stopped());
    }
}

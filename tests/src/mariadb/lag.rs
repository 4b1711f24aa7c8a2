//! A replica that receives everything and applies nothing.

use anyhow::Result;

use super::{DATABASE, Server, Session};

/// Until it is dropped the replica's SQL thread waits for a row that somebody else holds. What it receives meanwhile
/// is acknowledged to the primary, and not applied.
pub struct Lag {
    _holder: Session,
}

impl Lag {
    /// Begins to hold up a replica of a primary to which tellers write ([`super::Load::tellers`]).
    pub fn begin(replica: &Server) -> Result<Self> {
        let mut session = replica.session()?;
        session.ask("START TRANSACTION")?;
        session.ask(&format!(
            "SELECT SUM(balance) FROM {DATABASE}.accounts FOR UPDATE"
        ))?;
        Ok(Self { _holder: session })
    }
}

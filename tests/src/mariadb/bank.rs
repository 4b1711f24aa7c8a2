//! A bank: transfers between accounts, whose sum never changes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mysql_async::{Conn, Error, prelude::Queryable as _};
use tokio::time::sleep;

use super::{
    DATABASE, Failure, Server, Session,
    session::within,
    writers::{Shared, close},
};

/// Accounts, and what each has at first.
const ACCOUNTS: u32 = 20;
const MONEY: u32 = 1_000;

/// How long a transfer may take before the teller gives its connection up.
const LIMIT: Duration = Duration::from_secs(3);

/// Between two transfers of a teller.
const PERIOD: Duration = Duration::from_millis(10);

pub(super) fn prepare(session: &mut Session) -> Result<()> {
    session.ask(&format!(
        "CREATE TABLE {DATABASE}.accounts (id INT UNSIGNED PRIMARY KEY, balance BIGINT NOT NULL) ENGINE = InnoDB"
    ))?;
    let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {MONEY})")).collect();
    session.ask(&format!(
        "INSERT INTO {DATABASE}.accounts VALUES {}",
        rows.join(", ")
    ))?;
    Ok(())
}

/// Whether all the money is still there at a server.
pub fn is_balanced(server: &Server) -> Result<bool> {
    let sum = server.value(&format!("SELECT SUM(balance) FROM {DATABASE}.accounts"))?;
    let sum: u32 = sum.parse().with_context(|| format!("a sum of {sum}"))?;
    Ok(sum == ACCOUNTS * MONEY)
}

/// Moves money until the clients are stopped.
pub(super) async fn teller(shared: Arc<Shared>, number: u32) {
    let mut conn = None;
    let mut turn = number;
    while !shared.is_stopped() {
        sleep(PERIOD).await;
        turn = turn.wrapping_add(7);
        let Some(_busy) = shared.begin() else {
            continue;
        };
        conn = match conn.take() {
            None => shared.connect().await,
            Some(mut ready) => match within(LIMIT, transfer(&mut ready, turn)).await {
                Ok(()) => {
                    shared.transfers.fetch_add(1, Ordering::Relaxed);
                    Some(ready)
                }
                Err(Failure::Refused { .. }) => {
                    close(Some(ready)).await;
                    None
                }
                Err(Failure::Unknown(_)) => None,
            },
        };
    }
    close(conn).await;
}

async fn transfer(conn: &mut Conn, turn: u32) -> Result<(), Error> {
    let (from, to) = (turn % ACCOUNTS, (turn / 3 + 1) % ACCOUNTS);
    let amount = turn % 9 + 1;
    let change = |sign: char, id: u32| {
        format!("UPDATE {DATABASE}.accounts SET balance = balance {sign} {amount} WHERE id = {id}")
    };
    conn.query_drop("START TRANSACTION").await?;
    conn.query_drop(change('-', from)).await?;
    conn.query_drop(change('+', to)).await?;
    conn.query_drop("COMMIT").await
}

//! What `had --check` asks the server: whether it is set up so that as little as possible is lost.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, Process, READ_ONLY, Server, look, observer::demands};
use crate::{checks::mysql::session::Session, config::GaleraRole, roles::database::who_may_write};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sentence for each thing that should be otherwise; or why the server could not be asked.
pub(crate) async fn findings(role: &GaleraRole) -> Result<Vec<String>, String> {
    match timeout(PATIENCE, ask(role)).await {
        Ok(found) => found.map_err(|failure| failure.why),
        Err(_) => Err("the server does not answer".to_owned()),
    }
}

async fn ask(role: &GaleraRole) -> Result<Vec<String>, Failure> {
    let mut server = Server::new(&role.server);
    let demands = demands(role);
    let judged = server
        .inquire(&move |session: &mut Session| look::judged(session, demands))
        .await?;
    let mut findings: Vec<String> = judged.iter().map(ToString::to_string).collect();
    findings.extend(who_may_write(&mut server).await?);
    let mut process = Process::new(&role.process, &READ_ONLY);
    findings.extend(process.unfound().await);
    Ok(findings)
}

//! What a node wrote that the primary never had: kept in a file before anybody overwrites it.

use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path};

use ha_core::data::mysql::History;
use tokio::task::spawn_blocking;

use super::{Server, look, statements::quoted};
use crate::{checks::tool::Tool, roles::database::Failure};

/// Binary logs that are looked through, from the last one back.
const LOGS: usize = 64;

/// Writes what is in `here` and not in `there` to a file, unless that was done already.
pub(super) async fn keep(
    server: &mut Server,
    here: &History,
    there: &History,
    file: &Path,
) -> Result<(), Failure> {
    let written = file.to_owned();
    let exists = spawn_blocking(move || {
        let dir = written.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        fs::exists(&written)
    });
    match exists.await {
        Ok(Ok(true)) => return Ok(()),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => return Err(format!("{}: {error}", file.display()).into()),
        Err(_) => return Err("the daemon ends".into()),
    }
    let logs = logs(server).await?;
    let (tool, range, logs) = match (here, there) {
        (History::MariaDb(here), History::MariaDb(there)) => {
            let common = here.common(there);
            let first = first_with(server, &logs, &common).await?;
            let range = format!("--start-position={common}");
            (
                "mariadb-binlog",
                (!common.is_empty()).then_some(range),
                logs[first..].to_vec(),
            )
        }
        (History::MySql(here), History::MySql(there)) => {
            let range = format!("--include-gtids={}", here.subtract(there));
            ("mysqlbinlog", Some(range), logs)
        }
        _ => return Err("the primary is another kind of server".into()),
    };
    let base = look::value(&server.ask("SELECT @@global.log_bin_basename").await?, 0);
    let dir = Path::new(&base).parent().unwrap_or(Path::new("/"));
    // The file appears when it is whole.
    let part = file.with_extension("part");
    let mut arguments = vec![format!("--result-file={}", part.display())];
    arguments.extend(range);
    arguments.extend(logs.iter().map(|log| dir.join(log).display().to_string()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Tool::new(tool).run(&arguments).await?;
    let (part, file) = (part, file.to_owned());
    let renamed = spawn_blocking(move || {
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &file)
    });
    match renamed.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string().into()),
        Err(_) => Err("the daemon ends".into()),
    }
}

async fn logs(server: &mut Server) -> Result<Vec<String>, Failure> {
    let logs = server.ask("SHOW BINARY LOGS").await?;
    let names = logs
        .rows
        .iter()
        .filter_map(|row| row.first().cloned().flatten());
    Ok(names.collect())
}

/// The last binary log that begins at or before a position.
async fn first_with(
    server: &mut Server,
    logs: &[String],
    common: &ha_core::data::gtid::mariadb::Position,
) -> Result<usize, Failure> {
    use ha_core::data::gtid::mariadb::BinlogState;
    for (index, log) in logs.iter().enumerate().rev().take(LOGS) {
        let events = format!("SHOW BINLOG EVENTS IN {} LIMIT 4", quoted(log));
        let events = server.table(&events).await?;
        let text = |event: &crate::checks::mysql::session::Named, column: &str| {
            event.get(column).cloned().flatten().unwrap_or_default()
        };
        let list = events
            .iter()
            .find(|event| text(event, "Event_type") == "Gtid_list");
        let Some(list) = list else { continue };
        let begins = text(list, "Info");
        let begins = BinlogState::parse(begins.trim_matches(['[', ']']));
        if begins.is_ok_and(|begins| common.covers(&begins.position())) {
            return Ok(index);
        }
    }
    Ok(logs.len().saturating_sub(LOGS))
}

//! `kind = "galera"`: what a node of a cluster says of itself.

use ha_core::{check::Observation, data::galera::NodeState};

use super::{
    server::Server,
    statement::{Answer, Query},
};
use crate::{
    checks::{
        probe::{Pending, Probe},
        words::clean,
    },
    config::Galera,
};

const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_connected', \
                      'wsrep_cluster_status', 'wsrep_cluster_size', 'wsrep_local_state', \
                      'wsrep_local_state_comment')";

/// See [`Galera`].
pub(in crate::checks) struct GaleraProbe {
    server: Server,
    query: Query,
    donor: bool,
    min_size: u32,
}

impl GaleraProbe {
    pub(in crate::checks) fn new(config: &Galera) -> Self {
        Self {
            server: Server::new(&config.mysql.server),
            query: Query::new(&config.mysql),
            donor: config.donor,
            min_size: config.min_size,
        }
    }

    /// Asks for the node's own view first: an error of the query says less.
    async fn look(&mut self) -> Result<String, String> {
        let status = self.server.ask(STATUS).await?;
        let cluster = judge(&status, self.donor, self.min_size)?;
        let answer = self.server.ask(self.query.statement()).await?;
        let answer = self.query.judge(&answer)?;
        Ok(format!("{answer}; {cluster}"))
    }
}

impl Probe for GaleraProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async {
            let found = self.look().await;
            self.server.conclude(found)
        })
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.server.watch())
    }
}

fn judge(status: &Answer, donor: bool, min_size: u32) -> Result<String, String> {
    let mut node = NodeState::default();
    for row in &status.rows {
        if let [Some(name), Some(value)] = row.as_slice() {
            node.set(name, &clean(value));
        }
    }
    if node.cluster_status.is_empty() {
        return Err("the server has no Galera: wsrep_cluster_status is not there".to_owned());
    }
    node.serves(donor)?;
    if node.size < min_size {
        return Err(format!(
            "the cluster has {} of at least {min_size} nodes (wsrep_cluster_size)",
            node.size
        ));
    }
    Ok(format!(
        "{} in the primary component of {}",
        node.comment, node.size
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(changes: &[(&str, &str)]) -> Answer {
        let mut values = vec![
            ("wsrep_local_state", "4"),
            ("wsrep_local_state_comment", "Synced"),
            ("wsrep_cluster_size", "2"),
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_connected", "ON"),
            ("wsrep_ready", "ON"),
        ];
        for (name, value) in changes {
            values.retain(|(known, _)| known != name);
            values.push((name, value));
        }
        Answer {
            has_columns: true,
            rows: values
                .into_iter()
                .map(|(name, value)| vec![Some(name.to_owned()), Some(value.to_owned())])
                .collect(),
        }
    }

    fn error(changes: &[(&str, &str)]) -> String {
        judge(&status(changes), false, 2).unwrap_err()
    }

    #[test]
    fn a_synced_node_of_the_primary_component_may_serve() {
        let found = judge(&status(&[]), false, 2).unwrap();
        assert_eq!(found, "Synced in the primary component of 2");
    }

    #[test]
    fn a_name_that_only_ends_right_is_wrong() {
        assert!(error(&[("wsrep_cluster_status", "non-Primary")]).contains("non-Primary"));
        assert!(error(&[("wsrep_ready", "OFF")]).contains("wsrep_ready is OFF"));
        assert!(error(&[("wsrep_connected", "OFF")]).contains("wsrep_connected is OFF"));
        assert!(error(&[("wsrep_local_state", "14")]).contains("wsrep_local_state is 14"));
        assert!(error(&[("wsrep_cluster_size", "1")]).contains("1 of at least 2"));
    }

    #[test]
    fn a_donor_may_serve_where_that_is_said() {
        let donor = [
            ("wsrep_local_state", "2"),
            ("wsrep_local_state_comment", "Donor/Desynced"),
        ];
        assert!(error(&donor).contains("donor = true"));
        assert!(judge(&status(&donor), true, 2).is_ok());
        for state in ["0", "1", "3"] {
            assert!(judge(&status(&[("wsrep_local_state", state)]), true, 2).is_err());
        }
    }

    #[test]
    fn a_server_without_galera_is_said_so() {
        let without = Answer {
            has_columns: true,
            rows: Vec::new(),
        };
        let error = judge(&without, false, 1).unwrap_err();
        assert!(error.contains("no Galera"), "{error}");
    }
}

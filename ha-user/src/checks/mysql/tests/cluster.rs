//! Two nodes of a Galera cluster, of which one dies.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::mariadbd::{Mariadbd, PATIENCE, alone, check, free_address};
use crate::{
    checks::{mysql::GaleraProbe, probe::Probe as _},
    config::Galera,
};

/// Options of a node that listens for others there.
fn node(listen: &str, cluster: &str) -> Vec<String> {
    [
        "--bind-address=127.0.0.1",
        &format!("--port={}", free_address().port()),
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        "--wsrep-on=ON",
        // Nothing is sent: a node that joins is a member, but has not what it needs to serve.
        "--wsrep-sst-method=skip",
        "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
        "--wsrep-node-address=127.0.0.1",
        &format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{listen};ist.recv_addr={};gcache.size=2M;\
             evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.1S;evs.suspect_timeout=PT1S;\
             evs.inactive_timeout=PT3S;evs.install_timeout=PT1S",
            free_address()
        ),
        &format!("--wsrep-cluster-address=gcomm://{cluster}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn galera(server: &Mariadbd, donor: bool, min_size: u32) -> GaleraProbe {
    GaleraProbe::new(&Galera {
        mysql: check(server.config()),
        donor,
        min_size,
    })
}

async fn probed(probe: &mut GaleraProbe) -> Result<String, String> {
    timeout(PATIENCE, probe.probe()).await.expect("an answer")
}

/// Waits for a failure or a detail.
async fn until(probe: &mut GaleraProbe, words: &str) {
    let mut last = Ok(String::new());
    let found = async {
        loop {
            last = probed(probe).await;
            match &last {
                Ok(said) | Err(said) if said.contains(words) => return,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    if timeout(PATIENCE, found).await.is_err() {
        panic!("not \"{words}\": {last:?}");
    }
}

#[tokio::test]
async fn a_node_serves_only_in_the_primary_component() {
    let (first, second) = (free_address().to_string(), free_address().to_string());
    let mut bootstrap = node(&first, "");
    bootstrap.push("--wsrep-new-cluster".to_owned());
    let mut survivor = Mariadbd::start(&bootstrap).await;
    // The other one begins with the same data, else it would not stay.
    survivor.stop().await;
    let copied = survivor.copied(node(&second, &first));
    survivor.restart().await;
    let mut other = copied.start().await;

    let mut pair = galera(&survivor, false, 2);
    let mut alone_too = galera(&survivor, false, 1);
    until(&mut pair, "Synced in the primary component of 2").await;
    let error = probed(&mut galera(&other, false, 1)).await.unwrap_err();
    assert!(error.contains("wsrep_connected is ON"), "{error}");

    survivor.sql("SET GLOBAL wsrep_desync = ON").await;
    let error = probed(&mut pair).await.unwrap_err();
    assert!(
        error.contains("wsrep_local_state is 2 (Donor/Desynced)"),
        "{error}"
    );
    assert!(probed(&mut galera(&survivor, true, 2)).await.is_ok());
    survivor.sql("SET GLOBAL wsrep_desync = OFF").await;
    until(&mut pair, "Synced in").await;

    other.kill();
    until(&mut alone_too, "wsrep_cluster_status is non-Primary").await;
    survivor
        .sql("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
        .await;
    until(&mut alone_too, "Synced in the primary component of 1").await;
    until(&mut pair, "the cluster has 1 of at least 2 nodes").await;
}

#[tokio::test]
async fn a_server_without_galera_fails_with_words() {
    let server = Mariadbd::start(&alone(&[])).await;
    let error = probed(&mut galera(&server, false, 1)).await.unwrap_err();
    assert!(
        error.contains("no Galera") || error.contains("Disconnected"),
        "{error}"
    );
}

//! What hangs, dies or is cut off beside the primary's server alone.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node, eventually,
    gaps::Gaps,
    lab::VIP,
    mariadb::{Durability, Topology, role},
    now, scenario,
    scene::WEB,
    still_thread::StillThread,
    wait::throughout,
};

use super::pair::{HEARTBEAT, LIMIT, Pair, other};

/// Between two adverts.
const INTERVAL: Nanos = Nanos::from_millis(10);
const VRID: u8 = 51;

/// A check of a script that hangs as soon as a file is there, beside the node's other files.
fn hanging(node: &Node) -> Result<role::Setup> {
    let dir = node.dir().join("scripts");
    fs::create_dir(&dir)?;
    let (script, flag) = (dir.join("check"), dir.join("hang"));
    let text = format!(
        "#!/bin/sh\ntrap '' TERM INT HUP\nwhile [ -e {} ]; do sleep 1000; done\n",
        flag.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut setup = role::Setup::new(HEARTBEAT);
    setup.sections = format!(
        "\n[[check]]\nname = \"script\"\nkind = \"script\"\ncommand = [{script:?}]\nuser = \"root\"\n\
         interval = \"100ms\"\ntimeout = \"1s\"\n"
    );
    Ok(setup)
}

fn adverts_received(node: &Node) -> Result<u64> {
    let count = node.instance(WEB)?["adverts_received"].as_u64();
    count.context("a node counts the adverts that it received")
}

#[test]
fn a_server_that_hangs_beside_a_script_that_hangs_delays_no_advert() {
    scenario(|lab| {
        const WATCHED: Duration = Duration::from_secs(1);
        let kind = (Topology::PrimaryReplica, Durability::SemiSync);
        let pair = Pair::with(lab, kind.0, kind.1, |node, _| hanging(node))?;
        let old = pair.settle()?;
        let [hangs, peer] = [&pair.nodes[old], &pair.nodes[other(old)]];
        fs::write(hangs.dir().join("scripts/hang"), "")?;
        let sniffer = hangs.sniff(VIP)?;
        pair.server(old).freeze()?;
        let at = now();
        let before = adverts_received(peer)?;
        let begun = now();
        throughout(
            WATCHED,
            "the server hangs, and its node still leads",
            || Ok(peer.state(WEB)? == "backup"),
        )?;
        let end = now();
        let received = adverts_received(peer)? - before;
        let gaps = Gaps::of(&sniffer.adverts(VRID, begun, end), INTERVAL);
        println!("{received} adverts received; {gaps}");
        // What came while they were asked for is counted besides.
        let due = end.since(begun).0 / INTERVAL.0;
        ensure!(received * 10 >= due * 9, "{received} received of {due}");
        // However busy this machine is.
        ensure!(gaps.longest() < INTERVAL.times(10), "{gaps}");

        pair.served(at, Some(other(old)))?;
        let new = pair.server(other(old)).settings().server_id;
        let served = pair.writers.ledger().first_acknowledged(new, at);
        let took = served.context("it was served")?.since(at);
        println!("taken over after {took}");
        ensure!(took < Nanos::from_secs(20), "taken over after {took} only");
        let said = hangs.events("check")?.join("; ");
        ensure!(
            said.contains("check script is down: no answer within 1 s"),
            "{said}"
        );
        fs::remove_file(hangs.dir().join("scripts/hang"))?;
        pair.verify(other(old)).map(drop)
    });
}

/// A listener of the client's is the gateway: who does not reach it is cut off.
pub(super) fn arbitrated(lab: &Lab) -> Result<(Pair, TcpListener)> {
    const GATEWAY: u16 = 80;
    let kind = (Topology::PrimaryReplica, Durability::SemiSync);
    let mut listener = None;
    let pair = Pair::with(lab, kind.0, kind.1, |_, client| {
        let address = client.address();
        if listener.is_none() {
            let bind = move || TcpListener::bind((address, GATEWAY));
            listener = Some(client.ns().enter(bind)??);
        }
        let mut setup = role::Setup::new(HEARTBEAT);
        setup.track = vec!["{ check = \"gateway\", when = \"isolated\" }".to_owned()];
        setup.sections = format!(
            "\n[[check]]\nname = \"gateway\"\nkind = \"tcp\"\naddress = \"{address}:{GATEWAY}\"\n\
             keep_open = false\ninterval = \"200ms\"\ntimeout = \"300ms\"\n",
        );
        Ok(setup)
    })?;
    Ok((pair, listener.context("a gateway")?))
}

#[test]
fn a_primary_that_is_cut_off_lets_go_and_returns() {
    scenario(|lab| {
        let (pair, _gateway) = arbitrated(lab)?;
        let old = pair.settle()?;
        let at = now();
        lab.cut_off(&pair.nodes[old], role::DIRECT)?;
        lab.cut_off(&pair.nodes[old], "eth0")?;
        pair.served(at, Some(other(old)))?;
        lab.heal()?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn a_standby_that_is_cut_off_changes_nothing_and_returns() {
    scenario(|lab| {
        let (pair, _gateway) = arbitrated(lab)?;
        let old = pair.settle()?;
        lab.cut_off(&pair.nodes[other(old)], role::DIRECT)?;
        lab.cut_off(&pair.nodes[other(old)], "eth0")?;
        // Writes wait until the sync lease is over.
        eventually(LIMIT, "the primary goes on alone", || {
            Ok(pair.roles(old)?["in_sync"] == false)
        })?;
        pair.served(now(), Some(old))?;
        ensure!(pair.roles(other(old))?["stance"] == "standby");
        lab.heal()?;
        pair.verify(old).map(drop)
    });
}

#[test]
fn what_is_lost_in_one_direction_moves_nothing() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        lab.cut_one_way(&pair.nodes[old], &pair.nodes[other(old)])?;
        // The replica receives nothing, so writes wait until it counts no more.
        eventually(LIMIT, "the primary goes on alone", || {
            Ok(pair.roles(old)?["in_sync"] == false)
        })?;
        pair.served(now(), Some(old))?;
        ensure!(pair.roles(old)?["stance"] == "primary");
        ensure!(pair.roles(other(old))?["stance"] == "standby");
        lab.heal()?;
        pair.verify(old).map(drop)
    });
}

#[test]
fn a_killed_daemon_is_taken_over_from_and_demotes_its_server_when_it_is_back() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].kill()?;
        pair.served(at, Some(other(old)))?;
        // Nobody has told its server anything; it acknowledges nothing all the same.
        ensure!(pair.server(old).is_writable()?);
        pair.nodes[old].restart(Kind::Had)?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn a_daemon_and_its_server_are_killed_and_come_back() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].kill()?;
        pair.server(old).kill()?;
        pair.served(at, Some(other(old)))?;
        pair.nodes[old].restart(Kind::Had)?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn the_server_of_a_daemon_that_crashes_is_fenced_at_once() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].daemon()?.crash()?;
        pair.fenced(old)?;
        pair.nobody_fences(old)?;
        pair.served(at, Some(other(old)))?;
        pair.nodes[old].restart(Kind::Had)?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn a_daemon_that_ends_in_order_leaves_nobody_who_fences() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let (at, before) = (now(), pair.server(old).pid()?);
        pair.nodes[old].daemon()?.terminate()?;
        ensure!(pair.nodes[old].daemon()?.wait(LIMIT)?.success());
        pair.nobody_fences(old)?;
        let log = pair.nodes[old].log();
        ensure!(!log.contains("is fenced"), "{log}");
        ensure!(before.is_some() && pair.server(old).pid()? == before);
        pair.served(at, Some(other(old)))?;
        pair.nodes[old].restart(Kind::Had)?;
        pair.verify(other(old)).map(drop)
    });
}

/// What goes on of the daemon does not open again what was closed: nobody else has been promoted, and says so.
#[test]
fn a_primary_whose_engine_alone_hangs_stays_fenced_until_it_goes_on() {
    scenario(|lab| {
        const WATCHED: Duration = Duration::from_secs(3);
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        pair.nodes[other(old)].kill()?;
        pair.server(other(old)).kill()?;
        // Writes wait until it goes on alone.
        pair.served(now(), Some(old))?;
        let still = StillThread::hold(pair.nodes[old].daemon()?.pid(), "had-engine")?;
        pair.fenced(old)?;
        throughout(WATCHED, "its server takes no writes", || {
            pair.server(old).is_writable().map(|writable| !writable)
        })?;
        let at = now();
        drop(still);
        pair.served(at, Some(old))?;
        pair.server(other(old)).start()?;
        pair.nodes[other(old)].restart(Kind::Had)?;
        pair.verify(old).map(drop)
    });
}

#[test]
fn a_primary_whose_engine_alone_hangs_is_taken_over_from_and_returns() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        let still = StillThread::hold(pair.nodes[old].daemon()?.pid(), "had-engine")?;
        pair.served(at, Some(other(old)))?;
        pair.fenced(old)?;
        drop(still);
        pair.verify(other(old)).map(drop)
    });
}

//! The lab itself, with keepalived: what the other tests stand on. And where its stand-ins for NICs would
//! hide what happens: `had` on a plain veth.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Prober, Probes, eventually, lab::VIP, node::PATIENCE, now, prober::DirectProber,
    scenario, scene::WEB, stray::Stray,
};

/// Two keepalived nodes, the first Active.
fn pair(lab: &Lab) -> Result<(ha_tests::Node, ha_tests::Node)> {
    let mut first = lab.node("n1")?;
    let mut second = lab.node("n2")?;
    let (one, two) = (first.address(), second.address());
    first.start(Kind::Keepalived, &[first.router().peers(&[two])])?;
    first.wait_for_vip(VIP, true)?;
    second.start(Kind::Keepalived, &[second.router().peers(&[one])])?;
    Ok((first, second))
}

#[test]
fn a_client_sees_a_take_over_and_who_answers() {
    scenario(|lab| {
        let (first, second) = pair(lab)?;
        let client = lab.client("c1")?;
        let sniffer = first.sniff(VIP)?;
        let prober = Prober::start(&client, VIP, Probes::EchoAndArp)?;
        let recent = Nanos::from_millis(20);
        eventually(PATIENCE, "the first node answers", || {
            Ok(prober.answered_within(recent) == Some(first.mac())
                && sniffer.last_advert(51).is_some())
        })?;
        let from = now();
        first.power_off()?;
        eventually(PATIENCE, "the second node answers", || {
            Ok(prober.answered_within(recent) == Some(second.mac()))
        })?;
        let gap = prober.longest_gap(from.before(recent), now())?;
        ensure!(gap.before.by == first.mac() && gap.after.by == second.mac());
        // Two adverts are certain to be missing, and a second is plenty for what follows.
        ensure!(gap.length() > Nanos::from_millis(200), "{gap:?}");
        ensure!(gap.length() < Nanos::from_secs(3), "{gap:?}");
        let (advert, priority) = sniffer.last_advert(51).context("no advert was seen")?;
        ensure!(advert <= gap.before.at.after(Nanos::from_millis(100)) && priority == 100);
        ensure!(!prober.arp_answers(from, now()).is_empty());
        ensure!(prober.lost() == 0 && sniffer.lost() == 0);
        Ok(())
    });
}

#[test]
fn the_observers_see_a_node_that_speaks() {
    scenario(|lab| {
        let (first, _second) = pair(lab)?;
        let client = lab.client("c1")?;
        let sniffer = first.sniff(VIP)?;
        let stray = Stray::start(&first, VIP, client.address())?;
        let direct = DirectProber::start(&client, VIP, first.mac())?;
        let from = now();
        eventually(
            PATIENCE,
            "packets, ARP requests and answers from the VIP",
            || {
                let spoken = sniffer.spoken(from, now());
                let count = |wanted: fn(&ha_tests::Payload) -> bool| {
                    spoken
                        .iter()
                        .filter(|(_, frame)| wanted(&frame.payload))
                        .count()
                };
                Ok(stray.accepted() > 0
                    && count(|payload| matches!(payload, ha_tests::Payload::Ip { .. })) > 10
                    && count(|payload| matches!(payload, ha_tests::Payload::ArpReply { .. })) > 10
                    && count(|payload| matches!(payload, ha_tests::Payload::EchoReply { .. })) > 10
                    && count(|payload| matches!(payload, ha_tests::Payload::ArpRequest { .. })) > 0)
            },
        )?;
        drop(direct);
        Ok(())
    });
}

#[test]
fn a_cut_between_two_nodes_leaves_the_client_alone() {
    scenario(|lab| {
        let (first, second) = pair(lab)?;
        let client = lab.client("c1")?;
        lab.cut(&first, &second)?;
        // Neither hears the other: both put the VIP in place.
        second.wait_for_vip(VIP, true)?;
        ensure!(first.has(VIP)?);
        let ping = |node: &ha_tests::Node| {
            client
                .ns()
                .run("ping", &["-c", "1", "-W", "2", &node.address().to_string()])
        };
        ping(&first)?;
        ping(&second)?;
        lab.heal()?;
        eventually(Duration::from_secs(10), "one of them lets go", || {
            Ok(first.has(VIP)? != second.has(VIP)?)
        })
    });
}

#[test]
fn a_vip_on_a_plain_veth_is_resolved_with_mode_auto() {
    scenario(|lab| {
        let mut node = lab.plain_node("n1")?;
        node.configure(Kind::Had, &[node.router()])?;
        let native = fs::read_to_string(node.config_path(Kind::Had))?;
        let auto = native.replace("mode = \"native\"", "mode = \"auto\"");
        ensure!(auto != native, "the lab's mode is not in the configuration");
        node.write_config(Kind::Had, &auto)?;
        node.restart(Kind::Had)?;
        node.wait_for(WEB, "active")?;
        // A client that knows nobody, and is told nothing: it has to ask.
        lab.lose_announcements(VIP)?;
        let client = lab.client("c1")?;
        ensure!(client.neighbour(VIP)?.is_none());
        let prober = Prober::start(&client, VIP, Probes::Echo)?;
        eventually(PATIENCE, "the client is answered", || {
            Ok(prober.answered_within(Nanos::from_millis(50)) == Some(node.mac()))
        })?;
        ensure!(client.neighbour(VIP)? == Some(node.mac().to_string()));
        ensure!(
            node.log().contains("native XDP on a veth"),
            "the log does not say why"
        );
        Ok(())
    });
}

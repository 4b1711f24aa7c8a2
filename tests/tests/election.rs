//! Who becomes Active, and who stays it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Kind, Lab, Node, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_2},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL, INTERVAL_MS, VRID, WEB},
    wait::throughout,
};

const A_WHILE: Duration = Duration::from_secs(1);

/// A multicast router of a node with a priority.
fn router(node: &Node, priority: u8) -> VirtualRouter {
    node.router().interval_ms(INTERVAL_MS).priority(priority)
}

/// Checks that the loser fell silent before the winner spoke.
fn one_after_the_other(loser: &Sniffer, winner: &Sniffer) -> Result<()> {
    let everything = (ha_common::MonoNs::ZERO, now());
    let loser_last = loser
        .spoken(everything.0, everything.1)
        .last()
        .map(|(at, _)| *at);
    let winner_first = winner
        .spoken(everything.0, everything.1)
        .first()
        .map(|(at, _)| *at);
    let winner_first = winner_first.context("the winner does not speak")?;
    if let Some(last) = loser_last {
        ensure!(
            last < winner_first,
            "both spoke, for {}",
            last.since(winner_first)
        );
    }
    Ok(())
}

fn boots_in_order(lab: &Lab, first_priority: u8, second_priority: u8) -> Result<()> {
    let mut first = lab.node("n1")?;
    let mut second = lab.node("n2")?;
    let routers = [router(&first, first_priority)];
    first.start(Kind::Had, &routers)?;
    first.wait_for(WEB, "active")?;
    ensure!(first.has(VIP)?);
    let routers = [router(&second, second_priority)];
    second.start(Kind::Had, &routers)?;
    second.wait_for(WEB, "backup")?;
    throughout(A_WHILE, "the first to boot stays Active", || {
        Ok(first.state(WEB)? == "active" && second.state(WEB)? == "backup")
    })?;
    ensure!(!second.has(VIP)?);
    let peer = second.instance(WEB)?["active_peer"].clone();
    ensure!(
        peer == first.address().to_string(),
        "the Backup names {peer} as Active"
    );
    Ok(())
}

#[test]
fn the_first_to_boot_is_active_and_a_better_one_waits_without_preempt() {
    scenario(|lab| boots_in_order(lab, 100, 200));
}

#[test]
fn the_first_to_boot_is_active_and_a_worse_one_waits() {
    scenario(|lab| boots_in_order(lab, 200, 100));
}

#[test]
fn a_better_one_preempts_and_both_never_speak_at_once() {
    scenario(|lab| {
        let mut low = lab.node("n1")?;
        let mut high = lab.node("n2")?;
        let (low_heard, high_heard) = (low.sniff(VIP)?, high.sniff(VIP)?);
        let client = lab.client("c1")?;
        let _prober = ha_tests::Prober::start(&client, VIP, ha_tests::Probes::EchoAndArp)?;
        let routers = [router(&low, 100).preempt(true)];
        low.start(Kind::Had, &routers)?;
        low.wait_for(WEB, "active")?;
        let routers = [router(&high, 200).preempt(true)];
        high.start(Kind::Had, &routers)?;
        high.wait_for(WEB, "active")?;
        low.wait_for(WEB, "backup")?;
        low.wait_for_vip(VIP, false)?;
        eventually(PATIENCE, "the better one answers", || {
            Ok(!high_heard.spoken(ha_common::MonoNs::ZERO, now()).is_empty())
        })?;
        one_after_the_other(&low_heard, &high_heard)
    });
}

#[test]
fn an_owner_takes_its_address_back_and_hands_it_over_when_it_ends() {
    scenario(|lab| {
        let mut owner = lab.node("n1")?;
        let mut other = lab.node("n2")?;
        let client = lab.client("c1")?;
        let prober = ha_tests::Prober::start(&client, VIP, ha_tests::Probes::EchoAndArp)?;
        let routers = [router(&other, 100)];
        other.start(Kind::Had, &routers)?;
        other.wait_for(WEB, "active")?;
        owner
            .ns()
            .ip(&["addr", "add", &format!("{VIP}/24"), "dev", "eth0"])?;
        let routers = [router(&owner, 255)];
        owner.start(Kind::Had, &routers)?;
        owner.wait_for(WEB, "active")?;
        other.wait_for(WEB, "backup")?;
        eventually(PATIENCE, "the owner answers", || {
            Ok(prober.answered_within(INTERVAL) == Some(owner.mac()))
        })?;
        owner.stop()?;
        other.wait_for(WEB, "active")?;
        let transitions = other.events("transition")?;
        ensure!(
            transitions.iter().any(|why| why.contains("let go")),
            "it waited for silence instead: {transitions:?}"
        );
        ensure!(owner.has(VIP)?, "the owner's own address was removed");
        Ok(())
    });
}

#[test]
fn preempt_delay_is_waited_for() {
    scenario(|lab| {
        let mut low = lab.node("n1")?;
        let mut high = lab.node("n2")?;
        let routers = [router(&low, 100)];
        low.start(Kind::Had, &routers)?;
        low.wait_for(WEB, "active")?;
        let started = now();
        let routers = [router(&high, 200)
            .preempt(true)
            .had_lines("preempt_delay = \"1500ms\"")];
        high.start(Kind::Had, &routers)?;
        high.wait_for(WEB, "backup")?;
        high.wait_for(WEB, "active")?;
        let waited = now().since(started);
        ensure!(waited.0 > 1_500_000_000, "it waited only {waited}");
        Ok(())
    });
}

#[test]
fn of_three_nodes_the_best_survivor_takes_over_each_time() {
    scenario(|lab| {
        let mut nodes = Vec::new();
        for (index, priority) in [200, 150, 100].into_iter().enumerate() {
            let mut node = lab.node(&format!("n{}", index + 1))?;
            let routers = [router(&node, priority)];
            node.start(Kind::Had, &routers)?;
            node.wait_for(WEB, if index == 0 { "active" } else { "backup" })?;
            nodes.push(node);
        }
        nodes[0].power_off()?;
        nodes[1].wait_for(WEB, "active")?;
        throughout(A_WHILE, "the third stays Backup", || {
            Ok(nodes[2].state(WEB)? == "backup" && nodes[1].state(WEB)? == "active")
        })?;
        nodes[1].power_off()?;
        nodes[2].wait_for(WEB, "active")?;
        nodes[0].power_on()?;
        nodes[1].power_on()?;
        nodes[0].wait_for(WEB, "backup")?;
        nodes[1].wait_for(WEB, "backup")?;
        throughout(A_WHILE, "the third stays Active", || {
            Ok(nodes[2].state(WEB)? == "active")
        })
    });
}

#[test]
fn of_equals_that_boot_together_exactly_one_is_active() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        for node in &mut nodes {
            let routers = [router(node, 100)];
            node.start(Kind::Had, &routers)?;
        }
        let states = |nodes: &[Node; 2]| -> Result<[String; 2]> {
            Ok([nodes[0].state(WEB)?, nodes[1].state(WEB)?])
        };
        eventually(PATIENCE, "one is Active, one Backup", || {
            let mut found = states(&nodes)?;
            found.sort();
            Ok(found == ["active", "backup"])
        })?;
        let settled = states(&nodes)?;
        throughout(A_WHILE, "it stays so", || Ok(states(&nodes)? == settled))?;
        ensure!(nodes[0].has(VIP)? != nodes[1].has(VIP)?);
        Ok(())
    });
}

/// Two virtual routers: `web` is better on the first node, `mail` on the second.
fn crossing(node: &Node, first: bool, group: Option<&str>) -> [VirtualRouter; 2] {
    let (here, there) = if first || group.is_some() {
        (200, 100)
    } else {
        (100, 200)
    };
    let web = router(node, here).preempt(true);
    let there = if group.is_some() { here } else { there };
    let mail = web.clone().priority(there).sibling("mail", 52, VIP_2);
    match group {
        Some(group) => [web.group(group), mail.group(group)],
        None => [web, mail],
    }
}

#[test]
fn two_vrids_cross_and_each_node_is_active_for_one() {
    scenario(|lab| {
        let mut first = lab.node("n1")?;
        let mut second = lab.node("n2")?;
        let routers = crossing(&first, true, None);
        first.start(Kind::Had, &routers)?;
        let routers = crossing(&second, false, None);
        second.start(Kind::Had, &routers)?;
        let crossed = |first: &Node, second: &Node| -> Result<()> {
            first.wait_for(WEB, "active")?;
            second.wait_for("mail", "active")?;
            first.wait_for("mail", "backup")?;
            second.wait_for(WEB, "backup")
        };
        crossed(&first, &second)?;
        second.power_off()?;
        first.wait_for("mail", "active")?;
        ensure!(first.has(VIP)? && first.has(VIP_2)?);
        ensure!(first.state(WEB)? == "active", "web is no part of this");
        second.power_on()?;
        crossed(&first, &second)?;
        ensure!(first.has(VIP)? && !first.has(VIP_2)?);
        ensure!(!second.has(VIP)? && second.has(VIP_2)?);
        Ok(())
    });
}

#[test]
fn the_instances_of_a_group_move_together() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        for (index, node) in nodes.iter_mut().enumerate() {
            node.plug("eth1")?;
            node.ns().ip(&[
                "addr",
                "add",
                &format!("10.78.0.{}/24", index + 1),
                "dev",
                "eth1",
            ])?;
            let [web, mut mail] = crossing(node, true, Some("pair"));
            "eth1".clone_into(&mut mail.interface);
            mail.source = [10, 78, 0, u8::try_from(index + 1)?].into();
            mail.vips = vec![[10, 78, 0, 100].into()];
            node.start(Kind::Had, &[web.preempt(false), mail.preempt(false)])?;
            let state = if index == 0 { "active" } else { "backup" };
            node.wait_for(WEB, state)?;
            node.wait_for("mail", state)?;
        }
        // Only one of the two interfaces fails.
        nodes[0].set_link("eth1", false)?;
        for instance in [WEB, "mail"] {
            nodes[1].wait_for(instance, "active")?;
        }
        eventually(PATIENCE, "the first node lets go of both", || {
            Ok(nodes[0].state(WEB)? != "active" && nodes[0].state("mail")? == "fault")
        })?;
        nodes[0].wait_for_vip(VIP, false)?;
        nodes[0].set_link("eth1", true)?;
        for instance in [WEB, "mail"] {
            nodes[0].wait_for(instance, "backup")?;
        }
        throughout(A_WHILE, "both stay where they are", || {
            Ok(nodes[1].state(WEB)? == "active" && nodes[1].state("mail")? == "active")
        })
    });
}

#[test]
fn an_active_router_answers_a_worse_one_at_once() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let heard = nodes[0].sniff(VIP)?;
        for (node, priority) in nodes.iter_mut().zip([200, 100]) {
            // With so long an interval only an immediate advert (RFC 9568 section 6.4.3) comes in time.
            let routers = [node.router().interval_ms(2_000).priority(priority)];
            node.start(Kind::Had, &routers)?;
            if priority == 200 {
                node.wait_for(WEB, "active")?;
            }
        }
        nodes[1].wait_for(WEB, "backup")?;
        lab.cut(&nodes[0], &nodes[1])?;
        nodes[1].wait_for(WEB, "active")?;
        lab.heal()?;
        nodes[1].wait_for(WEB, "backup")?;
        nodes[0].wait_for(WEB, "active")?;
        let adverts = heard.adverts(VRID, ha_common::MonoNs::ZERO, now());
        let early = adverts
            .windows(2)
            .any(|pair| pair[1].0.since(pair[0].0) < INTERVAL.times(36));
        ensure!(early, "no advert came ahead of its time: {adverts:?}");
        Ok(())
    });
}

//! An API with its database on two nodes, active-standby, one VIP: unicast, `nopreempt` on both nodes.
//! The rows that its users test before they trust it, in one sitting.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Node,
    lab::VIP,
    now, scenario,
    scene::{Scene, WEB},
};

const A_WHILE: Duration = Duration::from_millis(500);

#[test]
fn every_tested_row_of_set_up_b() {
    scenario(|lab| {
        // A node that boots with everything on becomes MASTER and gets the VIP; the second one BACKUP.
        let mut scene = Scene::new(lab, |router| router)?;
        master_and_backup(&scene.nodes[0], &scene.nodes[1])?;
        type Step = fn(&mut Node) -> Result<()>;
        let rows: [(&str, Step, Step); 4] = [
            ("power off", |node| node.power_off(), |node| node.power_on()),
            (
                "NIC down",
                |node| node.set_link("eth0", false),
                |node| node.set_link("eth0", true),
            ),
            ("daemon stopped", Node::stop, |node| node.restart(Kind::Had)),
            ("daemon killed", Node::kill, |node| node.restart(Kind::Had)),
        ];
        for (index, (row, fault, repair)) in rows.into_iter().enumerate() {
            let (old, new) = (index % 2, 1 - index % 2);
            let from = now();
            fault(&mut scene.nodes[old])?;
            scene.wait_served_by(new)?;
            let gap = scene.prober.longest_gap(from, now())?;
            ensure!(
                gap.length() < Nanos::from_secs(3),
                "{row}: {}",
                gap.length()
            );
            // When the first comes back there is no pre-emption.
            repair(&mut scene.nodes[old])?;
            scene.stays(new, A_WHILE)?;
            master_and_backup(&scene.nodes[new], &scene.nodes[old])?;
        }
        Ok(())
    });
}

fn master_and_backup(master: &Node, backup: &Node) -> Result<()> {
    let word = |node: &Node| -> Result<_> { Ok(node.instance(WEB)?["keepalived_state"].clone()) };
    ensure!(word(master)? == "MASTER" && master.has(VIP)?);
    ensure!(word(backup)? == "BACKUP" && !backup.has(VIP)?);
    Ok(())
}

//! The modes of set-up B: active-standby on both nodes (ap, ap); after a failover that nobody asked for maintenance and
//! standalone (m, s); back by hand. Between any two steps nodes lose their power and boot.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Kind, eventually, lab::VIP, node::PATIENCE, scenario, scene::WEB, wait::throughout,
};

use crate::{
    room::ROLES,
    stage::{Shape, Stage},
};

const AP: &str = "active-standby";
const M: &str = "maintenance";
const S: &str = "standalone";

const A_WHILE: Duration = Duration::from_millis(1_500);

impl Stage {
    /// A node loses its power: all that it keeps is its state directory.
    fn lose_power(&mut self, index: usize) -> Result<()> {
        let node = &mut self.scene.nodes[index];
        node.power_off()?;
        node.kill()?;
        for volatile in ["run", "bpf/had"] {
            let dir = node.dir().join(volatile);
            if dir.exists() {
                fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
            }
        }
        fs::create_dir(node.dir().join("run"))?;
        if node.has(VIP)? {
            let address = format!("{VIP}/24");
            node.ns().ip(&["addr", "del", &address, "dev", "eth0"])?;
        }
        self.room.forget(self.name(index))
    }

    fn boot(&mut self, index: usize) -> Result<()> {
        self.scene.nodes[index].power_on()?;
        self.scene.nodes[index].restart(Kind::Had)?;
        self.wait_for_stance(index, "standby")
            .or_else(|_| self.wait_for_stance(index, "primary"))
    }

    fn reboot(&mut self, index: usize) -> Result<()> {
        self.lose_power(index)?;
        self.boot(index)
    }

    fn mode(&self, index: usize) -> Result<String> {
        let mode = self.node(index).hactl(&["mode"])?;
        Ok(mode["mode"].as_str().context("a mode")?.to_owned())
    }

    fn wait_for_modes(&self, modes: [&str; 2]) -> Result<()> {
        let mut last = Vec::new();
        eventually(PATIENCE, &format!("the modes are {modes:?}"), || {
            last = (0..2)
                .map(|index| self.mode(index))
                .collect::<Result<_>>()?;
            Ok(last == modes)
        })
        .with_context(|| format!("they are {last:?}"))
    }

    /// One node serves alone, and the other one holds nothing and takes nothing over.
    fn stands_alone(&self, index: usize) -> Result<()> {
        self.node(index).wait_for(WEB, "active")?;
        self.scene.wait_served_by(index)?;
        self.node(1 - index).wait_for(WEB, "initialize")?;
        throughout(A_WHILE, "one node stands alone", || {
            let (own, other) = (
                self.node(index).state(WEB)?,
                self.node(1 - index).state(WEB)?,
            );
            Ok(own == "active" && other == "initialize")
        })?;
        let explained = self.node(1 - index).hactl(&["explain", WEB])?.to_string();
        ensure!(explained.contains("maintenance"), "{explained}");
        ensure!(self.room.promoted(self.name(index)) == ROLES);
        ensure!(self.room.promoted(self.name(1 - index)).is_empty());
        Ok(())
    }
}

#[test]
fn an_unplanned_failover_leaves_maintenance_and_standalone_until_a_person_returns_both() {
    scenario(|lab| {
        let shape = Shape {
            sections: "\n[mode]\nafter_failover = \"maintenance\"\n",
            ..Shape::default()
        };
        let mut stage = Stage::new(lab, &shape)?;
        stage.wait_settled(0)?;
        // (ap, ap): what is asked for changes no mode, nor does a standby that boots.
        stage.node(0).hactl(&["switchover", WEB])?;
        stage.wait_settled(1)?;
        stage.node(1).hactl(&["switchover", WEB])?;
        stage.wait_settled(0)?;
        stage.reboot(1)?;
        stage.wait_settled(0)?;
        stage.wait_for_modes([AP, AP])?;
        stage.check()?;

        for (old, new) in [(0, 1), (1, 0)] {
            stage.clear();
            let modes = |first, second| {
                if old == 0 {
                    [first, second]
                } else {
                    [second, first]
                }
            };
            // The failover; the survivor boots as well before the other one is back.
            stage.lose_power(old)?;
            stage.scene.wait_served_by(new)?;
            eventually(PATIENCE, "the survivor stands alone", || {
                Ok(stage.mode(new)? == S)
            })?;
            stage.reboot(new)?;
            stage.scene.wait_served_by(new)?;
            ensure!(stage.mode(new)? == S);
            stage.boot(old)?;
            stage.wait_for_modes(modes(M, S))?;
            stage.stands_alone(new)?;

            // (m, s) outlives a boot of either.
            stage.reboot(old)?;
            stage.stands_alone(new)?;
            stage.reboot(new)?;
            stage.stands_alone(new)?;
            stage.wait_for_modes(modes(M, S))?;

            // Back, the one in maintenance first.
            stage.node(old).hactl(&["mode", AP])?;
            stage.node(old).wait_for(WEB, "backup")?;
            stage.reboot(old)?;
            stage.wait_for_modes(modes(AP, S))?;
            stage.node(new).hactl(&["mode", AP])?;
            stage.wait_settled(new)?;
            stage.reboot(old)?;
            stage.wait_settled(new)?;
            stage.wait_for_modes([AP, AP])?;
            stage.check()?;
        }
        Ok(())
    });
}

#[test]
fn a_node_in_maintenance_takes_nothing_over() {
    scenario(|lab| {
        let mut stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.node(1).hactl(&["mode", M])?;
        stage.node(1).wait_for(WEB, "initialize")?;
        // Who alone can serve is asked whether that is meant.
        let refused = stage.node(0).hactl(&["mode", M]);
        let said = format!("{:#}", refused.err().context("a refusal")?);
        ensure!(said.contains("--force"), "{said}");
        ensure!(stage.mode(0)? == AP);
        stage.node(0).hactl(&["mode", M, "--force"])?;
        stage.scene.wait_unserved()?;
        stage.node(0).hactl(&["mode", AP])?;
        stage.wait_promoted(0)?;
        stage.scene.wait_served_by(0)?;
        stage.scene.nodes[0].kill()?;
        stage.scene.wait_unserved()?;
        throughout(A_WHILE, "nobody takes over", || {
            Ok(stage.node(1).state(WEB)? == "initialize")
        })?;
        ensure!(stage.room.promoted("n2").is_empty());
        stage.node(1).hactl(&["mode", AP])?;
        stage.scene.wait_served_by(1)?;
        stage.scene.nodes[0].restart(Kind::Had)?;
        stage.wait_settled(1)?;
        // Asked to rest while it is Active, it hands over, and the other one has it all.
        stage.node(1).hactl(&["mode", M])?;
        stage.wait_promoted(0)?;
        ensure!(stage.node(1).state(WEB)? == "initialize");
        stage.check()
    });
}

//! Two nodes with a group of two roles, a client that asks both for the VIP all the time, and what must never be.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use ha_common::MonoNs;
use ha_tests::{
    Lab, Node, RollCall, eventually,
    lab::VIP,
    node::PATIENCE,
    now,
    scene::{Scene, WEB},
};
use serde_json::Value;

use crate::room::{Entry, ROLES, Room, TICK};

/// Name of the group.
pub(crate) const GROUP: &str = "app";

/// Comfortable on a busy machine; a lease lasts 200 ms.
const TIMES: &str = "interval = \"20ms\", multiplier = 10";

/// The key of the link: of a lab that is gone in a minute.
const KEY_BYTES: usize = 32;

/// What a stage's nodes have beside the usual.
pub(crate) struct Shape<'a> {
    /// More keys of each role.
    pub(crate) role: &'a str,
    /// Of the group.
    pub(crate) group: &'a str,
    /// Further sections.
    pub(crate) sections: &'a str,
    /// With the check of [`Room::check_of`].
    pub(crate) check: bool,
}

impl Default for Shape<'_> {
    /// With limits that nothing comes near unless it is told to.
    fn default() -> Self {
        Self {
            role: "promote_limit = \"10s\"\ndemote_limit = \"10s\"",
            group: "",
            sections: "",
            check: false,
        }
    }
}

pub(crate) struct Stage {
    pub(crate) scene: Scene,
    pub(crate) room: Room,
    roll_call: RollCall,
    from: MonoNs,
}

impl Stage {
    /// Both nodes run, the first one is Active.
    pub(crate) fn new(lab: &Lab, shape: &Shape<'_>) -> Result<Self> {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let room = Room::new(nodes[0].dir(), VIP)?;
        let roles = room.sections(shape.role);
        let lines = |node: &Node| -> Result<String> {
            let check = shape.check.then(|| room.check_of(node.name()));
            let (own, check) = (lines(node)?, check.unwrap_or_default());
            let (group, sections) = (shape.group, shape.sections);
            Ok(format!("{own}{group}\n{roles}{check}{sections}"))
        };
        let (first, second) = (lines(&nodes[0])?, lines(&nodes[1])?);
        let first_address = nodes[0].address();
        let from = now();
        let scene = Scene::of(lab, nodes, |router| {
            let is_first = router.source == first_address;
            router.had_lines(if is_first { &first } else { &second })
        })?;
        let macs = [scene.nodes[0].mac(), scene.nodes[1].mac()];
        let roll_call = RollCall::start(&scene.client, VIP, macs)?;
        Ok(Self {
            scene,
            room,
            roll_call,
            from,
        })
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.scene.nodes[index]
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        self.scene.nodes[index].name()
    }

    /// Waits until a node is Active with all of its roles, and the other one has none and could take over; each has
    /// just heard that of the other.
    pub(crate) fn wait_settled(&self, active: usize) -> Result<()> {
        self.wait_promoted(active)?;
        for (index, stance) in [(active, "standby"), (1 - active, "primary")] {
            let what = format!("{} hears that the other node is {stance}", self.name(index));
            let mut last = Value::Null;
            eventually(PATIENCE, &what, || {
                let group = self.group(index)?;
                last = group["peers"][0].clone();
                let knows = last["epoch"] == group["epoch"];
                let just = last["heard_ms_ago"].as_u64().is_some_and(|ago| ago < 500);
                Ok(just && knows && last["stance"] == stance && last["not_eligible"].is_null())
            })
            .with_context(|| last.to_string())?;
        }
        Ok(())
    }

    /// Waits until a node is Active with all of its roles, and the other one has none.
    pub(crate) fn wait_promoted(&self, active: usize) -> Result<()> {
        self.node(active).wait_for(WEB, "active")?;
        self.scene.wait_served_by(active)?;
        self.wait_for_stance(active, "primary")?;
        self.wait_for_stance(1 - active, "standby")?;
        let (primary, standby) = (self.name(active), self.name(1 - active));
        ensure!(
            self.room.promoted(primary) == ROLES && self.room.promoted(standby).is_empty(),
            "promoted on {primary}: {:?}, on {standby}: {:?}",
            self.room.promoted(primary),
            self.room.promoted(standby)
        );
        Ok(())
    }

    /// The node that comes to be Active.
    pub(crate) fn wait_for_active(&self) -> Result<usize> {
        let mut active = None;
        eventually(PATIENCE, "a node is Active", || {
            let is = |index: &usize| {
                self.node(*index)
                    .state(WEB)
                    .is_ok_and(|state| state == "active")
            };
            active = (0..2).find(is);
            Ok(active.is_some())
        })?;
        active.context("a node that was found")
    }

    /// What `hactl roles` says of the group on a node.
    pub(crate) fn group(&self, index: usize) -> Result<Value> {
        let report = self.node(index).hactl(&["roles"])?;
        Ok(report["groups"][0].clone())
    }

    pub(crate) fn wait_for_stance(&self, index: usize, stance: &str) -> Result<()> {
        let what = format!("{}: the group is {stance}", self.name(index));
        let mut last = Value::Null;
        eventually(PATIENCE, &what, || {
            last = self.group(index)?;
            let rests = last["plan"]["under_way"] != true;
            Ok(last["stance"] == stance && (rests || stance.ends_with("ing")))
        })
        .with_context(|| last.to_string())
    }

    /// Checks what must hold all the time: one node answers at a time, and only while its roles are promoted, which
    /// never see the VIP while they are on their way, and of which one is on its way at a time.
    pub(crate) fn check(&self) -> Result<()> {
        let end = now();
        let lost = self.roll_call.lost();
        ensure!(lost == 0, "{lost} frames were missed");
        let overlaps = self.roll_call.overlaps(self.from, end);
        ensure!(overlaps.is_empty(), "both nodes answered: {overlaps:?}");
        let diary = self.room.diary()?;
        if let Some(entry) = diary.iter().find(|entry| entry.vip) {
            anyhow::bail!("the VIP was there at: {entry}");
        }
        let answers = self.roll_call.answers(self.from, end);
        for (index, answers) in answers.iter().enumerate() {
            let own: Vec<&Entry> = diary
                .iter()
                .filter(|entry| entry.node == self.name(index))
                .collect();
            let mut begun = None;
            for entry in &own {
                let step = (&entry.role, &entry.step);
                if entry.word == "begin" {
                    begun = Some(step);
                }
                ensure!(begun == Some(step), "{entry} beside {begun:?}: {own:?}");
            }
            for at in answers {
                ensure!(
                    is_promoted(&own, *at),
                    "{} answered at {at:?} although its roles were not promoted: {own:?}",
                    self.name(index)
                );
            }
        }
        Ok(())
    }

    /// When nodes answered first and last since then.
    pub(crate) fn answers(&self, from: MonoNs) -> [Vec<MonoNs>; 2] {
        self.roll_call.answers(from, now())
    }

    /// Forgets what was asked and answered.
    pub(crate) fn clear(&mut self) {
        self.roll_call.clear();
        self.scene.prober.clear();
        self.from = now();
    }
}

/// Whether a node's last role had been promoted, and none had been touched since: as far as a diary in ticks can show.
fn is_promoted(diary: &[&Entry], at: MonoNs) -> bool {
    let mut promoted = false;
    for entry in diary {
        if entry.word == "done" && entry.step == "promote" && entry.role == ROLES[1] {
            if entry.at <= at {
                promoted = true;
            }
        } else if entry.at.after(TICK) < at {
            promoted = false;
        }
    }
    promoted
}

fn lines(node: &Node) -> Result<String> {
    let key = node.dir().join("link.key");
    fs::write(&key, "5a".repeat(KEY_BYTES))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(format!(
        "heartbeat = {{ {TIMES} }}\ngroup = \"{GROUP}\"\n\n[link]\nkey_file = {key:?}\n\n\
         [[group]]\nname = \"{GROUP}\"\nroles = [\"first\", \"second\"]\n"
    ))
}

//! How a volume is laid out, and which of its bricks it needs.

use std::collections::HashMap;

use super::answer::{Answer, Brick, Fields};
use crate::checks::words::clean;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    name: String,
    /// In the order of its subvolumes.
    pub(super) bricks: Vec<Brick>,
    /// Bricks of one subvolume.
    width: usize,
    /// Of these, how many are needed.
    needed: usize,
}

impl Volume {
    /// From `volume info`.
    pub(super) fn of(info: &Answer, name: &str) -> Result<Self, String> {
        info.refused()
            .map_err(|error| format!("{error}: see `volume`"))?;
        let named = |volume: &&Fields| volume.get("name").is_some_and(|known| known == name);
        let Some(volume) = info.volumes.iter().find(named) else {
            return Err(format!("there is no volume {name}: see `volume`"));
        };
        let status = volume.get("statusStr").map_or("unknown", String::as_str);
        if status != "Started" {
            return Err(format!(
                "{name} is {}: run: gluster volume start {name}",
                clean(status)
            ));
        }
        let number = |key: &str| {
            let number = volume.get(key).and_then(|number| number.parse().ok());
            number.unwrap_or(0_usize)
        };
        let (replicas, fragments) = (number("replicaCount"), number("disperseCount"));
        let (width, needed) = if fragments > 0 {
            (
                fragments,
                fragments.saturating_sub(number("redundancyCount")),
            )
        } else if replicas > 2 {
            (replicas, replicas / 2 + 1)
        } else {
            // Of two, either may be the one that is left; which, is glusterd's own business.
            (replicas.max(1), 1)
        };
        Ok(Self {
            name: name.to_owned(),
            bricks: info.bricks.iter().filter_map(brick).collect(),
            width,
            needed,
        })
    }

    /// The bricks of a node.
    pub(super) fn of_node(&self, node: &str) -> impl Iterator<Item = &Brick> {
        self.bricks.iter().filter(move |(of, _)| of == node)
    }

    /// In words what is right, or what is wrong.
    pub(super) fn judge(
        &self,
        online: &HashMap<Brick, Option<i32>>,
        node: &str,
    ) -> Result<String, String> {
        let name = &self.name;
        let own = self.of_node(node).count();
        if own == 0 {
            return Err(format!("this node has no brick of {name}"));
        }
        for brick in self.of_node(node) {
            if !online.contains_key(brick) {
                let path = clean(&brick.1);
                return Err(format!(
                    "this node's brick {path} of {name} is offline: run: gluster volume start {name} force"
                ));
            }
        }
        for (number, subvolume) in self.bricks.chunks(self.width).enumerate() {
            let there = subvolume.iter().filter(|&brick| online.contains_key(brick));
            let there = there.count();
            if there < self.needed {
                return Err(format!(
                    "{there} of the {} bricks of subvolume {} of {name} are online, and {} are needed",
                    subvolume.len(),
                    number + 1,
                    self.needed
                ));
            }
        }
        let there = self
            .bricks
            .iter()
            .filter(|&brick| online.contains_key(brick));
        Ok(format!(
            "{name} is started, {} of {} bricks online, {own} of them here",
            there.count(),
            self.bricks.len()
        ))
    }
}

/// `name` is the host, a colon and the path.
fn brick(fields: &Fields) -> Option<Brick> {
    let name = fields.get("name")?;
    let path = &name[name.find(":/")? + 1..];
    Some((fields.get("hostUuid")?.clone(), path.to_owned()))
}

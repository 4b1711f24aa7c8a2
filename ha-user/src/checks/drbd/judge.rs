//! What the state of a resource means for this node.

use ha_common::{MonoNs, Nanos};

use crate::{
    checks::{probe::Role, words::clean},
    drbd::{Connection, Report, usable},
    sys::clock,
};

/// What this node is, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) role: Role,
    since: MonoNs,
}

impl Standing {
    pub(super) fn begun(role: Role) -> Self {
        Self {
            role,
            since: clock::now(),
        }
    }

    pub(super) fn update(&mut self, role: Role) {
        if role != self.role {
            *self = Self::begun(role);
        }
    }
}

/// What is asked of a resource.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) resource: String,
    pub(super) promote_within: Nanos,
}

impl Rules {
    /// In words what is right, or what is wrong.
    ///
    /// The question is whether this node could use the resource, or does. That a peer is gone is nothing against
    /// it. Nor is a lost connection of the node that uses the resource: after a split brain it would be the worst
    /// to let the other one go on with other data.
    pub(super) fn judge(
        &self,
        found: &Report,
        standing: Standing,
        now: MonoNs,
    ) -> Result<String, String> {
        let resource = &self.resource;
        let role = usable(resource, found)?;
        let is_primary = role == "Primary";
        let alone = found
            .connections
            .iter()
            .find(|one| one.state == "StandAlone");
        if let Some(alone) = alone
            && !(is_primary && standing.role == Role::Active)
        {
            return Err(self.stands_alone(alone));
        }
        let promotion = match standing.role {
            Role::Active if !is_primary && self.promote_within > Nanos::ZERO => {
                if now.since(standing.since) > self.promote_within {
                    return Err(format!(
                        "{resource} is {} for longer than {} on the active node: run: drbdadm primary {resource}",
                        clean(role),
                        self.promote_within
                    ));
                }
                ", to be promoted"
            }
            _ => "",
        };
        let disks: Vec<String> = found.devices.iter().map(|one| clean(&one.disk)).collect();
        let mut said = format!(
            "{resource} is {}{promotion}, {}",
            clean(role),
            disks.join(", ")
        );
        for connection in &found.connections {
            said.push_str(&format!(
                "; {} {}",
                clean(&connection.peer),
                clean(&connection.state)
            ));
        }
        if let Some(alone) = alone {
            said.push_str(&format!(": {}", self.stands_alone(alone)));
        }
        Ok(said)
    }

    fn stands_alone(&self, connection: &Connection) -> String {
        let resource = &self.resource;
        format!(
            "the connection of {resource} to {} is StandAlone: after a split brain decide whose data stay, else run: drbdadm connect {resource}",
            clean(&connection.peer)
        )
    }
}

//! A node of a Galera cluster: what it says of itself, and what follows from that.

mod audit;
mod grastate;
mod outage;
mod place;
mod timing;

use alloc::{
    format,
    string::{String, ToString as _},
};

pub use self::{
    audit::{Demands, SETTINGS, audit},
    grastate::{Grastate, made_safe},
    outage::{Obstacle, Remains, obstacles},
    place::{Place, Told},
    timing::RECOMMENDED,
};

/// `wsrep_local_state` of a node that has everything.
const SYNCED: &str = "4";
/// That of a node that sends everything to another one.
const DONOR: &str = "2";
/// `wsrep_cluster_status` of a node that is not connected to anybody.
const LEFT: &str = "Disconnected";
/// What a node counts as that has not applied anything yet.
const UNKNOWN: u64 = u64::MAX;

/// A node, as it is found. Texts are as the server writes them; empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// `wsrep_cluster_status`: `Primary`, or something else.
    pub cluster_status: String,
    /// `wsrep_connected`.
    pub connected: String,
    /// `wsrep_ready`.
    pub ready: String,
    /// `wsrep_local_state`.
    pub local_state: String,
    /// `wsrep_local_state_comment`.
    pub comment: String,
    /// `wsrep_cluster_size`.
    pub size: u32,
    /// `wsrep_cluster_state_uuid`: the history that the cluster's data has.
    pub history: String,
    /// `wsrep_last_committed`.
    pub committed: u64,
    /// `wsrep_gcomm_uuid`: another one each time that the server starts.
    pub incarnation: String,
}

/// The status variables that [`NodeState::set`] knows.
pub const STATUS: &[&str] = &[
    "wsrep_cluster_status",
    "wsrep_connected",
    "wsrep_ready",
    "wsrep_local_state",
    "wsrep_local_state_comment",
    "wsrep_cluster_size",
    "wsrep_cluster_state_uuid",
    "wsrep_last_committed",
    "wsrep_gcomm_uuid",
];

impl NodeState {
    /// Takes a status variable in.
    pub fn set(&mut self, name: &str, value: &str) {
        let text = || value.to_string();
        match name.to_ascii_lowercase().as_str() {
            "wsrep_cluster_status" => self.cluster_status = text(),
            "wsrep_connected" => self.connected = text(),
            "wsrep_ready" => self.ready = text(),
            "wsrep_local_state" => self.local_state = text(),
            "wsrep_local_state_comment" => self.comment = text(),
            "wsrep_cluster_size" => self.size = value.parse().unwrap_or(0),
            "wsrep_cluster_state_uuid" => self.history = text(),
            "wsrep_last_committed" => self.committed = value.parse().unwrap_or(UNKNOWN),
            "wsrep_gcomm_uuid" => self.incarnation = text(),
            _ => {}
        }
    }

    /// Whether it is in the component that has the quorum. Whole values are compared: "non-Primary" ends like
    /// "Primary".
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.cluster_status == "Primary"
    }

    /// Whether it has all that the component with the quorum has, and takes statements.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub fn serves(&self, donor: bool) -> Result<(), String> {
        let shown = |value: &String| {
            if value.is_empty() {
                "not there".to_string()
            } else {
                value.clone()
            }
        };
        // In the order in which one is the reason of the next.
        if !self.is_primary() {
            return Err(format!(
                "the node is not in the primary component: wsrep_cluster_status is {}, wsrep_connected is {}{}",
                shown(&self.cluster_status),
                shown(&self.connected),
                if self.cluster_status == LEFT {
                    "; if it stays so, its server has left for good: restart it"
                } else {
                    ""
                }
            ));
        }
        if self.connected != "ON" {
            return Err(format!(
                "the node is not connected to the cluster: wsrep_connected is {}",
                shown(&self.connected)
            ));
        }
        let is_donor = self.local_state == DONOR;
        if self.local_state != SYNCED && !(donor && is_donor) {
            return Err(format!(
                "the node is not synced: wsrep_local_state is {} ({}){}",
                shown(&self.local_state),
                shown(&self.comment),
                if is_donor {
                    "; with `donor = true` it may serve"
                } else {
                    ""
                }
            ));
        }
        if self.ready != "ON" {
            return Err(format!(
                "the node takes no statements: wsrep_ready is {}",
                shown(&self.ready)
            ));
        }
        Ok(())
    }

    /// How far its data is, if it knows.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let place = Place {
            history: self.history.clone(),
            seqno: Some(self.committed).filter(|committed| *committed != UNKNOWN)?,
        };
        (!place.is_undefined()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(changes: &[(&str, &str)]) -> NodeState {
        let mut state = NodeState::default();
        let healthy = [
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_connected", "ON"),
            ("wsrep_ready", "ON"),
            ("wsrep_local_state", "4"),
            ("wsrep_local_state_comment", "Synced"),
            ("wsrep_cluster_size", "2"),
            (
                "Wsrep_cluster_state_uuid",
                "c78bbce6-e676-11f1-9995-7224c4323290",
            ),
            ("wsrep_last_committed", "57"),
        ];
        for (name, value) in healthy.iter().chain(changes) {
            state.set(name, value);
        }
        state
    }

    #[test]
    fn who_has_everything_serves() {
        assert_eq!(node(&[]).serves(false), Ok(()));
        let place = node(&[]).place().unwrap();
        assert_eq!(place.to_string(), "c78bbce6-e676-11f1-9995-7224c4323290:57");
        // As a node does that has lost the others.
        let alone = node(&[
            ("wsrep_cluster_status", "non-Primary"),
            ("wsrep_local_state", "0"),
            ("wsrep_ready", "OFF"),
        ]);
        assert!(alone.serves(true).unwrap_err().contains("non-Primary"));
        assert_eq!(alone.place(), Some(place));
        // As one does that loses the others while it is given what it lacks.
        let left = node(&[("wsrep_cluster_status", "Disconnected")]);
        assert!(left.serves(true).unwrap_err().contains("restart it"));
    }

    #[test]
    fn a_donor_serves_where_that_is_said() {
        let donor = node(&[("wsrep_local_state", "2")]);
        assert!(donor.serves(false).unwrap_err().contains("donor = true"));
        assert_eq!(donor.serves(true), Ok(()));
        for state in ["0", "1", "3", "14", ""] {
            assert!(node(&[("wsrep_local_state", state)]).serves(true).is_err());
        }
    }

    #[test]
    fn a_node_that_has_not_begun_is_nowhere() {
        let fresh = [("wsrep_last_committed", "18446744073709551615")];
        assert_eq!(node(&fresh).place(), None);
        let undefined = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            node(&[("wsrep_cluster_state_uuid", undefined)]).place(),
            None
        );
    }
}

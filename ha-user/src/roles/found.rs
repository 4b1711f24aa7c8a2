//! What a role finds on its own node.

use ha_common::MonoNs;
use ha_core::plan::{Done, Observation, Order};

/// A role of kind `drbd`, `mount` or `unit`, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether it is promoted here: Primary, mounted, running. `None`: that cannot be told.
    pub(super) promoted: Option<bool>,
    /// Whether it could be promoted, or why not.
    pub(super) able: Result<(), String>,
}

impl Found {
    /// It cannot be told.
    pub(super) fn unknown(why: String) -> Self {
        Self {
            promoted: None,
            able: Err(why),
        }
    }

    /// The same for the conductor. Nodes of these kinds do not compare their data.
    pub(super) fn observation(self) -> Observation {
        Observation::of(self.promoted, self.able)
    }
}

/// A step that was done, with something to say.
pub(super) fn done(text: String) -> Done {
    Done {
        text,
        ..Done::default()
    }
}

/// When a step's tries end: a little before it is given up, so that it can say why it failed.
pub(super) fn end_of(order: &Order) -> MonoNs {
    order.deadline.before(super::time::TO_SAY)
}

//! A session as `hactl status` shows it.

use ha_common::{
    MonoNs, Nanos,
    wire::bfd::{Diagnostic, State},
};

use super::Cause;

/// One session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// State.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: MonoNs,
    /// The peer's state, as it said last.
    pub remote_state: State,
    /// Why this node's session was last not Up.
    pub diagnostic: Diagnostic,
    /// Why the peer's was, as it says.
    pub remote_diagnostic: Diagnostic,
    /// Between two packets of ours, less jitter.
    pub transmit_interval: Nanos,
    /// The longest pause between two packets of the peer's; zero before it was heard.
    pub receive_interval: Nanos,
    /// Silence of this length takes the session down; zero before the peer was heard.
    pub detection_time: Nanos,
    /// When the peer was last heard.
    pub heard: Option<MonoNs>,
    /// Packets sent.
    pub sent: u64,
    /// Packets that were discarded here: malformed, with another discriminator, or wrongly authenticated.
    pub rejected: u64,
    /// How often it was Up and no longer is.
    pub flaps: u64,
}

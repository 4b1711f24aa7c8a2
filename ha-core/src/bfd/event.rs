//! What goes into a session and what comes out of it.

use alloc::string::String;
use core::fmt;

use ha_common::{
    MonoNs, Nanos,
    wire::bfd::{Diagnostic, Payload, State},
};

use super::SessionConfig;
use crate::status::Span;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A packet of this session arrived; or, where the kernel takes repetitions without a word, its stamp
    /// of the last one moved.
    Packet {
        /// Its bytes.
        payload: Payload,
        /// When it arrived, by the kernel's stamp.
        received_at: MonoNs,
    },
    /// The kernel's timer found silence.
    Silence,
    /// Hold the session down (RFC 5880 section 6.8.16).
    Disable,
    /// The opposite.
    Enable,
    /// The parameters changed; My Discriminator stays.
    Configure(SessionConfig),
}

/// Something to do, at once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a packet to the peer.
    Transmit(Payload),
    /// Let the kernel take repetitions of the last packet without a word, and report silence of this
    /// length; `None`: neither.
    Watch(Option<Nanos>),
    /// Log, record and publish.
    Report(Change),
    /// Something worth an event that is no change of state: a sentence.
    Note(String),
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: MonoNs,
}

/// Why a session is in its state. Its `Display` is a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The daemon, or the session, began.
    Started,
    /// The handshake went on: the peer is in this state.
    Peer(State),
    /// Nothing was heard for the Detection Time.
    Expired {
        /// Since the last packet.
        silent: Nanos,
    },
    /// The peer says that its session is down, and why.
    PeerDown(Diagnostic),
    /// The peer holds its session down.
    PeerAdminDown,
    /// This node holds it down.
    Disabled,
    /// This node no longer does.
    Enabled,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("it was started"),
            Self::Peer(state) => write!(f, "the peer is heard, and says {state}"),
            Self::Expired { silent } => {
                write!(f, "nothing was heard from the peer for {}", Span(*silent))
            }
            Self::PeerDown(diagnostic) => {
                write!(f, "the peer took it down, and says \"{diagnostic}\"")
            }
            Self::PeerAdminDown => f.write_str("the peer's administrator took it down"),
            Self::Disabled => f.write_str("this node took it down on purpose"),
            Self::Enabled => f.write_str("this node lets it come up again"),
        }
    }
}

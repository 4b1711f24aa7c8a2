//! What the daemon tells the process that fences: one message is one packet.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

/// No message is longer.
pub(super) const MAX_LEN: usize = 65_536;

/// A message, as JSON: both ends are the same program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// The engine thread ran then.
    Pulse {
        /// By CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// What is to be fenced: told after each change, and again and again, for one may find no room.
    Orders {
        /// When that changed last: the daemon ran then.
        at_ns: u64,
        /// Another number: the configuration file has changed.
        edition: u64,
        /// By group, and no other groups: how long the engine thread may be silent.
        limits_ns: BTreeMap<String, u64>,
    },
}

impl Message {
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }

    pub(super) fn decode(packet: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(packet).map_err(io::Error::other)
    }
}

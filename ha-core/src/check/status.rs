//! What is known of a watched service.

use alloc::{string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

/// What is believed of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It works.
    Up,
    /// It does not.
    Down,
}

impl Health {
    /// Lower case, as in `hactl checks --json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a probe that passed found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In words.
    pub text: String,
    /// What it counted, where it counts anything; else 0.
    pub count: i32,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// When it ended.
    pub at: MonoNs,
    /// How long it took.
    pub lasted: Nanos,
    /// What it found: in words what is right, or what is wrong.
    pub result: Result<String, String>,
}

/// One check, as `hactl checks` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckStatus {
    /// What is believed of the service.
    pub health: Health,
    /// Since when.
    pub since: MonoNs,
    /// What made it so: the words of a probe or of an event; empty as long as nothing is known.
    pub why: String,
    /// Probes in a row that passed.
    pub passed: u32,
    /// Probes in a row that failed.
    pub failed: u32,
    /// The last probes, the latest last.
    pub recent: Vec<Probed>,
}

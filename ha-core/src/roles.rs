//! Roles of a group, as far as the engine knows them: they are promoted before the group's addresses are there, and
//! demoted before it is let go of. What they are, and how that is done, is decided and carried out elsewhere.

use alloc::string::String;

use ha_common::Nanos;

/// A group's roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolesConfig {
    /// How long a promotion may take. Who promotes them gives up by itself then; should it hang, the engine does, a
    /// second later.
    pub promote_limit: Nanos,
    /// How long a demotion may take that is taken back where it fails, with that; likewise.
    pub demote_limit: Nanos,
    /// How long a demotion may take that cannot be taken back; likewise.
    pub forced_limit: Nanos,
}

/// Beyond what a promotion or demotion may take, until the engine gives it up: who carries it out does so by itself.
pub(crate) const BACKSTOP: Nanos = Nanos::from_secs(1);

impl RolesConfig {
    /// How long a demotion in this manner may take.
    #[must_use]
    pub const fn demotion(&self, manner: Manner) -> Nanos {
        match manner {
            Manner::Graceful => self.demote_limit,
            Manner::Forced => self.forced_limit,
        }
    }

    /// How long the engine waits for a demotion at most, graceful and in the end forced.
    #[must_use]
    pub const fn longest_departure(&self) -> Nanos {
        self.demote_limit
            .plus(BACKSTOP)
            .plus(self.longest_demotion())
    }

    /// How long the engine waits for a demotion that cannot be taken back, at most.
    #[must_use]
    pub const fn longest_demotion(&self) -> Nanos {
        self.forced_limit.plus(BACKSTOP)
    }
}

/// How roles are demoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// If another node can take over at once, and nothing is lost; else all is taken back.
    Graceful,
    /// In any case.
    Forced,
}

/// What a promotion of a group's roles would meet with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// Whether they could be promoted now; if not, why.
    pub eligible: Result<(), String>,
    /// How far this node's data is: of several candidates the one with the greatest goes first.
    pub position: u32,
}

/// What a node does at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It takes part.
    #[default]
    ActiveStandby,
    /// It holds nothing, and takes nothing over.
    Maintenance,
    /// It takes part, and no other node does.
    Standalone,
}

impl Mode {
    /// As in `hactl mode`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveStandby => "active-standby",
            Self::Maintenance => "maintenance",
            Self::Standalone => "standalone",
        }
    }
}

impl core::fmt::Display for Mode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

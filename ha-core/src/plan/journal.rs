//! What is on disk about a group, and what a daemon makes of it that starts.

use alloc::string::String;

use super::event::{Purpose, Stance};

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A plan begins.
    Begin {
        /// The epoch that it is for.
        epoch: u64,
        /// What it does.
        purpose: Purpose,
    },
    /// A step that changes something begins.
    Step {
        /// The epoch.
        epoch: u64,
        /// The role.
        role: String,
        /// The step.
        step: String,
    },
    /// A plan has ended: from now on the node stands so.
    End {
        /// The epoch.
        epoch: u64,
        /// How it stands.
        stance: Stance,
        /// Whether no other node may have all that was acknowledged.
        sole: bool,
        /// Why a plan failed, if it did.
        failed: Option<String>,
    },
    /// A greater epoch was heard of.
    Heard {
        /// That epoch.
        epoch: u64,
    },
}

/// What a journal comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The greatest epoch in it.
    pub epoch: u64,
    /// How the node stood: anything but a standby has to be demoted first.
    pub stance: Stance,
    /// Whether no other node may have all that was acknowledged.
    pub sole: bool,
}

/// Reads a journal's records, in order.
pub fn recover<'a>(records: impl Iterator<Item = &'a Record>) -> Recovered {
    let mut found = Recovered {
        epoch: 0,
        stance: Stance::Unsettled,
        sole: false,
    };
    for record in records {
        let epoch = match record {
            Record::Begin { epoch, purpose } => {
                found.stance = purpose.under_way_from(found.stance);
                found.sole &= !purpose.ends_solitude();
                *epoch
            }
            Record::Step { epoch, .. } => *epoch,
            Record::Heard { epoch } => {
                found.sole = false;
                *epoch
            }
            Record::End {
                epoch,
                stance,
                sole,
                ..
            } => {
                found.stance = *stance;
                found.sole = *sole;
                *epoch
            }
        };
        found.epoch = found.epoch.max(epoch);
    }
    found
}

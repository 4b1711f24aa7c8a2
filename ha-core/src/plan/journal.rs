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
    /// A take-over that nobody asked for, after which one node stands alone until a person returns both.
    Alone {
        /// The take-over's; of a return, the greatest that was known.
        epoch: u64,
        /// Whether it is this node that stands alone; else what came of the take-over has been seen to here.
        here: bool,
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
    /// The take-over since which this node stands alone.
    pub alone_since: Option<u64>,
    /// The last take-over by another node that has been seen to here.
    pub heeded: u64,
}

/// Reads a journal's records, in order.
pub fn recover<'a>(records: impl Iterator<Item = &'a Record>) -> Recovered {
    let mut found = Recovered {
        epoch: 0,
        stance: Stance::Unsettled,
        sole: false,
        alone_since: None,
        heeded: 0,
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
            Record::Alone { epoch, here: true } => {
                found.alone_since = Some(*epoch);
                *epoch
            }
            Record::Alone { epoch, here: false } => {
                found.alone_since = None;
                found.heeded = found.heeded.max(*epoch);
                *epoch
            }
        };
        found.epoch = found.epoch.max(epoch);
    }
    found
}

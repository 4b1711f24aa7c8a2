//! DRBD, 8.4 and 9, by its own tools: what a resource is, what changes, and what its kernel has said.
//!
//! `drbdsetup events2` speaks alike in both: with `--now` it prints what is, without it what changes.

mod events;
mod kernel_log;
mod report;
mod usable;

#[cfg(test)]
pub(crate) use self::events::observe;
pub(crate) use self::{
    events::Events,
    kernel_log::has_split_brain,
    report::{Connection, Line, Report},
    usable::usable,
};

/// The tool that speaks to the kernel.
pub(crate) const DRBDSETUP: &str = "drbdsetup";

/// The tool that knows the configuration.
pub(crate) const DRBDADM: &str = "drbdadm";

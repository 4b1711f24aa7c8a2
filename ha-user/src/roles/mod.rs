//! Roles of groups: what is promoted before a group's VIPs are there, and demoted before they are let go of.
//!
//! For each group with roles a task drives a [`ha_core::plan::Conductor`], which decides; each role has an executor,
//! which carries out single steps and looks how its system is. Nothing here is near the engine thread: it asks for a
//! promotion or a demotion by a message, and is told what came of it by a command.

mod binlog;
mod cron;
mod database;
mod drbd;
mod found;
pub(crate) mod galera;
mod groups;
mod journal;
pub mod mode;
mod mount;
pub(crate) mod mysql;
mod neighbours;
mod peers;
mod preview;
mod role;
mod scribe;
mod script;
mod spec;
mod sync;
mod task;
mod time;
mod unit;
mod worker;

use self::role::end_others;
pub(crate) use self::{binlog::findings as binlog_findings, sync::findings as sync_findings};
pub use self::{
    galera::Wish,
    groups::{Groups, ModeReply, ModeRequest, Opened, open},
    journal::JournalError,
    mysql::init_replication,
    neighbours::Neighbours,
    peers::Peers,
    role::{Pending, Role, Setting, Situation, of},
    spec::{Fenced, Spec, any_fenced, fenced, limits, longest_demotion},
};

//! How far a node's data is, and whether one node's data contains another's.

pub mod binlog;
mod finding;
pub mod galera;
pub mod gtid;
pub mod mysql;
mod settings;

pub use self::{
    finding::{Finding, Severity},
    settings::Settings,
};

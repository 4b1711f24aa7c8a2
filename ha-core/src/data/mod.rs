//! How far a node's data is, and whether one node's data contains another's.

mod finding;
pub mod galera;
pub mod gtid;
pub mod mysql;

pub use self::finding::{Finding, Severity};

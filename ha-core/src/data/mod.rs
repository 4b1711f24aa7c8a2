//! How far a node's data is, and whether one node's data contains another's.

pub mod gtid;
pub mod mysql;

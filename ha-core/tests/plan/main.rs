//! The conductor, driven by the contract of `ha_core::plan`: what users and the other node see of each plan.

mod database;
mod engine;
mod failures;
mod following;
mod knowledge;
mod leader;
mod modes;
mod node;
mod order;
mod random;
mod recovery;
mod restarts;
mod solitude;

//! The parts of the daemon `had` and of its control tool `hactl`.

pub mod config;
pub mod dataplane;
pub mod net;
pub mod sys;

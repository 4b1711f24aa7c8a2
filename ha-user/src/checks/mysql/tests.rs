//! Against real servers of our own.

mod cluster;
mod failures;
pub(crate) mod mariadbd;
mod refusals;

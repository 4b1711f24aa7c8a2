//! Against real servers of our own.

mod cluster;
mod failures;
mod mariadbd;
mod refusals;

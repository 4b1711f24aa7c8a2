//! A Galera cluster behind one address, promoted and demoted by `had`: one node at a time is written to, what is left of
//! a pair goes on alone where the other node is gone, and never do two clusters come of one.

mod faults;
mod outages;
mod rescue;
mod stage;

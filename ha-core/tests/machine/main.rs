//! The engine, driven by hand: exact actions for each step.

mod announcing;
mod arbitration;
mod channels;
mod driver;
mod election;
mod groups;
mod leases;
mod operations;
mod random;
mod roles;
mod table;
mod timing;
mod tracking;

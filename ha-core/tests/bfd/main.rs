//! BFD sessions, driven by hand: exact packets for each step.

mod auth;
mod pair;
mod peer;
mod poll;
mod table;
mod timing;

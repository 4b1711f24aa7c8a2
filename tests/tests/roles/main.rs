//! `had` with roles of kind `script` on two nodes, end to end: what a user, a client or a peer sees of their order, of
//! failures, of a daemon that is killed amid a plan, of modes, and of programs that hang.

mod commands;
mod hung;
mod killed;
mod modes;
mod order;
mod reload;
mod room;
mod stage;
mod trouble;

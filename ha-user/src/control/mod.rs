//! What `hactl` and `had` say to each other: one JSON object per line over a unix socket.

pub mod client;
pub mod protocol;
pub mod report;
pub mod server;

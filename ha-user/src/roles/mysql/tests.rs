//! Every step against real servers.

mod demoting;
#[cfg(feature = "mysql-server")]
mod mysql;
mod pair;
mod promoting;
mod restarts;
mod setup;
mod solo;
mod standby;

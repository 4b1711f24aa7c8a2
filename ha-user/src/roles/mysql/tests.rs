//! Every step against real servers.

mod demoting;
mod in_guest;
mod of_mysql;
mod pair;
mod promoting;
mod restarts;
mod setup;
mod solo;
mod standby;

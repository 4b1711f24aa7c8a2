//! Every step against real servers.

mod demoting;
mod pair;
mod promoting;
mod standby;

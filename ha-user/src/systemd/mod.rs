//! systemd, over D-Bus.

mod bus;
mod cgroup;
#[cfg(test)]
pub(crate) mod fake;
mod jobs;
mod state;

pub(crate) use self::{
    bus::{Bus, News},
    jobs::{Facts, Jobs, told},
    state::State,
};

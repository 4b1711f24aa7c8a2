//! How a service is watched.

use ha_common::Nanos;

/// How often a service is probed, and how many results in a row change what is believed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// From the beginning of one probe to that of the next. One that lasts longer is followed at once.
    pub interval: Nanos,
    /// After which a probe without an answer has failed.
    pub timeout: Nanos,
    /// Probes in a row that must pass before a service that was down is up; 1 or more.
    pub rise: u32,
    /// Probes in a row that must fail before a service is down; 1 or more. An event that proves it does not
    /// wait for them.
    pub fall: u32,
    /// How long to wait before the first probe.
    pub start_delay: Nanos,
}

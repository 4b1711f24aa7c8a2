//! What of a server's settings should be otherwise.

use alloc::string::String;
use core::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// With it acknowledged writes can be lost, or nodes diverge without anybody noticing: the server is not promoted.
    Unsafe,
    /// It is told.
    Advice,
}

/// Something that should be set otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is so.
    pub what: String,
    /// Why that is bad.
    pub why: &'static str,
    /// What to do.
    pub how: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.how)
    }
}

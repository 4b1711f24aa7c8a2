//! `[mode]`: what becomes of a node in operation and after a failover. Its mode itself is set by `hactl mode`.

use crate::config::reader::Section;

/// `[mode]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// What becomes of a node that was taken over from without being asked.
    pub after_failover: AfterFailover,
    /// Whether the units of roles are masked in maintenance.
    pub mask_units: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            after_failover: AfterFailover::Rejoin,
            mask_units: true,
        }
    }
}

/// `mode.after_failover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailover {
    /// It returns as Backup, once its data are verified.
    Rejoin,
    /// It waits in maintenance for somebody to look at it, and the other node stands alone.
    Maintenance,
}

pub(in crate::config) const KEYS: &[&str] = &["after_failover", "mask_units"];

pub(in crate::config) fn parse(section: Option<Section<'_>>) -> Modes {
    let mut modes = Modes::default();
    let Some(section) = section else {
        return modes;
    };
    let words = [
        ("rejoin", AfterFailover::Rejoin),
        ("maintenance", AfterFailover::Maintenance),
    ];
    if let Some(after) = section.choice("after_failover", &words) {
        modes.after_failover = after.value;
    }
    if let Some(mask) = section.boolean("mask_units") {
        modes.mask_units = mask.value;
    }
    modes
}

//! What leaves a node, seen at the switch's end of its cable.

use std::net::IpAddr;

use anyhow::Result;
use ha_common::MonoNs;

use crate::{Frame, NetNs, Payload, capture::Capture};

/// Watches one port of the switch.
pub struct Sniffer {
    capture: Capture,
    vip: IpAddr,
}

impl Sniffer {
    /// Starts to watch `port`; keeps adverts, and frames that speak for `vip`.
    pub fn start(switch: &NetNs, port: &str, vip: impl Into<IpAddr>) -> Result<Self> {
        let vip = vip.into();
        let keep = move |frame: &Frame| {
            frame.speaks_for(vip) || matches!(frame.payload, Payload::Advert { .. })
        };
        Ok(Self {
            capture: Capture::start(switch, port, keep)?,
            vip,
        })
    }

    /// When the node sent its last advert of `vrid`, and with which priority.
    #[must_use]
    pub fn last_advert(&self, of: u8) -> Option<(MonoNs, u8)> {
        self.last_advert_where(of, |_| true)
    }

    /// As [`Self::last_advert`], for adverts up to `end`.
    #[must_use]
    pub fn last_advert_before(&self, of: u8, end: MonoNs) -> Option<(MonoNs, u8)> {
        self.adverts(of, MonoNs::ZERO, end).pop()
    }

    /// When the node last sent an advert whose priority is not 0.
    #[must_use]
    pub fn last_live_advert(&self, of: u8) -> Option<(MonoNs, u8)> {
        self.last_advert_where(of, |priority| priority != 0)
    }

    fn last_advert_where(&self, of: u8, wanted: impl Fn(u8) -> bool) -> Option<(MonoNs, u8)> {
        let found = self.capture.last(|frame| {
            matches!(frame.payload, Payload::Advert { vrid, priority, .. } if vrid == of && wanted(priority))
        });
        match found {
            Some((at, frame)) => match frame.payload {
                Payload::Advert { priority, .. } => Some((at, priority)),
                _ => None,
            },
            None => None,
        }
    }

    /// Time and priority of each advert of `vrid` from `from` to `to`.
    #[must_use]
    pub fn adverts(&self, of: u8, from: MonoNs, to: MonoNs) -> Vec<(MonoNs, u8)> {
        self.capture
            .between(from, to)
            .into_iter()
            .filter_map(|(at, frame)| match frame.payload {
                Payload::Advert { vrid, priority, .. } if vrid == of => Some((at, priority)),
                _ => None,
            })
            .collect()
    }

    /// Those frames, and the adverts, from `from` to `to`.
    #[must_use]
    pub fn frames(&self, from: MonoNs, to: MonoNs) -> Vec<(MonoNs, Frame)> {
        self.capture.between(from, to)
    }

    /// Frames from `from` to `to` in which the node speaks for the VIP.
    #[must_use]
    pub fn spoken(&self, from: MonoNs, to: MonoNs) -> Vec<(MonoNs, Frame)> {
        let mut frames = self.capture.between(from, to);
        frames.retain(|(_, frame)| frame.speaks_for(self.vip));
        frames
    }

    /// When the node first announced the VIP after `from`.
    #[must_use]
    pub fn first_announcement(&self, from: MonoNs) -> Option<MonoNs> {
        self.capture
            .between(from, MonoNs(u64::MAX))
            .into_iter()
            .find(|(_, frame)| frame.announces(self.vip))
            .map(|(at, _)| at)
    }

    /// Announcements of the VIP from `from` to `to`.
    #[must_use]
    pub fn announcements(&self, from: MonoNs, to: MonoNs) -> usize {
        self.capture
            .between(from, to)
            .into_iter()
            .filter(|(_, frame)| frame.announces(self.vip))
            .count()
    }

    /// Frames that were missed; counts are only right while this is 0.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.capture.lost()
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.capture.clear();
    }
}

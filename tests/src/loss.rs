//! A port of the switch that loses on command what a node sends to another one, and counts its heartbeats.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{Xdp, xdp::XdpLink},
};
use ha_common::{MonoNs, Nanos};
use ha_user::dataplane::LOSSY_OBJECT;

use crate::{
    Mac,
    clock::{now, sleep_until, span},
};

/// Between two looks at the counts: far less than between two heartbeats.
const POLL: Nanos = Nanos::from_micros(20);

/// A node's own packets that show that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Heartbeat {
    /// A VRRP advertisement.
    Advert = 0,
    /// An echo, which asks for leases.
    Echo = 1,
}

/// How many heartbeats of a kind came to the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that passed.
    pub passed: u64,
    /// When the last one did.
    pub passed_at: MonoNs,
    /// Those that were lost.
    pub lost: u64,
    /// When the last one was.
    pub lost_at: MonoNs,
}

/// The port; dropped, it has no program any more.
pub struct LossyPort {
    /// The other node.
    to: Mac,
    lost_to: Array<MapData, u64>,
    heartbeats: Array<MapData, [u64; 4]>,
    _link: XdpLink,
}

impl LossyPort {
    /// Puts the program in the place of another one, without a moment between.
    pub(crate) fn replace(other: XdpLink, to: Mac) -> Result<Self> {
        let mut ebpf = Ebpf::load(LOSSY_OBJECT).context("loading the XDP program that loses")?;
        let program: &mut Xdp = ebpf
            .program_mut("lossy")
            .ok_or_else(|| anyhow!("the object has no program `lossy`"))?
            .try_into()?;
        program.load()?;
        let link = program.attach_to_link(other)?;
        let link = program.take_link(link)?;
        let mut map = |name| {
            ebpf.take_map(name)
                .with_context(|| format!("no map {name}"))
        };
        Ok(Self {
            to,
            lost_to: map("LOST_TO")?.try_into()?,
            heartbeats: map("HEARTBEATS")?.try_into()?,
            _link: link,
        })
    }

    /// From now on loses what the node sends to the other one, or nothing.
    pub fn lose(&mut self, lost: bool) -> Result<()> {
        let [a, b, c, d, e, f] = self.to.0;
        let station = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let word = if lost { station } else { 0 };
        self.lost_to.set(0, word, 0).context("telling a port")
    }

    /// The heartbeats until now.
    pub fn count(&self, kind: Heartbeat) -> Result<Count> {
        let [passed, passed_at, lost, lost_at] = self.heartbeats.get(&(kind as u32), 0)?;
        Ok(Count {
            passed,
            passed_at: MonoNs(passed_at),
            lost,
            lost_at: MonoNs(lost_at),
        })
    }

    /// Waits until `more` heartbeats have been lost since `before`. Returns when the last one was, or `None` where
    /// that has not happened by `deadline`.
    pub fn wait_lost(
        &self,
        kind: Heartbeat,
        before: Count,
        more: u64,
        deadline: Duration,
    ) -> Result<Option<MonoNs>> {
        let end = now().after(span(deadline));
        loop {
            let count = self.count(kind)?;
            if count.lost >= before.lost + more {
                return Ok(Some(count.lost_at));
            }
            if now() > end {
                return Ok(None);
            }
            sleep_until(now().after(POLL));
        }
    }
}

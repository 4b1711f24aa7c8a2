//! BFD channels: they may prove that the Active router is dead.
//!
//! A channel that dies is no reason to take over: only where one over the instance's own LAN leads to the
//! Active router, and every channel that may lead there is dead (by silence, not on purpose), is that
//! router dead or cut off. A channel over another link may lead to any router, so it has to be dead too.

use alloc::vec::Vec;

use ha_common::{MonoNs, Nanos};

use super::{Instance, Verdict};
use crate::{config::ChannelConfig, event::ChannelState, outbox::Outbox, status::State, vrrp};

impl Instance {
    pub(super) fn channel(
        &mut self,
        name: &str,
        state: ChannelState,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(index) = self
            .config
            .channels
            .iter()
            .position(|channel| channel.name == name)
        else {
            return Verdict::Stay;
        };
        let was_proven = self.dead_due().is_some();
        self.channels[index] = state;
        if state == ChannelState::Up {
            self.forget_answers();
        }
        if self.state == State::Active && self.hears_nobody(now) {
            self.ask_arbitrators(now, out);
        }
        if self.state != State::Backup || self.released.is_some() || self.claim.is_some() {
            return Verdict::Stay;
        }
        match self.dead_due() {
            Some(due) if due <= now => self.believe_silence(now, now, out),
            Some(_) => {
                self.arm_active_down();
                Verdict::Stay
            }
            None => {
                if was_proven {
                    self.arm_active_down();
                }
                Verdict::Stay
            }
        }
    }

    /// What is known of a channel stays known as long as it has its name.
    pub(super) fn match_channels(&mut self, wanted: &[ChannelConfig]) {
        let state = |new: &ChannelConfig| {
            let old = self.config.channels.iter().position(|old| old == new);
            old.map_or(ChannelState::Unknown, |index| self.channels[index])
        };
        self.channels = wanted.iter().map(state).collect::<Vec<_>>();
    }

    /// When the proof that the Active router is dead lets this node take over; `None` without a proof.
    ///
    /// Not before its gate is closed for sure, if it is a `had`. Of a foreign router its next advert has to
    /// be overdue: its BFD may be a process of its own, which ended alone. Where others may want it too,
    /// Skew_Time lets the best go first.
    pub(crate) fn dead_due(&self) -> Option<MonoNs> {
        let active = self.active?;
        let may_lead_there =
            |channel: &ChannelConfig| channel.lan_peer.is_none_or(|peer| peer == active);
        let mut over_lan = false;
        for (channel, state) in self.config.channels.iter().zip(&self.channels) {
            if may_lead_there(channel) {
                if *state != ChannelState::Dead {
                    return None;
                }
                over_lan |= channel.lan_peer.is_some();
            }
        }
        if !over_lan {
            return None;
        }
        let speaker = self
            .speakers
            .iter()
            .find(|speaker| speaker.advert.sender == active)?;
        let interval = self.active_interval();
        let due = if speaker.advert.from_had {
            speaker.outlived()
        } else {
            speaker.last.after(interval).after(Nanos(interval.0 / 4))
        };
        let skew = if self.config.sole_peer {
            Nanos::ZERO
        } else {
            vrrp::skew_time(self.config.version, self.priority, interval)
        };
        Some(due.after(skew).max(self.others_outlived()))
    }
}

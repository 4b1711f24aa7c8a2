//! Letting go: why a node has to, and what it does with its leases then.

use ha_common::{MonoNs, lease::Standing};

use super::{Leases, Peer, Phase};
use crate::{
    config::Alone,
    event::Action,
    instance::{Departure, Instance, Verdict},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

impl Leases {
    /// The peer to which the kernel promised not to act, although this node does: it gave way, whether its report
    /// came or not.
    pub(super) fn granted_meanwhile(&self) -> Option<usize> {
        let promised = |peer: &Peer| peer.view.promised_until > MonoNs::ZERO;
        match self.phase {
            Phase::Promised => None,
            Phase::Announcing | Phase::Won => self.peers.iter().position(promised),
        }
    }
}

impl Instance {
    /// The kernel gave way to a peer.
    pub(crate) fn yielded_to(&mut self, peer: usize) -> Verdict {
        let address = self
            .leases
            .as_ref()
            .and_then(|leases| leases.peers.get(peer))
            .map(|peer| peer.address);
        let (true, Some(to)) = (self.holds(), address) else {
            return Verdict::Stay;
        };
        Verdict::Leave(Departure {
            to: State::Backup,
            cause: Cause::Yielded { to },
            farewell: self.sent.is_some(),
        })
    }

    /// Its gate closes in the kernel, and its leases go on being asked for: no other node takes over.
    pub(crate) fn ask_on(&mut self, out: &mut Outbox) {
        if let Some(leases) = &self.leases {
            self.timers.set(Timer::Gate, leases.deadline());
        }
        out.push(Action::Stand {
            instance: self.config.id,
            standing: Standing::Candidate,
        });
    }

    /// Tells that nothing is asked for any more. The gate was closed before.
    pub(crate) fn let_go_of_leases(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.phase = Phase::Promised;
        leases.resumes = false;
        for peer in &mut leases.peers {
            peer.view.deadline = MonoNs::ZERO;
        }
        let instance = self.config.id;
        out.push(Action::Stand {
            instance,
            standing: Standing::Bystander,
        });
        out.push(Action::SendRelease {
            instance,
            round: now,
        });
        out.push(Action::LetGo { instance });
    }

    /// Why the gate ran out at `deadline`.
    pub(crate) fn late_by_leases(&self, deadline: MonoNs, now: MonoNs) -> Option<Cause> {
        let leases = self.leases.as_ref()?;
        let peer = leases.peers.iter().min_by_key(|peer| peer.view.deadline)?;
        let echoed = peer.alone_until().is_some_and(|until| until > now);
        Some(match leases.alone {
            _ if echoed && !peer.is_silent(now) => Cause::NotGranted { by: peer.address },
            Alone::Stop if echoed => Cause::Alone {
                without: peer.address,
            },
            // Else it would have gone on alone in time.
            _ => Cause::Late {
                by: now.since(deadline),
            },
        })
    }
}

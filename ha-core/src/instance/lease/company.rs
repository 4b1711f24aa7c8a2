//! An Active node with roles whose peers all fell silent: another node may have been promoted since.
//!
//! None of them can tell a peer that is dead from a network that is cut. Once they hear each other again, two nodes may
//! be Active; then the one that was left by the other has to go, for its database waited in vain for its replica while
//! the other one's acknowledged what clients wrote. Neither the priority nor the address would tell them apart.

use ha_common::{MonoNs, Priority};

use crate::{
    instance::{Instance, Roles, lease::Leases},
    outbox::Outbox,
    status::State,
};

/// Whether peers stand by an Active node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Company {
    /// None has since it was elected.
    #[default]
    None,
    /// One granted it a lease.
    Granted,
    /// All fell silent after one had granted it a lease, and none has granted one since.
    Left,
}

impl Leases {
    fn is_granted(&self, now: MonoNs) -> bool {
        let mut views = self.peers.iter().map(|peer| &peer.view);
        views.any(|view| !view.self_renewed && view.deadline > now)
    }
}

impl Instance {
    /// Looks who stands by this node, which goes last while it is left.
    pub(super) fn consider_company(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &self.leases else {
            return;
        };
        if self.state != State::Active || self.roles != Roles::Promoted {
            return;
        }
        #[cfg(feature = "sim")]
        if self.mutations.left_goes_first {
            return;
        }
        let granted = leases.is_granted(now);
        let company = match (leases.all_silent(now), self.company) {
            // It fell silent before this was looked at: what it granted has not run out yet.
            (true, Company::None) if granted => Company::Left,
            (true, Company::Granted) => Company::Left,
            (false, _) if granted => Company::Granted,
            (_, same) => same,
        };
        let was_left = self.is_left();
        self.company = company;
        if was_left != self.is_left() {
            self.go_last_or_not(now, out);
        }
    }

    /// Whether another node may have been promoted since one last stood by this one.
    pub(crate) fn is_left(&self) -> bool {
        self.company == Company::Left
    }

    /// The priority by which it competes, where what it tracks gives it this one: with roles, the least is that of a
    /// node that is left.
    pub(crate) fn standing(&self, tracked: Priority) -> Priority {
        match self.roles {
            Roles::None => tracked,
            _ if self.is_left() => Priority::LEAST,
            _ => tracked.max(Priority(Priority::LEAST.0 + 1)),
        }
    }

    /// Its tenure is over, or another one begins.
    pub(crate) fn part_company(&mut self, out: &mut Outbox) {
        let was_left = self.is_left();
        self.company = Company::None;
        if was_left {
            self.set_priority(self.standing(self.tracked), out);
        }
    }

    fn go_last_or_not(&mut self, now: MonoNs, out: &mut Outbox) {
        let sentence = if self.is_left() {
            "no peer is heard any more: one that was promoted since goes first, should it be heard again"
        } else {
            "a peer stands by this node again"
        };
        self.note(sentence.into(), out);
        self.set_priority(self.standing(self.tracked), out);
        self.answer(now, out);
    }
}

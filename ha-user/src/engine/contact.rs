//! What somebody should know of nodes that hear each other on some ways only, or not at all, where leases decide:
//! adverts alone do not tell whether clients are served then.

use ha_common::{MonoNs, Nanos};
use ha_core::{InstanceStatus, LeaseView, State};

use super::{paths::Contact, seat::Seat, shell::Shell};
use crate::dataplane::Dataplane;

/// Silence of this length is no accident, whatever the intervals.
const LONG: Nanos = Nanos::from_secs(1);

/// Adverts that must be missing in a row.
const MISSING: u64 = 4;

/// What is to be told of an instance.
pub(super) fn warnings(
    shell: &Shell,
    seat: &Seat,
    status: &InstanceStatus,
    now: MonoNs,
) -> Vec<String> {
    let name = &seat.name;
    if let Some(peer) = status.awaits {
        return vec![format!(
            "{name} is served by nobody here: it waits for {peer}, of which nothing is heard, since alone = \"stop\""
        )];
    }
    let (Some(dataplane), Some(_)) = (&shell.dataplane, seat.config.heartbeat) else {
        return Vec::new();
    };
    let contacts = shell
        .paths
        .contacts(&seat.config, &shell.lease_channels, dataplane);
    contacts
        .zip(dataplane.views(seat.id))
        .filter_map(|(contact, view)| match seat.state {
            State::Active => while_active(seat, &contact, &view, now),
            State::Backup => while_backup(seat, &contact, &view, dataplane, now),
            _ => None,
        })
        .map(|sentence| format!("{name}: {sentence}"))
        .collect()
}

fn while_active(seat: &Seat, contact: &Contact, view: &LeaseView, now: MonoNs) -> Option<String> {
    let peer = contact.peer;
    if view.self_renewed && now.since(view.heard_at) >= LONG {
        return Some(format!(
            "nothing is heard from {peer}{}: this node renews its lease itself; if {peer} lives, both serve now",
            lasting(view.heard_at, now)
        ));
    }
    let lan = contact.lan?;
    let over = contact.over(now)?;
    (now.since(lan) >= contact.lease.max(LONG)).then(|| {
        format!(
            "nothing is heard from {peer} on {}{}, only over {over}: if clients do not reach this node, `hactl \
             switchover {}` moves the addresses",
            seat.config.interface,
            lasting(lan, now),
            seat.name
        )
    })
}

fn while_backup(
    seat: &Seat,
    contact: &Contact,
    view: &LeaseView,
    dataplane: &Dataplane,
    now: MonoNs,
) -> Option<String> {
    let asks = view.asked_at.after(contact.lease) > now;
    let advertised = MonoNs(dataplane.received(seat.id).last_ns);
    let silent = now.since(advertised) >= seat.config.advert_interval.times(MISSING).max(LONG);
    let over = contact.over(now).filter(|_| asks && silent)?;
    let peer = contact.peer;
    Some(format!(
        "no advert from {peer} on {}{}, though it still asks for its lease over {over}: if clients do not reach \
         it, run `hactl switchover {}` there",
        seat.config.interface,
        lasting(advertised, now),
        seat.name
    ))
}

/// " for 1.234 s"; nothing where there was none ever.
fn lasting(last: MonoNs, now: MonoNs) -> String {
    match last {
        MonoNs::ZERO => String::new(),
        last => format!(" for {}", now.since(last)),
    }
}

impl Contact {
    /// The ways on which the peer was heard just now; `None` = none.
    fn over(&self, now: MonoNs) -> Option<String> {
        let ways: Vec<&str> = self
            .ways
            .iter()
            .filter(|(_, heard_at)| heard_at.after(self.lease.max(LONG)) > now)
            .map(|(name, _)| name.as_str())
            .collect();
        (!ways.is_empty()).then(|| ways.join(", "))
    }
}

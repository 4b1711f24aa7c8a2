//! The daemon is killed.

use super::cases::{
    Case, Fault, NO_OPENER, OPENER,
    Plan::{self, Demote, Follow, HandOver, Promote},
    RESUME, STUBBORN, SUSPEND,
    Server::{self, After, Before, Either},
    hold, release,
};

/// The device hangs, once the unit's process waits for it.
const SUSPEND_UNIT: &str = "/run/had-pair/bin/drbdsetup suspend-io 0; i=0\n\
                            until ps ax -o stat,args | grep -q '^D.*\\(beat\\|serve\\)'; do\n\
                            i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done";

/// At each step. Who serves then is who is elected while the next one demotes what is left, or, where that takes longer
/// than a promotion may, the next one.
pub(super) fn cases() -> Vec<Case> {
    let killed = |plan: Plan, step, serves: Server| {
        Case::new((plan, step), "had is killed", Fault::Killed, serves)
    };
    vec![
        killed(Promote, "inspect", Either).held(),
        killed(Promote, "primary", Either).held(),
        killed(Promote, "fsck", Either).held(),
        killed(Promote, "mount", Either)
            .with("", RESUME)
            .before_mount(SUSPEND),
        killed(Promote, "start", Either).held(),
        killed(HandOver, "stop", Either).held(),
        killed(HandOver, "unmount", Either).with(STUBBORN, ""),
        killed(HandOver, "secondary", Either).held(),
        killed(Demote, "stop", After).held(),
        killed(Demote, "kill", After).with(SUSPEND_UNIT, RESUME),
        killed(Demote, "unmount", After).with(STUBBORN, ""),
        killed(Demote, "secondary", After).held(),
        killed(Demote, "force-secondary", After).with(
            &format!("{}; {OPENER}", hold("force-secondary")),
            &format!("{}; {NO_OPENER}", release("force-secondary")),
        ),
        killed(Follow, "connect", Before).held(),
    ]
}

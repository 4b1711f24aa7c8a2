//! Each step of each plan, and how the daemon comes to be killed in the middle of it.

use ha_tests::ha_pair::DIR;

use Plan::{Demote, Follow, HandOver, Promote};
use Server::{After, Before, Either};

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Promote,
    HandOver,
    Demote,
    Follow,
}

impl Plan {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::HandOver => "hand over",
            Self::Demote => "demote",
            Self::Follow => "follow",
        }
    }
}

/// Who serves in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// Who did before.
    Before,
    /// The other one.
    After,
    /// Who is first.
    Either,
}

/// Scripts run on the node whose step it is.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) plan: Plan,
    pub(super) step: &'static str,
    /// Before the plan begins.
    pub(super) before: String,
    /// At an earlier step.
    pub(super) earlier: Option<(&'static str, String)>,
    /// When it has been killed.
    pub(super) mend: String,
    pub(super) serves: Server,
}

impl Case {
    fn killed(plan: Plan, step: &'static str, serves: Server) -> Self {
        Self {
            plan,
            step,
            before: String::new(),
            earlier: None,
            mend: String::new(),
            serves,
        }
    }

    /// The step waits at its door.
    fn held(self) -> Self {
        let step = self.step;
        self.with(&hold(step), &release(step))
    }

    fn with(mut self, before: &str, mend: &str) -> Self {
        self.before = before.to_owned();
        self.mend = mend.to_owned();
        self
    }

    /// This is run between the check of the file system and its being mounted.
    fn before_mount(mut self, script: &str) -> Self {
        self.before = hold("checked");
        self.earlier = Some(("fsck", format!("{script}; {}", release("checked"))));
        self
    }
}

fn hold(door: &str) -> String {
    format!("touch {DIR}/hold-{door}")
}

fn release(door: &str) -> String {
    format!("rm {DIR}/hold-{door}")
}

/// A user of the file system that SIGTERM does not end.
const STUBBORN: &str = "cd /srv/pair; trap '' TERM\n\
                        sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &";

/// A user of the device.
const OPENER: &str = "sleep infinity 3<>/dev/drbd0 >/dev/null 2>&1 </dev/null &\n\
                      echo $! >/run/had-pair/opener";
const NO_OPENER: &str = "kill $(cat /run/had-pair/opener)";

/// Whatever is written waits, and whoever writes cannot be killed.
const SUSPEND: &str = "/run/had-pair/bin/drbdsetup suspend-io 0";
const RESUME: &str = "/run/had-pair/bin/drbdsetup resume-io 0";

/// The same, once the unit's process waits.
const SUSPEND_UNIT: &str = "/run/had-pair/bin/drbdsetup suspend-io 0; i=0\n\
                            until ps ax -o stat,args | grep -q '^D.*\\(beat\\|serve\\)'; do\n\
                            i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done";

/// The daemon is killed at each step. Who serves then is who is elected while the next one demotes what is left, or, where that
/// takes longer than a promotion may, the next one.
pub(super) fn killed() -> Vec<Case> {
    vec![
        Case::killed(Promote, "inspect", Either).held(),
        Case::killed(Promote, "primary", Either).held(),
        Case::killed(Promote, "fsck", Either).held(),
        Case::killed(Promote, "mount", Either)
            .with("", RESUME)
            .before_mount(SUSPEND),
        Case::killed(Promote, "start", Either).held(),
        Case::killed(HandOver, "stop", Either).held(),
        Case::killed(HandOver, "unmount", Either).with(STUBBORN, ""),
        Case::killed(HandOver, "secondary", Either).held(),
        Case::killed(Demote, "stop", After).held(),
        Case::killed(Demote, "kill", After).with(SUSPEND_UNIT, RESUME),
        Case::killed(Demote, "unmount", After).with(STUBBORN, ""),
        Case::killed(Demote, "secondary", After).held(),
        Case::killed(Demote, "force-secondary", After).with(
            &format!("{}; {OPENER}", hold("force-secondary")),
            &format!("{}; {NO_OPENER}", release("force-secondary")),
        ),
        Case::killed(Follow, "connect", Before).held(),
    ]
}

//! What goes wrong with a step of a plan, and how that is brought about.

use ha_tests::ha_pair::DIR;

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

/// What happens while the step is under way. Words are what the journal or the log has then, as grep(1) looks for it.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The daemon is killed, and started again after what mends.
    Killed,
    /// The plan comes to its end all the same.
    Overcome(&'static str),
    /// The step fails, and the plan with it.
    Fails(&'static str),
    /// The same, and nobody serves before it is mended.
    Stuck(&'static str),
}

impl Fault {
    /// What becomes of the plan.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Killed => "the next daemon demotes what is left",
            Self::Overcome(_) => "it is done in its time",
            Self::Fails(_) => "it fails in its time",
            Self::Stuck(_) => "it fails in its time, and nobody serves until it is mended",
        }
    }
}

/// Scripts run on the node whose step it is.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) plan: Plan,
    pub(super) step: &'static str,
    /// The fault, for the table.
    pub(super) what: &'static str,
    pub(super) fault: Fault,
    pub(super) serves: Server,
    /// Before the plan begins.
    pub(super) before: String,
    /// At an earlier step.
    pub(super) earlier: Option<(&'static str, String)>,
    /// On the other node when the step is under way, and then on this one.
    pub(super) at: [String; 2],
    /// When it has been killed, or has failed.
    pub(super) mend: String,
}

impl Case {
    pub(super) fn new(
        (plan, step): (Plan, &'static str),
        what: &'static str,
        fault: Fault,
        serves: Server,
    ) -> Self {
        Self {
            plan,
            step,
            what,
            fault,
            serves,
            before: String::new(),
            earlier: None,
            at: Default::default(),
            mend: String::new(),
        }
    }

    /// The step waits at its door until it is mended.
    pub(super) fn held(self) -> Self {
        let step = self.step;
        self.with(&hold(step), &release(step))
    }

    pub(super) fn with(mut self, before: &str, mend: &str) -> Self {
        self.before = before.to_owned();
        self.mend = mend.to_owned();
        self
    }

    /// This is run between the check of the file system and its being mounted.
    pub(super) fn before_mount(mut self, script: &str) -> Self {
        self.before = hold("checked");
        self.earlier = Some(("fsck", format!("{script}; {}", release("checked"))));
        self
    }

    /// The step waits at its door only until this was run on the other node.
    pub(super) fn after_elsewhere(mut self, script: &str) -> Self {
        self.before = hold(self.step);
        self.at = [script.to_owned(), release(self.step)];
        self
    }
}

pub(super) fn hold(door: &str) -> String {
    format!("touch {DIR}/hold-{door}")
}

pub(super) fn release(door: &str) -> String {
    format!("rm {DIR}/hold-{door}")
}

/// A user of the file system that SIGTERM does not end.
pub(super) const STUBBORN: &str = "cd /srv/pair; trap '' TERM\n\
                        sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &";

/// A user of the device.
pub(super) const OPENER: &str = "sleep infinity 3<>/dev/drbd0 >/dev/null 2>&1 </dev/null &\n\
                      echo $! >/run/had-pair/opener";
pub(super) const NO_OPENER: &str = "kill $(cat /run/had-pair/opener)";

/// Whatever is written waits, and whoever writes cannot be killed.
pub(super) const SUSPEND: &str = "/run/had-pair/bin/drbdsetup suspend-io 0";
pub(super) const RESUME: &str = "/run/had-pair/bin/drbdsetup resume-io 0";

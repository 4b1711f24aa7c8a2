//! `kind = "drbd"`: a resource that is Primary on the group's Active node.

mod codes;
mod connect;
mod judge;
mod memory;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use ha_common::{MonoNs, Nanos};
use ha_core::plan::{Done, Follows, Observation, Order};
use tokio::time::timeout;

use self::{
    codes::{Refusal, of_code},
    judge::{Standing, promotable},
    memory::Memory,
};
use super::{
    Pending, Role,
    found::{Found, done, end_of},
    time::{again, within},
};
use crate::{
    checks::{blocking::Blocking, tool::Tool, words::clean},
    config::DrbdRole,
    drbd::{DRBDADM, DRBDSETUP, Events, Report, has_split_brain},
    sys::clock,
};

/// From one look to the next, where DRBD tells of no change.
const EVERY: Duration = Duration::from_secs(1);
/// For a look.
const LOOK: Duration = Duration::from_secs(2);
/// For one that was given up to end.
const SETTLES: Nanos = Nanos::from_secs(2);

/// See [`crate::config::DrbdRole`].
pub(super) struct Drbd {
    resource: String,
    drbdadm: Tool,
    drbdsetup: Tool,
    /// Tells that something has changed since the last look.
    events: Events,
    standing: Standing,
    memory: Memory,
    kernel_log: Blocking<Option<bool>>,
}

impl Drbd {
    /// Of this resource, for a role of that name.
    pub(super) fn new(config: &DrbdRole, role: &str, state_dir: &Path) -> Self {
        Self {
            resource: config.resource.clone(),
            drbdadm: Tool::new(DRBDADM),
            drbdsetup: Tool::new(DRBDSETUP),
            events: Events::new(&config.resource),
            standing: Standing::default(),
            memory: Memory::new(state_dir, role),
            kernel_log: Blocking::new(),
        }
    }

    /// Carries out a step, by its name. In words what was done, or why it was not.
    async fn step(&mut self, step: &str, deadline: MonoNs) -> Result<String, String> {
        match step {
            "inspect" => self.inspect(deadline).await,
            "primary" => self.primary(deadline).await,
            "secondary" => self.secondary(deadline).await,
            "force-secondary" => self.force_secondary(deadline).await,
            "connect" => self.connect(deadline).await,
            other => Err(format!("a role of kind drbd has no step {other}")),
        }
    }

    /// What it finds now.
    async fn look(&mut self) -> Observation {
        let found = match timeout(LOOK, self.report()).await {
            Ok(Ok(report)) => Found {
                promoted: Some(report.role.as_deref() == Some("Primary")),
                able: self.promotable(&report).map(drop),
            },
            Ok(Err(why)) => Found::unknown(why),
            Err(_) => Found::unknown(format!("{DRBDSETUP} does not answer")),
        };
        let mut observation = found.observation();
        observation.follows = self.follows();
        observation
    }

    /// Whether to connect is worth a try: DRBD looks for its peers by itself, but where it is not up or was disconnected.
    /// After a split brain it waits for a person.
    fn follows(&self) -> Follows {
        match self.standing {
            Standing::Absent | Standing::Alone | Standing::Unclear => Follows::Nobody,
            Standing::Unknown | Standing::Together | Standing::SplitBrain => Follows::Source {
                source: self.resource.clone(),
                receives: self.standing == Standing::Together,
                acknowledges: false,
                lag: None,
            },
        }
    }

    /// What DRBD says of the resource.
    async fn report(&mut self) -> Result<Report, String> {
        let arguments = ["events2", "--now", self.resource.as_str()];
        let ended = self.drbdsetup.finish(&arguments).await?;
        self.events.probed();
        // A kernel without the resource, or without DRBD: it prints nothing of it, or fails.
        if !ended.status.success() && ended.status.code() != Some(codes::NO_SUCH_RESOURCE) {
            return Err(format!("{DRBDSETUP}: {}", ended.said));
        }
        let report = Report::read(&ended.printed, &self.resource);
        self.note(&report).await;
        Ok(report)
    }

    /// The same for a step. A look that was given up for it may still be under way, and is waited for, for a while.
    async fn report_by(&mut self, deadline: MonoNs) -> Result<Report, String> {
        let settled = deadline.min(clock::now().after(SETTLES));
        loop {
            match within(deadline, DRBDSETUP, self.report()).await? {
                Err(_) if again(settled).await => {}
                result => return result,
            }
        }
    }

    /// Why a connection stands alone, or whether one did that now looks for its peer again, is remembered or else in
    /// the kernel's log, which is read once for each time that something begins.
    async fn note(&mut self, report: &Report) {
        if report.role.is_none() {
            self.standing = Standing::Absent;
            return;
        }
        if report.is_connected() {
            self.standing = Standing::Together;
            self.memory.forget().await;
            return;
        }
        let alone = report.is_alone();
        self.standing = match (self.standing, alone) {
            // The peer is gone for good, and somebody has said so.
            (Standing::SplitBrain, false) if self.memory.is_removed().await => Standing::Together,
            // Somebody mends it: until the two are connected it is not known whose data stay.
            (known @ Standing::SplitBrain, _) => known,
            (known @ (Standing::Alone | Standing::Unclear), true) => known,
            (known @ Standing::Together, false) => known,
            _ if self.memory.has_split_brain().await => Standing::SplitBrain,
            _ => match (self.ask_kernel_log(report).await, alone) {
                (Some(true), _) => Standing::SplitBrain,
                (_, false) => Standing::Together,
                (Some(false), true) => Standing::Alone,
                (None, true) => Standing::Unclear,
            },
        };
        if self.standing == Standing::SplitBrain {
            self.memory.keep().await;
        }
    }

    async fn ask_kernel_log(&mut self, report: &Report) -> Option<bool> {
        let (resource, asked) = (self.resource.clone(), report.clone());
        let what = "a look at the kernel's log";
        let read = move || has_split_brain(&resource, &asked);
        self.kernel_log.call(what, read).await.ok().flatten()
    }

    fn promotable(&self, report: &Report) -> Result<String, String> {
        let judged = promotable(&self.resource, report, self.standing);
        if self.standing != Standing::SplitBrain || report.is_alone() {
            return judged;
        }
        let file = self.memory.file().display();
        judged.map_err(|why| {
            format!("{why}. If the other node is gone for good, and its writes with it: rm {file}")
        })
    }

    async fn inspect(&mut self, deadline: MonoNs) -> Result<String, String> {
        let report = self.report_by(deadline).await?;
        self.promotable(&report)
    }

    /// Asks DRBD, which finds out whether a peer that seems to be Primary is still there: for as long as it says that,
    /// it is asked again.
    async fn primary(&mut self, deadline: MonoNs) -> Result<String, String> {
        let resource = self.resource.clone();
        let mut refused = None;
        loop {
            let report = self.report_by(deadline).await?;
            if report.role.as_deref() == Some("Primary") {
                return Ok(format!("{resource} is Primary"));
            }
            let peer = report.connections.iter().find(|one| one.role == "Primary");
            if let Some(peer) = peer
                && within(deadline, DRBDSETUP, self.allows_two_primaries()).await??
            {
                refused = Some(format!(
                    "{} is Primary, and the resource's `allow-two-primaries` would let both be that",
                    clean(&peer.peer)
                ));
            } else {
                let arguments = ["primary", resource.as_str()];
                let run = self.drbdadm.finish(&arguments);
                let ended = within(deadline, "drbdadm primary", run).await;
                match of_code(ended, refused.take())? {
                    None => continue,
                    Some(Refusal::Passing(why)) => refused = Some(why),
                    Some(Refusal::Final(why)) => return Err(format!("{resource}: {why}")),
                }
            }
            if !again(deadline).await {
                let why = refused.unwrap_or_default();
                return Err(format!("{resource} cannot become Primary: {why}"));
            }
        }
    }

    async fn allows_two_primaries(&mut self) -> Result<bool, String> {
        let shown = self.drbdsetup.run(&["show", &self.resource]).await?;
        let set = |line: &str| {
            let mut words = line.trim().trim_end_matches(';').split_whitespace();
            words.next() == Some("allow-two-primaries") && words.next() != Some("no")
        };
        Ok(shown.lines().any(set))
    }

    /// Asks until whoever uses the device has let go of it.
    async fn secondary(&mut self, deadline: MonoNs) -> Result<String, String> {
        let resource = self.resource.clone();
        let mut refused = None;
        loop {
            let report = self.report_by(deadline).await?;
            match report.role.as_deref() {
                None => return Ok(format!("{resource} is not there")),
                Some("Secondary") => return Ok(format!("{resource} is Secondary")),
                Some(_) => {}
            }
            let arguments = ["secondary", resource.as_str()];
            let run = self.drbdadm.finish(&arguments);
            let ended = within(deadline, "drbdadm secondary", run).await;
            match of_code(ended, refused.take())? {
                None => continue,
                Some(Refusal::Passing(why) | Refusal::Final(why)) => refused = Some(why),
            }
            if !again(deadline).await {
                let why = refused.unwrap_or_default();
                return Err(format!("{resource} cannot become Secondary: {why}"));
            }
        }
    }

    /// The hard way: whoever still uses the device gets errors. DRBD 8.4 has none.
    async fn force_secondary(&mut self, deadline: MonoNs) -> Result<String, String> {
        let resource = self.resource.clone();
        let arguments = ["secondary", "--force=yes", resource.as_str()];
        let run = self.drbdsetup.finish(&arguments);
        let ended = within(deadline, "drbdsetup secondary --force=yes", run).await??;
        let report = self.report_by(deadline).await?;
        match report.role.as_deref() {
            Some("Primary") => Err(format!(
                "{resource} is still Primary ({}): end what uses its device, or reset this node",
                ended.said
            )),
            _ => Ok(format!("{resource} is Secondary, by force")),
        }
    }
}

impl Role for Drbd {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(async { self.step(order.step, end_of(order)).await.map(done) })
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, ()> {
        Box::pin(async {
            self.events.next(false).await;
        })
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn look_limit(&self) -> Duration {
        LOOK + EVERY
    }
}

//! `kind = "drbd"`: a resource of DRBD, 8.4 or 9.
//!
//! `drbdsetup events2` speaks alike in both: with `--now` it prints what is, without it what changes.

mod judge;
#[cfg(test)]
mod tests;

use ha_core::check::Observation;

use self::judge::{Rules, Standing};
use super::{
    probe::{Pending, Probe, Role, RoleWatch},
    tool::Tool,
};
use crate::{
    config::Drbd,
    drbd::{DRBDSETUP, Events, Report},
    sys::clock,
};

/// See [`Drbd`].
pub(super) struct DrbdProbe {
    rules: Rules,
    tool: Tool,
    events: Events,
    roles: RoleWatch,
    standing: Standing,
}

impl DrbdProbe {
    pub(super) fn new(config: &Drbd, roles: RoleWatch) -> Self {
        let role = *roles.borrow();
        Self {
            rules: Rules {
                resource: config.resource.clone(),
                promote_within: config.promote_within,
            },
            tool: Tool::new(DRBDSETUP),
            events: Events::new(&config.resource),
            roles,
            standing: Standing::begun(role),
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        self.standing.update(*self.roles.borrow_and_update());
        let resource = self.rules.resource.as_str();
        let printed = self.tool.run(&["events2", "--now", resource]).await?;
        let found = Report::read(&printed, resource);
        self.events.probed();
        self.rules.judge(&found, self.standing, clock::now())
    }
}

impl Probe for DrbdProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let active = self.standing.role == Role::Active;
            tokio::select! {
                biased;
                observation = self.events.next(active) => observation,
                () = changed(&mut self.roles) => Observation::Changed,
            }
        })
    }
}

/// Waits for another role; for ever, where nobody will say so.
async fn changed(roles: &mut RoleWatch) {
    if roles.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

//! What a standby does to be connected with its peers again; nothing of it discards data.

use ha_common::{MonoNs, Nanos};

use super::{
    Drbd,
    codes::{Refusal, of_code},
    judge::{Standing, split_brain},
};
use crate::{
    checks::words::clean,
    drbd::Report,
    roles::time::{again, within},
    sys::clock,
};

/// How long the outcome of a connection is waited for. A peer that is away may stay that for days.
const HANDSHAKE: Nanos = Nanos::from_secs(5);

impl Drbd {
    /// Brings up what is not there, and connects what stands alone, unless that is after a split brain: with its
    /// bitmaps DRBD syncs what the peer wrote meanwhile, and where both wrote, it disconnects again.
    pub(super) async fn connect(&mut self, deadline: MonoNs) -> Result<String, String> {
        let resource = self.resource.clone();
        let report = self.report_by(deadline).await?;
        let verb = if report.role.is_none() {
            "up"
        } else if report.is_alone() {
            if self.standing == Standing::SplitBrain {
                return Err(split_brain(&resource, "its peer"));
            }
            "connect"
        } else {
            return Ok(connections(&resource, &report));
        };
        let arguments = [verb, resource.as_str()];
        let run = self.drbdadm.finish(&arguments);
        let ended = within(deadline, &format!("drbdadm {verb}"), run).await;
        if let Some(Refusal::Passing(why) | Refusal::Final(why)) = of_code(ended, None)? {
            return Err(format!("drbdadm {verb} {resource}: {why}"));
        }
        // What was known of an earlier attempt says nothing of this one.
        self.standing = Standing::Unknown;
        let until = deadline.min(clock::now().after(HANDSHAKE));
        loop {
            let report = self.report_by(deadline).await?;
            if let Some(alone) = report.connections.iter().find(|one| one.is_alone()) {
                let peer = clean(&alone.peer);
                return Err(match self.standing {
                    Standing::SplitBrain => split_brain(&resource, &peer),
                    _ => format!(
                        "{resource} was refused by {peer}: see the kernel's log; unless its configuration is another one, {}",
                        split_brain(&resource, &peer)
                    ),
                });
            }
            let settled = report
                .connections
                .iter()
                .all(|one| one.state == "Connected");
            if settled || !again(until).await {
                return Ok(connections(&resource, &report));
            }
        }
    }
}

fn connections(resource: &str, report: &Report) -> String {
    let connections: Vec<String> = report
        .connections
        .iter()
        .map(|one| format!("{} {}", clean(&one.peer), clean(&one.state)))
        .collect();
    format!("{resource}: {}", connections.join("; "))
}

//! What a cluster of two must have where one node may go on alone.

use ha_core::tracking::Effect;

use super::{Bootstrap, RoleKind};
use crate::config::{
    parse::{Draft, DraftGroup, DraftInstance},
    reader::Reader,
};

/// A role of the group whose node may go on alone.
fn role<'a>(draft: &'a Draft, group: &DraftGroup) -> Option<&'a str> {
    draft.roles.iter().find_map(|role| {
        let called = role.called.as_deref()?;
        let is_named = group.roles.iter().any(|wanted| wanted.value == called);
        let alone = matches!(&role.kind, Some(RoleKind::Galera(galera)) if galera.bootstrap == Bootstrap::Alone);
        (is_named && alone).then_some(called)
    })
}

/// Who goes on alone must know that it is not the one that is cut off.
pub(super) fn check(reader: &Reader<'_>, draft: &Draft) {
    for group in &draft.groups {
        let Some(role) = role(draft, group) else {
            continue;
        };
        let is_member = |instance: &&DraftInstance| {
            let wanted = instance.group.as_ref();
            wanted.is_some_and(|wanted| wanted.value == group.name.value)
        };
        for instance in draft.instances.iter().filter(is_member) {
            let tracks = instance.track.iter().chain(&group.track);
            let arbitrated = tracks
                .map(|track| track.effect())
                .any(|effect| effect == Effect::Arbitrate);
            if !arbitrated {
                reader.fail(
                    instance.offset,
                    format!("{}, track", instance.place),
                    format!("role \"{role}\" may go on alone, and there is no arbitrator to tell whether it is this node that is cut off"),
                    "track a check of something beyond both nodes, as { check = \"gateway\", when = \"isolated\" }; or write `bootstrap = \"never\"` and let a third node vote, as Galera's arbitrator garbd",
                );
            }
            if instance.heartbeat.is_none() && instance.channels.is_empty() {
                reader.fail(
                    instance.offset,
                    format!("{}, heartbeat", instance.place),
                    format!("role \"{role}\" may go on alone, and by adverts an Active node cannot know that it hears nobody"),
                    "add `heartbeat`, or a [[channel]] to the other node",
                );
            }
            if instance.peers.len() > 1 {
                reader.fail(
                    instance.offset,
                    format!("{}, peers", instance.place),
                    format!("role \"{role}\" may go on alone, and there are more than two nodes, of which the most go on by themselves"),
                    "write `bootstrap = \"never\"`, or leave it out",
                );
            }
        }
    }
}

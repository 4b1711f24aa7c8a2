//! Whether a resource may be promoted here.

use crate::{
    checks::words::clean,
    drbd::{Report, usable},
};

/// How the connections of a resource stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The resource is not there.
    Absent,
    /// None stands alone.
    Together,
    /// One stands alone, and the kernel's log has no split brain of it: somebody disconnected it.
    Alone,
    /// After a split brain.
    SplitBrain,
    /// The kernel's log could not be read.
    Unclear,
}

/// In words how it is, or why it may not be promoted.
///
/// Whether a peer that seems to be Primary is still there is found out by DRBD, when it is asked for the promotion.
/// Who is Primary already goes on, also after a split brain: its data are those that the clients had.
pub(super) fn promotable(
    resource: &str,
    found: &Report,
    standing: Standing,
) -> Result<String, String> {
    let role = usable(resource, found)?;
    // Until the two are connected: who has let its own data go, and nobody else, is only looking for its peer.
    if standing == Standing::SplitBrain && role != "Primary" {
        let peer = found.connections.first().map(|one| clean(&one.peer));
        return Err(split_brain(resource, peer.as_deref().unwrap_or("its peer")));
    }
    let alone = found.connections.iter().find(|one| one.is_alone());
    if let Some(alone) = alone
        && role != "Primary"
    {
        let peer = clean(&alone.peer);
        return Err(match standing {
            Standing::Alone => format!(
                "the connection of {resource} to {peer} is StandAlone, so the data there may be newer: run: drbdadm connect {resource}"
            ),
            _ => format!(
                "the connection of {resource} to {peer} is StandAlone: unless somebody disconnected it (then run: drbdadm connect {resource}), {}",
                split_brain(resource, &peer)
            ),
        });
    }
    let disks: Vec<String> = found.devices.iter().map(|one| clean(&one.disk)).collect();
    let peers: Vec<String> = found
        .connections
        .iter()
        .map(|one| {
            format!(
                "; {} {} {}",
                clean(&one.peer),
                clean(&one.state),
                clean(&one.role)
            )
        })
        .collect();
    Ok(format!(
        "{resource} is {}, {}{}",
        clean(role),
        disks.join(", "),
        peers.concat()
    ))
}

/// What a person has to do: nothing of it is done without one, since one node's writes are thrown away.
pub(super) fn split_brain(resource: &str, peer: &str) -> String {
    format!(
        "split brain of {resource} with {peer}: each of the two has writes that the other one lacks, and nothing is promoted. \
         Decide whose are thrown away, and save them first if they may be needed. First on the other node, if it is StandAlone: \
         drbdadm connect {resource}. Then on that one, with nothing mounted: \
         drbdadm disconnect {resource}; drbdadm secondary {resource}; drbdadm connect --discard-my-data {resource}. When both are UpToDate: drbdadm verify {resource}"
    )
}

//! Whether a node could use a resource, as far as its own side of it goes.

use super::report::{Device, Report};
use crate::checks::words::clean;

/// `Ok`: its role. `Err`: in words why nobody could use it here.
pub(crate) fn usable<'a>(resource: &str, found: &'a Report) -> Result<&'a str, String> {
    let Some(role) = &found.role else {
        return Err(format!(
            "{resource} is not there: run: drbdadm up {resource}"
        ));
    };
    if found.devices.is_empty() {
        return Err(format!(
            "{resource} has no volume: run: drbdadm adjust {resource}"
        ));
    }
    for device in &found.devices {
        has_data(resource, device)?;
    }
    if !matches!(found.suspended.as_str(), "no" | "") {
        return Err(format!(
            "input and output of {resource} are suspended ({})",
            clean(&found.suspended)
        ));
    }
    Ok(role)
}

fn has_data(resource: &str, device: &Device) -> Result<(), String> {
    let of = format!("{resource}/{}", clean(&device.volume));
    if !device.has_quorum {
        return Err(format!(
            "{of} has no quorum: too few of its nodes are there"
        ));
    }
    match device.disk.as_str() {
        // Consistent: whether it is the newest is found out by the promotion.
        "UpToDate" | "Consistent" => Ok(()),
        "Diskless" if device.is_client => Ok(()),
        disk => Err(match &device.replication {
            Some(replication) => {
                format!(
                    "{of} is {} and is being synced ({replication})",
                    clean(disk)
                )
            }
            None => format!("{of} is {}", clean(disk)),
        }),
    }
}

//! The check of a file system before it is mounted.

use ha_common::MonoNs;

use super::FileSystem;
use crate::{
    checks::tool::{Ended, Tool},
    roles::time::within,
};

/// From this exit code of fsck(8) on something is left that it does not mend by itself.
const LEFT: i32 = 4;

/// Mends what can be mended without losing anything (`-p`).
pub(super) async fn check(
    tool: &mut Tool,
    system: &FileSystem,
    deadline: MonoNs,
) -> Result<String, String> {
    let device = system.device.display().to_string();
    let arguments = ["-T", "-t", &system.kind, &device, "--", "-p"];
    let ended = within(
        deadline,
        &format!("fsck of {device}"),
        tool.finish(&arguments),
    )
    .await??;
    judge(&ended, &device)
}

fn judge(ended: &Ended, device: &str) -> Result<String, String> {
    match ended.status.code() {
        Some(0) => Ok(format!("{device} is clean")),
        Some(code) if code < LEFT => Ok(format!("{device} was mended: {}", ended.said)),
        _ => Err(format!(
            "{device} has errors that fsck does not mend by itself ({}: {}): run: fsck {device}",
            ended.status, ended.said
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    #[test]
    fn errors_that_are_left_are_fatal() {
        let ended = |code: i32| Ended {
            status: ExitStatus::from_raw(code << 8),
            printed: String::new(),
            said: "words".to_owned(),
        };
        for code in [0, 1, 2, 3] {
            assert!(judge(&ended(code), "/dev/drbd0").is_ok(), "{code}");
        }
        for code in [4, 5, 8, 12, 16, 32, 128] {
            assert!(judge(&ended(code), "/dev/drbd0").is_err(), "{code}");
        }
    }
}

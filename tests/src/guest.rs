//! Tests that need what only the guest of `cargo xtask vm-test` has.

use std::{fs, sync::LazyLock, time::Duration};

use anyhow::Result;

use crate::{Lab, scenario};

/// What the guest's kernel was told.
const MARK: &str = "had.guest";

/// How much longer things may take in the guest, whose processors are emulated: its kernel needs ten seconds to
/// verify a program for which the host's needs one.
const SLOWNESS: u32 = 6;

static HERE: LazyLock<bool> = LazyLock::new(|| {
    fs::read_to_string("/proc/cmdline")
        .unwrap_or_default()
        .split_whitespace()
        .any(|word| word == MARK)
});

/// Whether this is the guest.
#[must_use]
pub fn is_here() -> bool {
    *HERE
}

/// How long to wait here for what takes `deadline` at most elsewhere.
#[must_use]
pub fn patience(deadline: Duration) -> Duration {
    if is_here() {
        deadline * SLOWNESS
    } else {
        deadline
    }
}

/// As [`scenario`], but fails elsewhere than in the guest.
pub fn scenario_in_guest(body: impl FnOnce(&Lab) -> Result<()>) {
    assert!(
        is_here(),
        "this test needs Debian's kernel: run `cargo xtask vm-test`, which boots it in a guest"
    );
    scenario(body);
}

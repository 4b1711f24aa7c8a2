//! What the kernel that the tests run on can do.

use aya::util::KernelVersion;

/// Whether it has tcx, by which the programs at tc are links that can be pinned (Linux 6.6). Without it they are
/// filters.
#[must_use]
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

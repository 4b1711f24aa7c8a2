//! Removes what test runs left behind that were killed: namespaces, mounts, processes, directories.

#![forbid(unsafe_code)]

fn main() -> anyhow::Result<()> {
    ha_tests::stale::clean()
}

//! What test machines may lack: a kernel with bonds, VLANs, netem, disk arrays, DRBD and loop devices, and systemd. Runs
//! in the guest of `cargo xtask vm-test`, where processors are emulated: everything takes ten times as long, and may be
//! held up for longer.

mod balance;
mod bond;
mod bursts;
mod drbd;
mod figures;
mod flux;
mod md;
mod netem;
mod pair;
mod script;
mod steps;
mod unit;
mod vlan;

use anyhow::Result;
use ha_tests::{Node, VirtualRouter};
use serde_json::Value;

/// Between two adverts, in milliseconds: comfortable where a processor may be away for hundreds of them.
const INTERVAL_MS: u32 = 400;

/// A virtual router with slow adverts.
fn slow(router: VirtualRouter) -> VirtualRouter {
    router.interval_ms(INTERVAL_MS)
}

/// What the kernel says of generic XDP on an interface (`XDP_ATTACHED_SKB`).
const GENERIC: u64 = 2;

/// How an interface runs XDP, if it does.
fn xdp(node: &Node, interface: &str) -> Result<Option<u64>> {
    let links = node
        .ns()
        .ip(&["-d", "-j", "link", "show", "dev", interface])?;
    let links: Value = serde_json::from_str(&links)?;
    Ok(links[0]["xdp"]["mode"].as_u64())
}

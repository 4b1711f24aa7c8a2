//! What test machines may lack: a kernel with bonds, VLANs, netem and loop devices, and systemd. Runs in the guest of `cargo xtask vm-test`, where
//! processors are emulated: everything takes ten times as long, and may be held up for longer.

mod balance;
mod bond;
mod flux;
mod netem;
mod script;
mod unit;
mod vlan;

use ha_tests::VirtualRouter;

/// Between two adverts, in milliseconds: comfortable where a processor may be away for hundreds of them.
const INTERVAL_MS: u32 = 400;

/// A virtual router with slow adverts.
fn slow(router: VirtualRouter) -> VirtualRouter {
    router.interval_ms(INTERVAL_MS)
}

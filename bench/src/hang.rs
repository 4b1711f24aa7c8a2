//! A daemon that hangs or is killed, and what its node still says for the VIP.

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    clock::sleep_until, eventually, lab::VIP, node::PATIENCE, now, prober::DirectProber,
    stray::Stray,
};

use crate::pair::{INTERVAL, Pair, VRID};

/// How long a stopped daemon stays stopped.
pub(crate) const STOPPED: Nanos = Nanos::from_secs(1);

/// How long the node is watched after its daemon goes on.
const RETURNING: Nanos = Nanos::from_millis(500);

/// A gate is open for this long after the last advert (docs/architecture.md, "The gate").
const GATE: Nanos = Nanos(3 * INTERVAL.0);

/// How the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By SIGSTOP; it goes on after [`STOPPED`].
    Stop,
    /// By SIGKILL; it is started again after [`STOPPED`].
    Kill,
}

/// Frames of a node without a working daemon in which it speaks for the VIP.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spoken {
    /// From the gate's deadline until the daemon goes on.
    pub(crate) stopped: usize,
    /// After that, while the other node is Active.
    pub(crate) returning: usize,
    /// Packets that a local process sent from the VIP meanwhile, without an error.
    pub(crate) offered: u64,
}

/// Stops or kills the Active node's daemon while packets for the VIP go straight to the node and a
/// process on it sends from the VIP; counts what leaves it.
pub(crate) fn end_daemon(pair: &mut Pair, how: End, old: usize) -> Result<Spoken> {
    let new = 1 - old;
    let stray = Stray::start(&pair.nodes[old], VIP, pair.client.address())?;
    let direct = DirectProber::start(&pair.client, VIP, pair.nodes[old].mac())?;
    let sniffer = &pair.sniffers[old];
    eventually(PATIENCE, "the process on the Active node is heard", || {
        Ok(sniffer.spoken(MonoNs::ZERO, now()).len() > 100)
    })?;
    let offered_before = stray.accepted();
    if how == End::Stop {
        pair.nodes[old].daemon()?.freeze()?;
    } else {
        pair.nodes[old].kill()?;
    }
    let stopped_at = now();
    let other = &pair.sniffers[new];
    eventually(PATIENCE, "the other node takes over", || {
        Ok(other.last_live_advert(VRID).is_some())
    })?;
    sleep_until(stopped_at.after(STOPPED));
    let going_on = now();
    let (last_advert, _) = pair.sniffers[old]
        .last_advert_before(VRID, going_on)
        .context("the Active node sent no advert at all")?;
    ensure!(
        last_advert < stopped_at.after(INTERVAL),
        "a stopped daemon advertised"
    );
    let stopped = pair.sniffers[old]
        .spoken(last_advert.after(GATE), going_on)
        .len();
    let offered = stray.accepted() - offered_before;
    if how == End::Stop {
        pair.nodes[old].daemon()?.thaw()?;
    } else {
        pair.nodes[old].restart(pair.system.kind())?;
    }
    let end = going_on.after(RETURNING);
    sleep_until(end);
    drop((stray, direct));
    let returning = pair.sniffers[old].spoken(going_on, end).len();
    Ok(Spoken {
        stopped,
        returning,
        offered,
    })
}

//! Everything before the first decision: lock, leftovers of a killed run, bpffs, programs, memory.

use std::{collections::BTreeSet, fs, io, path::Path};

use ha_common::{abi::MAX_INSTANCES, gate::Epoch};
use ha_core::{InstanceId, Mode};
use tracing::{error, info, warn};

use super::{DaemonError, advice, check_beside, machine, taken};
use crate::{
    config::{self, Config, Mode as DataplaneMode},
    dataplane::{self, Dataplane, Guards},
    engine::Plan,
    net::{links::Table, netlink::AddressLane},
    roles::{self, Opened},
    runtime::{
        bpffs::{self, PinDir},
        lock::{self, Lock, LockError},
        memory::{Memory, Vip},
    },
    sys::{capabilities, realtime},
};

/// What the daemon begins with.
pub(super) struct Started {
    pub(super) config: Config,
    pub(super) memory: Memory,
    pub(super) plan: Plan,
    /// Addresses of an earlier run that could not be taken off.
    pub(super) left: Vec<Vip>,
    pub(super) dataplane: Option<Dataplane>,
    pub(super) guards: Option<Guards>,
    pub(super) pins: Option<PinDir>,
    pub(super) memory_locked: bool,
    pub(super) locks: Vec<Lock>,
    pub(super) groups: Vec<Opened>,
    pub(super) mode: Mode,
}

/// Gets everything ready.
pub(super) fn prepare(file: &Path) -> Result<Started, DaemonError> {
    let config = config::load(file, &|_| None, &|_, _| false)?;
    let missing = capabilities::missing(config.dataplane.mode != DataplaneMode::Off);
    if !missing.is_empty() {
        return Err(DaemonError::Unprivileged(missing));
    }
    let runtime_dir = &config.node.runtime_dir;
    let used = |what: &'static str| {
        let path = runtime_dir.clone();
        move |source| DaemonError::File { what, path, source }
    };
    fs::create_dir_all(runtime_dir).map_err(used(
        "the runtime directory cannot be made (make it for the user that had runs as, or run had as root):",
    ))?;
    let mut locks = vec![lock::runtime_dir(runtime_dir)?];
    let earlier = Memory::load(runtime_dir).map_err(used("there is no reading in"))?;
    let left = remove_leftovers(&config, earlier.vips());
    let table = Table::read().unwrap_or_default();
    config::load(file, &|_| None, &taken(&table, &earlier))?;
    // An interface or its address may come later than the daemon: that is only a warning.
    if let Err(error) = check_beside(file, &earlier) {
        warn!("with the addresses that this node has at present:\n{error}");
    }

    let links = advice::of_links(&config, &table).into_iter();
    for advice in links.chain(advice::of_tracking(&config, &table)) {
        warn!("{advice}");
    }
    if let Some(advice) = machine::offline(&config) {
        warn!("{advice}");
    }
    if let Some(advice) = machine::throttled(&config) {
        info!("{advice}");
    }
    if let Some(advice) = machine::slewed(&config) {
        warn!("{advice}");
    }

    let memory_locked = match realtime::lock_memory() {
        Ok(()) => true,
        Err(error) => {
            warn!(
                "memory is not locked: {error}. Under memory pressure this node may be late and lose its role; give it CAP_IPC_LOCK or LimitMEMLOCK=infinity"
            );
            false
        }
    };
    let mode = roles::mode::load(&config.node.state_dir)?;
    let groups = roles::open(&config)?;
    let mut plan = earlier.plan(&config);
    plan.mode = mode;
    let (mut dataplane, pins) = open_dataplane(&config, &earlier, &mut locks)?;
    if let Some(dataplane) = &dataplane {
        close_every_gate(dataplane);
    }
    let guards = match dataplane.as_mut().map(Dataplane::guards) {
        None => None,
        Some(Ok(guards)) => guards,
        Some(Err(error)) => {
            error!("interfaces that no instance names cannot be guarded: {error}");
            None
        }
    };
    let memory = Memory::of(&plan, &left);
    memory
        .save(runtime_dir)
        .map_err(used("there is no writing in"))?;
    Ok(Started {
        config,
        memory,
        plan,
        left,
        dataplane,
        guards,
        pins,
        memory_locked,
        locks,
        groups,
        mode,
    })
}

/// Takes away the addresses that a killed run wrote down; returns those that it could not.
/// The owner of the addresses keeps them, but not the routes that go with a VIP ([`AddressLane::add_routes`]).
fn remove_leftovers(config: &Config, earlier: &[Vip]) -> Vec<Vip> {
    let owned = |vip: &Vip| {
        config.instances.iter().any(|instance| {
            instance.priority == ha_common::Priority::OWNER
                && instance.interface == vip.interface
                && instance.vips.contains(&vip.address)
        })
    };
    let (table, mut lane) = match (Table::read(), AddressLane::open()) {
        (Ok(table), Ok(lane)) => (table, lane),
        (Err(error), _) | (_, Err(error)) => {
            error!("left-over VIPs cannot be looked for: {error}");
            return earlier.iter().filter(|vip| !owned(vip)).cloned().collect();
        }
    };
    let mut left = Vec::new();
    for vip in earlier {
        let Some(link) = table.by_name(&vip.interface) else {
            continue;
        };
        if owned(vip) || !link.addresses.contains(&vip.address) {
            if let Err(error) = lane.remove_routes(link.ifindex, &[vip.address]) {
                error!(
                    "an earlier run left its route to {} on {}, and it cannot be removed: {error}",
                    vip.address, vip.interface
                );
            }
            continue;
        }
        match lane.remove(link.ifindex, &[vip.address]) {
            Ok(()) => warn!(
                "removed {} from {}, where an earlier run left it",
                vip.address, vip.interface
            ),
            Err(error) => {
                error!(
                    "an earlier run left {} on {}, and it cannot be removed: {error}",
                    vip.address, vip.interface
                );
                left.push(vip.clone());
            }
        }
    }
    left
}

fn open_dataplane(
    config: &Config,
    earlier: &Memory,
    locks: &mut Vec<Lock>,
) -> Result<(Option<Dataplane>, Option<PinDir>), DaemonError> {
    let mode = match config.dataplane.mode {
        DataplaneMode::Auto => dataplane::Mode::Auto,
        DataplaneMode::Native => dataplane::Mode::Native,
        DataplaneMode::Generic => dataplane::Mode::Generic,
        DataplaneMode::Tc => dataplane::Mode::Tc,
        DataplaneMode::Off => {
            warn!(
                "NO GATE: dataplane.mode = \"off\". A node that hangs goes on speaking for its VIPs"
            );
            remove_dataplane(config, earlier)?;
            return Ok((None, None));
        }
    };
    let pins = find_pins(config, locks)?;
    let options = dataplane::Options {
        mode,
        pin_dir: pins.as_ref().map(|pins| pins.path.clone()),
    };
    match Dataplane::open(&options) {
        Ok(dataplane) => {
            if !dataplane.has_watch() {
                warn!(
                    "the kernel has no timers or no memory for them: this node wakes for its own, and waits out the Active_Down_Interval also where leases would prove silence earlier"
                );
            }
            Ok((Some(dataplane), pins))
        }
        Err(error) if config.dataplane.mode == DataplaneMode::Auto => {
            error!(
                "NO GATE: XDP cannot be used, adverts go by sockets alone: {error}. A node that hangs goes on speaking for its VIPs"
            );
            if let Some(pins) = &pins {
                dataplane::remove_pins(&pins.path)?;
            }
            dataplane::remove_filters(&interfaces(config, earlier))?;
            Ok((None, pins))
        }
        Err(error) => Err(error.into()),
    }
}

/// Mode `off`: takes off what an earlier run left, unless it is another daemon's, which runs.
fn remove_dataplane(config: &Config, earlier: &Memory) -> Result<(), DaemonError> {
    for pin_dir in bpffs::find(&config.dataplane.pin_dir, &config.node.runtime_dir) {
        match lock::pin_dir(&pin_dir) {
            Ok(_lock) => dataplane::remove_pins(&pin_dir)?,
            Err(error @ LockError::Taken { .. }) => {
                info!("{error}: it is left alone");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(dataplane::remove_filters(&interfaces(config, earlier))?)
}

/// The interfaces that this run or an earlier one may have used.
fn interfaces<'a>(config: &'a Config, earlier: &'a Memory) -> BTreeSet<&'a str> {
    let configured = config.instances.iter().map(|one| one.interface.as_str());
    let bfd = config.channels.iter().map(|one| one.interface.as_str());
    let lease = config
        .lease_channels
        .iter()
        .map(|one| one.interface.as_str());
    let remembered = earlier.vips().iter().map(|vip| vip.interface.as_str());
    configured
        .chain(bfd)
        .chain(lease)
        .chain(remembered)
        .collect()
}

fn find_pins(config: &Config, locks: &mut Vec<Lock>) -> Result<Option<PinDir>, DaemonError> {
    match bpffs::prepare(&config.dataplane.pin_dir, &config.node.runtime_dir) {
        Ok(pins) => {
            locks.push(lock::pin_dir(&pins.path)?);
            if pins.fragile {
                let mounted = pins.mounted.as_deref().unwrap_or(&pins.path).display();
                warn!(
                    "NO GATE AFTER SIGKILL: the bpffs at {mounted} was mounted in a mount namespace of its own (`ip netns exec` makes one) and goes with the last process in it. Run beforehand, outside of it: mount -t bpf bpf {mounted}"
                );
            }
            info!("programs and maps are pinned in {}", pins.path.display());
            Ok(Some(pins))
        }
        Err(error) => {
            error!(
                "NO GATE AFTER SIGKILL: no bpffs can be used, neither at {} nor below {}: {error}. Mount one: mount -t bpf bpf /sys/fs/bpf",
                config.dataplane.pin_dir.display(),
                config.node.runtime_dir.display()
            );
            Ok(None)
        }
    }
}

/// Nothing that an earlier daemon opened stays open: this one begins as Backup.
fn close_every_gate(dataplane: &Dataplane) {
    for id in (0..MAX_INSTANCES).map(InstanceId) {
        let epoch = dataplane.epoch(id);
        if epoch != Epoch::NONE {
            dataplane.set_epoch(id, epoch.raised());
        }
    }
}

/// After everything was handed over.
pub(super) fn clean_up(config: &Config, pins: Option<&PinDir>) {
    let quiet = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            warn!("{what}: {error}");
        }
    };
    quiet("the control socket stays", fs::remove_file(&config.control));
    quiet(
        "the list of VIPs stays, though none was left",
        Memory::erase(&config.node.runtime_dir),
    );
    if let Some(pins) = pins {
        quiet("the bpffs stays mounted", bpffs::release(pins));
    }
}

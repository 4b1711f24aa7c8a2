//! Everything before the first decision: lock, leftovers of a killed run, bpffs, programs, memory.

use std::{fs, io, path::Path};

use ha_common::{abi::MAX_INSTANCES, gate::Epoch};
use ha_core::InstanceId;
use tracing::{error, info, warn};

use super::{DaemonError, check};
use crate::{
    config::{self, Config, Mode},
    dataplane::{self, Dataplane, DataplaneError},
    engine::Plan,
    net::{links::Table, netlink::AddressLane},
    runtime::{
        bpffs::{self, PinDir},
        lock::{self, Lock, LockError},
        memory::{Memory, Vip},
    },
    sys::realtime,
};

/// What the daemon begins with.
pub(super) struct Started {
    pub(super) config: Config,
    pub(super) memory: Memory,
    pub(super) plan: Plan,
    pub(super) dataplane: Option<Dataplane>,
    pub(super) pins: Option<PinDir>,
    pub(super) memory_locked: bool,
    pub(super) locks: Vec<Lock>,
}

/// Gets everything ready.
pub(super) fn prepare(file: &Path) -> Result<Started, DaemonError> {
    let config = config::load(file, &|_| None, &|_, _| false)?;
    let runtime_dir = &config.node.runtime_dir;
    let used = |what: &'static str| {
        let path = runtime_dir.clone();
        move |source| DaemonError::File { what, path, source }
    };
    fs::create_dir_all(runtime_dir).map_err(used("the runtime directory cannot be made:"))?;
    let mut locks = vec![lock::runtime_dir(runtime_dir)?];
    let earlier = Memory::load(runtime_dir).map_err(used("there is no reading in"))?;
    remove_leftovers(&config, earlier.vips());
    let table = Table::read().unwrap_or_default();
    config::load(file, &|_| None, &|interface, address| {
        let has = table
            .by_name(interface)
            .is_some_and(|link| link.has(address));
        // What it could not take off stays behind its gate.
        has && !earlier.has(interface, address)
    })?;
    // An interface or its address may come later than the daemon: that is only a warning.
    if let Err(error) = check(file) {
        warn!("with the addresses that this node has at present:\n{error}");
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
    let plan = earlier.plan(&config);
    let (dataplane, pins) = open_dataplane(&config, &earlier, &mut locks)?;
    if let Some(dataplane) = &dataplane {
        close_every_gate(dataplane);
    }
    let memory = Memory::of(&plan, &[]);
    memory
        .save(runtime_dir)
        .map_err(used("there is no writing in"))?;
    Ok(Started {
        config,
        memory,
        plan,
        dataplane,
        pins,
        memory_locked,
        locks,
    })
}

/// Takes away the addresses that a killed run wrote down. The owner of the addresses keeps them.
fn remove_leftovers(config: &Config, earlier: &[Vip]) {
    let owned = |vip: &Vip| {
        config.instances.iter().any(|instance| {
            instance.priority == ha_common::Priority::OWNER
                && instance.interface == vip.interface
                && instance.vips.contains(&vip.address)
        })
    };
    let mut vips = earlier.to_vec();
    vips.retain(|vip| !owned(vip));
    let found = match Table::read() {
        Ok(table) => vips
            .into_iter()
            .filter_map(|vip| {
                let link = table.by_name(&vip.interface)?;
                link.addresses
                    .contains(&vip.address)
                    .then_some((link.ifindex, vip))
            })
            .collect(),
        Err(error) => {
            error!("left-over VIPs cannot be looked for: {error}");
            Vec::new()
        }
    };
    if found.is_empty() {
        return;
    }
    let removed = AddressLane::open().and_then(|mut lane| {
        found
            .iter()
            .map(|(ifindex, vip)| lane.remove(*ifindex, &[vip.address]))
            .fold(Ok(()), Result::and)
    });
    let words: Vec<String> = found
        .iter()
        .map(|(_, vip)| format!("{} on {}", vip.address, vip.interface))
        .collect();
    match removed {
        Ok(()) => warn!(
            "removed VIPs that an earlier run left: {}",
            words.join(", ")
        ),
        Err(error) => error!(
            "left-over VIPs could not be removed ({}): {error}",
            words.join(", ")
        ),
    }
}

fn open_dataplane(
    config: &Config,
    earlier: &Memory,
    locks: &mut Vec<Lock>,
) -> Result<(Option<Dataplane>, Option<PinDir>), DaemonError> {
    let mode = match config.dataplane.mode {
        Mode::Auto => dataplane::Mode::Auto,
        Mode::Native => dataplane::Mode::Native,
        Mode::Generic => dataplane::Mode::Generic,
        Mode::Off => {
            warn!(
                "NO GATE: dataplane.mode = \"off\". A node that hangs goes on speaking for its VIPs"
            );
            for pin_dir in bpffs::find(&config.dataplane.pin_dir, &config.node.runtime_dir) {
                match lock::pin_dir(&pin_dir) {
                    Ok(_lock) => remove_dataplane(&pin_dir, config, earlier)?,
                    Err(error @ LockError::Taken { .. }) => info!("{error}: it is left alone"),
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok((None, None));
        }
    };
    let pins = find_pins(config, locks)?;
    let options = dataplane::Options {
        mode,
        pin_dir: pins.as_ref().map(|pins| pins.path.clone()),
    };
    match Dataplane::open(&options) {
        Ok(dataplane) => Ok((Some(dataplane), pins)),
        Err(error) if config.dataplane.mode == Mode::Auto => {
            error!(
                "NO GATE: XDP cannot be used, adverts go by sockets alone: {error}. A node that hangs goes on speaking for its VIPs"
            );
            if let Some(pins) = &pins {
                remove_dataplane(&pins.path, config, earlier)?;
            }
            Ok((None, pins))
        }
        Err(error) => Err(error.into()),
    }
}

/// Without a dataplane: takes off what an earlier run left of one.
fn remove_dataplane(
    pin_dir: &Path,
    config: &Config,
    earlier: &Memory,
) -> Result<(), DataplaneError> {
    let configured = config
        .instances
        .iter()
        .map(|instance| instance.interface.as_str());
    let interfaces = configured.chain(earlier.vips().iter().map(|vip| vip.interface.as_str()));
    dataplane::remove_leftovers(pin_dir, &interfaces.collect())
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

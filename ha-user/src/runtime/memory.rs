//! What must outlive the process: which slot an instance has in the pinned maps, and which addresses a
//! killed run may have left behind.
//!
//! The addresses are written down *before* any of them can be added, when the configuration is read: the
//! take-over itself writes no file.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ha_common::{Priority, abi::CLOSED_SLOT};
use ha_core::{InstanceId, Mode, Version};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Family, Instance},
    engine::{Plan, SeatPlan},
    roles,
};

/// Grows with every change that an older daemon could not read; the file of a later version is ignored.
const VERSION: u32 = 2;

/// The file `<runtime_dir>/memory.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    slots: BTreeMap<String, Slot>,
    vips: Vec<Vip>,
}

/// The slot of an instance, which belongs to one virtual router: another one begins in another slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    slot: u32,
    interface: String,
    vrid: u8,
    vrrp_version: u8,
    /// 4 or 6.
    #[serde(default = "ipv4")]
    family: u8,
}

/// Version 1 had no other.
fn ipv4() -> u8 {
    Family::V4.number()
}

/// An address that this daemon may have put on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vip {
    /// The interface's name.
    pub interface: String,
    /// The address with its network.
    pub address: IpNet,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: VERSION,
            slots: BTreeMap::new(),
            vips: Vec::new(),
        }
    }
}

impl Memory {
    /// What an earlier run left; nothing when there was none, or it cannot be understood.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn load(runtime_dir: &Path) -> io::Result<Self> {
        let text = match fs::read(file(runtime_dir)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let memory: Option<Self> = serde_json::from_slice(&text).ok();
        Ok(memory
            .filter(|memory| memory.version <= VERSION)
            .unwrap_or_default())
    }

    /// Writes it down, in one piece.
    ///
    /// # Errors
    /// As write(2) and rename(2).
    pub fn save(&self, runtime_dir: &Path) -> io::Result<()> {
        let target = file(runtime_dir);
        let draft = target.with_extension("new");
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&draft, &target)
    }

    /// Forgets everything: nothing was left behind.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn erase(runtime_dir: &Path) -> io::Result<()> {
        match fs::remove_file(file(runtime_dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The addresses that may be left.
    #[must_use]
    pub fn vips(&self) -> &[Vip] {
        &self.vips
    }

    /// Whether this daemon, or an earlier one, may have put an address on an interface.
    #[must_use]
    pub fn has(&self, interface: &str, address: IpAddr) -> bool {
        self.vips
            .iter()
            .any(|vip| vip.interface == interface && vip.address.addr() == address)
    }

    /// Gives every instance its slot: the one that it had if it is still the same virtual router, else one
    /// that nobody has or had.
    #[must_use]
    pub fn plan(&self, config: &Config) -> Plan {
        let kept: Vec<Option<u32>> = config
            .instances
            .iter()
            .map(|instance| {
                self.slots
                    .get(&instance.name)
                    .filter(|slot| **slot == identity(slot.slot, instance))
                    .map(|slot| slot.slot)
            })
            .collect();
        let had: Vec<u32> = self.slots.values().map(|slot| slot.slot).collect();
        let mut has: Vec<u32> = kept.iter().flatten().copied().collect();
        let mut seats = Vec::with_capacity(config.instances.len());
        for (instance, kept) in config.instances.iter().zip(kept) {
            let slot = kept.unwrap_or_else(|| {
                let free = |slot: &u32| !has.contains(slot);
                // Instances that end and ones that begin may together be more than there are slots: then
                // an ended one's slot is used again.
                (0..CLOSED_SLOT)
                    .find(|slot| free(slot) && !had.contains(slot))
                    .or_else(|| (0..CLOSED_SLOT).find(free))
                    .unwrap_or(0)
            });
            has.push(slot);
            seats.push(SeatPlan {
                id: InstanceId(slot),
                instance: instance.clone(),
            });
        }
        Plan {
            node: config.node.name.clone(),
            start_delay: config.node.start_delay,
            groups: config.groups.clone(),
            roles: roles::limits(config),
            mode: Mode::default(),
            checks: config.checks.clone(),
            interfaces: config.interfaces.clone(),
            channels: config.channels.clone(),
            lease_channels: config.lease_channels.clone(),
            seats,
        }
    }

    /// What to remember while a plan is in force: not an owner's addresses, which are the node's own.
    /// Addresses that `earlier` plans may have left and that were not seen to be removed stay in.
    #[must_use]
    pub fn of(plan: &Plan, earlier: &[Vip]) -> Self {
        let mut vips: Vec<Vip> = plan
            .seats
            .iter()
            .filter(|seat| seat.instance.priority != Priority::OWNER)
            .flat_map(|seat| {
                seat.instance.vips.iter().map(|vip| Vip {
                    interface: seat.instance.interface.clone(),
                    address: *vip,
                })
            })
            .chain(earlier.iter().cloned())
            .collect();
        vips.sort_unstable();
        vips.dedup();
        Self {
            version: VERSION,
            slots: plan
                .seats
                .iter()
                .map(|seat| {
                    (
                        seat.instance.name.clone(),
                        identity(seat.id.0, &seat.instance),
                    )
                })
                .collect(),
            vips,
        }
    }
}

fn file(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("memory.json")
}

fn identity(slot: u32, instance: &Instance) -> Slot {
    Slot {
        slot,
        interface: instance.interface.clone(),
        vrid: instance.vrid.get(),
        vrrp_version: match instance.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        family: instance.family().number(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config;

    fn config(dir: &Path, instances: &[(&str, &str, u8)]) -> Config {
        let mut text = String::new();
        for (index, (name, interface, vrid)) in instances.iter().enumerate() {
            write!(
                text,
                "[[instance]]\nname = \"{name}\"\ninterface = \"{interface}\"\nvrid = {vrid}\nvips = [\"10.0.0.{}/24\"]\n",
                index + 1
            )
            .unwrap();
        }
        let file = dir.join("had.toml");
        fs::write(&file, text).unwrap();
        config::load(&file, &|_| None, &|_, _| false).unwrap()
    }

    fn slots(plan: &Plan) -> Vec<u32> {
        plan.seats.iter().map(|seat| seat.id.0).collect()
    }

    #[test]
    fn slots_stay_with_their_virtual_router() {
        let dir = tempfile::tempdir().unwrap();
        let first =
            Memory::default().plan(&config(dir.path(), &[("a", "eth0", 1), ("b", "eth0", 2)]));
        assert_eq!(slots(&first), [0, 1]);
        let memory = Memory::of(&first, &[]);
        // Another order keeps the slots; another VRID or interface begins elsewhere.
        let second = memory.plan(&config(dir.path(), &[("b", "eth0", 2), ("a", "eth0", 1)]));
        assert_eq!(slots(&second), [1, 0]);
        let third = memory.plan(&config(dir.path(), &[("a", "eth1", 1), ("b", "eth0", 3)]));
        assert_eq!(slots(&third), [2, 3]);
    }

    #[test]
    fn it_survives_the_process_and_erasing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), Memory::default());
        let plan = Memory::default().plan(&config(dir.path(), &[("a", "eth0", 1)]));
        let left = Vip {
            interface: "eth9".to_owned(),
            address: "10.9.9.9/24".parse().unwrap(),
        };
        let memory = Memory::of(&plan, std::slice::from_ref(&left));
        memory.save(dir.path()).unwrap();
        let loaded = Memory::load(dir.path()).unwrap();
        assert_eq!(loaded, memory);
        assert!(loaded.vips().contains(&left));
        assert_eq!(loaded.vips().len(), 2);
        Memory::erase(dir.path()).unwrap();
        Memory::erase(dir.path()).unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), Memory::default());
    }

    #[test]
    fn an_owners_addresses_are_never_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), &[("a", "eth0", 1), ("b", "eth0", 2)]);
        config.instances[0].priority = Priority::OWNER;
        let memory = Memory::of(&Memory::default().plan(&config), &[]);
        assert!(!memory.has("eth0", IpAddr::from([10, 0, 0, 1])));
        assert!(memory.has("eth0", IpAddr::from([10, 0, 0, 2])));
        assert!(!memory.has("eth1", IpAddr::from([10, 0, 0, 2])));
    }

    #[test]
    fn an_unreadable_memory_is_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), b"{\"version\":").unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), Memory::default());
    }
}

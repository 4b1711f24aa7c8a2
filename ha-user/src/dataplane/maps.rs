//! The maps that hold settings: written by the daemon only, by map updates.

use std::{collections::BTreeSet, net::IpAddr};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, MapError},
};
use ha_common::abi::{
    CLOSED_SLOT, InstanceConfig, SenderKey, VipKey, VlanKey, VridKey, WatchConfig,
};
use ha_core::InstanceId;

use super::{DataplaneError, known::Known, loader};

/// Instances, their VRIDs, VIPs and senders, and the silence to watch for.
pub(super) struct Settings {
    instances: Array<MapData, InstanceConfig>,
    vrids: HashMap<MapData, VridKey, u32>,
    vips: Known<VipKey>,
    senders: HashMap<MapData, SenderKey, u8>,
    vlans: HashMap<MapData, VlanKey, u32>,
    watch: Array<MapData, WatchConfig>,
}

impl Settings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            instances: loader::take(ebpf, "INSTANCES")?,
            vrids: loader::take(ebpf, "VRIDS")?,
            vips: Known::read("VIPS", loader::take(ebpf, "VIPS")?)?,
            senders: loader::take(ebpf, "SENDERS")?,
            vlans: loader::take(ebpf, "VLANS")?,
            watch: loader::take(ebpf, "WATCH_CONFIG")?,
        })
    }

    /// The slots that hold an instance.
    pub(super) fn used(&self) -> Result<BTreeSet<InstanceId>, DataplaneError> {
        let mut used = BTreeSet::new();
        for slot in 0..CLOSED_SLOT {
            let id = InstanceId(slot);
            if self.instance(id)?.ifindex != 0 {
                used.insert(id);
            }
        }
        Ok(used)
    }

    pub(super) fn instance(&self, id: InstanceId) -> Result<InstanceConfig, DataplaneError> {
        let id = checked(id)?;
        self.instances
            .get(&id.0, 0)
            .map_err(|error| DataplaneError::kernel("reading INSTANCES", error))
    }

    pub(super) fn set_config(
        &mut self,
        id: InstanceId,
        config: &InstanceConfig,
    ) -> Result<(), DataplaneError> {
        let id = checked(id)?;
        self.instances
            .set(id.0, config, 0)
            .map_err(|error| DataplaneError::kernel("writing INSTANCES", error))
    }

    /// Writes the configuration first and then what leads to it, and removes what is no longer there
    /// last: at no time does a VIP of both the old and the new set have no gate.
    pub(super) fn set(
        &mut self,
        id: InstanceId,
        config: &InstanceConfig,
        vips: &[IpAddr],
        senders: &[IpAddr],
    ) -> Result<(), DataplaneError> {
        self.set_config(id, config)?;
        for vip in vips {
            self.vips.insert((*vip).into(), id.0)?;
        }
        for sender in senders {
            let key = SenderKey::new(id.0, (*sender).into());
            insert(&mut self.senders, "SENDERS", key, 1)?;
        }
        insert(&mut self.vrids, "VRIDS", vrid_key(config), id.0)?;
        self.retain(id, vips, senders)
    }

    /// Removes an instance's VIPs and senders that are not in the lists.
    fn retain(
        &mut self,
        id: InstanceId,
        vips: &[IpAddr],
        senders: &[IpAddr],
    ) -> Result<(), DataplaneError> {
        let vips: BTreeSet<VipKey> = vips.iter().map(|vip| (*vip).into()).collect();
        self.vips.retain(id, |vip| vips.contains(vip))?;
        let stale = entries(&self.senders, "SENDERS")?
            .into_iter()
            .filter(|(key, _)| {
                key.instance == id.0 && !senders.contains(&IpAddr::from(key.address))
            });
        for (key, _) in stale {
            remove(&mut self.senders, "SENDERS", &key)?;
        }
        Ok(())
    }

    /// Lets a VIP lead to the slot whose gate never opens.
    pub(super) fn close_vip(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        self.vips.insert(vip.into(), CLOSED_SLOT)
    }

    /// Lets go of a VIP that leads to that slot.
    pub(super) fn release_vip(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        self.vips.release(&vip.into())
    }

    /// Lets go of the VIPs that lead to that slot and are not among `kept`.
    pub(super) fn release_vips_but(&mut self, kept: &[IpAddr]) -> Result<(), DataplaneError> {
        self.retain(InstanceId(CLOSED_SLOT), kept, &[])
    }

    /// Removes the way from a (former) configuration's interface and VRID to its slot, unless it leads
    /// to another slot by now: that of an instance with another name, say.
    pub(super) fn remove_vrid(
        &mut self,
        id: InstanceId,
        config: &InstanceConfig,
    ) -> Result<(), DataplaneError> {
        let key = vrid_key(config);
        if config.ifindex == 0 || find(&self.vrids, "VRIDS", &key)? != Some(id.0) {
            return Ok(());
        }
        remove(&mut self.vrids, "VRIDS", &key)
    }

    /// Empties a slot.
    pub(super) fn clear(&mut self, id: InstanceId) -> Result<(), DataplaneError> {
        let config = self.instance(id)?;
        self.set_watch(id.0, 0)?;
        self.remove_vrid(id, &config)?;
        self.retain(id, &[], &[])?;
        self.set_config(id, &InstanceConfig::default())
    }

    /// Lets tags lead to these interfaces, and no others.
    pub(super) fn set_vlans(&mut self, tags: &[(VlanKey, u32)]) -> Result<(), DataplaneError> {
        for (key, ifindex) in tags {
            self.set_vlan(*key, *ifindex)?;
        }
        for (key, _) in entries(&self.vlans, "VLANS")? {
            if !tags.iter().any(|(kept, _)| *kept == key) {
                remove(&mut self.vlans, "VLANS", &key)?;
            }
        }
        Ok(())
    }

    /// Lets frames with a tag belong to the VLAN's interface.
    pub(super) fn set_vlan(&mut self, key: VlanKey, ifindex: u32) -> Result<(), DataplaneError> {
        insert(&mut self.vlans, "VLANS", key, ifindex)
    }

    /// Of a silence timer, by its index.
    pub(super) fn set_watch(&mut self, index: u32, down_ns: u64) -> Result<(), DataplaneError> {
        self.watch
            .set(index, WatchConfig { down_ns }, 0)
            .map_err(|error| DataplaneError::kernel("writing WATCH_CONFIG", error))
    }
}

fn checked(id: InstanceId) -> Result<InstanceId, DataplaneError> {
    if id.0 < CLOSED_SLOT {
        Ok(id)
    } else {
        Err(DataplaneError::NoSlot {
            slot: id.0,
            slots: CLOSED_SLOT,
        })
    }
}

fn vrid_key(config: &InstanceConfig) -> VridKey {
    VridKey {
        ifindex: config.ifindex,
        vrid: config.vrid,
        family: config.family,
        _pad: [0; 2],
    }
}

pub(super) fn entries<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &str,
) -> Result<Vec<(K, V)>, DataplaneError> {
    map.iter()
        .collect::<Result<_, _>>()
        .map_err(|error| DataplaneError::kernel(format!("reading {name}"), error))
}

pub(super) fn find<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &str,
    key: &K,
) -> Result<Option<V>, DataplaneError> {
    match map.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(error) => absent(error, || format!("reading {name}")).map(|()| None),
    }
}

pub(super) fn insert<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &str,
    key: K,
    value: V,
) -> Result<(), DataplaneError> {
    map.insert(key, value, 0)
        .map_err(|error| DataplaneError::kernel(format!("writing {name}"), error))
}

/// A key that is not there is as good as removed.
pub(super) fn remove<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &str,
    key: &K,
) -> Result<(), DataplaneError> {
    map.remove(key)
        .or_else(|error| absent(error, || format!("removing from {name}")))
}

/// Lets the error pass that says that a key is not there.
fn absent(error: MapError, what: impl FnOnce() -> String) -> Result<(), DataplaneError> {
    if matches!(error, MapError::KeyNotFound) {
        return Ok(());
    }
    let error = DataplaneError::kernel(what(), error);
    if error.errno() == Some(libc::ENOENT) {
        Ok(())
    } else {
        Err(error)
    }
}

//! A map from keys to slots whose content the daemon knows: it alone writes it, so that only what differs
//! costs a system call.

use std::collections::BTreeMap;

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};
use ha_common::abi::CLOSED_SLOT;
use ha_core::InstanceId;

use super::DataplaneError;

/// The map, and what it holds.
pub(super) struct Known<K: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, u32>,
    content: BTreeMap<K, u32>,
}

impl<K: Pod + Ord> Known<K> {
    /// Reads what an earlier daemon left in it.
    pub(super) fn read(
        name: &'static str,
        map: HashMap<MapData, K, u32>,
    ) -> Result<Self, DataplaneError> {
        let content = map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| DataplaneError::kernel(format!("reading {name}"), error))?;
        Ok(Self { name, map, content })
    }

    /// Lets a key lead to a slot.
    pub(super) fn insert(&mut self, key: K, slot: u32) -> Result<(), DataplaneError> {
        if self.content.get(&key) == Some(&slot) {
            return Ok(());
        }
        self.map
            .insert(key, slot, 0)
            .map_err(|error| DataplaneError::kernel(format!("writing {}", self.name), error))?;
        self.content.insert(key, slot);
        Ok(())
    }

    /// Removes the keys that lead to an instance's slot and are not to.
    pub(super) fn retain(
        &mut self,
        id: InstanceId,
        keep: impl Fn(&K) -> bool,
    ) -> Result<(), DataplaneError> {
        let leads_there = |(key, slot): (&K, &u32)| (*slot == id.0 && !keep(key)).then_some(*key);
        let stale: Vec<K> = self.content.iter().filter_map(leads_there).collect();
        stale.iter().try_for_each(|key| self.remove(key))
    }

    /// Lets go of a key that leads to the slot whose gate never opens.
    pub(super) fn release(&mut self, key: &K) -> Result<(), DataplaneError> {
        match self.content.get(key) {
            Some(&CLOSED_SLOT) => self.remove(key),
            _ => Ok(()),
        }
    }

    /// A key that is not there is as good as removed.
    fn remove(&mut self, key: &K) -> Result<(), DataplaneError> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => {
                let error = DataplaneError::kernel(format!("removing from {}", self.name), error);
                if error.errno() != Some(libc::ENOENT) {
                    return Err(error);
                }
            }
        }
        self.content.remove(key);
        Ok(())
    }
}

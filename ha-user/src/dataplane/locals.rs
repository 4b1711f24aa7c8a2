//! The node's own addresses to which its peers send: other interfaces do not answer for them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use ha_common::{Address, abi::local::LocalAddress};
use ipnet::Ipv4Net;

use super::{Dataplane, DataplaneError, loader, maps};

const MAP: &str = "LOCALS";

/// The map, and what it holds.
pub(super) struct Locals {
    map: HashMap<MapData, Address, LocalAddress>,
    content: BTreeMap<Ipv4Net, u32>,
}

impl Locals {
    /// With what an earlier daemon left in it.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        let map = loader::take(ebpf, MAP)?;
        let entries = maps::entries(&map, MAP)?;
        let known = |(address, local): (Address, LocalAddress)| {
            let mask = local.mask.into();
            let net = Ipv4Net::with_netmask(address.to_v4()?.into(), mask).ok()?;
            Some((net, local.ifindex))
        };
        let content = entries.into_iter().filter_map(known).collect();
        Ok(Self { map, content })
    }

    fn set(&mut self, wanted: &BTreeMap<Ipv4Net, u32>) -> Result<(), DataplaneError> {
        for (net, ifindex) in wanted {
            if self.content.get(net) != Some(ifindex) {
                let local = LocalAddress::new(*ifindex, net.netmask().octets());
                maps::insert(&mut self.map, MAP, key(net.addr()), local)?;
                // One network for each address.
                self.content
                    .retain(|known, _| known.addr() != net.addr() || known == net);
                self.content.insert(*net, *ifindex);
            }
        }
        let unwanted = |net: &&Ipv4Net| !wanted.contains_key(*net);
        let gone: Vec<Ipv4Net> = self.content.keys().filter(unwanted).copied().collect();
        for net in gone {
            maps::remove(&mut self.map, MAP, &key(net.addr()))?;
            self.content.remove(&net);
        }
        Ok(())
    }
}

const fn key(address: Ipv4Addr) -> Address {
    Address::v4(address.octets())
}

impl Dataplane {
    /// Lets no other interface than the one with that index answer to its network for an own address; who
    /// sends there all the same makes an event. Of no other address from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn set_locals(&mut self, locals: &BTreeMap<Ipv4Net, u32>) -> Result<(), DataplaneError> {
        self.loaded.locals.set(locals)
    }
}

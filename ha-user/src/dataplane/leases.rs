//! Leases in the dataplane: paths, which instance is on which, promises, and what was heard.
//!
//! Paths and promises are pinned: the kernel goes on answering the peers while there is no daemon, and what
//! it promised is kept by the next one.

use std::net::IpAddr;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use ha_common::{
    Address, MonoNs, Nanos,
    abi::lease::{
        LONGEST_LEASES, LeaseConfig, MAX_PATHS, PATH_INSTANCES, PathConfig, PathInstance, PathKey,
        PathState, path_instance,
    },
    gate::{Lease, MAX_LEASES},
    lease::{Promise, Rank, Standing, margin},
};
use ha_core::{InstanceId, LeaseView, LeaseViews};

use super::{Dataplane, DataplaneError, loader, maps};

/// The settings of paths and leases.
pub(super) struct LeaseSettings {
    paths: HashMap<MapData, PathKey, u32>,
    configs: Array<MapData, PathConfig>,
    instances: Array<MapData, PathInstance>,
    leases: Array<MapData, LeaseConfig>,
}

impl LeaseSettings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            paths: loader::take(ebpf, "PATHS")?,
            configs: loader::take(ebpf, "PATH_CONFIG")?,
            instances: loader::take(ebpf, "PATH_INSTANCES")?,
            leases: loader::take(ebpf, "LEASE_CONFIG")?,
        })
    }

    fn keys(&self) -> Result<Vec<(PathKey, u32)>, DataplaneError> {
        maps::entries(&self.paths, "PATHS")
    }

    /// Removes what leads to a path, and what it leads to.
    fn disconnect(&mut self, path: u32) -> Result<(), DataplaneError> {
        for (key, _) in self.keys()?.into_iter().filter(|(_, to)| *to == path) {
            maps::remove(&mut self.paths, "PATHS", &key)?;
        }
        let first = path * PATH_INSTANCES;
        for index in first..first + PATH_INSTANCES {
            self.bind(index, PathInstance::default())?;
        }
        Ok(())
    }

    fn bind(&mut self, index: u32, instance: PathInstance) -> Result<(), DataplaneError> {
        self.instances
            .set(index, instance, 0)
            .map_err(|error| DataplaneError::kernel("writing PATH_INSTANCES", error))
    }

    fn lease(&self, id: InstanceId) -> Result<LeaseConfig, DataplaneError> {
        self.leases
            .get(&id.0, 0)
            .map_err(|error| DataplaneError::kernel("reading LEASE_CONFIG", error))
    }

    fn set_lease(&mut self, id: InstanceId, config: LeaseConfig) -> Result<(), DataplaneError> {
        self.leases
            .set(id.0, config, 0)
            .map_err(|error| DataplaneError::kernel("writing LEASE_CONFIG", error))
    }
}

/// A path, as packets on it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// Interface index.
    pub ifindex: u32,
    /// This node's address.
    pub local: IpAddr,
    /// The peer's.
    pub peer: IpAddr,
    /// The key of its tags, as two little-endian words.
    pub key: Option<[u64; 2]>,
    /// This node, as in packets.
    pub node: u64,
    /// This node's boot, as in packets.
    pub boot: u64,
}

/// From whom an instance's leases come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantors {
    /// One for each lease slot.
    pub peers: Vec<Grantor>,
    /// The longest lease that this node asks for on any of their paths.
    pub lease: Nanos,
}

/// A peer that grants leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantor {
    /// Where its adverts come from.
    pub address: IpAddr,
    /// Whether that is greater than this node's.
    pub is_greater: bool,
    /// The paths to it.
    pub paths: Vec<u32>,
}

impl Dataplane {
    /// Sets a path up, below [`MAX_PATHS`]. What it led to before, also for an earlier daemon, is forgotten, and
    /// where it is another path by now, what was heard on it.
    ///
    /// # Errors
    ///
    /// Its interface and peer are those of another path that is set; the kernel refuses a write.
    pub fn set_path(&mut self, path: u32, settings: &PathSettings) -> Result<(), DataplaneError> {
        let loaded = &mut self.loaded;
        let config = PathConfig {
            local: settings.local.into(),
            peer: settings.peer.into(),
            key: settings.key.unwrap_or_default(),
            keyed: settings.key.is_some().into(),
            node: settings.node,
            boot: settings.boot,
        };
        let key = PathKey::new(settings.ifindex, Address::from(settings.peer));
        let map = &mut loaded.leases;
        let before = map
            .configs
            .get(&path, 0)
            .map_err(|error| DataplaneError::kernel("reading PATH_CONFIG", error))?;
        let found = maps::find(&map.paths, "PATHS", &key)?;
        if before == config && found == Some(path) && self.paths.contains_key(&path) {
            return Ok(());
        }
        if let Some(other) = found.filter(|other| *other != path)
            && self.paths.contains_key(&other)
        {
            return Err(DataplaneError::PathTaken {
                peer: settings.peer,
                other,
            });
        }
        map.disconnect(path)?;
        if before != config || found != Some(path) {
            loaded.lease_words.forget_path(path);
        }
        map.configs
            .set(path, config, 0)
            .map_err(|error| DataplaneError::kernel("writing PATH_CONFIG", error))?;
        self.paths.insert(path, *settings);
        // What it leads to first: nobody is to hear that an instance is unknown.
        let bound: Vec<InstanceId> = self.grantors.keys().copied().collect();
        for id in bound {
            self.bind(id)?;
        }
        maps::insert(&mut self.loaded.leases.paths, "PATHS", key, path)
    }

    /// Forgets a path: packets on it go to the kernel.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn clear_path(&mut self, path: u32) -> Result<(), DataplaneError> {
        self.paths.remove(&path);
        self.loaded.leases.disconnect(path)
    }

    /// Forgets the paths that this daemon has not set.
    pub(super) fn forget_paths(&mut self) -> Result<(), DataplaneError> {
        let stale = self.loaded.leases.keys()?.into_iter().map(|(_, path)| path);
        let mut stale: Vec<u32> = stale
            .filter(|path| !self.paths.contains_key(path))
            .collect();
        stale.dedup();
        for path in stale {
            self.loaded.leases.disconnect(path)?;
        }
        Ok(())
    }

    /// Lets an instance, which is set, rely on leases of peers; `None`: on its own adverts alone.
    ///
    /// Where its peers are others than before, or an earlier daemon's, this node promises each of them not to
    /// act for as long as anything may last that was granted until now, and its gate is closed. The epoch stays: it
    /// is the engine's, which raised it before.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn set_grantors(
        &mut self,
        id: InstanceId,
        grantors: Option<&Grantors>,
        now: MonoNs,
    ) -> Result<(), DataplaneError> {
        let before = self.grantors.get(&id).cloned();
        if before.as_ref() == grantors && grantors.is_some() {
            return Ok(());
        }
        self.unbind(id)?;
        let Some(grantors) = grantors else {
            self.grantors.remove(&id);
            self.loaded.words.set_standing(id, Standing::Active);
            return self.loaded.leases.set_lease(id, LeaseConfig::default());
        };
        let longest = grantors.lease.times(LONGEST_LEASES);
        let ruled = Nanos(self.loaded.leases.lease(id)?.longest_ns);
        let greater = grantors.peers.iter().take(MAX_LEASES).enumerate();
        let config = LeaseConfig {
            longest_ns: longest.0,
            again_ns: grantors.lease.0,
            greater: greater.fold(0, |bits, (index, peer)| {
                bits | u64::from(peer.is_greater) << index
            }),
        };
        let addresses = |grantors: &Grantors| -> Vec<IpAddr> {
            grantors.peers.iter().map(|peer| peer.address).collect()
        };
        if before.is_none_or(|before| addresses(&before) != addresses(grantors)) {
            self.promise_anew(id, longest.max(ruled), now);
        }
        self.loaded.leases.set_lease(id, config)?;
        self.grantors.insert(id, grantors.clone());
        self.bind(id)
    }

    /// The gate first: who acted until now no longer does.
    fn promise_anew(&mut self, id: InstanceId, longest: Nanos, now: MonoNs) {
        let words = &self.loaded.words;
        words.set_standing(id, Standing::Bystander);
        let promises = &self.loaded.lease_words;
        let covers = Promise::until(now.after(longest).after(margin(longest)));
        let latest = (0..MAX_LEASES)
            .map(|peer| promises.promise(id, peer).ends())
            .fold(covers.ends(), MonoNs::max);
        for peer in 0..MAX_LEASES {
            words.set_lease(id, peer, Lease::default());
            promises.reset(id, peer, Promise::until(latest));
        }
    }

    /// Lets the entries of its paths' packets lead to an instance.
    fn bind(&mut self, id: InstanceId) -> Result<(), DataplaneError> {
        let (Some(config), Some(grantors)) = (self.instances.get(&id), self.grantors.get(&id))
        else {
            return Ok(());
        };
        for (peer, grantor) in (0..).zip(&grantors.peers) {
            for path in grantor.paths.iter().filter(|path| **path < MAX_PATHS) {
                let index = path_instance(*path, config.vrid, config.family);
                self.loaded
                    .leases
                    .bind(index, PathInstance::new(id.0, peer))?;
            }
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, id: InstanceId) -> Result<(), DataplaneError> {
        let (Some(config), Some(grantors)) = (self.instances.get(&id), self.grantors.get(&id))
        else {
            return Ok(());
        };
        for path in grantors.peers.iter().flat_map(|peer| &peer.paths) {
            if *path < MAX_PATHS {
                let index = path_instance(*path, config.vrid, config.family);
                self.loaded.leases.bind(index, PathInstance::default())?;
            }
        }
        Ok(())
    }

    /// How many lease slots an instance has whose leases come from peers.
    fn slots(&self, id: InstanceId) -> usize {
        self.grantors
            .get(&id)
            .map_or(0, |grantors| grantors.peers.len().min(MAX_LEASES))
    }

    /// Lets an instance count as candidate until `until`, if it stands as one: to be told before it does, and with
    /// each announcement.
    pub fn set_candidate_until(&self, id: InstanceId, until: MonoNs) {
        self.loaded.words.set_candidate_until(id, until);
    }

    /// The longest lease that an instance asks for.
    #[must_use]
    pub fn lease_length(&self, id: InstanceId) -> Nanos {
        self.grantors
            .get(&id)
            .map_or(Nanos::ZERO, |grantors| grantors.lease)
    }

    /// Writes what this node is for an instance that relies on leases.
    pub fn set_standing(&self, id: InstanceId, standing: Standing) {
        if self.grantors.contains_key(&id) {
            self.loaded.words.set_standing(id, standing);
        }
    }

    /// What this node is for an instance, which the kernel changes when it yields.
    #[must_use]
    pub fn standing(&self, id: InstanceId) -> Standing {
        self.loaded.words.standing(id)
    }

    /// Writes the rank with which this node competes for leases.
    pub fn set_lease_rank(&self, id: InstanceId, rank: Rank) {
        self.loaded.words.set_rank(id, rank);
    }

    /// Turns every promise of an instance, each of which must have run out, into "this node acts".
    ///
    /// # Errors
    ///
    /// Until when a promise is in the way; then nothing was changed.
    pub fn act(&self, id: InstanceId, now: MonoNs) -> Result<(), MonoNs> {
        let promises = &self.loaded.lease_words;
        let mut turned: Vec<(usize, Promise)> = Vec::with_capacity(MAX_LEASES);
        for peer in 0..self.slots(id) {
            let before = promises.promise(id, peer);
            if before.is_acting() {
                continue;
            }
            // What changes under it is a promise that was made just now.
            let stands = before.ends() > now
                || !promises.exchange_promise(id, peer, before, Promise::ACTING);
            if stands {
                for (peer, before) in turned {
                    promises.exchange_promise(id, peer, Promise::ACTING, before);
                }
                let ends = (0..self.slots(id)).map(|peer| promises.promise(id, peer).ends());
                return Err(ends.fold(now, MonoNs::max));
            }
            turned.push((peer, before));
        }
        Ok(())
    }

    /// The opposite of [`Self::act`]; a promise that the kernel made meanwhile stays.
    pub fn let_go(&self, id: InstanceId) {
        for peer in 0..self.slots(id) {
            let free = Promise::until(MonoNs::ZERO);
            self.loaded
                .lease_words
                .exchange_promise(id, peer, Promise::ACTING, free);
        }
    }

    /// Lengthens a lease without its peer, of which nothing was heard since `heard_at`. Whether it was done: not
    /// if something came just now, if the lease is as long already, or if it is changed by a grant.
    ///
    /// The lease is written before the stamp is read again, and XDP stamps before it looks at the lease: one
    /// of the two sees the other.
    pub fn renew_alone(&self, id: InstanceId, peer: usize, lease: Lease, heard_at: MonoNs) -> bool {
        let words = &self.loaded.words;
        let before = words.lease(id, peer);
        let renewed = lease.self_renewed();
        let as_long = before.epoch() == lease.epoch() && before.deadline() >= lease.deadline();
        if as_long || !words.exchange_lease(id, peer, before, renewed) {
            return false;
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.heard_from(id, peer) > heard_at {
            words.exchange_lease(id, peer, renewed, before);
            return false;
        }
        true
    }

    /// When anything came from a peer last.
    fn heard_from(&self, id: InstanceId, peer: usize) -> MonoNs {
        let paths = self
            .grantors
            .get(&id)
            .and_then(|grantors| grantors.peers.get(peer))
            .map_or(&[][..], |grantor| &grantor.paths);
        paths
            .iter()
            .map(|path| self.loaded.lease_words.heard_at(*path))
            .max()
            .unwrap_or_default()
    }

    /// What the maps hold about an instance's peers, by lease slot.
    #[must_use]
    pub fn views(&self, id: InstanceId) -> LeaseViews {
        let epoch = self.epoch(id);
        let mut views = LeaseViews::default();
        for (peer, view) in views.iter_mut().enumerate().take(self.slots(id)) {
            let lease = self.loaded.words.lease(id, peer);
            let present = lease.epoch() == epoch;
            *view = LeaseView {
                deadline: if present {
                    lease.deadline()
                } else {
                    MonoNs::ZERO
                },
                self_renewed: present && lease.is_self_renewed(),
                heard_at: self.heard_from(id, peer),
                asked_at: self.loaded.lease_words.held_at(id, peer),
                promised_until: self.promise(id, peer).ends(),
            };
        }
        views
    }

    /// The lease of an instance that ends first.
    #[must_use]
    pub fn first_lease(&self, id: InstanceId) -> Lease {
        (0..self.slots(id))
            .map(|peer| self.loaded.words.lease(id, peer))
            .min_by_key(|lease| lease.deadline())
            .unwrap_or_default()
    }

    /// What this node has promised a peer.
    #[must_use]
    pub fn promise(&self, id: InstanceId, peer: usize) -> Promise {
        self.loaded.lease_words.promise(id, peer)
    }

    /// Whether an instance's leases are asked for on a path.
    #[must_use]
    pub fn is_on_path(&self, id: InstanceId, path: u32) -> bool {
        self.grantors
            .get(&id)
            .is_some_and(|grantors| grantors.peers.iter().any(|peer| peer.paths.contains(&path)))
    }

    /// What an echo on a path must carry.
    #[must_use]
    pub fn their_challenge(&self, path: u32) -> u64 {
        self.loaded.lease_words.their_challenge(path)
    }

    /// The peer's MAC address on a path, once something was heard from it.
    #[must_use]
    pub fn peer_mac(&self, path: u32) -> Option<[u8; 6]> {
        let [_, _, mac @ ..] = self.loaded.lease_words.mac(path).to_be_bytes();
        (mac != [0; 6]).then_some(mac)
    }

    /// When anything came on a path last, and the longest round trip of late.
    #[must_use]
    pub fn path_heard(&self, path: u32) -> (MonoNs, Option<Nanos>) {
        let words = &self.loaded.lease_words;
        (words.heard_at(path), words.round_trips(path).of_late())
    }

    /// What was heard on a path.
    #[must_use]
    pub fn path_state(&self, path: u32) -> PathState {
        self.loaded.lease_words.path_state(path)
    }
}

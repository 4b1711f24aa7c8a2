//! The dataplane as the daemon sees it: load or adopt the programs, attach them, read and write maps.
//!
//! What must outlive the daemon is pinned below `pin_dir`: the maps that hold the gate
//! (`maps-v<ABI>/<NAME>`) and the links (`links/{xdp,tcx,tcx-ingress}-<ifindex>`, each of which holds its program;
//! where a filter of clsact is in the place of `tcx-ingress`, `clsact-ingress-<ifindex>` is its program: whose it is).
//! A new daemon adopts the maps, loads its own programs with them, and puts these under the links that
//! it finds; it never attaches again where something is attached. Events, timers and their settings are
//! each daemon's own: nothing stale is read, and the timers of a dead daemon end with it.
//!
//! Order at a start: [`Dataplane::open`], [`Dataplane::set_instance`] for each instance,
//! [`Dataplane::attach`] for each interface, [`Dataplane::forget_leftovers`]: so no VIP is without its
//! gate for a moment.

mod attach;
mod clsact;
mod error;
mod filter;
mod guard;
mod held;
mod interface;
mod known;
#[cfg(feature = "lab")]
mod lab;
mod lease_words;
mod leases;
mod loader;
mod locals;
mod maps;
mod netlink;
mod offload;
mod pins;
mod sessions;
mod tc_query;
mod timers;
mod vlan;
mod words;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use ha_common::{
    MonoNs,
    abi::{Event, InstanceConfig, Reason, Received, TimerTask},
    gate::{self, Epoch, Lease, MAX_LEASES},
    lease::Standing,
};
use ha_core::InstanceId;
use tracing::info;

#[cfg(feature = "lab")]
pub use self::lab::{LOSSY_OBJECT, PASS_OBJECT, RESTORE_OBJECT, Verdict, keep_tags, object};
use self::{
    attach::{Attached, Modes, Place},
    filter::Side,
    interface::Kind,
    loader::Loaded,
    pins::Pins,
    vlan::{Chain, Vlans},
};
pub use self::{
    error::DataplaneError,
    guard::Guards,
    leases::{Grantor, Grantors, PathSettings},
    sessions::Taken,
};

/// What to do about the dataplane, from `dataplane.mode` and `dataplane.pin_dir`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which attach modes to try.
    pub mode: Mode,
    /// A directory on a bpffs, private to this daemon; `None` = nothing is pinned, and the gate does
    /// not survive SIGKILL.
    pub pin_dir: Option<PathBuf>,
}

/// `dataplane.mode`, without `off`: then there is no dataplane at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native, else generic, else tc (also where XDP is taken by somebody else). A bond is always generic: in native mode its program sees the ports'
    /// interface indices, and broadcasts once for each port. So is a veth: what native XDP transmits
    /// there is dropped unless the other end runs XDP too.
    Auto,
    /// Native or an error.
    Native,
    /// Generic or an error.
    Generic,
    /// The ingress program at tc, where it leaves XDP to others.
    Tc,
}

/// What an ingress program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    Native,
    /// XDP for every driver, after the socket buffer was made.
    Generic,
    /// tc ingress.
    Tc,
}

impl Hook {
    /// In status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }
}

/// How the programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What the ingress program is attached to.
    pub hook: Hook,
    /// Whether the egress guard is a tcx link (else a clsact filter).
    pub tcx: bool,
    /// Whether the links were found pinned and adopted.
    pub adopted: bool,
    /// Whether frames of VLANs on the interface look to XDP as if they were its own.
    pub hidden_tags: bool,
}

/// The loaded programs and their maps.
///
/// Dropping it leaves pinned links in place, and takes unpinned ones off their interfaces.
pub struct Dataplane {
    modes: Modes,
    pins: Option<Pins>,
    loaded: Loaded,
    attached: BTreeMap<u32, Attached>,
    vlans: Vlans,
    /// Interfaces from which the kernel may not have taken the program yet.
    detached: BTreeSet<u32>,
    instances: BTreeMap<InstanceId, InstanceConfig>,
    /// Paths that this daemon has set.
    paths: BTreeMap<u32, PathSettings>,
    /// Instances that rely on leases of peers.
    grantors: BTreeMap<InstanceId, Grantors>,
    /// Slots in use in the adopted maps that this daemon did not set.
    unclaimed: BTreeSet<InstanceId>,
}

impl Dataplane {
    /// Loads the programs; adopts the maps that an earlier daemon left pinned.
    ///
    /// # Errors
    ///
    /// `pin_dir` is not on a bpffs, or the kernel refuses a map or a program (it takes Linux 5.15).
    pub fn open(options: &Options) -> Result<Self, DataplaneError> {
        let pins = options.pin_dir.as_deref().map(Pins::open).transpose()?;
        let loaded = loader::load(pins.as_ref())?;
        let unclaimed = loaded.settings.used()?;
        Ok(Self {
            modes: Modes {
                ingress: options.mode,
                tcx: true,
            },
            pins,
            loaded,
            attached: BTreeMap::new(),
            vlans: Vlans::default(),
            detached: BTreeSet::new(),
            instances: BTreeMap::new(),
            paths: BTreeMap::new(),
            grantors: BTreeMap::new(),
            unclaimed,
        })
    }

    /// Attaches to an interface, or adopts the pinned links and puts the new programs under them.
    /// Nothing happens where this daemon has attached already.
    ///
    /// The program of a VLAN's interface runs by native XDP on the interface below it, where that can be.
    ///
    /// # Errors
    ///
    /// Another XDP program is attached; the interface cannot do what [`Options::mode`] demands; the
    /// kernel refuses. Then nothing is left attached.
    pub fn attach(&mut self, name: &str, ifindex: u32) -> Result<Attachment, DataplaneError> {
        let attachment = match self.attach_below(name, ifindex)? {
            Some(attachment) => attachment,
            None => self.attach_here(name, ifindex, self.modes)?,
        };
        self.vlans.name(ifindex);
        Ok(attachment)
    }

    fn attach_here(
        &mut self,
        name: &str,
        ifindex: u32,
        modes: Modes,
    ) -> Result<Attachment, DataplaneError> {
        if let Some(attached) = self.attached.get(&ifindex) {
            return Ok(attached.attachment());
        }
        if self.detached.remove(&ifindex) {
            attach::wait_until_free(name, ifindex)?;
        }
        let place = Place {
            pins: self.pins.as_ref(),
            name,
            ifindex,
        };
        let attached = attach::attach(&mut self.loaded.programs, place, modes)?;
        let attachment = attached.attachment();
        self.attached.insert(ifindex, attached);
        Ok(attachment)
    }

    /// Attaches a VLAN's interface by native XDP on the one below; `None` if it is no VLAN's, or that cannot
    /// be and need not.
    fn attach_below(
        &mut self,
        name: &str,
        ifindex: u32,
    ) -> Result<Option<Attachment>, DataplaneError> {
        if self.attached.contains_key(&ifindex)
            || !matches!(self.modes.ingress, Mode::Auto | Mode::Native)
            || !matches!(interface::query(ifindex)?.kind, Kind::Vlan(_))
        {
            return Ok(None);
        }
        let place = Place {
            pins: self.pins.as_ref(),
            name,
            ifindex,
        };
        // What runs is kept.
        if self.modes.ingress == Mode::Auto && xdp::is_pinned(place) {
            return Ok(None);
        }
        let found = match Chain::of(ifindex)? {
            Some(chain) => self.attach_chain(name, ifindex, chain),
            None => Err("it is in another network namespace, or below too many tags".into()),
        };
        match found {
            Ok(attachment) => Ok(Some(attachment)),
            Err(why) if self.modes.ingress == Mode::Auto => {
                info!(interface = name, "no XDP on the interface below: {why}");
                Ok(None)
            }
            Err(why) => Err(DataplaneError::NativeVlan {
                interface: name.into(),
                why,
            }),
        }
    }

    fn attach_chain(
        &mut self,
        name: &str,
        ifindex: u32,
        chain: Chain,
    ) -> Result<Attachment, String> {
        let text = |error: DataplaneError| error.to_string();
        let root = interface::query(chain.root).map_err(text)?;
        if let Some(why) = vlan::why_stripped(chain.root, root.kind) {
            return Err(format!("{}: {why}", root.name));
        }
        let modes = Modes {
            ingress: Mode::Native,
            ..self.modes
        };
        let below = self
            .attach_here(&root.name, chain.root, modes)
            .map_err(text)?;
        if below.hook != Hook::Native {
            return Err(format!("{} has it in another mode", root.name));
        }
        self.vlans.carry(ifindex, chain);
        let result = self.attach_above(name, ifindex, below);
        if result.is_err() {
            // What it says now would hide why it came to that.
            let _ = self.detach(ifindex);
        }
        result.map_err(text)
    }

    fn attach_above(
        &mut self,
        name: &str,
        ifindex: u32,
        below: Attachment,
    ) -> Result<Attachment, DataplaneError> {
        self.set_tags()?;
        let place = Place {
            pins: self.pins.as_ref(),
            name,
            ifindex,
        };
        let programs = &mut self.loaded.programs;
        let attached = attach::attach_above(programs, place, self.modes.tcx, below)?;
        let attachment = attached.attachment();
        self.attached.insert(ifindex, attached);
        Ok(attachment)
    }

    fn set_tags(&mut self) -> Result<(), DataplaneError> {
        let tags: Vec<_> = self.vlans.tags().collect();
        self.loaded.settings.set_vlans(&tags)
    }

    /// Takes the programs off an interface, which may be gone by now. The kernel does so soon afterwards:
    /// the engine thread has no time to wait for it.
    ///
    /// # Errors
    ///
    /// A pin or the clsact filter could not be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let mut result = Ok(());
        for unneeded in self.vlans.forget(ifindex) {
            if let Some(attached) = self.attached.remove(&unneeded) {
                self.detached.insert(unneeded);
                result = result.and(attached.detach());
            }
        }
        result.and(self.set_tags())
    }

    /// Writes an instance's configuration, VIPs and allowed unicast senders, replacing earlier ones.
    ///
    /// Where the slot held another virtual router (or this one on another interface), its leases and
    /// what it heard are forgotten.
    ///
    /// # Errors
    ///
    /// A map is full, or the slot is none.
    pub fn set_instance(
        &mut self,
        id: InstanceId,
        config: &InstanceConfig,
        vips: &[IpAddr],
        senders: &[IpAddr],
    ) -> Result<(), DataplaneError> {
        let Loaded {
            settings, words, ..
        } = &mut self.loaded;
        // Without leases of peers the gate opens by adverts alone.
        if !self.grantors.contains_key(&id) {
            words.set_standing(id, Standing::Active);
        }
        let before = settings.instance(id)?;
        let identity = |config: &InstanceConfig| (config.ifindex, config.vrid, config.family);
        if identity(&before) != identity(config) {
            settings.remove_vrid(id, &before)?;
            words.forget(id);
        }
        settings.set(id, config, vips, senders)?;
        self.instances.insert(id, *config);
        self.unclaimed.remove(&id);
        Ok(())
    }

    /// Writes the priority with which this node competes ([`InstanceConfig::priority`]).
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn set_priority(&mut self, id: InstanceId, priority: u8) -> Result<(), DataplaneError> {
        let Some(config) = self.instances.get_mut(&id) else {
            return Ok(());
        };
        config.priority = priority;
        self.loaded.settings.set_config(id, config)
    }

    /// Forgets an instance; closes its gate first. Its VIPs are then ordinary addresses, if they are
    /// still there.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn clear_instance(&mut self, id: InstanceId) -> Result<(), DataplaneError> {
        self.unbind(id)?;
        self.grantors.remove(&id);
        self.instances.remove(&id);
        self.unclaimed.remove(&id);
        let Loaded {
            settings, words, ..
        } = &mut self.loaded;
        words.set_epoch(id, words.epoch(id).raised());
        settings.clear(id)?;
        words.forget(id);
        Ok(())
    }

    /// Closes the way to an address that no instance has, and that could not be taken off its interface.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn close_vip(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        self.loaded.settings.close_vip(vip)
    }

    /// The opposite of [`Self::close_vip`]; the address of an instance stays that.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn release_vip(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        self.loaded.settings.release_vip(vip)
    }

    /// Forgets what an earlier daemon left and this one has not set or attached: instances, closed
    /// addresses, links; and what was heard, whose events went to that daemon. To be called once after a
    /// start, when left-over VIPs are removed; `owed` are those that could not be, with the index of their
    /// interface: they stay closed there.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write, or a pin cannot be removed.
    pub fn forget_leftovers(&mut self, owed: &[(u32, IpAddr)]) -> Result<(), DataplaneError> {
        for id in self.instances.keys() {
            self.loaded.words.forget_heard(*id);
        }
        while let Some(id) = self.unclaimed.first().copied() {
            self.clear_instance(id)?;
        }
        self.forget_paths()?;
        let closed: Vec<IpAddr> = owed.iter().map(|(_, vip)| *vip).collect();
        self.loaded.settings.release_vips_but(&closed)?;
        if owed.is_empty() {
            self.set_tags()?;
        }
        // Where one is owed on a VLAN's interface, the program may be on the interface below.
        let owed: BTreeSet<u32> = owed
            .iter()
            .flat_map(|(on, _)| {
                let chain = Chain::of(*on).ok().flatten();
                [*on, chain.map_or(*on, |chain| chain.root)]
            })
            .collect();
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let kept = |ifindex| self.attached.contains_key(&ifindex) || owed.contains(&ifindex);
        for ifindex in pins.linked()?.into_iter().filter(|one| !kept(*one)) {
            filter::remove_left(pins, ifindex)?;
        }
        pins.remove_links_but(kept)
    }

    /// Lets the kernel report silence of `down_ns`; 0 = no longer.
    ///
    /// The report comes `down_ns` after the last advert, also where that one came before this call
    /// (at once, if the time is over by less than a second); then none until another advert. Nothing is
    /// reported while nothing was heard: the engine's own timer covers that.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn watch(&mut self, id: InstanceId, down_ns: u64) -> Result<(), DataplaneError> {
        self.set_watch(id.0, down_ns)
    }

    fn set_watch(&mut self, index: u32, down_ns: u64) -> Result<(), DataplaneError> {
        self.loaded.settings.set_watch(index, down_ns)?;
        if down_ns > 0 && self.has_watch() {
            self.loaded.programs.timer(TimerTask::Arm, index)?;
        }
        Ok(())
    }

    /// Whether [`Self::watch`] works: a timer was started when the programs were loaded, and all have their memory.
    #[must_use]
    pub fn has_watch(&self) -> bool {
        self.loaded.has_watch
    }

    /// The epoch word of an instance, as found or last written.
    #[must_use]
    pub fn epoch(&self, id: InstanceId) -> Epoch {
        self.loaded.words.epoch(id)
    }

    /// Writes the epoch word: one store into the mapped map.
    pub fn set_epoch(&self, id: InstanceId, epoch: Epoch) {
        self.loaded.words.set_epoch(id, epoch);
    }

    /// The epoch that an outranking advert superseded, if any did.
    #[must_use]
    pub fn superseded(&self, id: InstanceId) -> Epoch {
        self.loaded.words.superseded(id)
    }

    /// Writes a lease word: one store into the mapped map.
    pub fn set_lease(&self, id: InstanceId, slot: usize, lease: Lease) {
        self.loaded.words.set_lease(id, slot, lease);
    }

    /// Whether the gate is open at `now`, by the words in the maps.
    #[must_use]
    pub fn gate_open(&self, id: InstanceId, now: MonoNs) -> bool {
        let leases = match self.instances.get(&id) {
            Some(config) => usize::try_from(config.leases).unwrap_or(MAX_LEASES),
            None => return false,
        };
        let words = &self.loaded.words;
        let (epoch, superseded) = (words.epoch(id), words.superseded(id));
        leases > 0
            && words.standing(id) == Standing::Active
            && (0..leases.min(MAX_LEASES))
                .all(|slot| gate::is_open(epoch, superseded, words.lease(id, slot), now))
    }

    /// What XDP received for an instance.
    #[must_use]
    pub fn received(&self, id: InstanceId) -> Received {
        self.loaded.words.received(id)
    }

    /// The ring buffer's descriptor, for epoll.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.loaded.events.as_fd()
    }

    /// The next event, if any.
    pub fn next_event(&mut self) -> Option<Event> {
        Event::from_bytes(&self.loaded.events.next()?)
    }

    /// Each verdict's counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refuses the read.
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        self.loaded.counters()
    }

    /// Detaches everywhere, removes every pin, and waits until no interface has them at XDP any more.
    ///
    /// # Errors
    ///
    /// The first failure, after everything was tried.
    pub fn close(mut self) -> Result<(), DataplaneError> {
        let mut result = Ok(());
        for ifindex in self.attached.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.detach(ifindex));
        }
        for ifindex in &self.detached {
            result = result.and(xdp::wait_until_gone(*ifindex));
        }
        if let Some(pins) = &self.pins {
            result = result.and(pins.remove_links_but(|_| false));
            result = result.and(pins.remove());
        }
        result
    }
}

/// Removes what an earlier daemon pinned in `pin_dir`, and so takes its programs off. For a daemon that goes
/// without a dataplane: else the old gate would stay, closed for ever, and the old programs would take the
/// adverts.
///
/// # Errors
///
/// The first failure, after everything was tried.
pub fn remove_pins(pin_dir: &Path) -> Result<(), DataplaneError> {
    let pins = Pins::found(pin_dir);
    let linked = pins.linked()?;
    let mut result = pins.remove_links_but(|_| false).and(pins.remove());
    for ifindex in linked {
        result = result.and(xdp::wait_until_gone(ifindex));
    }
    result
}

/// Removes the tc filters that an earlier daemon left on `interfaces`, and as guards on any (where there is no
/// tcx).
///
/// # Errors
///
/// The first failure, after everything was tried.
pub fn remove_filters(interfaces: &BTreeSet<&str>) -> Result<(), DataplaneError> {
    let mut result = Ok(());
    for interface in interfaces {
        for side in [Side::Ingress, Side::Egress] {
            result = result.and(clsact::remove(interface, side));
        }
    }
    let everywhere = interface::names()?;
    result.and(guard::remove_filters(everywhere.iter().map(String::as_str)))
}

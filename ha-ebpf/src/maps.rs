//! Every map, and counting.
//!
//! Words that user space has mapped are read and written volatile, one aligned 64-bit access each: the
//! target has no atomic loads and stores, and such an access is one instruction.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use ha_common::{
    Address,
    abi::{
        EVENT_RING_BYTES, Event, Gate, InstanceConfig, LeaseCell, MAX_INSTANCES, MAX_SENDERS,
        MAX_VIPS, MAX_VLANS, MAX_WATCHES, Reason, Received, SenderKey, VipKey, VlanKey, VridKey,
        WatchConfig, bfd,
        lease::{self, LeaseConfig, PathConfig, PathInstance, PathKey, PathState, PromiseCell},
        local::{LocalAddress, MAX_LOCALS},
    },
    gate::MAX_LEASES,
};

const MAPPED: usize = BPF_F_MMAPABLE as usize;
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// Slot → configuration.
#[btf_map]
pub(crate) static INSTANCES: Array<InstanceConfig, { MAX_INSTANCES as usize }> = Array::new();

/// (Interface, VRID) → slot.
#[btf_map]
pub(crate) static VRIDS: HashMap<VridKey, u32, { MAX_INSTANCES as usize }, ON_DEMAND> =
    HashMap::new();

/// VIP → slot.
#[btf_map]
pub(crate) static VIPS: HashMap<VipKey, u32, { MAX_VIPS as usize }, ON_DEMAND> = HashMap::new();

/// Allowed unicast senders.
#[btf_map]
pub(crate) static SENDERS: HashMap<SenderKey, u8, { MAX_SENDERS as usize }, ON_DEMAND> =
    HashMap::new();

/// Interface and tag → the VLAN's interface.
#[btf_map]
pub(crate) static VLANS: HashMap<VlanKey, u32, { MAX_VLANS as usize }, ON_DEMAND> = HashMap::new();

/// Own address to which peers send → the interface that has it.
#[btf_map]
pub(crate) static LOCALS: HashMap<Address, LocalAddress, { MAX_LOCALS as usize }, ON_DEMAND> =
    HashMap::new();

/// Slot → epochs.
#[btf_map]
pub(crate) static GATES: Array<Gate, { MAX_INSTANCES as usize }, MAPPED> = Array::new();

/// Slot × leases → lease.
#[btf_map]
pub(crate) static LEASES: Array<LeaseCell, { MAX_INSTANCES as usize * MAX_LEASES }, MAPPED> =
    Array::new();

/// Slot → what was heard.
#[btf_map]
pub(crate) static RECEIVED: Array<Received, { MAX_INSTANCES as usize }, MAPPED> = Array::new();

/// Silence timer → how long a silence to report.
#[btf_map]
pub(crate) static WATCH_CONFIG: Array<WatchConfig, { MAX_WATCHES as usize }> = Array::new();

/// BFD session → configuration.
#[btf_map]
pub(crate) static BFD_SESSIONS: Array<bfd::Session, { bfd::MAX_SESSIONS as usize }> = Array::new();

/// My Discriminator → BFD session.
#[btf_map]
pub(crate) static BFD_DISCRIMINATORS: HashMap<u32, u32, { bfd::MAX_SESSIONS as usize }, ON_DEMAND> =
    HashMap::new();

/// Where a BFD packet comes from → BFD session.
#[btf_map]
pub(crate) static BFD_PEERS: HashMap<bfd::PeerKey, u32, { bfd::MAX_SESSIONS as usize }, ON_DEMAND> =
    HashMap::new();

/// BFD session → what was heard.
#[btf_map]
pub(crate) static BFD_RECEIVED: Array<bfd::Received, { bfd::MAX_SESSIONS as usize }, MAPPED> =
    Array::new();

/// What changes something in a BFD session, for the daemon.
#[btf_map]
pub(crate) static BFD_EVENTS: RingBuf<bfd::Event, { bfd::EVENT_RING_BYTES as usize }> =
    RingBuf::new();

/// (Interface, peer's address) → path.
#[btf_map]
pub(crate) static PATHS: HashMap<PathKey, u32, { lease::MAX_PATHS as usize }, ON_DEMAND> =
    HashMap::new();

/// Path → configuration.
#[btf_map]
pub(crate) static PATH_CONFIG: Array<PathConfig, { lease::MAX_PATHS as usize }> = Array::new();

/// Path × (VRID, family) → instance and peer.
#[btf_map]
pub(crate) static PATH_INSTANCES: Array<
    PathInstance,
    { (lease::MAX_PATHS * lease::PATH_INSTANCES) as usize },
> = Array::new();

/// Path → what was heard.
#[btf_map]
pub(crate) static PATH_STATE: Array<PathState, { lease::MAX_PATHS as usize }, MAPPED> =
    Array::new();

/// Slot × peers → what is promised to whom.
#[btf_map]
pub(crate) static PROMISES: Array<PromiseCell, { MAX_INSTANCES as usize * MAX_LEASES }, MAPPED> =
    Array::new();

/// Slot → how leases are granted.
#[btf_map]
pub(crate) static LEASE_CONFIG: Array<LeaseConfig, { MAX_INSTANCES as usize }> = Array::new();

/// What changes something, for the daemon.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { EVENT_RING_BYTES as usize }> = RingBuf::new();

/// Reason → how often.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Reason::ALL.len() }> = PerCpuArray::new();

/// Counts a reason on this CPU.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: a map value of this CPU; programs on one CPU do not interrupt each other, but for a
        // timer's, whose lost count is no harm.
        unsafe { *counter += 1 };
    }
}

/// Reports an event, or counts that the ring buffer is full.
#[inline(always)]
pub(crate) fn report(event: Event) {
    match EVENTS.reserve(0) {
        Some(mut entry) => {
            write(entry.as_mut_ptr(), &event);
            entry.submit(0);
        }
        None => count(Reason::EventRingFull),
    }
}

/// Writes an event, its address by two stores: where that is all zeroes, LLVM would call `memset`, which goes byte
/// by byte and has a stack of its own.
#[inline(always)]
fn write(place: *mut Event, event: &Event) {
    let [high, low] = event.sender.words();
    // SAFETY: field addresses within an entry of the ring buffer; an address is two words.
    unsafe {
        (&raw mut (*place).kind).write(event.kind);
        (&raw mut (*place).instance).write(event.instance);
        (&raw mut (*place).stamp_ns).write(event.stamp_ns);
        (&raw mut (*place).word).write(event.word);
        (&raw mut (*place).made_ns).write(event.made_ns);
        let sender = (&raw mut (*place).sender).cast::<u64>();
        store(sender, high);
        store(sender.add(1), low);
    }
}

/// [`report`] for a BFD session.
#[inline(always)]
pub(crate) fn report_bfd(event: bfd::Event) {
    match BFD_EVENTS.reserve(0) {
        Some(mut entry) => {
            entry.write(event);
            entry.submit(0);
        }
        None => count(Reason::EventRingFull),
    }
}

/// The instance that a VIP belongs to.
#[inline(always)]
pub(crate) fn instance_of_vip(address: VipKey) -> Option<(u32, &'static InstanceConfig)> {
    // SAFETY: the value is copied at once; the daemon may replace it meanwhile, and a slot is one word.
    let slot = *unsafe { VIPS.get(address) }?;
    Some((slot, INSTANCES.get(slot)?))
}

/// The interface of a VLAN, if an instance is on it.
#[inline(always)]
pub(crate) fn vlan_interface(key: &VlanKey) -> Option<u32> {
    // SAFETY: the value is copied at once, and is one word.
    unsafe { VLANS.get(key) }.copied()
}

/// Reads a word that user space or another CPU may write.
#[inline(always)]
pub(crate) fn load(word: *const u64) -> u64 {
    // SAFETY: every caller passes an aligned field of a map value, which lives as long as the map.
    unsafe { word.read_volatile() }
}

/// Writes a word that user space or another CPU may read.
#[inline(always)]
pub(crate) fn store(word: *mut u64, value: u64) {
    // SAFETY: as in `load`, or of an entry of a ring buffer that is not submitted yet.
    unsafe { word.write_volatile(value) };
}

/// Exchanges a word, with a full barrier. Returns what it was.
#[inline(always)]
pub(crate) fn exchange(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: as in `load`. `AtomicU64::swap` does not exist on this target.
    unsafe {
        asm!(
            "{value} = xchg_64({word} + 0, {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}

/// Writes `new` if the word is `expected`, with a full barrier. Returns what it was.
#[inline(always)]
pub(crate) fn compare_exchange(word: *mut u64, expected: u64, new: u64) -> u64 {
    let found;
    // SAFETY: as in `exchange`; the instruction takes and leaves the old value in r0.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") expected => found,
        );
    }
    // Another processor has no such register; there it is only linted.
    #[cfg(not(target_arch = "bpf"))]
    {
        found = load(word);
        if found == expected {
            store(word, new);
        }
    }
    found
}

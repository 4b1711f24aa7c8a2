//! A dataplane with known instances, and rows that say what it makes of a frame.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use ha_common::{
    Address, MonoNs, Nanos,
    abi::{AdvertWord, CLOSED_SLOT, Event, EventKind, InstanceConfig, Reason, Said, VlanKey},
    gate::{ADVERT_SLOT, Epoch, Lease},
    wire::ethernet,
};
use ha_core::InstanceId;
use ha_tests::now;
use ha_user::dataplane::{Dataplane, Mode, Options, Verdict};
use ipnet::Ipv4Net;

/// Where `BPF_PROG_TEST_RUN` says that a frame came in: the loopback interface.
pub(crate) const LOOPBACK: u32 = 1;

/// The VLAN's interface on which instances are while [`Tags`] lead to it, and one on the way.
const VLAN_IF: u32 = 4712;
const SERVICE_IF: u32 = 4713;

/// Multicast, VRRPv3, VRID 51, priority 100, on the loopback interface.
pub(crate) const V3: InstanceId = InstanceId(0);
/// The same with VRRPv2 at one second, VRID 52.
pub(crate) const V2: InstanceId = InstanceId(1);
/// The same with VRRPv3 and unicast, VRID 53.
pub(crate) const UNICAST: InstanceId = InstanceId(2);
/// Multicast over IPv6, with the VRID of [`V3`], on the loopback interface.
pub(crate) const V6: InstanceId = InstanceId(3);
/// The same with unicast, VRID 53.
pub(crate) const UNICAST_V6: InstanceId = InstanceId(4);
/// Multicast, VRRPv3, VRID 54, on another interface; the last slot.
pub(crate) const ELSEWHERE: InstanceId = InstanceId(CLOSED_SLOT - 1);

pub(crate) const OURS: [u8; 4] = [192, 168, 0, 2];
pub(crate) const PEER: [u8; 4] = [192, 168, 0, 3];
pub(crate) const LOWER: [u8; 4] = [192, 168, 0, 1];
pub(crate) const OTHER: [u8; 4] = [192, 168, 0, 77];

pub(crate) const OURS_V6: Address = link_local(2);
pub(crate) const PEER_V6: Address = link_local(3);
pub(crate) const LOWER_V6: Address = link_local(1);
pub(crate) const OTHER_V6: Address = global(0x77);

pub(crate) const PRIORITY: u8 = 100;

const fn link_local(last: u8) -> Address {
    Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

const fn global(last: u8) -> Address {
    Address::v6([
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
    ])
}

/// The VIP of IPv6 of an instance; [`V3`] has one of each family.
pub(crate) const fn vip_v6(id: InstanceId) -> Address {
    match id {
        V3 => global(0x51),
        V6 => global(0x61),
        UNICAST_V6 => global(0x63),
        _ => global(0x54),
    }
}

const fn is_v6(id: InstanceId) -> bool {
    matches!(id, V6 | UNICAST_V6)
}

fn vips(id: InstanceId) -> Vec<IpAddr> {
    match id {
        V2 | UNICAST => vec![vip(id).into()],
        V6 | UNICAST_V6 => vec![vip_v6(id).into()],
        _ => vec![vip(id).into(), vip_v6(id).into()],
    }
}

/// The VIP of an instance.
pub(crate) const fn vip(id: InstanceId) -> [u8; 4] {
    match id {
        V3 => [192, 168, 0, 151],
        V2 => [192, 168, 0, 152],
        UNICAST => [192, 168, 0, 153],
        V6 => [192, 168, 0, 161],
        UNICAST_V6 => [192, 168, 0, 163],
        _ => [192, 168, 0, 154],
    }
}

/// The MAC address that answers for an instance.
pub(crate) const fn mac(id: InstanceId) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, vip(id)[3]]
}

pub(crate) const fn vrid(id: InstanceId) -> u8 {
    match id {
        V3 | V6 => 51,
        V2 => 52,
        UNICAST | UNICAST_V6 => 53,
        _ => 54,
    }
}

pub(crate) fn config(id: InstanceId) -> InstanceConfig {
    InstanceConfig {
        ifindex: if id == ELSEWHERE { 4711 } else { LOOPBACK },
        leases: 1,
        vrid: vrid(id),
        version: if id == V2 { 2 } else { 3 },
        priority: PRIORITY,
        unicast: u8::from(matches!(id, UNICAST | UNICAST_V6)),
        mac: mac(id),
        source: if is_v6(id) {
            OURS_V6
        } else {
            Address::v4(OURS)
        },
        interval_centis: if id == V2 { 100 } else { 1 },
        family: if is_v6(id) { 6 } else { 4 },
        ..InstanceConfig::default()
    }
}

/// The tags that frames have, and so the interface that they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// None: the interface by which they come.
    None,
    /// A priority alone: the same.
    Priority,
    /// IEEE 802.1Q: the VLAN's interface.
    Vlan,
    /// A priority before that.
    PriorityVlan,
    /// IEEE 802.1ad, and 802.1Q in it: an interface on the service VLAN's.
    Service,
}

impl Tags {
    pub(crate) const ALL: [Self; 5] = [
        Self::None,
        Self::Priority,
        Self::Vlan,
        Self::PriorityVlan,
        Self::Service,
    ];

    /// Where the instances are.
    pub(crate) const fn ifindex(self) -> u32 {
        match self {
            Self::None | Self::Priority => LOOPBACK,
            Self::Vlan | Self::PriorityVlan | Self::Service => VLAN_IF,
        }
    }

    /// A frame with the tags.
    pub(crate) fn put(self, frame: &[u8]) -> Vec<u8> {
        const PRIORITY: [u8; 4] = [0x81, 0x00, 0xe0, 0x00];
        const VLAN: [u8; 4] = [0x81, 0x00, 0x60, 0x07];
        const SERVICE: [u8; 4] = [0x88, 0xa8, 0x00, 0x05];
        let tags = match self {
            Self::None => vec![],
            Self::Priority => vec![PRIORITY],
            Self::Vlan => vec![VLAN],
            Self::PriorityVlan => vec![PRIORITY, VLAN],
            Self::Service => vec![SERVICE, VLAN],
        };
        let (stations, rest) = frame.split_at(12);
        [stations, &tags.concat(), rest].concat()
    }
}

/// How an instance's gate stands when a row begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Never opened.
    Closed,
    /// Open for long.
    Open,
    /// The lease is over.
    Expired,
    /// The epoch was raised after the lease was given.
    Raised,
    /// Two leases are needed, and only one holds.
    HalfOpen,
    /// An instance without any lease slot.
    NoLeases,
}

/// One expectation.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) gate: Gate,
    pub(crate) frame: Vec<u8>,
    pub(crate) code: u32,
    /// `None`: unchanged.
    pub(crate) out: Option<Vec<u8>>,
    /// What is reported: instance and what the advert said.
    pub(crate) event: Option<(EventKind, InstanceId, Said)>,
    pub(crate) counted: Reason,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        gate: Gate,
        frame: Vec<u8>,
        code: u32,
        counted: Reason,
    ) -> Self {
        Self {
            name,
            gate,
            frame,
            code,
            out: None,
            event: None,
            counted,
        }
    }

    pub(crate) fn turns_into(mut self, frame: Vec<u8>) -> Self {
        self.out = Some(frame);
        self
    }

    pub(crate) fn reports(mut self, id: InstanceId, said: Said) -> Self {
        self.event = Some((EventKind::Advert, id, said));
        self
    }

    /// That it came to an own address by an interface that does not have it.
    pub(crate) fn tells_elsewhere(mut self, own: [u8; 4], ifindex: u32) -> Self {
        let said = Said {
            sender: Address::v4(own),
            word: AdvertWord(ifindex.into()),
        };
        self.event = Some((EventKind::Elsewhere, InstanceId(0), said));
        self
    }
}

/// For [`Fixture::shared`].
static SHARED: LazyLock<Mutex<Fixture>> = LazyLock::new(|| Mutex::new(Fixture::new()));

/// The dataplane under test.
pub(crate) struct Fixture {
    pub(crate) dataplane: Dataplane,
    /// Of every instance; each reset has its own, as a superseded one stays closed.
    epoch: Epoch,
    tags: Tags,
    /// Whether the instances have the virtual MAC address.
    pub(crate) virtual_mac: bool,
    /// Own addresses to which peers send, and where they are.
    pub(crate) locals: BTreeMap<Ipv4Net, u32>,
}

impl Fixture {
    /// One for all tests that reset it before each look: to load the programs takes longer than to run a table.
    pub(crate) fn shared() -> MutexGuard<'static, Self> {
        // One that failed has left it as it was, as those that did not.
        let mut fixture = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        fixture.tags = Tags::None;
        fixture.reset(Gate::Closed);
        fixture
    }

    pub(crate) fn new() -> Self {
        let dataplane = match Dataplane::open(&unpinned()) {
            Ok(dataplane) => dataplane,
            Err(error) => panic!("these tests load BPF programs, which needs root: {error}"),
        };
        let mut fixture = Self {
            dataplane,
            epoch: Epoch(7),
            tags: Tags::None,
            virtual_mac: false,
            locals: BTreeMap::new(),
        };
        for (ifindex, protocol, vid, vlan) in [
            (LOOPBACK, ethernet::VLAN, 7, VLAN_IF),
            (LOOPBACK, ethernet::SERVICE_VLAN, 5, SERVICE_IF),
            (SERVICE_IF, ethernet::VLAN, 7, VLAN_IF),
        ] {
            let key = VlanKey {
                ifindex,
                protocol,
                vid,
            };
            fixture.dataplane.set_vlan(key, vlan).unwrap();
        }
        fixture.reset(Gate::Closed);
        fixture
    }

    /// Every instance as if it were new, with its gate as told.
    pub(crate) fn reset(&mut self, gate: Gate) {
        self.epoch = self.epoch.raised().raised();
        // Anew, with all of their budget.
        self.dataplane.set_locals(&BTreeMap::new()).unwrap();
        self.dataplane.set_locals(&self.locals).unwrap();
        for id in [V3, V2, UNICAST, V6, UNICAST_V6, ELSEWHERE] {
            self.dataplane.clear_instance(id).unwrap();
            let mut config = config(id);
            if config.ifindex == LOOPBACK {
                config.ifindex = self.tags.ifindex();
            }
            config.virtual_mac = u8::from(self.virtual_mac);
            match gate {
                Gate::HalfOpen => config.leases = 2,
                Gate::NoLeases => config.leases = 0,
                _ => {}
            }
            let peer = if is_v6(id) {
                PEER_V6.into()
            } else {
                PEER.into()
            };
            self.dataplane
                .set_instance(id, &config, &vips(id), &[peer])
                .unwrap();
            self.dataplane.set_epoch(id, self.epoch);
            let later = now().after(Nanos::from_secs(60));
            match gate {
                Gate::Closed => {}
                Gate::Open | Gate::HalfOpen | Gate::NoLeases => self.lease(id, later),
                Gate::Expired => self.lease(id, now().before(Nanos::from_millis(1))),
                Gate::Raised => {
                    self.lease(id, later);
                    self.dataplane.set_epoch(id, self.epoch.raised());
                }
            }
        }
        while self.dataplane.next_event().is_some() {}
    }

    /// Gives a lease with the epoch of [`Self::reset`].
    pub(crate) fn lease(&self, id: InstanceId, until: MonoNs) {
        self.dataplane
            .set_lease(id, ADVERT_SLOT, Lease::new(self.epoch, until));
    }

    pub(crate) fn is_open(&self, id: InstanceId) -> bool {
        self.dataplane.gate_open(id, now())
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.dataplane.next_event()).collect()
    }

    pub(crate) fn counts(&self) -> BTreeMap<Reason, u64> {
        self.dataplane.counters().unwrap().into_iter().collect()
    }

    /// What was counted since.
    pub(crate) fn counted(&self, before: &BTreeMap<Reason, u64>) -> Vec<(Reason, u64)> {
        self.counts()
            .into_iter()
            .map(|(reason, count)| (reason, count - before[&reason]))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Checks a table, with tags in the frames and without; names every row that fails.
    pub(crate) fn check(
        &mut self,
        rows: &[Row],
        run: impl FnMut(&mut Dataplane, &[u8]) -> Verdict,
    ) {
        self.check_tagged(&Tags::ALL, rows, run);
    }

    /// The same with these tags.
    pub(crate) fn check_tagged(
        &mut self,
        tags: &[Tags],
        rows: &[Row],
        mut run: impl FnMut(&mut Dataplane, &[u8]) -> Verdict,
    ) {
        let mut failures = Vec::new();
        for (tags, row) in tags
            .iter()
            .flat_map(|tags| rows.iter().map(|row| (*tags, row)))
        {
            self.tags = tags;
            self.reset(row.gate);
            let before = self.counts();
            let verdict = run(&mut self.dataplane, &tags.put(&row.frame));
            let counted = self.counted(&before);
            let events: Vec<_> = self
                .events()
                .iter()
                .map(|event| (event.kind, event.instance, event.said()))
                .collect();
            let expected: Vec<_> = row
                .event
                .iter()
                .map(|(kind, id, said)| (*kind as u32, id.0, *said))
                .collect();
            let out = tags.put(row.out.as_ref().unwrap_or(&row.frame));
            if verdict.code != row.code
                || verdict.frame != out
                || counted != [(row.counted, 1)]
                || events != expected
            {
                failures.push(format!(
                    "{} (gate {:?}, tags {tags:?}):\n  code {} (expected {}), counted {counted:?} (expected {:?})\n  \
                     events {events:x?} (expected {expected:x?})\n  frame {:02x?}\n  expected {out:02x?}",
                    row.name, row.gate, verdict.code, row.code, row.counted, verdict.frame,
                ));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// What an advert of a `had` said.
pub(crate) const fn said(sender: [u8; 4], priority: u8, interval_centis: u16) -> Said {
    Said {
        sender: Address::v4(sender),
        word: AdvertWord::new(priority, interval_centis, true),
    }
}

pub(crate) const fn unpinned() -> Options {
    Options {
        mode: Mode::Native,
        pin_dir: None,
    }
}

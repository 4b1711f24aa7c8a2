//! Bonds and their slaves, as netlink tells of them (linux/if_link.h, `IFLA_BOND_*`).

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator, Parseable};
pub use netlink_packet_route::link::{BondMode, LacpState, MiiStatus};
use netlink_packet_route::link::{BondPortState, InfoBond, InfoBondPort};

/// A bond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// How it uses its slaves.
    pub mode: BondMode,
    /// The slave that it sends and receives by, in the modes that have one (active-backup, balance-tlb,
    /// balance-alb).
    pub active: Option<u32>,
    /// Slaves that 802.3ad wants before the bond has carrier.
    pub min_links: u32,
    /// Whether it watches its slaves, by MII or by ARP. Else it goes on sending by one that has failed.
    pub watches: bool,
    /// Its slaves, by index.
    pub slaves: Vec<Slave>,
}

/// A bond's slave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slave {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up, and has carrier.
    pub carries: bool,
    /// What the bond knows of it.
    pub port: Port,
}

/// What a bond knows of a slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its link, as the bond watches it and after the bond's own delays; `Up` where it watches none.
    pub mii: MiiStatus,
    /// Whether the bond receives by it: the active slave, or (802.3ad) one of the active aggregator's.
    pub active: bool,
    /// In 802.3ad.
    pub lacp: Option<Lacp>,
}

/// LACP on one slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacp {
    /// The aggregator that it belongs to.
    pub aggregator: u16,
    /// This end's state.
    pub actor: LacpState,
    /// The switch's state.
    pub partner: LacpState,
}

impl Lacp {
    /// Whether the switch has taken the slave into the aggregation.
    #[must_use]
    pub const fn partner_in_sync(&self) -> bool {
        self.partner.contains(
            LacpState::SYNCHRONIZATION
                .union(LacpState::COLLECTING)
                .union(LacpState::DISTRIBUTING),
        )
    }
}

impl Default for Port {
    fn default() -> Self {
        Self {
            mii: MiiStatus::Up,
            active: true,
            lacp: None,
        }
    }
}

impl Bond {
    /// From the attributes of `IFLA_INFO_DATA`.
    pub(super) fn from_attributes(data: &[u8]) -> Self {
        let mut bond = Self::default();
        for attribute in each::<InfoBond>(data) {
            match attribute {
                InfoBond::Mode(mode) => bond.mode = mode,
                InfoBond::ActivePort(ifindex) => bond.active = Some(ifindex),
                InfoBond::MinLinks(links) => bond.min_links = links,
                InfoBond::MiiMon(every) | InfoBond::ArpInterval(every) => {
                    bond.watches |= every != 0;
                }
                _ => {}
            }
        }
        bond
    }

    /// Whether the bond can send and receive by a slave, now or as soon as it fails over to it.
    #[must_use]
    pub fn can_use(&self, slave: &Slave) -> bool {
        slave.carries
            && slave.port.mii == MiiStatus::Up
            && match self.mode {
                BondMode::Ieee8023Ad => slave.port.active,
                BondMode::ActiveBackup => self.watches || self.active == Some(slave.ifindex),
                _ => true,
            }
    }

    /// How many slaves can be used.
    #[must_use]
    pub fn usable_slaves(&self) -> u32 {
        let usable = self.slaves.iter().filter(|slave| self.can_use(slave));
        u32::try_from(usable.count()).unwrap_or(u32::MAX)
    }

    /// Whether enough of them can be used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let needed = match self.mode {
            BondMode::Ieee8023Ad => self.min_links.max(1),
            _ => 1,
        };
        self.usable_slaves() >= needed
    }
}

impl Port {
    /// From the attributes of `IFLA_INFO_SLAVE_DATA`.
    pub(super) fn from_attributes(data: &[u8]) -> Self {
        let mut port = Self::default();
        for attribute in each::<InfoBondPort>(data) {
            match attribute {
                InfoBondPort::MiiStatus(status) => port.mii = status,
                InfoBondPort::BondPortState(state) => port.active = state == BondPortState::Active,
                InfoBondPort::AdAggregatorId(aggregator) => port.lacp().aggregator = aggregator,
                InfoBondPort::AdActorOperPortState(state) => port.lacp().actor = state,
                InfoBondPort::AdPartnerOperPortState(state) => port.lacp().partner = state,
                _ => {}
            }
        }
        port
    }

    fn lacp(&mut self) -> &mut Lacp {
        self.lacp.get_or_insert(Lacp {
            aggregator: 0,
            actor: LacpState::empty(),
            partner: LacpState::empty(),
        })
    }
}

/// The attributes that can be read; a kernel may know others.
fn each<'a, T>(data: &'a [u8]) -> impl Iterator<Item = T>
where
    T: Parseable<NlaBuffer<&'a [u8]>>,
{
    NlasIterator::new(data)
        .map_while(Result::ok)
        .filter_map(|attribute| -> Option<T> {
            let read: Result<T, DecodeError> = T::parse(&attribute);
            read.ok()
        })
}

use netlink_packet_core::Emitable as _;
use netlink_packet_route::link::{
    BondPortState, InfoBond, InfoBondPort, InfoData, InfoPortData, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};

use super::{
    table::{RTM_DELADDR, RTM_NEWADDR, RTM_NEWLINK},
    *,
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link() -> Link {
    Link {
        name: "eth0".to_owned(),
        ifindex: 2,
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        carrier: true,
        ethernet: true,
        mtu: 1500,
        addresses: vec![net("192.168.33.100/24"), net("192.168.33.101/24")],
        ..Link::default()
    }
}

fn any(_address: IpAddr) -> bool {
    true
}

fn ready(source: &str) -> InterfaceCondition {
    InterfaceCondition::Ready {
        source: source.parse().unwrap(),
    }
}

#[test]
fn the_source_is_the_first_address_that_is_no_vip() {
    let no_vip = |address| address != IpAddr::from([192, 168, 33, 100]);
    assert_eq!(link().condition(None, no_vip), ready("192.168.33.101"));
    assert_eq!(link().condition(None, any), ready("192.168.33.100"));
}

#[test]
fn only_what_suits_is_the_source() {
    let both = Link {
        addresses: vec![
            net("192.168.33.101/24"),
            net("2001:db8::1/64"),
            net("fe80::1/64"),
        ],
        ..link()
    };
    let link_local =
        |address: IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    assert_eq!(both.condition(None, link_local), ready("fe80::1"));
    let none = |_| false;
    assert_eq!(both.condition(None, none), InterfaceCondition::NoAddress);
}

#[test]
fn a_configured_source_must_be_there() {
    let source = Some(IpAddr::from([192, 168, 33, 101]));
    assert_eq!(link().condition(source, any), ready("192.168.33.101"));
    let other = Some(IpAddr::from([192, 168, 33, 102]));
    assert_eq!(link().condition(other, any), InterfaceCondition::NoAddress);
    let bare = Link {
        addresses: Vec::new(),
        ..link()
    };
    assert_eq!(bare.condition(None, any), InterfaceCondition::NoAddress);
}

#[test]
fn down_and_no_carrier_come_first() {
    let down = Link {
        up: false,
        carrier: false,
        ..link()
    };
    assert_eq!(down.condition(None, any), InterfaceCondition::Down);
    let unplugged = Link {
        carrier: false,
        ..link()
    };
    assert_eq!(
        unplugged.condition(None, any),
        InterfaceCondition::NoCarrier
    );
}

#[test]
fn the_loopback_interface_is_found() {
    let table = Table::read().unwrap();
    let loopback = table.by_name("lo").unwrap();
    assert_eq!(loopback.ifindex, 1);
    assert_eq!(loopback.mac, [0; 6]);
    assert!(table.by_name("no-such-link").is_none());
}

/// A table that netlink told of one interface after the other.
#[derive(Default)]
struct Told(Table);

impl Told {
    fn learn(&mut self, ifindex: u32, name: &str, attributes: Vec<LinkAttribute>) -> &mut Self {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        message.attributes.extend(attributes);
        self.take(&message)
    }

    fn take(&mut self, message: &LinkMessage) -> &mut Self {
        let mut datagram = vec![0_u8; 16 + message.buffer_len()];
        let length = u32::try_from(datagram.len()).unwrap();
        datagram[..4].copy_from_slice(&length.to_ne_bytes());
        datagram[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message.emit(&mut datagram[16..]);
        for message in netlink::messages(&datagram) {
            self.0.apply(&message);
        }
        self.0.relate();
        self
    }

    fn link(&self, name: &str) -> &Link {
        self.0.by_name(name).unwrap()
    }

    fn bond(&mut self, data: Vec<InfoBond>) -> &mut Self {
        self.learn(2, "bond0", kind(InfoKind::Bond, Some(InfoData::Bond(data))))
    }

    fn slave(&mut self, ifindex: u32, data: Vec<InfoBondPort>) -> &mut Self {
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::PortKind(InfoPortKind::Bond),
            LinkInfo::PortData(InfoPortData::BondPort(data)),
        ];
        let attributes = vec![LinkAttribute::Controller(2), LinkAttribute::LinkInfo(info)];
        self.learn(ifindex, &format!("eth{ifindex}"), attributes)
    }

    /// The slave loses its carrier.
    fn unplug(&mut self, ifindex: u32) -> &mut Self {
        let link = self.0.by_index(ifindex).unwrap().clone();
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Up;
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bond)];
        message.attributes = vec![
            LinkAttribute::IfName(link.name),
            LinkAttribute::Controller(2),
            LinkAttribute::LinkInfo(info),
        ];
        self.take(&message)
    }
}

fn kind(kind: InfoKind, data: Option<InfoData>) -> Vec<LinkAttribute> {
    let info = [LinkInfo::Kind(kind)].into_iter();
    let info = info.chain(data.map(LinkInfo::Data)).collect();
    vec![LinkAttribute::LinkInfo(info)]
}

fn monitored(mode: BondMode) -> Vec<InfoBond> {
    vec![InfoBond::Mode(mode), InfoBond::MiiMon(100)]
}

#[test]
fn a_port_of_another_interface_is_known_as_one_until_it_is_released() {
    let mut told = Told::default();
    let port = vec![LinkAttribute::Controller(3), LinkAttribute::Mtu(9000)];
    let link = told.learn(2, "eth0", port).link("eth0");
    assert_eq!((link.ifindex, link.master, link.mtu), (2, Some(3), 9000));
    assert!(link.gives_frames_away());
    let link = told.learn(2, "eth0", Vec::new()).link("eth0");
    assert_eq!((link.master, link.gives_frames_away()), (None, false));
    let port = vec![
        LinkAttribute::Controller(3),
        LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Vrf)]),
    ];
    let link = told.learn(2, "eth0", port).link("eth0");
    assert_eq!((link.master, link.gives_frames_away()), (Some(3), false));
}

#[test]
fn an_event_without_a_name_changes_nothing() {
    let mut told = Told::default();
    told.learn(2, "wlan0", vec![LinkAttribute::Mtu(1400)]);
    let before = told.0.clone();
    let mut message = LinkMessage::default();
    message.header.index = 2;
    assert_eq!(told.take(&message).0, before);
}

#[test]
fn a_bond_is_usable_as_long_as_a_slave_is() {
    for mode in [
        BondMode::ActiveBackup,
        BondMode::BalanceRr,
        BondMode::BalanceXor,
    ] {
        let mut told = Told::default();
        told.bond(monitored(mode));
        assert_eq!(told.link("bond0").usable_slaves(), Some(0));
        assert!(!told.link("bond0").usable(), "no slaves");
        told.slave(3, Vec::new()).slave(4, Vec::new());
        assert_eq!(told.link("bond0").usable_slaves(), Some(2));
        told.unplug(3);
        assert_eq!(told.link("bond0").usable_slaves(), Some(1));
        assert!(told.link("bond0").usable());
        // The bond's own carrier flag stays set here, as it does where the bond does not watch its slaves.
        told.unplug(4);
        let bond = told.link("bond0");
        assert!(bond.carrier && !bond.usable());
        let condition = bond.condition(None, any);
        assert_eq!(condition, InterfaceCondition::NoCarrier);
    }
}

#[test]
fn a_slave_that_the_bond_has_not_taken_back_is_not_usable() {
    let mut told = Told::default();
    told.bond(monitored(BondMode::ActiveBackup));
    for (status, usable) in [
        (MiiStatus::Up, 1),
        (MiiStatus::GoingDown, 0),
        (MiiStatus::Down, 0),
        (MiiStatus::GoingBack, 0),
    ] {
        told.slave(3, vec![InfoBondPort::MiiStatus(status)]);
        let bond = told.link("bond0");
        assert_eq!(bond.usable_slaves(), Some(usable), "{status}");
    }
}

#[test]
fn a_bond_that_does_not_watch_its_slaves_stays_with_the_active_one() {
    let mut told = Told::default();
    let unwatched = |mode| vec![InfoBond::Mode(mode), InfoBond::ActivePort(3)];
    told.slave(3, Vec::new()).slave(4, Vec::new());
    told.bond(unwatched(BondMode::ActiveBackup));
    assert_eq!(told.link("bond0").usable_slaves(), Some(1));
    assert_eq!(told.link("bond0").active_slave(), Some(3));
    assert!(!told.unplug(3).link("bond0").usable());
    told.bond(unwatched(BondMode::BalanceRr));
    assert_eq!(told.link("bond0").usable_slaves(), Some(1));
}

/// What a notification begins with.
fn head(kind: u16, ifindex: u32) -> [u8; netlink::HEAD_LEN] {
    let mut head = [0; netlink::HEAD_LEN];
    head[4..6].copy_from_slice(&kind.to_ne_bytes());
    head[20..24].copy_from_slice(&ifindex.to_ne_bytes());
    head
}

#[test]
fn news_of_a_slave_is_known_as_such_where_its_bond_will_tell_of_itself() {
    let mut told = Told::default();
    told.bond(monitored(BondMode::ActiveBackup))
        .slave(3, Vec::new())
        .learn(4, "eth4", Vec::new())
        .learn(5, "eth5", vec![LinkAttribute::Controller(4)]);
    let is_of_slave = |told: &Told, kind, ifindex| told.0.is_of_slave(&head(kind, ifindex));
    assert!(is_of_slave(&told, RTM_NEWLINK, 3));
    assert!(!is_of_slave(&told, RTM_NEWADDR, 3), "an address");
    for (ifindex, what) in [
        (2, "the bond"),
        (4, "no slave"),
        (5, "another's port"),
        (9, "new"),
    ] {
        assert!(!is_of_slave(&told, RTM_NEWLINK, ifindex), "{what}");
    }
    told.bond(vec![InfoBond::Mode(BondMode::BalanceRr)]);
    assert!(!is_of_slave(&told, RTM_NEWLINK, 3), "the bond stays silent");
}

#[test]
fn who_names_a_slave_or_a_bond_that_watches_none_is_told() {
    let mut told = Told::default();
    told.bond(vec![InfoBond::Mode(BondMode::ActiveBackup)])
        .slave(3, Vec::new());
    let advice = |told: &Told, name| told.link(name).advice(&told.0).join(" ");
    assert!(advice(&told, "eth3").contains("is a slave of bond0, which"));
    assert!(advice(&told, "bond0").contains("bond0 does not watch its slaves"));
    told.bond(monitored(BondMode::ActiveBackup));
    assert_eq!(advice(&told, "bond0"), "");
    told.learn(4, "eth4", vec![LinkAttribute::Controller(9)]);
    assert!(advice(&told, "eth4").contains("is a port of another interface"));
}

#[test]
fn in_802_3ad_the_active_aggregator_counts_and_min_links() {
    let mut told = Told::default();
    let port = |state| {
        vec![
            InfoBondPort::BondPortState(state),
            InfoBondPort::AdAggregatorId(7),
            InfoBondPort::AdActorOperPortState(LacpState::LACP_ACTIVITY),
            InfoBondPort::AdPartnerOperPortState(LacpState::DISTRIBUTING),
        ]
    };
    let bond = |links| {
        let mut bond = monitored(BondMode::Ieee8023Ad);
        bond.push(InfoBond::MinLinks(links));
        bond
    };
    told.bond(bond(0))
        .slave(3, port(BondPortState::Active))
        .slave(4, port(BondPortState::Backup));
    let found = told.link("bond0");
    assert_eq!((found.usable_slaves(), found.usable()), (Some(1), true));
    let lacp = found.bond.as_ref().unwrap().slaves[0].port.lacp;
    let expected = Lacp {
        aggregator: 7,
        actor: LacpState::LACP_ACTIVITY,
        partner: LacpState::DISTRIBUTING,
    };
    assert_eq!(lacp, Some(expected));
    assert!(!told.bond(bond(2)).link("bond0").usable());
    told.slave(4, port(BondPortState::Active));
    assert!(told.link("bond0").usable());
}

#[test]
fn what_lies_on_a_bond_is_as_usable_as_the_bond() {
    let mut told = Told::default();
    let on = |lower, info| {
        let mut attributes = kind(info, None);
        attributes.push(LinkAttribute::Link(lower));
        attributes
    };
    let mut bond = monitored(BondMode::ActiveBackup);
    bond.push(InfoBond::ActivePort(4));
    told.learn(5, "bond0.7", on(2, InfoKind::Vlan))
        .learn(6, "vrrp.51", on(5, InfoKind::MacVlan))
        .learn(7, "veth0", on(2, InfoKind::Veth))
        .slave(4, Vec::new())
        .bond(bond);
    for name in ["bond0", "bond0.7", "vrrp.51"] {
        let link = told.link(name);
        assert_eq!(link.active_slave(), Some(4), "{name}");
        assert!(link.usable(), "{name}");
    }
    assert_eq!(told.link("veth0").usable_slaves(), None);
    assert_eq!(told.link("eth4").usable_slaves(), None);
    told.unplug(4);
    assert!(!told.link("vrrp.51").usable());
    assert!(told.link("veth0").usable());
}

#[test]
fn a_bridge_is_usable_as_long_as_a_port_is() {
    let mut told = Told::default();
    let on_bridge = || {
        let mut attributes = kind(InfoKind::Vlan, None);
        attributes.push(LinkAttribute::Link(2));
        attributes
    };
    told.learn(2, "br0", kind(InfoKind::Bridge, None))
        .learn(5, "br0.7", on_bridge());
    assert!(!told.link("br0").usable(), "no ports");
    let port = || vec![LinkAttribute::Controller(2)];
    told.learn(3, "eth3", port()).learn(4, "eth4", port());
    assert!(told.link("br0").usable() && told.link("br0.7").usable());
    assert!(told.unplug(3).link("br0").usable());
    // The kernel has not yet told of the bridge's own carrier.
    told.unplug(4);
    assert!(!told.link("br0").usable() && !told.link("br0.7").usable());
    let condition = told.link("br0").condition(None, any);
    assert_eq!(condition, InterfaceCondition::NoCarrier);
}

#[test]
fn an_interface_in_another_namespace_is_no_lower_one() {
    let mut told = Told::default();
    let mut attributes = kind(InfoKind::MacVlan, None);
    attributes.extend([LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0)]);
    told.learn(6, "macvlan0", attributes);
    assert_eq!(told.link("macvlan0").lower, None);
}

#[test]
fn garbage_from_netlink_changes_nothing() {
    let mut table = Table::read().unwrap();
    let before = table.clone();
    for kind in [RTM_NEWLINK, RTM_NEWADDR, RTM_DELADDR] {
        let mut datagram = vec![0_u8; 24];
        datagram[..4].copy_from_slice(&24_u32.to_ne_bytes());
        datagram[4..6].copy_from_slice(&kind.to_ne_bytes());
        for message in netlink::messages(&datagram) {
            table.apply(&message);
        }
    }
    assert_eq!(netlink::messages(&[255; 32]).count(), 0);
    assert_eq!(netlink::messages(&[0; 3]).count(), 0);
    assert_eq!(table, before);
}

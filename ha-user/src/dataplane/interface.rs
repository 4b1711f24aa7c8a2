//! What the kernel says of an interface: its kind, and the XDP program that it has (rtnetlink(7)).

use std::{io, time::Duration};

use super::{
    DataplaneError,
    netlink::{self, Scope, attribute, attributes},
};

/// Between two looks at a program that is being taken off, and how many.
pub(super) const DETACH_POLL: Duration = Duration::from_millis(1);
pub(super) const DETACH_POLLS: u32 = 1_000;

const IFINFO_LEN: usize = 16;

// linux/if_link.h: not in libc.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const XDP_ATTACHED_NONE: u8 = 0;
const XDP_ATTACHED_DRV: u8 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// An interface.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) xdp: Option<AttachedXdp>,
}

/// What an interface is, as far as XDP differs by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Bond,
    Veth,
    Vlan(Vlan),
    #[default]
    Other,
}

/// A VLAN's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    /// The interface that has the tagged frames; `None` where that is in another network namespace.
    pub(super) parent: Option<u32>,
    /// EtherType of the tag.
    pub(super) protocol: u16,
    /// VLAN identifier.
    pub(super) vid: u16,
}

impl Kind {
    /// Why `auto` means generic XDP on it.
    pub(super) const fn why_generic(self) -> Option<&'static str> {
        match self {
            Self::Bond => Some("native XDP on a bond sees the ports instead of the bond"),
            Self::Veth => {
                Some("native XDP on a veth can answer only if the other end runs XDP too")
            }
            Self::Vlan(_) | Self::Other => None,
        }
    }
}

/// An attached XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttachedXdp {
    pub(super) native: bool,
    /// 0 if there are several.
    pub(super) program_id: u32,
}

/// Asks for an interface in this thread's network namespace.
pub(super) fn query(ifindex: u32) -> Result<Interface, DataplaneError> {
    let mut found = None;
    let body = [
        ifinfo(ifindex),
        attribute(libc::IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes()),
    ];
    ask(Scope::One, &body.concat(), |link| {
        found = Some(interface(link))
    })
    .and_then(|()| found.ok_or_else(|| io::Error::other("the kernel names none")))
    .map_err(|source| DataplaneError::Kernel {
        what: format!("asking for interface {ifindex}"),
        source,
    })
}

/// The names of the VLANs' interfaces on an interface.
pub(super) fn vlans_on(ifindex: u32) -> Result<Vec<String>, DataplaneError> {
    let mut names = Vec::new();
    ask(Scope::All, &ifinfo(0), |link| {
        let Interface { name, kind, .. } = interface(link);
        if matches!(kind, Kind::Vlan(vlan) if vlan.parent == Some(ifindex)) {
            names.push(name);
        }
    })
    .map_err(|source| DataplaneError::Kernel {
        what: format!("asking for the VLANs on interface {ifindex}"),
        source,
    })?;
    Ok(names)
}

/// The names of all interfaces.
pub(super) fn names() -> Result<Vec<String>, DataplaneError> {
    let mut names = Vec::new();
    ask(Scope::All, &ifinfo(0), |link| {
        names.push(interface(link).name);
    })
    .map_err(|source| DataplaneError::Kernel {
        what: "asking for the interfaces".into(),
        source,
    })?;
    Ok(names)
}

fn ask(scope: Scope, body: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let (protocol, kind) = (libc::NETLINK_ROUTE, libc::RTM_GETLINK);
    netlink::ask(protocol, kind, scope, body, |kind, link| {
        if kind == libc::RTM_NEWLINK {
            take(link);
        }
    })
}

fn ifinfo(ifindex: u32) -> Vec<u8> {
    // Family, padding and type; then flags and change.
    [[0; 4], ifindex.to_ne_bytes(), [0; 4], [0; 4]].concat()
}

fn interface(link: &[u8]) -> Interface {
    let mut interface = Interface::default();
    let mut parent = None;
    let mut elsewhere = false;
    for (kind, value) in attributes(link.get(IFINFO_LEN..).unwrap_or_default()) {
        match kind {
            libc::IFLA_IFNAME => interface.name = text(value),
            libc::IFLA_LINK => parent = number(value),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_LINKINFO => interface.kind = link_kind(value),
            IFLA_XDP => interface.xdp = xdp(value),
            _ => {}
        }
    }
    if let Kind::Vlan(vlan) = &mut interface.kind {
        vlan.parent = parent.filter(|_| !elsewhere);
    }
    interface
}

fn link_kind(value: &[u8]) -> Kind {
    let info = |wanted| attributes(value).find(|(kind, _)| *kind == wanted);
    match info(libc::IFLA_INFO_KIND) {
        Some((_, b"bond\0")) => Kind::Bond,
        Some((_, b"veth\0")) => Kind::Veth,
        Some((_, b"vlan\0")) => info(libc::IFLA_INFO_DATA)
            .and_then(|(_, data)| vlan(data))
            .map_or(Kind::Other, Kind::Vlan),
        _ => Kind::Other,
    }
}

fn vlan(data: &[u8]) -> Option<Vlan> {
    let value = |wanted| {
        let (_, value) = attributes(data).find(|(kind, _)| *kind == wanted)?;
        value.first_chunk().copied()
    };
    Some(Vlan {
        parent: None,
        protocol: u16::from_be_bytes(value(IFLA_VLAN_PROTOCOL)?),
        vid: u16::from_ne_bytes(value(IFLA_VLAN_ID)?),
    })
}

fn xdp(value: &[u8]) -> Option<AttachedXdp> {
    let mut attached = XDP_ATTACHED_NONE;
    let mut program_id = 0;
    for (kind, value) in attributes(value) {
        match kind {
            IFLA_XDP_ATTACHED => attached = value.first().copied().unwrap_or(attached),
            IFLA_XDP_PROG_ID => program_id = number(value).unwrap_or_default(),
            _ => {}
        }
    }
    (attached != XDP_ATTACHED_NONE).then_some(AttachedXdp {
        native: attached == XDP_ATTACHED_DRV,
        program_id,
    })
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        [ifinfo(7), attributes.concat()].concat()
    }

    fn kind(info: &[Vec<u8>]) -> Kind {
        interface(&link(&[attribute(libc::IFLA_LINKINFO, &info.concat())])).kind
    }

    #[test]
    fn a_bond_with_generic_xdp() {
        let info = attribute(libc::IFLA_INFO_KIND, b"bond\0");
        let xdp = [
            attribute(IFLA_XDP_ATTACHED, &[2]),
            attribute(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes()),
        ]
        .concat();
        let message = link(&[
            attribute(libc::IFLA_IFNAME, b"bond0\0"),
            attribute(IFLA_XDP | 0x8000, &xdp),
            attribute(libc::IFLA_LINKINFO, &info),
        ]);
        let expected = Interface {
            name: "bond0".into(),
            kind: Kind::Bond,
            xdp: Some(AttachedXdp {
                native: false,
                program_id: 77,
            }),
        };
        assert_eq!(interface(&message), expected);
    }

    #[test]
    fn kinds() {
        // What a port belongs to is not what it is.
        let port = attribute(libc::IFLA_INFO_SLAVE_KIND, b"bond\0");
        let name = |name| attribute(libc::IFLA_INFO_KIND, name);
        assert_eq!(kind(&[port.clone(), name(b"veth\0")]), Kind::Veth);
        assert_eq!(kind(&[port.clone(), name(b"dummy\0")]), Kind::Other);
        assert_eq!(kind(&[name(b"bond\0")]), Kind::Bond);
        assert_eq!(kind(&[port]), Kind::Other);
    }

    #[test]
    fn a_vlan() {
        let data = [
            attribute(IFLA_VLAN_ID, &7_u16.to_ne_bytes()),
            attribute(IFLA_VLAN_PROTOCOL, &[0x88, 0xa8]),
        ]
        .concat();
        let info = [
            attribute(libc::IFLA_INFO_KIND, b"vlan\0"),
            attribute(libc::IFLA_INFO_DATA, &data),
        ]
        .concat();
        let parent = attribute(libc::IFLA_LINK, &3_u32.to_ne_bytes());
        let info = attribute(libc::IFLA_LINKINFO, &info);
        let vlan = |parent| {
            Kind::Vlan(Vlan {
                parent,
                protocol: 0x88a8,
                vid: 7,
            })
        };
        let here = link(&[parent.clone(), info.clone()]);
        assert_eq!(interface(&here).kind, vlan(Some(3)));
        // The index is one of another network namespace.
        let namespace = attribute(libc::IFLA_LINK_NETNSID, &[0; 4]);
        let elsewhere = link(&[parent, info, namespace]);
        assert_eq!(interface(&elsewhere).kind, vlan(None));
    }

    #[test]
    fn a_vlan_that_says_too_little_is_none() {
        let data = attribute(IFLA_VLAN_ID, &7_u16.to_ne_bytes());
        let info = [
            attribute(libc::IFLA_INFO_KIND, b"vlan\0"),
            attribute(libc::IFLA_INFO_DATA, &data),
        ];
        assert_eq!(kind(&info), Kind::Other);
    }

    #[test]
    fn no_program() {
        let message = link(&[attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0]))]);
        assert_eq!(interface(&message), Interface::default());
    }

    #[test]
    fn no_interface() {
        assert_eq!(
            query(u32::MAX >> 1).unwrap_err().errno(),
            Some(libc::ENODEV)
        );
    }

    #[test]
    fn malformed_answers_say_less() {
        let message = link(&[attribute(IFLA_XDP, &[0xff; 40])]);
        for len in 0..message.len() {
            assert_eq!(interface(&message[..len]), Interface::default());
        }
    }
}

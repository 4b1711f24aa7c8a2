//! What the kernel says of an interface: its kind, and the XDP program that it has (rtnetlink(7)).

use std::{
    io::{self, Read},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::DataplaneError;

/// Between two looks at a program that is being taken off, and how many.
pub(super) const DETACH_POLL: Duration = Duration::from_millis(1);
pub(super) const DETACH_POLLS: u32 = 1_000;

const HEADER_LEN: usize = 16;
const IFINFO_LEN: usize = 16;

/// The kernel answers at once; this only bounds the wait.
const TIMEOUT: Duration = Duration::from_secs(1);

// linux/if_link.h: not in libc.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_NONE: u8 = 0;
const XDP_ATTACHED_DRV: u8 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// An interface.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) kind: Kind,
    pub(super) xdp: Option<AttachedXdp>,
}

/// What an interface is, as far as native XDP differs by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Bond,
    Veth,
    #[default]
    Other,
}

impl Kind {
    /// Why `auto` means generic XDP on it.
    pub(super) const fn why_generic(self) -> Option<&'static str> {
        match self {
            Self::Bond => Some("native XDP on a bond sees the ports instead of the bond"),
            Self::Veth => {
                Some("native XDP on a veth can answer only if the other end runs XDP too")
            }
            Self::Other => None,
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
    ask(ifindex).map_err(|source| DataplaneError::Kernel {
        what: format!("asking for interface {ifindex}"),
        source,
    })
}

fn ask(ifindex: u32) -> io::Result<Interface> {
    let mut socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send(&request(ifindex))?;
    let mut buffer = vec![0; 32 * 1024];
    let len = socket.read(&mut buffer)?;
    answer(&buffer[..len])
}

fn request(ifindex: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + IFINFO_LEN + 8);
    let len: u32 = 40;
    message.extend(len.to_ne_bytes());
    message.extend(libc::RTM_GETLINK.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, padding, type
    message.extend(ifindex.to_ne_bytes());
    message.extend([0; 8]); // flags, change
    message.extend(8_u16.to_ne_bytes());
    message.extend(libc::IFLA_EXT_MASK.to_ne_bytes());
    message.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    message
}

fn answer(message: &[u8]) -> io::Result<Interface> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    let (header, body) = message.split_at_checked(HEADER_LEN).ok_or_else(malformed)?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    if i32::from(kind) == libc::NLMSG_ERROR {
        let number = body.first_chunk().ok_or_else(malformed)?;
        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*number)));
    }
    if kind != libc::RTM_NEWLINK {
        return Err(malformed());
    }
    let mut interface = Interface::default();
    for (kind, value) in attributes(body.get(IFINFO_LEN..).ok_or_else(malformed)?) {
        match kind {
            libc::IFLA_LINKINFO => interface.kind = link_kind(value),
            IFLA_XDP => interface.xdp = xdp(value),
            _ => {}
        }
    }
    Ok(interface)
}

fn link_kind(value: &[u8]) -> Kind {
    let name = attributes(value).find(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
    match name {
        Some((_, b"bond\0")) => Kind::Bond,
        Some((_, b"veth\0")) => Kind::Veth,
        _ => Kind::Other,
    }
}

fn xdp(value: &[u8]) -> Option<AttachedXdp> {
    let mut attached = XDP_ATTACHED_NONE;
    let mut program_id = 0;
    for (kind, value) in attributes(value) {
        match kind {
            IFLA_XDP_ATTACHED => attached = value.first().copied().unwrap_or(attached),
            IFLA_XDP_PROG_ID => {
                program_id = value.first_chunk().copied().map_or(0, u32::from_ne_bytes);
            }
            _ => {}
        }
    }
    (attached != XDP_ATTACHED_NONE).then_some(AttachedXdp {
        native: attached == XDP_ATTACHED_DRV,
        program_id,
    })
}

/// Type and value of each attribute, up to the first that is malformed.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1] = bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The upper two bits say "nested" and "network byte order".
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0; HEADER_LEN + IFINFO_LEN];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message.extend(attributes.concat());
        message
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
            kind: Kind::Bond,
            xdp: Some(AttachedXdp {
                native: false,
                program_id: 77,
            }),
        };
        assert_eq!(answer(&message).unwrap(), expected);
    }

    #[test]
    fn kinds() {
        // What a port belongs to is not what it is.
        let port = |kind: &[u8]| {
            [
                attribute(libc::IFLA_INFO_SLAVE_KIND, b"bond\0"),
                attribute(libc::IFLA_INFO_KIND, kind),
            ]
            .concat()
        };
        for (info, kind) in [
            (port(b"veth\0"), Kind::Veth),
            (port(b"vlan\0"), Kind::Other),
            (attribute(libc::IFLA_INFO_KIND, b"bond\0"), Kind::Bond),
            (
                attribute(libc::IFLA_INFO_SLAVE_KIND, b"bond\0"),
                Kind::Other,
            ),
        ] {
            let message = link(&[attribute(libc::IFLA_LINKINFO, &info)]);
            let expected = Interface { kind, xdp: None };
            assert_eq!(answer(&message).unwrap(), expected);
        }
    }

    #[test]
    fn no_program() {
        let message = link(&[attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0]))]);
        assert_eq!(answer(&message).unwrap(), Interface::default());
    }

    #[test]
    fn no_interface() {
        let mut message = vec![0; HEADER_LEN];
        message[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        message.extend((-libc::ENODEV).to_ne_bytes());
        let error = answer(&message).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn malformed_answers_are_errors_or_less() {
        let message = link(&[attribute(IFLA_XDP, &[0xff; 40])]);
        for len in 0..message.len() {
            if let Ok(interface) = answer(&message[..len]) {
                assert_eq!(interface, Interface::default());
            }
        }
    }
}

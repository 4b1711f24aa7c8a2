//! Questions over netlink(7), and attributes: what the dataplane asks of rtnetlink and ethtool.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

const HEADER_LEN: usize = 16;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The upper two bits of an attribute's type say "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;
/// The former, which ethtool demands.
const NESTED: u16 = 0x8000;

/// The kernel answers at once; this only bounds the wait.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of the kernel's longest datagram.
const BUFFER_LEN: usize = 64 * 1024;

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One thing.
    One,
    /// Everything there is.
    All,
}

/// Asks, and calls `take` with type and body of each message that comes as an answer.
pub(super) fn ask(
    protocol: i32,
    kind: u16,
    scope: Scope,
    body: &[u8],
    mut take: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let mut socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(protocol)),
    )?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send(&request(kind, scope, body))?;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = socket.read(&mut buffer)?;
        if answers(&buffer[..len], &mut take)? {
            return Ok(());
        }
    }
}

fn request(kind: u16, scope: Scope, body: &[u8]) -> Vec<u8> {
    let flags = match scope {
        Scope::One => NLM_F_REQUEST | NLM_F_ACK,
        Scope::All => NLM_F_REQUEST | NLM_F_DUMP,
    };
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend(body);
    message
}

/// Takes the messages of a datagram; whether it says that they were the last.
fn answers(mut datagram: &[u8], take: &mut impl FnMut(u16, &[u8])) -> io::Result<bool> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    while !datagram.is_empty() {
        let &[l0, l1, l2, l3, k0, k1] = datagram.first_chunk().ok_or_else(malformed)?;
        let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let body = datagram.get(HEADER_LEN..len).ok_or_else(malformed)?;
        match u16::from_ne_bytes([k0, k1]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                return match i32::from_ne_bytes(*body.first_chunk().ok_or_else(malformed)?) {
                    0 => Ok(true),
                    number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
                };
            }
            kind => take(kind, body),
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Type and value of each attribute, up to the first that is malformed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1] = bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE_MASK, value))
    })
}

/// An attribute.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds others.
pub(super) fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = request(kind, Scope::One, body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn taken(datagram: &[u8]) -> (io::Result<bool>, Vec<(u16, Vec<u8>)>) {
        let mut taken = Vec::new();
        let last = answers(datagram, &mut |kind, body| {
            taken.push((kind, body.to_vec()))
        });
        (last, taken)
    }

    #[test]
    fn answers_end_with_an_acknowledgement_or_the_end_of_a_dump() {
        let two = [message(16, b"one"), message(17, b"two")].concat();
        let (last, found) = taken(&two);
        assert!(!last.unwrap());
        assert_eq!(found, [(16, b"one".to_vec()), (17, b"two".to_vec())]);
        for end in [message(NLMSG_ERROR, &[0; 4]), message(NLMSG_DONE, &[])] {
            let (last, found) = taken(&[two.clone(), end].concat());
            assert!(last.unwrap());
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn an_error_is_one() {
        let body = (-libc::ENODEV).to_ne_bytes();
        let error = taken(&message(NLMSG_ERROR, &body)).0.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn malformed_answers_are_errors() {
        let whole = message(16, b"1234");
        for len in 1..whole.len() {
            assert!(taken(&whole[..len]).0.is_err(), "{len} bytes");
        }
        assert!(taken(&message(NLMSG_ERROR, &[0; 3])).0.is_err());
    }

    #[test]
    fn attributes_come_back_as_they_were_made() {
        let made = [
            attribute(3, b"eth0\0"),
            nested(18, &[attribute(1, b"vlan\0")]),
        ]
        .concat();
        let found: Vec<_> = attributes(&made).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(found[1].0, 18);
        assert_eq!(attributes(found[1].1).next(), Some((1, &b"vlan\0"[..])));
        for len in 0..made.len() {
            assert!(attributes(&made[..len]).count() < 2);
        }
    }
}

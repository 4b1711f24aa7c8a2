//! Reception of VLAN tags: a network card may strip them from the frames, which hides them from XDP.
//! Asked and changed over ethtool's generic netlink family (Linux 5.8,
//! Documentation/networking/ethtool-netlink.rst), which does not need the numbers of the features.

use std::io;

use super::netlink::{self, Scope, attribute, attributes, nested};

/// The features, as `ethtool -k` shows them: for IEEE 802.1Q and 802.1ad.
const STRIPPING: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const GENL_HEADER_LEN: usize = 4;

// linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// Lets an interface leave the tags in the frames. Whether it does now; the driver may refuse.
pub(super) fn keep_tags(ifindex: u32) -> io::Result<bool> {
    let family = family()?;
    let active = stripping(family, ifindex)?;
    if active.is_empty() {
        return Ok(true);
    }
    let bits: Vec<_> = active
        .iter()
        // A named bit without a value is to be cleared.
        .map(|name| nested(BITSET_BIT, &[attribute(BIT_NAME, &terminated(name))]))
        .collect();
    let body = [
        command(FEATURES_SET),
        header(ifindex),
        nested(FEATURES_WANTED, &[nested(BITSET_BITS, &bits)]),
    ]
    .concat();
    netlink::ask(libc::NETLINK_GENERIC, family, Scope::One, &body, |_, _| {})?;
    Ok(stripping(family, ifindex)?.is_empty())
}

/// Those of [`STRIPPING`] that are active.
fn stripping(family: u16, ifindex: u32) -> io::Result<Vec<&'static str>> {
    let body = [command(FEATURES_GET), header(ifindex)].concat();
    let mut active = Vec::new();
    netlink::ask(
        libc::NETLINK_GENERIC,
        family,
        Scope::One,
        &body,
        |_, body| {
            active = stripping_of(body);
        },
    )?;
    Ok(active)
}

fn stripping_of(answer: &[u8]) -> Vec<&'static str> {
    let inner = |bytes, wanted| {
        attributes(bytes)
            .find(|(kind, _)| *kind == wanted)
            .map_or(&[][..], |(_, value)| value)
    };
    let active = inner(
        answer.get(GENL_HEADER_LEN..).unwrap_or_default(),
        FEATURES_ACTIVE,
    );
    let names: Vec<&[u8]> = attributes(inner(active, BITSET_BITS))
        .map(|(_, bit)| inner(bit, BIT_NAME))
        .collect();
    STRIPPING
        .into_iter()
        .filter(|name| names.contains(&&*terminated(name)))
        .collect()
}

/// The number of ethtool's family.
fn family() -> io::Result<u16> {
    let body = [
        command(CTRL_CMD_GETFAMILY),
        attribute(CTRL_ATTR_FAMILY_NAME, &terminated("ethtool")),
    ]
    .concat();
    let mut id = None;
    netlink::ask(
        libc::NETLINK_GENERIC,
        GENL_ID_CTRL,
        Scope::One,
        &body,
        |_, body| {
            id = attributes(body.get(GENL_HEADER_LEN..).unwrap_or_default())
                .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
                .and_then(|(_, value)| value.first_chunk().copied())
                .map(u16::from_ne_bytes);
        },
    )?;
    id.ok_or_else(|| io::Error::other("the kernel has no ethtool over netlink"))
}

fn command(number: u8) -> Vec<u8> {
    // Version 1, and padding.
    vec![number, 1, 0, 0]
}

fn header(ifindex: u32) -> Vec<u8> {
    nested(
        HEADER,
        &[attribute(HEADER_DEV_INDEX, &ifindex.to_ne_bytes())],
    )
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(names: &[&str]) -> Vec<u8> {
        let bits: Vec<_> = names
            .iter()
            .map(|name| nested(BITSET_BIT, &[attribute(BIT_NAME, &terminated(name))]))
            .collect();
        [
            command(FEATURES_GET),
            header(3),
            nested(FEATURES_WANTED, &[nested(BITSET_BITS, &bits)]),
            nested(FEATURES_ACTIVE, &[nested(BITSET_BITS, &bits)]),
        ]
        .concat()
    }

    #[test]
    fn what_is_active_is_found_by_name() {
        let names = ["tx-checksum-ipv4", "rx-vlan-hw-parse", "rx-gro"];
        assert_eq!(stripping_of(&answer(&names)), ["rx-vlan-hw-parse"]);
        assert_eq!(stripping_of(&answer(&STRIPPING)), STRIPPING);
        // Not one whose name begins alike.
        let names = ["rx-vlan-filter", "rx-vlan-hw-parse-later"];
        assert!(stripping_of(&answer(&names)).is_empty());
    }

    #[test]
    fn malformed_answers_say_less() {
        let whole = answer(&STRIPPING);
        for len in 0..whole.len() {
            assert!(stripping_of(&whole[..len]).len() < 2);
        }
    }
}

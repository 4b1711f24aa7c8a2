//! `[link]`: what the nodes say to each other beside adverts and leases.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use super::{
    Config, Instance, LeaseChannel,
    channel::read_key,
    parse::path,
    reader::{Reader, Section},
};

pub(super) const KEYS: &[&str] = &["key_file", "port"];

const DEFAULT_PORT: u16 = 9747;
/// Bytes of a key.
const KEY_LEN: usize = 32;

/// `[link]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What `key_file` has: the nodes know each other by it.
    pub key: LinkKey,
    /// TCP port, on all nodes.
    pub port: u16,
}

/// The key, which stands in no log, message or status.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkKey([u8; KEY_LEN]);

impl LinkKey {
    /// Keeps it.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// For the one who needs it.
    #[must_use]
    pub const fn reveal(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// 32 bytes as 64 hexadecimal digits.
    fn parse(secret: &[u8]) -> Option<Self> {
        let text = secret.trim_ascii();
        if text.len() != 2 * KEY_LEN {
            return None;
        }
        let digit = |byte: u8| {
            let digit = char::from(byte).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let mut key = [0; KEY_LEN];
        let (pairs, _) = text.as_chunks::<2>();
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(key))
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

/// A way on which the link goes to another node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkPath {
    /// The channel's name; the interface's, of an instance's own LAN.
    pub name: String,
    /// The interface's name.
    pub interface: String,
    /// This node's address; `None` = the interface's own.
    pub local: Option<IpAddr>,
    /// The other node's.
    pub peer: IpAddr,
}

/// `None`: it is wrong, and has been reported.
pub(super) fn parse(section: &Section<'_>) -> Option<Link> {
    let port = match section.integer("port", 1, u32::from(u16::MAX)) {
        Some(port) => u16::try_from(port.value).unwrap_or(DEFAULT_PORT),
        None => DEFAULT_PORT,
    };
    let file = section.string("key_file");
    let file = section.require("key_file", file, "\"/etc/had/link.key\"")?;
    let path = path(section, "key_file")?;
    let fail = |message: String, fix: String| section.fail(file.offset, "key_file", message, fix);
    let make = format!(
        "make one (umask 077; openssl rand -hex 32 > {}), and copy it to the other nodes",
        path.display()
    );
    let secret = match read_key(&path) {
        Ok(secret) => secret,
        Err((message, fix)) => {
            fail(message, if path.exists() { fix } else { make });
            return None;
        }
    };
    let key = LinkKey::parse(&secret);
    if key.is_none() {
        let shown = path.display();
        fail(
            format!("the first line of {shown} is not 64 hexadecimal digits"),
            make,
        );
    }
    Some(Link { key: key?, port })
}

/// A link leads somewhere.
pub(super) fn check(
    reader: &Reader<'_>,
    offset: usize,
    instances: &[Instance],
    channels: &[LeaseChannel],
) {
    if paths(instances, channels).is_empty() {
        reader.fail(
            offset,
            "[link]",
            "there is no path for it: no instance has `peers`, and there is no channel of kind \"lease\"",
            "write the other nodes' addresses as `peers` of an [[instance]], add a [[channel]] of kind \"lease\", or remove the section",
        );
    }
}

/// Each pair of addresses once, in the order of the file; of two names that of the instance's LAN.
fn paths(instances: &[Instance], channels: &[LeaseChannel]) -> Vec<LinkPath> {
    let lans = instances.iter().flat_map(|instance| {
        instance.peers.iter().map(|peer| LinkPath {
            name: instance.interface.clone(),
            interface: instance.interface.clone(),
            local: instance.source,
            peer: *peer,
        })
    });
    let channels = channels.iter().map(|channel| LinkPath {
        name: channel.name.clone(),
        interface: channel.interface.clone(),
        local: Some(channel.local),
        peer: channel.peer,
    });
    let all: Vec<LinkPath> = lans.chain(channels).collect();
    // Where one instance names its source and another does not, it is the same pair.
    let named: BTreeSet<(&str, IpAddr)> = all
        .iter()
        .filter(|path| path.local.is_some())
        .map(|path| (path.interface.as_str(), path.peer))
        .collect();
    let mut seen = BTreeSet::new();
    all.iter()
        .filter(|path| path.local.is_some() || !named.contains(&(&path.interface, path.peer)))
        .filter(|path| seen.insert((&path.interface, path.local, path.peer)))
        .cloned()
        .collect()
}

impl Config {
    /// The ways on which the link goes; none without `[link]`.
    #[must_use]
    pub fn link_paths(&self) -> Vec<LinkPath> {
        match self.link {
            Some(_) => paths(&self.instances, &self.lease_channels),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_and_is_never_shown() {
        let digits = b"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n";
        let key = LinkKey::parse(digits).expect("a key");
        assert_eq!(key.reveal()[..4], [0, 1, 2, 3]);
        assert_eq!(key.reveal()[31], 0x1f);
        assert_eq!(format!("{key:?}"), "LinkKey(…)");
        for wrong in [
            &digits[1..],
            &digits[..64 - 2],
            b"",
            &[b'g'; 64],
            &[0xff; 64],
        ] {
            assert_eq!(LinkKey::parse(wrong), None);
        }
    }
}

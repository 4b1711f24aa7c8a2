//! Nodes and clients in VLANs. The kernel must have 802.1Q.

use anyhow::Result;

use crate::{NetNs, lab::Cable};

/// A tag of IEEE 802.1Q, or of 802.1ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    protocol: &'static str,
    vid: u16,
}

impl Tag {
    /// Of IEEE 802.1Q.
    #[must_use]
    pub const fn customer(vid: u16) -> Self {
        Self {
            protocol: "802.1Q",
            vid,
        }
    }

    /// Of IEEE 802.1ad, which may have one of 802.1Q in it.
    #[must_use]
    pub const fn service(vid: u16) -> Self {
        Self {
            protocol: "802.1ad",
            vid,
        }
    }
}

/// Moves an address from eth0 to the interface behind `tags`, the outermost first.
pub(crate) fn join(ns: &NetNs, cable: &mut Cable, tags: &[Tag]) -> Result<()> {
    let address = format!("{}/24", cable.address);
    for tag in tags {
        let below = cable.interface.clone();
        let vid = tag.vid.to_string();
        let interface = format!("{below}.{vid}");
        ns.ip(&[
            "link",
            "add",
            "link",
            &below,
            "name",
            &interface,
            "type",
            "vlan",
            "protocol",
            tag.protocol,
            "id",
            &vid,
        ])?;
        ns.ip(&["link", "set", &interface, "up"])?;
        ns.ip(&["addr", "del", &address, "dev", &below])?;
        ns.ip(&["addr", "add", &address, "dev", &interface])?;
        cable.interface = interface;
    }
    Ok(())
}

//! Nodes whose eth0 is a bond of two links. The kernel must have bonding.

use anyhow::{Context as _, Result};

use crate::{
    NetNs, Node,
    lab::{Cable, Port, Switch},
};

/// The links of a bond, each with its cable ([`Node::set_cable`]).
pub const LINKS: [&str; 2] = ["s0", "s1"];

/// The mode with which a switch's ports are a bond as well.
pub const LACP: &str = "802.3ad";

/// How often the kernel looks for a carrier, in milliseconds.
pub const MIIMON_MS: u32 = 20;

/// Makes eth0 in `ns`, a bond with `options`, and a switch of the node's own between its links and the lab's
/// bridge, where the node has one port as every other.
pub(crate) fn plug(
    switch: &Switch,
    ns: &NetNs,
    name: &str,
    cable: &Cable,
    options: &[&str],
) -> Result<()> {
    let access = format!("{name}-sw");
    let uplink = format!("{name}-up");
    let mut add = vec!["link", "add", &access, "type", "bridge"];
    add.extend([
        "stp_state",
        "0",
        "forward_delay",
        "0",
        "mcast_snooping",
        "0",
    ]);
    switch.ns.ip(&add)?;
    switch.ns.ip(&["link", "set", &access, "up"])?;
    switch.ns.ip(&[
        "link",
        "add",
        &cable.port,
        "type",
        "veth",
        "peer",
        "name",
        &uplink,
    ])?;
    switch.join(&cable.port)?;
    for port in [&uplink, &cable.port] {
        switch.ns.ip(&["link", "set", port, "up"])?;
    }
    switch.ns.ip(&["link", "set", &uplink, "master", &access])?;

    let mac = cable.mac.to_string();
    let miimon = MIIMON_MS.to_string();
    let mut bond = vec![
        "link", "add", "name", "eth0", "address", &mac, "type", "bond",
    ];
    bond.extend(["miimon", &miimon]);
    bond.extend(options);
    ns.ip(&bond)?;
    // With LACP the switch's ports are a bond as well.
    let aggregate = format!("{name}-lag");
    let ports_of = if options.contains(&LACP) {
        switch.ns.ip(&[
            "link",
            "add",
            &aggregate,
            "type",
            "bond",
            "mode",
            LACP,
            "lacp_rate",
            "fast",
            "miimon",
            &miimon,
        ])?;
        switch
            .ns
            .ip(&["link", "set", &aggregate, "master", &access])?;
        switch.ns.ip(&["link", "set", &aggregate, "up"])?;
        &aggregate
    } else {
        &access
    };
    for link in LINKS {
        let port = format!("{name}-{link}");
        switch.plug(ns, link, (&port, Port::Nic), None)?;
        switch.ns.ip(&["link", "set", &port, "down"])?;
        switch.ns.ip(&["link", "set", &port, "nomaster"])?;
        switch.ns.ip(&["link", "set", &port, "master", ports_of])?;
        switch.ns.ip(&["link", "set", &port, "up"])?;
        ns.ip(&["link", "set", link, "down"])?;
        ns.ip(&["link", "set", link, "master", "eth0"])?;
    }
    ns.ip(&["link", "set", "eth0", "up"]).map(drop)
}

impl Node {
    /// The link by which the bond eth0 sends, where its mode has such a one.
    pub fn active_link(&self) -> Result<String> {
        let text = self.ns().ip(&["-d", "-j", "link", "show", "dev", "eth0"])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let active = links[0]["linkinfo"]["info_data"]["active_slave"].as_str();
        Ok(active.context("the bond has no active link")?.to_owned())
    }
}

//! A switch, and the nodes and clients that are plugged into it.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode, xdp::XdpLink},
};
use ha_user::dataplane::PASS_OBJECT;

use crate::{
    Mac, NetNs, Node, bond, eventually, loss::LossyPort, node, node::PATIENCE, stale, sys, vlan,
};

/// The address that the nodes contend for.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// A second one.
pub const VIP_2: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

/// An address of IPv6 that the nodes contend for.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x100);

/// The link-local address of a virtual router over IPv6.
pub const VIP_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x33);

const BRIDGE: &str = "br0";
const FIRST_NODE: u8 = 1;
const FIRST_CLIENT: u8 = 200;
const LOG_TAIL_LINES: usize = 60;

/// Counts the labs of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a killed run left is removed once per process.
static CLEAN: Once = Once::new();

/// A lab: what it made goes away with it, and nodes and clients take themselves away.
pub struct Lab {
    id: String,
    switch: Arc<Switch>,
    nodes: AtomicU8,
    clients: AtomicU8,
}

/// An interface in its namespace, and its port at the switch.
pub(crate) struct Cable {
    /// The interface with the address: eth0, or a VLAN's on it.
    pub(crate) interface: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) port: String,
}

/// What the switch's end of a cable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// It lets the other end stand for a NIC: it runs XDP, without which veth drops what native XDP at
    /// the other end transmits.
    Nic,
    /// A veth and no more, as on the bridge of a container host.
    Plain,
}

/// The bridge; it goes when the last of its nodes and clients and the lab itself are gone.
pub(crate) struct Switch {
    pub(crate) ns: NetNs,
    /// By port, one per [`Port::Nic`]: dropped, the program leaves the port.
    passes: Mutex<HashMap<String, XdpLink>>,
    dir: PathBuf,
}

/// A client: a namespace with one interface.
pub struct Client {
    ns: NetNs,
    cable: Cable,
    _switch: Arc<Switch>,
}

impl Cable {
    /// The address of IPv6 that belongs to the one of IPv4.
    pub(crate) fn address_v6(&self) -> Ipv6Addr {
        let [.., number] = self.address.octets();
        Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, number.into())
    }

    /// The link-local address that the kernel makes of the Ethernet address (RFC 4291 appendix A).
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ])
    }

    /// Gives the interface both, at once: duplicate address detection would take a second or two.
    pub(crate) fn enable_v6(&self, ns: &NetNs) -> Result<()> {
        for (setting, value) in [
            ("eth0/accept_dad", "0"),
            ("eth0/router_solicitations", "0"),
            ("eth0/addr_gen_mode", "0"),
            ("all/disable_ipv6", "0"),
            ("eth0/disable_ipv6", "0"),
        ] {
            ns.sysctl(&format!("net/ipv6/conf/{setting}"), value)?;
        }
        let address = format!("{}/64", self.address_v6());
        ns.ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
        let link_local = self.link_local().to_string();
        eventually(PATIENCE, "the link-local address is there", || {
            let addresses = ns.ip(&["-6", "addr", "show", "dev", "eth0", "-tentative"])?;
            Ok(addresses.contains(&link_local))
        })
    }
}

impl Lab {
    /// Makes the switch.
    pub fn new() -> Result<Self> {
        let mut cleaned = Ok(());
        CLEAN.call_once(|| cleaned = stale::clean());
        cleaned.context("removing what an earlier run left")?;
        let id = format!(
            "{}x{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = stale::make_dir(&id)?;
        let ns = NetNs::new(stale::namespace(&id, "sw"))?;
        let bridge = [
            "link",
            "add",
            BRIDGE,
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ];
        ns.ip(&bridge)?;
        ns.ip(&["link", "set", BRIDGE, "up"])?;
        ns.sysctl("net/bridge/bridge-nf-call-iptables", "0")?;
        ns.sysctl("net/bridge/bridge-nf-call-arptables", "0")?;
        ns.run("nft", &["add", "table", "bridge", "lab"])?;
        let chain = "add chain bridge lab wire { type filter hook forward priority 0; }";
        ns.run("nft", &[chain])?;
        Ok(Self {
            id,
            switch: Arc::new(Switch {
                ns,
                passes: Mutex::default(),
                dir,
            }),
            nodes: AtomicU8::new(FIRST_NODE),
            clients: AtomicU8::new(FIRST_CLIENT),
        })
    }

    /// Plugs in a node; the first is 10.77.0.1.
    pub fn node(&self, name: &str) -> Result<Node> {
        self.node_at(name, Port::Nic)
    }

    /// Plugs in a node with a veth whose other end runs no XDP.
    pub fn plain_node(&self, name: &str) -> Result<Node> {
        self.node_at(name, Port::Plain)
    }

    /// Plugs in a node whose eth0 is a bond of two links, with `options` as ip-link(8) has them.
    pub fn bonded_node(&self, name: &str, options: &[&str]) -> Result<Node> {
        self.node_by(name, |ns, cable| {
            bond::plug(&self.switch, ns, name, cable, options)
        })
    }

    fn node_at(&self, name: &str, port: Port) -> Result<Node> {
        self.node_by(name, |ns, cable| {
            self.switch
                .plug(ns, "eth0", (&cable.port, port), Some(cable.mac))
        })
    }

    fn node_by(&self, name: &str, plug: impl FnOnce(&NetNs, &Cable) -> Result<()>) -> Result<Node> {
        let ns = NetNs::new(stale::namespace(&self.id, name))?;
        let cable = Self::cable(&ns, name, &self.nodes, plug)?;
        let dir = self.switch.dir.join(name);
        Node::new(name, ns, cable, Arc::clone(&self.switch), dir)
    }

    /// Plugs in a client.
    pub fn client(&self, name: &str) -> Result<Client> {
        let ns = NetNs::new(stale::namespace(&self.id, name))?;
        let cable = Self::cable(&ns, name, &self.clients, |ns, cable| {
            let port = (cable.port.as_str(), Port::Nic);
            self.switch.plug(ns, "eth0", port, Some(cable.mac))
        })?;
        Ok(Client {
            ns,
            cable,
            _switch: Arc::clone(&self.switch),
        })
    }

    /// Numbers an interface eth0, which `plug` makes.
    fn cable(
        ns: &NetNs,
        name: &str,
        counter: &AtomicU8,
        plug: impl FnOnce(&NetNs, &Cable) -> Result<()>,
    ) -> Result<Cable> {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let cable = Cable {
            interface: "eth0".to_owned(),
            address: Ipv4Addr::new(10, 77, 0, number),
            mac: Mac([2, 0, 0, 0, 0, number]),
            port: format!("{name}-eth0"),
        };
        plug(ns, &cable)?;
        ns.ip(&[
            "addr",
            "add",
            &format!("{}/24", cable.address),
            "dev",
            "eth0",
        ])?;
        Ok(cable)
    }

    /// From now on nothing passes between two nodes, while both still reach everybody else.
    pub fn cut(&self, one: &Node, other: &Node) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            self.cut_one_way(from, to)?;
        }
        Ok(())
    }

    /// From now on nothing passes from one node to another.
    pub fn cut_one_way(&self, from: &Node, to: &Node) -> Result<()> {
        self.forbid(&format!(
            "iifname \"{}-eth0\" oifname \"{}-eth0\" drop",
            from.name(),
            to.name()
        ))
    }

    /// From now on nothing passes to or from a node's interface, which keeps its carrier.
    pub fn cut_off(&self, node: &Node, interface: &str) -> Result<()> {
        for side in ["iifname", "oifname"] {
            self.forbid(&format!("{side} \"{}-{interface}\" drop", node.name()))?;
        }
        Ok(())
    }

    /// From now on gratuitous ARPs for `vip` are lost.
    pub fn lose_announcements(&self, vip: Ipv4Addr) -> Result<()> {
        self.forbid(&format!("arp saddr ip {vip} arp daddr ip {vip} drop"))
    }

    /// From now on frames to a station are lost: no NIC has that address any more.
    pub fn lose_frames_to(&self, station: Mac) -> Result<()> {
        self.forbid(&format!("ether daddr {station} drop"))
    }

    fn forbid(&self, rule: &str) -> Result<()> {
        let rule = format!("add rule bridge lab wire {rule}");
        self.switch.ns.run("nft", &[&rule]).map(drop)
    }

    /// Everything passes again.
    pub fn heal(&self) -> Result<()> {
        self.switch
            .ns
            .run("nft", &["flush", "chain", "bridge", "lab", "wire"])
            .map(drop)
    }

    /// The ends of the logs of all nodes, also of those that are gone.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        let entries = fs::read_dir(&self.switch.dir)
            .into_iter()
            .flatten()
            .flatten();
        let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        dirs.sort();
        for dir in dirs {
            let Ok(log) = fs::read_to_string(dir.join(node::LOG)) else {
                continue;
            };
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(LOG_TAIL_LINES);
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            text.push_str(&format!("--- end of the log of {name}:\n"));
            for line in lines.get(tail..).unwrap_or_default() {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

impl Switch {
    /// Joins an interface of `ns` with a new port of the bridge, both up.
    pub(crate) fn plug(
        &self,
        ns: &NetNs,
        interface: &str,
        (port, kind): (&str, Port),
        mac: Option<Mac>,
    ) -> Result<()> {
        let mac = mac.map(|mac| mac.to_string());
        let mut add = vec![
            "link", "add", port, "type", "veth", "peer", "name", interface,
        ];
        if let Some(mac) = &mac {
            add.extend(["address", mac]);
        }
        add.extend(["netns", ns.name()]);
        self.ns.ip(&add)?;
        self.join(port)?;
        if kind == Port::Nic {
            self.run_xdp(port)?;
        }
        self.ns.ip(&["link", "set", port, "up"])?;
        ns.ip(&["link", "set", interface, "up"])?;
        Ok(())
    }

    /// Makes an interface a port of the bridge.
    pub(crate) fn join(&self, port: &str) -> Result<()> {
        self.ns
            .ip(&["link", "set", port, "master", BRIDGE])
            .map(drop)
    }

    fn run_xdp(&self, port: &str) -> Result<()> {
        let pass = pass(&self.ns, port)?;
        self.passes().insert(port.to_owned(), pass);
        Ok(())
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<String, XdpLink>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a port lose frames to a station on command, until the result is dropped: it then has no XDP any more.
    pub(crate) fn lossy(&self, port: &str, to: Mac) -> Result<LossyPort> {
        let pass = self.passes().remove(port);
        LossyPort::replace(pass.with_context(|| format!("{port} runs no XDP"))?, to)
    }

    pub(crate) fn set_port(&self, port: &str, up: bool) -> Result<()> {
        self.ns
            .enter(|| sys::set_link(port, up))?
            .with_context(|| format!("switching {port}"))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Client {
    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.cable.address
    }

    /// Its address of IPv6, after [`Self::enable_v6`].
    #[must_use]
    pub fn address_v6(&self) -> Ipv6Addr {
        self.cable.address_v6()
    }

    /// Lets it take part in IPv6.
    pub fn enable_v6(&self) -> Result<()> {
        self.cable.enable_v6(&self.ns)
    }

    /// Its Ethernet address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.cable.mac
    }

    /// The interface that has its address.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.cable.interface
    }

    /// Moves it into a VLAN.
    pub fn join_vlan(&mut self, tags: &[vlan::Tag]) -> Result<()> {
        vlan::join(&self.ns, &mut self.cable, tags)
    }

    /// Which station its kernel believes to be at `address`.
    pub fn neighbour(&self, address: impl Into<IpAddr>) -> Result<Option<String>> {
        let text = self
            .ns
            .ip(&["-j", "neigh", "show", "to", &address.into().to_string()])?;
        let entries: serde_json::Value = serde_json::from_str(&text)?;
        Ok(entries[0]["lladdr"].as_str().map(str::to_owned))
    }
}

/// Attaches a program that passes everything to an interface's XDP, until the result is dropped.
pub(crate) fn pass(ns: &NetNs, interface: &str) -> Result<XdpLink> {
    let mut pass = Ebpf::load(PASS_OBJECT).context("loading the XDP program that passes")?;
    ns.enter(|| -> Result<XdpLink> {
        let program: &mut Xdp = pass
            .program_mut("pass")
            .ok_or_else(|| anyhow!("the object has no program `pass`"))?
            .try_into()?;
        program.load()?;
        let link = program.attach(interface, XdpMode::Driver)?;
        Ok(program.take_link(link)?)
    })?
}

/// Runs a test in a lab of its own. When it fails, the ends of the nodes' logs are printed.
pub fn scenario(body: impl FnOnce(&Lab) -> Result<()>) {
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => panic!("no lab: {error:#}"),
    };
    match catch_unwind(AssertUnwindSafe(|| body(&lab))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:#}\n{}", lab.log_tails()),
        Err(panic) => {
            eprintln!("{}", lab.log_tails());
            resume_unwind(panic);
        }
    }
}

/// Where a lab keeps its files.
#[must_use]
pub fn root() -> &'static Path {
    Path::new("/tmp")
}

//! A node: a namespace, its cable to the switch, its files, and the daemon on it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::programs::xdp::XdpLink;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use crate::{
    Daemon, Kind, Mac, NetNs, Sniffer, VirtualRouter,
    daemon::program,
    eventually,
    lab::{self, Cable, Port, Switch},
    loss::LossyPort,
    mariadb, netns,
    virtual_router::{KeepalivedSetup, had_config, keepalived_config},
    vlan,
};

/// How long any single thing that a daemon is asked for may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// More than the daemon keeps.
const EVERY_EVENT: &str = "1000000";

/// The lab's cables stand for NICs, so XDP is native, which `auto` is not on a veth.
const NATIVE: &str = "mode = \"native\"";

/// A node of the lab.
pub struct Node {
    // Before the namespace, so that it ends first.
    daemon: Option<Daemon>,
    name: String,
    cable: Cable,
    switch: Arc<Switch>,
    ns: NetNs,
    dir: PathBuf,
    bpffs: PathBuf,
    keepalived: KeepalivedSetup,
    dataplane: String,
}

impl Node {
    /// For [`crate::Lab::node`].
    pub(crate) fn new(
        name: &str,
        ns: NetNs,
        cable: Cable,
        switch: Arc<Switch>,
        dir: PathBuf,
    ) -> Result<Self> {
        let bpffs = dir.join("bpf");
        for path in [&dir, &bpffs, &dir.join("run"), &dir.join("state")] {
            fs::create_dir(path).with_context(|| format!("making {}", path.display()))?;
        }
        // Mounted out here, not by the daemon: `ip netns exec` gives it a mount namespace of its own,
        // and what is pinned must survive it.
        mount("bpf", &bpffs, "bpf", MountFlags::empty(), None)
            .with_context(|| format!("mounting a bpffs at {}", bpffs.display()))?;
        Ok(Self {
            daemon: None,
            name: name.to_owned(),
            cable,
            switch,
            ns,
            dir,
            bpffs,
            keepalived: KeepalivedSetup::default(),
            dataplane: NATIVE.to_owned(),
        })
    }

    /// Runs keepalived without real-time priority from its next configuration on. With it, the kernel
    /// kills 2.2.7's VRRP process now and then when it reloads (RLIMIT_RTTIME, which it cannot set again).
    pub fn spare_keepalived_realtime(&mut self) {
        self.keepalived.realtime = false;
    }

    /// Runs keepalived from its next configuration on with what its documentation offers to those who have
    /// hundreds of virtual routers.
    pub fn prepare_keepalived_for_many(&mut self) {
        self.keepalived.many = true;
    }

    /// Sets lines of `had`'s section `[dataplane]`, from its next configuration on.
    pub fn set_dataplane(&mut self, lines: &str) {
        lines.clone_into(&mut self.dataplane);
    }

    /// Attaches a program of somebody else to eth0's XDP, until the result is dropped.
    pub fn take_xdp(&self) -> Result<XdpLink> {
        lab::pass(&self.ns, "eth0")
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// The address of its eth0.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.cable.address
    }

    /// The address of IPv6 of its eth0, after [`Self::enable_v6`].
    #[must_use]
    pub fn address_v6(&self) -> Ipv6Addr {
        self.cable.address_v6()
    }

    /// The link-local address of its eth0, likewise.
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        self.cable.link_local()
    }

    /// Lets it take part in IPv6.
    pub fn enable_v6(&self) -> Result<()> {
        self.cable.enable_v6(&self.ns)
    }

    /// The Ethernet address of its eth0.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.cable.mac
    }

    /// Its files: configuration, log, runtime and state directories.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The daemon on it.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon
            .as_mut()
            .with_context(|| format!("no daemon runs on {}", self.name))
    }

    /// A virtual router on the interface with this node's address, which is the source.
    #[must_use]
    pub fn router(&self) -> VirtualRouter {
        let mut router = VirtualRouter::new(self.cable.address);
        self.cable.interface.clone_into(&mut router.interface);
        router
    }

    /// Moves its address from eth0 into a VLAN on it, where its virtual routers are then.
    pub fn join_vlan(&mut self, tags: &[vlan::Tag]) -> Result<()> {
        vlan::join(&self.ns, &mut self.cable, tags)
    }

    /// The path of the configuration that [`Self::start`] and [`Self::reload`] write.
    #[must_use]
    pub fn config_path(&self, kind: Kind) -> PathBuf {
        self.dir.join(format!("{}.conf", kind.name()))
    }

    /// Writes a configuration.
    pub fn configure(&self, kind: Kind, routers: &[VirtualRouter]) -> Result<()> {
        let text = match kind {
            Kind::Had => had_config(&self.name, &self.dir, &self.dataplane, routers),
            Kind::Keepalived => {
                fs::write(self.handover_file(), "0\n")?;
                keepalived_config(&self.name, &self.dir, routers, self.keepalived)
            }
        };
        self.write_config(kind, &text)
    }

    /// Writes the text of a configuration.
    pub fn write_config(&self, kind: Kind, text: &str) -> Result<()> {
        let path = self.config_path(kind);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Writes a configuration and starts the daemon with it.
    pub fn start(&mut self, kind: Kind, routers: &[VirtualRouter]) -> Result<()> {
        self.configure(kind, routers)?;
        self.restart(kind)
    }

    /// Starts the daemon with the configuration that is there. One that is still running is killed.
    pub fn restart(&mut self, kind: Kind) -> Result<()> {
        self.daemon = None;
        let log = self.log_path();
        let config = self.config_path(kind);
        self.daemon = Some(Daemon::start(kind, &self.ns, &self.dir, &config, &log)?);
        Ok(())
    }

    /// The same with a `had` that logs everything.
    pub fn restart_verbose(&mut self) -> Result<()> {
        self.daemon = None;
        let (log, config) = (self.log_path(), self.config_path(Kind::Had));
        self.daemon = Some(Daemon::start_verbose(&self.ns, &config, &log)?);
        Ok(())
    }

    /// Writes a configuration and lets the daemon read it (SIGHUP).
    pub fn reload(&mut self, routers: &[VirtualRouter]) -> Result<()> {
        let kind = self.daemon()?.kind();
        self.configure(kind, routers)?;
        self.daemon()?.hang_up()
    }

    /// Sends SIGTERM and waits until the daemon has ended well.
    pub fn stop(&mut self) -> Result<()> {
        let daemon = self.daemon()?;
        daemon.terminate()?;
        let status = daemon.wait(PATIENCE)?;
        self.daemon = None;
        if !status.success() {
            bail!(
                "{}: after SIGTERM the daemon ended with {status}",
                self.name
            );
        }
        Ok(())
    }

    /// The Ethernet address of one of its interfaces.
    pub fn mac_of(&self, interface: &str) -> Result<Mac> {
        let text = self.ns.ip(&["-j", "link", "show", "dev", interface])?;
        let links: Value = serde_json::from_str(&text)?;
        let address = links[0]["address"].as_str().and_then(Mac::parse);
        address.with_context(|| format!("{}: {interface} has no Ethernet address", self.name))
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon()?.kill()?;
        self.daemon = None;
        Ok(())
    }

    /// What the daemon wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    fn handover_file(&self) -> PathBuf {
        self.dir.join("handover")
    }

    /// The switch loses the port: what a node without power looks like to everybody else.
    pub fn power_off(&self) -> Result<()> {
        self.switch.set_port(&self.cable.port, false)
    }

    /// The port comes back.
    pub fn power_on(&self) -> Result<()> {
        self.switch.set_port(&self.cable.port, true)
    }

    /// The same of a port that a further interface of [`Self::plug`] has.
    pub fn set_port(&self, interface: &str, up: bool) -> Result<()> {
        self.switch
            .set_port(&format!("{}-{interface}", self.name), up)
    }

    /// Takes an interface of the node down or up, as `ifconfig down` does.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.ns.ip(&["link", "set", interface, state]).map(drop)
    }

    /// Plugs in a further interface, without an address.
    pub fn plug(&self, interface: &str) -> Result<()> {
        self.switch.plug(
            &self.ns,
            interface,
            (&self.port(interface), Port::Nic),
            None,
        )
    }

    /// Pulls an interface's cable, which then has no carrier, or puts it back.
    pub fn set_cable(&self, interface: &str, plugged: bool) -> Result<()> {
        self.switch.set_port(&self.port(interface), plugged)
    }

    /// The switch's port of one of its interfaces.
    pub(crate) fn port(&self, interface: &str) -> String {
        format!("{}-{interface}", self.name)
    }

    /// The switch's namespace.
    pub(crate) fn switch_ns(&self) -> &NetNs {
        &self.switch.ns
    }

    /// Lets the switch's port of an interface lose on command what the node sends to the same interface of
    /// another one, until the result is dropped: the port then has no XDP any more.
    pub fn lossy(&self, interface: &str, to: &Self) -> Result<LossyPort> {
        let port = format!("{}-{interface}", self.name);
        self.switch.lossy(&port, to.mac_of(interface)?)
    }

    /// The VIPs and other addresses that an interface has.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpAddr>> {
        let text = self.ns.ip(&["-j", "addr", "show", "dev", interface])?;
        let links: Value = serde_json::from_str(&text)?;
        let infos = links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["addr_info"].as_array())
            .flatten();
        Ok(infos
            .filter_map(|info| info["local"].as_str()?.parse().ok())
            .collect())
    }

    /// Whether the interface with its own address has this one.
    pub fn has(&self, vip: impl Into<IpAddr>) -> Result<bool> {
        Ok(self.addresses(&self.cable.interface)?.contains(&vip.into()))
    }

    /// Watches what leaves eth0.
    pub fn sniff(&self, vip: impl Into<IpAddr>) -> Result<Sniffer> {
        Sniffer::start(&self.switch.ns, &self.cable.port, vip)
    }

    /// Runs `hactl --json ARGUMENTS`. Its answer is `null` where it prints nothing.
    pub fn hactl(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(program("hactl")?);
        command
            .arg("--control")
            .arg(self.dir.join("run/control.sock"));
        let output = netns::run(command.arg("--json").args(arguments))?;
        let text = String::from_utf8(output.stdout)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("hactl {arguments:?} printed {text:?}"))
    }

    /// What `hactl status` says of one instance.
    pub fn instance(&self, name: &str) -> Result<Value> {
        let status = self.hactl(&["status"])?;
        status["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|instance| instance["name"] == name)
            .cloned()
            .with_context(|| format!("{}: status has no instance {name}: {status}", self.name))
    }

    /// What `hactl status` says of one path for leases.
    pub fn path(&self, name: &str) -> Result<Value> {
        let status = self.hactl(&["status"])?;
        status["paths"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|path| path["name"] == name)
            .cloned()
            .with_context(|| format!("{}: status has no path {name}: {status}", self.name))
    }

    /// Waits until a path for leases works, or no longer does.
    pub fn wait_for_path(&self, name: &str, up: bool) -> Result<()> {
        let what = format!("{}: path {name}, up: {up}", self.name);
        let mut last = Value::Null;
        eventually(PATIENCE, &what, || {
            last = self.path(name)?;
            Ok(last["up"] == up)
        })
        .with_context(|| last.to_string())
    }

    /// The sentences of `hactl events` of one kind.
    pub fn events(&self, kind: &str) -> Result<Vec<String>> {
        let events = self.hactl(&["events", "-n", EVERY_EVENT])?;
        let events = events.as_array().context("hactl events prints a list")?;
        Ok(events
            .iter()
            .filter(|event| event["kind"] == kind)
            .filter_map(|event| event["sentence"].as_str().map(str::to_owned))
            .collect())
    }

    /// The state of an instance, as `hactl status` has it.
    pub fn state(&self, name: &str) -> Result<String> {
        let instance = self.instance(name)?;
        let state = instance["state"].as_str();
        Ok(state.context("an instance has no state")?.to_owned())
    }

    /// Waits until an instance of `had` is in `state`.
    pub fn wait_for(&self, name: &str, state: &str) -> Result<()> {
        let what = format!("{}: {name} is {state}", self.name);
        let mut last = String::new();
        eventually(PATIENCE, &what, || {
            last = self.state(name)?;
            Ok(last == state)
        })
        .with_context(|| format!("its last known state is {last:?}"))
    }

    /// Waits until `had` has heard another router advertise, and so knows who is Active.
    pub fn wait_for_active_peer(&self, name: &str, peer: impl Into<IpAddr>) -> Result<()> {
        let peer = peer.into();
        let what = format!("{}: {name} hears {peer}", self.name);
        eventually(PATIENCE, &what, || {
            Ok(self.instance(name)?["active_peer"] == peer.to_string().as_str())
        })
    }

    /// Waits until that interface has the VIP, or no longer.
    pub fn wait_for_vip(&self, vip: impl Into<IpAddr>, present: bool) -> Result<()> {
        let vip = vip.into();
        let not = if present { "" } else { "not " };
        let what = format!("{} has {not}the address {vip}", self.name);
        eventually(PATIENCE, &what, || Ok(self.has(vip)? == present))
    }

    /// Whether the daemon holds the VIP: `had` says so, keepalived has put the address in place.
    pub fn is_active(&mut self, router: &str, vip: impl Into<IpAddr>) -> Result<bool> {
        match self.daemon()?.kind() {
            Kind::Had => Ok(self.state(router)? == "active"),
            Kind::Keepalived => self.has(vip),
        }
    }

    /// Lets go of an instance: `hactl switchover`, or priority 0 from keepalived.
    pub fn hand_over(&mut self, router: &str) -> Result<()> {
        match self.daemon()?.kind() {
            Kind::Had => self.hactl(&["switchover", router]).map(drop),
            Kind::Keepalived => {
                fs::write(self.handover_file(), "1\n").context("writing the handover file")
            }
        }
    }

    /// After [`Self::hand_over`]: takes part again. `had` does so by itself.
    pub fn take_part(&mut self) -> Result<()> {
        match self.daemon()?.kind() {
            Kind::Had => Ok(()),
            Kind::Keepalived => {
                fs::write(self.handover_file(), "0\n").context("writing the handover file")
            }
        }
    }
}

/// Name of the file that a node's daemon writes to.
pub(crate) const LOG: &str = "log";

impl Drop for Node {
    fn drop(&mut self) {
        self.daemon = None;
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = mariadb::end_all(&self.dir);
        let _ = unmount(&self.bpffs, UnmountFlags::DETACH);
    }
}

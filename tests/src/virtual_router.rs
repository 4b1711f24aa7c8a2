//! One virtual router, written as a configuration for `had` and for keepalived.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// What an instance is told, whichever daemon runs it.
#[derive(Clone, Debug)]
pub struct VirtualRouter {
    /// Name of the instance.
    pub name: String,
    /// Interface inside the node's namespace.
    pub interface: String,
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// 1 to 255.
    pub priority: u8,
    /// Whether to take over from a live router with a lower priority.
    pub preempt: bool,
    /// Between two adverts, in milliseconds; a multiple of 10, in version 2 of 1000.
    pub interval_ms: u32,
    /// Source of the adverts.
    pub source: IpAddr,
    /// Unicast peers; none = multicast.
    pub peers: Vec<IpAddr>,
    /// `had`'s `checksum` key; keepalived 2.2.7 always sends version 3 with a pseudo-header.
    pub checksum: Option<&'static str>,
    /// The addresses of IPv4.
    pub vips: Vec<Ipv4Addr>,
    /// Bits of their network: those of the lab's, unless they are routed to it.
    pub prefix_len: u8,
    /// Addresses of IPv6, each in a /64.
    pub vips_v6: Vec<Ipv6Addr>,
    /// Instances of one group move together.
    pub group: Option<String>,
    /// Further lines for `had`.
    pub had_lines: String,
    /// keepalived: an interface of its own has the addresses, with the virtual MAC address.
    pub use_vmac: bool,
    /// Further lines for keepalived.
    pub keepalived_lines: String,
    /// Further blocks for keepalived, before the router's own.
    pub keepalived_blocks: String,
}

impl VirtualRouter {
    /// VRID 51 with the VIP 10.77.0.100 on eth0: version 3, priority 100, no pre-emption, multicast,
    /// adverts each 100 ms.
    #[must_use]
    pub fn new(source: Ipv4Addr) -> Self {
        Self {
            name: "web".to_owned(),
            interface: "eth0".to_owned(),
            vrid: 51,
            version: 3,
            priority: 100,
            preempt: false,
            interval_ms: 100,
            source: source.into(),
            peers: Vec::new(),
            checksum: None,
            vips: vec![crate::lab::VIP],
            prefix_len: 24,
            vips_v6: Vec::new(),
            group: None,
            had_lines: String::new(),
            use_vmac: false,
            keepalived_lines: String::new(),
            keepalived_blocks: String::new(),
        }
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets whether it pre-empts.
    #[must_use]
    pub fn preempt(mut self, preempt: bool) -> Self {
        self.preempt = preempt;
        self
    }

    /// Sets the interval.
    #[must_use]
    pub fn interval_ms(mut self, interval_ms: u32) -> Self {
        self.interval_ms = interval_ms;
        self
    }

    /// Sets the unicast peers.
    #[must_use]
    pub fn peers<A: Copy + Into<IpAddr>>(mut self, peers: &[A]) -> Self {
        self.peers = peers.iter().map(|peer| (*peer).into()).collect();
        self
    }

    /// Adds addresses of IPv6.
    #[must_use]
    pub fn vips_v6(mut self, vips: &[Ipv6Addr]) -> Self {
        self.vips_v6.extend(vips);
        self
    }

    /// Makes it one of IPv6 alone, by multicast from the node's link-local address.
    #[must_use]
    pub fn only_v6(mut self, link_local: Ipv6Addr) -> Self {
        self.source = link_local.into();
        self.peers.clear();
        self.vips.clear();
        self
    }

    /// Adds lines to `had`'s configuration of the instance.
    #[must_use]
    pub fn had_lines(mut self, lines: &str) -> Self {
        self.had_lines.push_str(lines);
        self.had_lines.push('\n');
        self
    }

    /// Another virtual router of the same node.
    #[must_use]
    pub fn sibling(mut self, name: &str, vrid: u8, vip: Ipv4Addr) -> Self {
        name.clone_into(&mut self.name);
        self.vrid = vrid;
        self.vips = vec![vip];
        self
    }

    /// Puts it into a group.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }
}

/// A configuration file for `had`, for a node whose files are below `dir`; `dataplane` are lines of that
/// section.
#[must_use]
pub fn had_config(node: &str, dir: &Path, dataplane: &str, routers: &[VirtualRouter]) -> String {
    let dir = dir.display();
    let mut text = format!(
        "[node]\nname = {node:?}\nstate_dir = \"{dir}/state\"\nruntime_dir = \"{dir}/run\"\n\n\
         [dataplane]\n{dataplane}\npin_dir = \"{dir}/bpf/had\"\n\n\
         [api]\nlisten = \"\"\ncontrol = \"{dir}/run/control.sock\"\n"
    );
    let mut groups = Vec::new();
    for router in routers {
        let peers: Vec<String> = router
            .peers
            .iter()
            .map(|peer| format!("\"{peer}\""))
            .collect();
        let vips: Vec<String> = router
            .vips
            .iter()
            .map(|vip| format!("\"{vip}/{}\"", router.prefix_len))
            .chain(router.vips_v6.iter().map(|vip| format!("\"{vip}/64\"")))
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[[instance]]\nname = {:?}\ninterface = {:?}\nvrid = {}\nversion = {}\npriority = {}\n\
             preempt = {}\nadvert_interval = \"{}ms\"\nsource = \"{}\"\nvips = [{}]\n",
            router.name,
            router.interface,
            router.vrid,
            router.version,
            router.priority,
            router.preempt,
            router.interval_ms,
            router.source,
            vips.join(", "),
        );
        if !peers.is_empty() {
            let _ = writeln!(text, "peers = [{}]", peers.join(", "));
        }
        if let Some(checksum) = router.checksum {
            let _ = writeln!(text, "checksum = {checksum:?}");
        }
        if let Some(group) = &router.group {
            let _ = writeln!(text, "group = {group:?}");
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        text.push_str(&router.had_lines);
    }
    for group in groups {
        let _ = write!(text, "\n[[group]]\nname = {group:?}\n");
    }
    text
}

/// How keepalived runs, beside its virtual routers.
#[derive(Clone, Copy, Debug)]
pub struct KeepalivedSetup {
    /// With the same real-time priority as `had`.
    pub realtime: bool,
    /// With room and thrift for hundreds of virtual routers.
    pub many: bool,
}

impl Default for KeepalivedSetup {
    fn default() -> Self {
        Self {
            realtime: true,
            many: false,
        }
    }
}

/// Lines of keepalived's `global_defs` for hundreds of virtual routers. Their adverts come in bursts to one socket:
/// with the system's default buffer (212,992 bytes) most are lost, and the Backup takes over what nobody
/// let go of. The same goes for the addresses that the kernel tells of. The rest spares work: one gratuitous ARP
/// for each address at a time and not five, adverts compared by their header alone, and ten seconds of computing without a
/// pause before the kernel kills it.
const MANY: &str = "  vrrp_rx_bufs_policy MTU
  vrrp_netlink_cmd_rcv_bufs 4194304
  vrrp_netlink_cmd_rcv_bufs_force true
  vrrp_netlink_monitor_rcv_bufs 4194304
  vrrp_netlink_monitor_rcv_bufs_force true
  vrrp_garp_master_repeat 1
  vrrp_garp_lower_prio_repeat 1
  vrrp_skip_check_adv_addr
  vrrp_rlimit_rttime 10000000
";

/// A configuration file for keepalived, for a node whose files are below `dir`.
///
/// Writing a number other than 0 to `dir/handover` makes
/// it let go with priority 0, which is the nearest thing it has to a switchover.
#[must_use]
pub fn keepalived_config(
    node: &str,
    dir: &Path,
    routers: &[VirtualRouter],
    setup: KeepalivedSetup,
) -> String {
    let dir = dir.display();
    let many = if setup.many { MANY } else { "" };
    let realtime = if setup.realtime {
        "  vrrp_rt_priority 50\n  vrrp_rlimit_rttime 1000000\n  vrrp_no_swap\n"
    } else {
        ""
    };
    let mut text = format!(
        "global_defs {{\n  router_id {node}\n{realtime}{many}}}\n\
         track_file handover {{\n  file \"{dir}/handover\"\n  weight 0\n  init_file 0\n}}\n"
    );
    for router in routers {
        text.push_str(&router.keepalived_blocks);
        let secs = router.interval_ms / 1000;
        let hundredths = router.interval_ms % 1000 / 10;
        let _ = write!(
            text,
            "vrrp_instance {} {{\n  state BACKUP\n  interface {}\n  virtual_router_id {}\n  version {}\n  \
             priority {}\n  advert_int {secs}.{hundredths:02}\n",
            router.name, router.interface, router.vrid, router.version, router.priority,
        );
        if !router.preempt {
            text.push_str("  nopreempt\n");
        }
        if router.peers.is_empty() {
            let _ = writeln!(text, "  mcast_src_ip {}", router.source);
        } else {
            let _ = writeln!(text, "  unicast_src_ip {}", router.source);
            text.push_str("  unicast_peer {\n");
            for peer in &router.peers {
                let _ = writeln!(text, "    {peer}");
            }
            text.push_str("  }\n");
        }
        let device = if router.use_vmac {
            let _ = writeln!(text, "  use_vmac vrrp.{}", router.vrid);
            String::new()
        } else {
            format!(" dev {}", router.interface)
        };
        text.push_str("  virtual_ipaddress {\n");
        for vip in &router.vips {
            let _ = writeln!(text, "    {vip}/{}{device}", router.prefix_len);
        }
        for vip in &router.vips_v6 {
            let _ = writeln!(text, "    {vip}/64{device}");
        }
        text.push_str("  }\n  track_file {\n    handover\n  }\n");
        text.push_str(&router.keepalived_lines);
        text.push_str("}\n");
    }
    text
}

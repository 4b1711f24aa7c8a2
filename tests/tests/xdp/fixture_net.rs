//! Namespaces joined by a veth pair, and a bpffs, for the tests that attach.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::Xdp};
use ha_common::abi::InstanceConfig;
use ha_tests::{NetNs, stale};
use ha_user::dataplane::{Mode, Options, PASS_OBJECT};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The node's interface.
pub(crate) const NODE_IF: &str = "n0";
/// The client's interface.
pub(crate) const CLIENT_IF: &str = "c0";

pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);

/// A node and a client on one cable, and a bpffs. Everything goes away with it.
pub(crate) struct Cable {
    pub(crate) node: NetNs,
    pub(crate) client: NetNs,
    dir: PathBuf,
    bpffs: PathBuf,
}

impl Cable {
    pub(crate) fn new() -> Result<Self> {
        let id = format!(
            "{}x{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = stale::make_dir(&id)?;
        let bpffs = dir.join("bpf");
        std::fs::create_dir(&bpffs)?;
        mount("bpf", &bpffs, "bpf", MountFlags::empty(), None)
            .context("mounting a bpffs needs root")?;
        let cable = Self {
            node: NetNs::new(stale::namespace(&id, "n"))?,
            client: NetNs::new(stale::namespace(&id, "c"))?,
            dir,
            bpffs,
        };
        cable.plug(&[])?;
        Ok(cable)
    }

    /// Makes the veth pair; `options` are of the node's end.
    pub(crate) fn plug(&self, options: &[&str]) -> Result<()> {
        let mut add = vec!["link", "add", NODE_IF];
        add.extend(options);
        let peer = [
            "type",
            "veth",
            "peer",
            "name",
            CLIENT_IF,
            "netns",
            self.client.name(),
        ];
        add.extend(peer);
        self.node.ip(&add)?;
        for (ns, interface, address) in [
            (&self.node, NODE_IF, NODE),
            (&self.client, CLIENT_IF, CLIENT),
        ] {
            ns.ip(&["addr", "add", &format!("{address}/24"), "dev", interface])?;
            ns.ip(&["link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// Pinned below this cable's bpffs.
    pub(crate) fn options(&self, mode: Mode) -> Options {
        Options {
            mode,
            pin_dir: Some(self.pin_dir()),
        }
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.bpffs.join("had")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Index and MAC address of the node's interface.
    pub(crate) fn interface(&self) -> Result<(u32, [u8; 6])> {
        let link = link(&self.node, NODE_IF)?;
        let ifindex = link["ifindex"].as_u64().context("no ifindex")?;
        let mut mac = [0; 6];
        let text = link["address"].as_str().context("no address")?;
        for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(digits, 16)?;
        }
        Ok((u32::try_from(ifindex)?, mac))
    }

    /// An instance on the node's interface.
    pub(crate) fn config(&self) -> Result<InstanceConfig> {
        let (ifindex, mac) = self.interface()?;
        Ok(InstanceConfig {
            ifindex,
            leases: 1,
            vrid: 51,
            version: 3,
            priority: 100,
            mac,
            family: 4,
            source: NODE.into(),
            interval_centis: 1,
            ..InstanceConfig::default()
        })
    }

    /// Attaches the program that passes everything, until the result is dropped.
    pub(crate) fn pass(&self, ns: &NetNs, interface: &str) -> Result<Ebpf> {
        let mut pass = Ebpf::load(PASS_OBJECT)?;
        ns.enter(|| -> Result<()> {
            let program: &mut Xdp = pass
                .program_mut("pass")
                .context("no program `pass`")?
                .try_into()?;
            program.load()?;
            program.attach(interface, aya::programs::XdpMode::Driver)?;
            Ok(())
        })??;
        Ok(pass)
    }

    /// Mode ("xdp" = native, "xdpgeneric") and program id of the node's interface, if any.
    pub(crate) fn xdp(&self) -> Result<Option<(bool, u64)>> {
        let link = link(&self.node, NODE_IF)?;
        let xdp = &link["xdp"];
        // iproute2: 1 native, 2 generic.
        let Some(mode) = xdp["mode"].as_u64() else {
            return Ok(None);
        };
        let id = xdp["prog"]["id"].as_u64().context("no program id")?;
        Ok(Some((mode == 1, id)))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = unmount(&self.bpffs, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn link(ns: &NetNs, interface: &str) -> Result<serde_json::Value> {
    let text = ns.ip(&["-d", "-j", "link", "show", "dev", interface])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    Ok(links[0].clone())
}

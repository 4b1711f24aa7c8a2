//! A pair of nodes whose Backup is flooded with adverts, right and forged, while it watches its peer.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{Ebpf, programs::Xdp};
use ha_common::{
    Address, Centis, Nanos, Priority, Vrid,
    wire::{
        ethernet,
        vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN},
    },
};
use ha_tests::{
    Client, Kind, Lab, Node, Sniffer, clock::sleep_until, eventually, lab::VIP, node::PATIENCE, now,
};
use ha_user::dataplane::RESTORE_OBJECT;

use super::live;
use crate::{
    pair,
    usage::{self, Thread},
};

/// The router that is to be taken over, and one whose adverts, valid ones, are part of the flood.
const WATCHED: (&str, u8) = ("web", 51);
const FLOODED: (&str, u8) = ("other", 52);
const FLOODED_VIP: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// How long everything must have been quiet before a power-off.
const QUIET: Nanos = Nanos::from_millis(300);

/// Adverts of each kind before the next kind's turn.
const TURN: u32 = 6_400;

/// What the Backup's daemon used while it was flooded.
pub(super) struct Load {
    pub(super) threads: Vec<Thread>,
    /// Valid adverts that reached it, by its own count.
    pub(super) taken: u64,
    /// Forged ones.
    pub(super) refused: u64,
    /// How often the Backup left that state, or the Active node let go: none had a reason.
    pub(super) alarms: usize,
    /// How often the Active node was held up until its gate had closed, and went on.
    pub(super) resumed: usize,
}

/// What a node's daemon has used and received so far.
struct Look {
    threads: Vec<(u32, Thread)>,
    taken: u64,
    refused: u64,
}

/// Two nodes.
pub(super) struct Siege {
    nodes: [Node; 2],
    sniffers: [Sniffer; 2],
    client: Client,
    // Last: it goes when the nodes are gone.
    lab: Lab,
}

impl Siege {
    pub(super) fn start(heartbeat: Option<Nanos>) -> Result<Self> {
        let lab = Lab::new()?;
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let sniffers = [nodes[0].sniff(VIP)?, nodes[1].sniff(VIP)?];
        let addresses = [nodes[0].address(), nodes[1].address()];
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let node = &mut nodes[index];
            let mut web = node.router().interval_ms(10).peers(&[addresses[1 - index]]);
            if let Some(heartbeat) = heartbeat {
                web = web.had_lines(&pair::heartbeat_line(heartbeat));
            }
            let mut other = web.clone().sibling(FLOODED.0, FLOODED.1, FLOODED_VIP);
            other.prefix_len = 32;
            node.start(Kind::Had, &[web, other])?;
            node.wait_for(WATCHED.0, state)?;
        }
        Ok(Self {
            nodes,
            sniffers,
            client,
            lab,
        })
    }

    /// Floods the Backup for a while.
    pub(super) fn endure(&mut self, seconds: u32) -> Result<Load> {
        let active = self.settle()?;
        let flood = self.flood(1 - active)?;
        let from = self.look(1 - active)?;
        let before = self.alarms(active)?;
        sleep_until(now().after(Nanos::from_secs(u64::from(seconds))));
        let to = self.look(1 - active)?;
        let after = self.alarms(active)?;
        if after != before {
            eprintln!("{}", self.lab.log_tails());
        }
        flood.end()?;
        let (taken, refused) = (to.taken - from.taken, to.refused - from.refused);
        ensure!(
            taken > 0 && refused > 0,
            "the flood did not reach the Backup"
        );
        Ok(Load {
            threads: usage::difference(&from.threads, &to.threads),
            taken,
            refused,
            alarms: after.0 - before.0,
            resumed: after.1 - before.1,
        })
    }

    /// Powers the Active node off, with the Backup flooded or not: how long until that had announced the VIP.
    pub(super) fn take_over(&mut self, flooded: bool) -> Result<Nanos> {
        let old = self.settle()?;
        let flood = flooded.then(|| self.flood(1 - old)).transpose()?;
        sleep_until(now().after(QUIET));
        let from = now();
        self.nodes[old].power_off()?;
        let mut announced = None;
        eventually(PATIENCE, "the Backup takes over", || {
            announced = self.sniffers[1 - old].first_announcement(from);
            Ok(announced.is_some())
        })
        .with_context(|| self.lab.log_tails())?;
        if let Some(flood) = flood {
            flood.end()?;
        }
        self.nodes[old].power_on()?;
        let at = announced.context("the condition above")?;
        Ok(at.since(from))
    }

    /// Waits until one node has been Active for a while and the other Backup. Returns the former.
    fn settle(&self) -> Result<usize> {
        let mut active = None;
        let mut since = now();
        eventually(PATIENCE, "one node is Active and the other Backup", || {
            let states = [
                self.nodes[0].state(WATCHED.0)?,
                self.nodes[1].state(WATCHED.0)?,
            ];
            let seen = match states.each_ref().map(String::as_str) {
                ["active", "backup"] => Some(0),
                ["backup", "active"] => Some(1),
                _ => None,
            };
            if seen.is_none() || seen != active {
                active = seen;
                since = now();
            }
            Ok(active.is_some() && now().since(since) > QUIET)
        })
        .with_context(|| self.lab.log_tails())?;
        for sniffer in &self.sniffers {
            sniffer.clear();
        }
        active.context("the condition above")
    }

    fn look(&mut self, index: usize) -> Result<Look> {
        let status = self.nodes[index].hactl(&["status"])?;
        let taken = status["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|instance| instance["adverts_received"].as_u64())
            .sum();
        let engine = status["engine"]["thread"].as_u64();
        let counters = self.nodes[index].hactl(&["counters"])?;
        let refused = ["advert_checksum", "advert_sender"];
        let processes = self.nodes[index].daemon()?.processes();
        Ok(Look {
            threads: usage::threads(&processes, engine)?,
            taken,
            refused: refused.iter().filter_map(|it| counters[*it].as_u64()).sum(),
        })
    }

    /// Changes of state of the watched router while a node is Active: those that mean a take-over or lead to
    /// one, and those by which the Active node goes on.
    fn alarms(&self, active: usize) -> Result<(usize, usize)> {
        let of = |node: usize, what: &str| -> Result<usize> {
            let start = format!("{} is {what}", WATCHED.0);
            let events = self.nodes[node].events("transition")?;
            Ok(events.iter().filter(|it| it.starts_with(&start)).count())
        };
        let alarms = of(1 - active, "")? + of(active, "backup")?;
        Ok((alarms, of(active, "promoting")?))
    }

    /// Starts to send adverts to a node, as if from the other one, as fast as one core can.
    fn flood(&self, target: usize) -> Result<Flood> {
        let (target, peer) = (&self.nodes[target], &self.nodes[1 - target]);
        let advert = |vrid, change: fn(&mut AdvertSpec<'_>)| {
            let mut spec = AdvertSpec {
                version: vrrp::Version::V3(Dialect::PseudoHeader),
                vrid: Vrid::new(vrid).context("no VRID")?,
                priority: Priority(200),
                interval: Centis(1),
                source: Address::from(std::net::IpAddr::from(peer.address())),
                destination: Address::from(std::net::IpAddr::from(target.address())),
                addresses: &[Address::v4(VIP.octets())],
            };
            change(&mut spec);
            let mut buffer = [0; MAX_PACKET_LEN];
            let packet = vrrp::build_advert(&spec, &mut buffer)?;
            let header = ethernet::build(target.mac().0, self.client.mac().0, ethernet::IPV4);
            let mut frame = [&header[..], packet].concat();
            frame.resize(frame.len().max(60), 0);
            anyhow::Ok(frame)
        };
        let stranger = |spec: &mut AdvertSpec<'_>| spec.source = Address::v4([10, 77, 0, 66]);
        let mut broken = advert(WATCHED.1, |_| {})?;
        if let Some(last) = broken.last_mut() {
            // Padding, or not: the checksum covers the message, whose middle is changed as well.
            *last ^= 1;
        }
        if let Some(byte) = broken.get_mut(ethernet::HEADER_LEN + 20 + 8) {
            *byte ^= 0xff;
        }
        let frames = vec![
            advert(FLOODED.1, |_| {})?,
            advert(WATCHED.1, stranger)?,
            broken,
        ];
        Flood::start(&self.client, frames)
    }
}

/// A thread that sends.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Flood {
    fn start(client: &Client, frames: Vec<Vec<u8>>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let send = move || {
            let mut tools = Ebpf::load(RESTORE_OBJECT)?;
            let reflect: &mut Xdp = live::load(&mut tools, "reflect")?;
            let index = live::ifindex("eth0")?;
            while !stopped.load(Ordering::Relaxed) {
                for frame in &frames {
                    live::receive(reflect, index, frame, TURN)?;
                }
            }
            Ok(())
        };
        // A thread begins in the namespace of the one that starts it.
        let thread = client.ns().enter(|| std::thread::spawn(send))?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the generator panicked"))?
    }
}

//! ARP requests per second that one core answers: by XDP, and by the kernel's own ARP.
//!
//! One CPU does it all: it makes the request ([`live`]), takes it from a cable (veth), answers it, sends the answer
//! and takes it off at the other end, where a program drops it. Each of the three that are compared has a cable of
//! its own, with its program in the driver. What is the same whoever answers is measured with a program that drops
//! the request: making it, and the driver's reception. The gross figures hold this, and the net ones, which are
//! compared, do not: it is the harness's and veth's, and no network card's. What the far end does with an answer is
//! in both: it is about a quarter of a net figure, of the kernel's as of XDP's.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{Xdp, XdpMode},
};
use ha_common::{
    Nanos,
    abi::InstanceConfig,
    gate::{ADVERT_SLOT, Epoch, Lease},
    wire::{
        arp::{self, Arp},
        ethernet, ipv4,
    },
};
use ha_core::InstanceId;
use ha_tests::{Lab, NetNs, frame::Mac, hog::last_cpu, now};
use ha_user::dataplane::{Dataplane, Mode, Options, PASS_OBJECT, RESTORE_OBJECT};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::live;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ASKER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// Requests in one turn: as many as a few milliseconds take, in which the machine does not change its pace.
const REQUESTS: u32 = 20_000;
/// Rounds of three turns.
const ROUNDS: u32 = 150;
/// Words of the map `FRAMES`.
const WORDS: usize = 32;

/// What a request took in each of three turns, one right after the other, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Made, received, and dropped.
    generator: u32,
    /// Made, received, and answered.
    by_xdp: u32,
    by_kernel: u32,
}

/// The rounds, and where they were measured.
pub(super) struct Answers {
    pub(super) cpu: usize,
    rounds: Vec<Round>,
}

/// A figure that each round has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quartiles {
    pub(super) lower: f64,
    pub(super) median: f64,
    pub(super) upper: f64,
}

impl Round {
    fn net(self) -> (f64, f64) {
        let generator = f64::from(self.generator);
        (
            f64::from(self.by_xdp) - generator,
            f64::from(self.by_kernel) - generator,
        )
    }
}

impl Answers {
    /// What a request takes that is dropped, in nanoseconds.
    pub(super) fn generator(&self) -> Quartiles {
        self.quartiles(|round| f64::from(round.generator))
    }

    /// What an answer by XDP takes, in nanoseconds, net.
    pub(super) fn by_xdp(&self) -> Quartiles {
        self.quartiles(|round| round.net().0)
    }

    /// And one by the kernel.
    pub(super) fn by_kernel(&self) -> Quartiles {
        self.quartiles(|round| round.net().1)
    }

    /// How many answers XDP gives while the kernel gives one, net. Each round's is of its own turns.
    pub(super) fn ratio(&self) -> Quartiles {
        self.quartiles(|round| {
            let (by_xdp, by_kernel) = round.net();
            by_kernel / by_xdp
        })
    }

    /// The same, gross.
    pub(super) fn gross_ratio(&self) -> Quartiles {
        self.quartiles(|round| f64::from(round.by_kernel) / f64::from(round.by_xdp))
    }

    fn quartiles(&self, figure: impl FnMut(Round) -> f64) -> Quartiles {
        let mut values: Vec<f64> = self.rounds.iter().copied().map(figure).collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| {
            let index = values.len() * quarter / 4;
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Quartiles {
            lower: at(1),
            median: at(2),
            upper: at(3),
        }
    }
}

/// Measures the three by turns.
pub(super) fn measure() -> Result<Answers> {
    let lab = Lab::new()?;
    let (node, client) = (lab.plain_node("n1")?, lab.client("c1")?);
    let (node, asker) = (node.ns(), client.ns());
    let [none, xdp, kernel] = [("n0", "c0"), ("n1", "c1"), ("n2", "c2")];
    for (near, far) in [none, xdp, kernel] {
        lay_cable((node, near), (asker, far))?;
    }
    // The kernel answers, and is not to ask who asks.
    node.ip(&["addr", "add", &format!("{VIP}/24"), "dev", kernel.0])?;
    let (asking, station) = (ASKER.to_string(), format_mac(ASKER_MAC));
    node.ip(&["neigh", "add", &asking, "lladdr", &station, "dev", kernel.0])?;
    let mut tools = Ebpf::load(RESTORE_OBJECT)?;
    let discard = live::load(&mut tools, "discard")?;
    node.enter(|| discard.attach(none.0, XdpMode::Driver))??;
    for (_, far) in [none, xdp, kernel] {
        asker.enter(|| discard.attach(far, XdpMode::Driver))??;
    }
    let mut pass = Ebpf::load(PASS_OBJECT)?;
    let pass = live::load(&mut pass, "pass")?;
    node.enter(|| pass.attach(kernel.0, XdpMode::Driver))??;
    let ifindex = node.enter(|| live::ifindex(xdp.0))??;
    let mut dataplane = dataplane(ifindex)?;
    node.enter(|| dataplane.attach(xdp.0, ifindex))??;
    let generator = Generator::new(&mut tools)?;
    let cpu = last_cpu()?;
    let before = [received(asker, xdp.1)?, received(asker, kernel.1)?];
    let rounds = asker.enter(|| -> Result<Vec<Round>> {
        // What one end sends, the other takes off on the same CPU.
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).with_context(|| format!("staying on CPU {cpu}"))?;
        let request = request();
        let [none, xdp, kernel] = [none, xdp, kernel].map(|(_, far)| live::ifindex(far));
        let (none, xdp, kernel) = (none?, xdp?, kernel?);
        let turn = |by| live::receive(generator.program()?, by, &request, REQUESTS);
        let round = |_| {
            Ok(Round {
                generator: turn(none)?,
                by_xdp: turn(xdp)?,
                by_kernel: turn(kernel)?,
            })
        };
        (0..ROUNDS).map(round).collect()
    })??;
    let asked = u64::from(REQUESTS * ROUNDS);
    for ((_, far), before) in [xdp, kernel].into_iter().zip(before) {
        let answered = received(asker, far)? - before;
        ensure!(
            answered * 100 >= asked * 99,
            "only {answered} of {asked} requests were answered to {far}"
        );
    }
    Ok(Answers { cpu, rounds })
}

/// Without a bridge between.
fn lay_cable((node, near): (&NetNs, &str), (asker, far): (&NetNs, &str)) -> Result<()> {
    node.ip(&[
        "link",
        "add",
        near,
        "address",
        &format_mac(NODE_MAC),
        "type",
        "veth",
        "peer",
        "name",
        far,
        "address",
        &format_mac(ASKER_MAC),
        "netns",
        asker.name(),
    ])?;
    node.ip(&["link", "set", near, "up"])?;
    asker.ip(&["link", "set", far, "up"])?;
    Ok(())
}

fn format_mac(mac: [u8; 6]) -> String {
    Mac(mac).to_string()
}

/// An open gate for the VIP.
fn dataplane(ifindex: u32) -> Result<Dataplane> {
    let id = InstanceId(0);
    let mut dataplane = Dataplane::open(&Options {
        mode: Mode::Native,
        pin_dir: None,
    })?;
    let config = InstanceConfig {
        ifindex,
        leases: 1,
        vrid: 51,
        version: 3,
        priority: 100,
        mac: NODE_MAC,
        interval_centis: 1,
        family: ipv4::VERSION,
        ..InstanceConfig::default()
    };
    dataplane.set_instance(id, &config, &[VIP.into()], &[])?;
    let epoch = Epoch(1);
    dataplane.set_epoch(id, epoch);
    let until = now().after(Nanos::from_secs(3_600));
    dataplane.set_lease(id, ADVERT_SLOT, Lease::new(epoch, until));
    Ok(dataplane)
}

/// Makes each frame a request, for the answer lies where the last request lay, and sends it.
struct Generator(Ebpf);

impl Generator {
    fn new(tools: &mut Ebpf) -> Result<Self> {
        let reflect = live::load(tools, "reflect")?;
        let mut restore = Ebpf::load(RESTORE_OBJECT)?;
        live::load(&mut restore, "restore")?;
        let mut words = [0_u64; WORDS];
        let frame = request();
        let (chunks, _) = frame.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_ne_bytes(*chunk);
        }
        let map = restore.map_mut("FRAMES").context("no map FRAMES")?;
        Array::<&mut MapData, [u64; WORDS]>::try_from(map)?.set(0, words, 0)?;
        let map = restore.map_mut("CYCLE").context("no map CYCLE")?;
        Array::<&mut MapData, [u64; 2]>::try_from(map)?.set(0, [1, 0], 0)?;
        let map = restore.map_mut("TESTED").context("no map TESTED")?;
        ProgramArray::try_from(map)?.set(0, reflect.fd()?, 0)?;
        Ok(Self(restore))
    }

    fn program(&self) -> Result<&Xdp> {
        let program = self.0.program("restore").context("no program")?;
        Ok(program.try_into()?)
    }
}

fn request() -> [u8; 64] {
    let question = Arp {
        operation: arp::REQUEST,
        sender_mac: ASKER_MAC,
        sender_ip: ASKER.octets(),
        target_mac: [0; 6],
        target_ip: VIP.octets(),
    };
    let mut frame = [0; 64];
    let header = ethernet::build(ethernet::BROADCAST, ASKER_MAC, ethernet::ARP);
    for (to, from) in frame.iter_mut().zip(header.iter().chain(&question.emit())) {
        *to = *from;
    }
    frame
}

/// Frames that an interface received.
fn received(ns: &NetNs, name: &str) -> Result<u64> {
    let text = ns.ip(&["-j", "-s", "link", "show", name])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .context("no counter of received frames")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(generator: u32, by_xdp: u32, by_kernel: u32) -> Round {
        Round {
            generator,
            by_xdp,
            by_kernel,
        }
    }

    #[test]
    fn a_ratio_is_of_the_turns_of_its_own_round() {
        // The machine goes at half its pace for one round, and is disturbed in one turn of another.
        let answers = Answers {
            cpu: 0,
            rounds: vec![
                round(50, 150, 650),
                round(100, 300, 1300),
                round(50, 450, 650),
                round(50, 150, 650),
            ],
        };
        let same = |value| Quartiles {
            lower: value,
            median: value,
            upper: value,
        };
        assert_eq!(answers.ratio(), same(6.0));
        assert_eq!(answers.gross_ratio(), same(650.0 / 150.0));
        assert_eq!(answers.generator().median, 50.0);
        assert_eq!(answers.by_xdp().upper, 400.0);
    }
}

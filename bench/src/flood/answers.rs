//! ARP requests per second that one core answers: by XDP, and by the kernel's own ARP.

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
use ha_tests::{Lab, NetNs, now};
use ha_user::dataplane::{Dataplane, Mode, Options, PASS_OBJECT, RESTORE_OBJECT};

use super::live;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ASKER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// Requests in one measurement.
const REQUESTS: u32 = 200_000;
/// Measurements, of which the quickest counts.
const TRIES: u32 = 5;
/// Words of the map `FRAME`.
const WORDS: usize = 32;

/// Nanoseconds for a request and its answer, on one core.
#[derive(Clone, Copy)]
pub(super) struct Answers {
    pub(super) by_xdp: u32,
    pub(super) by_kernel: u32,
}

/// Measures both. What the generator itself takes is taken off: it is measured with a program that drops.
pub(super) fn measure() -> Result<Answers> {
    let lab = Lab::new()?;
    let (node, client) = (lab.plain_node("n1")?, lab.client("c1")?);
    // A cable of their own, without a bridge between.
    let (node, asker) = (node.ns(), client.ns());
    node.ip(&[
        "link",
        "add",
        "n0",
        "address",
        "02:00:00:00:01:01",
        "type",
        "veth",
        "peer",
        "name",
        "c0",
        "address",
        "02:00:00:00:02:01",
        "netns",
        asker.name(),
    ])?;
    node.ip(&["addr", "add", &format!("{VIP}/24"), "dev", "n0"])?;
    // The kernel is not to ask who asks.
    node.ip(&[
        "neigh",
        "add",
        &ASKER.to_string(),
        "lladdr",
        "02:00:00:00:02:01",
        "dev",
        "n0",
    ])?;
    node.ip(&["link", "set", "n0", "up"])?;
    asker.ip(&["link", "set", "c0", "up"])?;
    let mut tools = Ebpf::load(RESTORE_OBJECT)?;
    live::load(&mut tools, "restore")?;
    let discard = live::load(&mut tools, "discard")?;
    asker.enter(|| discard.attach("c0", XdpMode::Driver))??;
    let mut pass = Ebpf::load(PASS_OBJECT)?;
    let pass = live::load(&mut pass, "pass")?;
    let ifindex = node.enter(|| live::ifindex("n0"))??;
    let mut dataplane = dataplane(ifindex)?;
    let mut run = |tested: &Xdp, answers: bool| -> Result<u32> {
        aim(&mut tools, tested)?;
        let before = received(asker)?;
        let program: &mut Xdp = tools
            .program_mut("restore")
            .context("no program")?
            .try_into()?;
        let mut best = u32::MAX;
        for _ in 0..TRIES {
            let took = node.enter(|| live::receive(program, ifindex, &request(), REQUESTS))??;
            best = best.min(took);
        }
        let answered = received(asker)? - before;
        ensure!(
            !answers || answered * 100 >= u64::from(REQUESTS * TRIES) * 99,
            "only {answered} of {} requests were answered",
            REQUESTS * TRIES
        );
        Ok(best)
    };
    let mut dropping = Ebpf::load(RESTORE_OBJECT)?;
    let generator = run(live::load(&mut dropping, "discard")?, false)?;
    Ok(Answers {
        by_xdp: run(dataplane.ingress()?, true)?.saturating_sub(generator),
        by_kernel: run(pass, true)?.saturating_sub(generator),
    })
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

/// Lets the program that puts the request back jump to `tested`.
fn aim(tools: &mut Ebpf, tested: &Xdp) -> Result<()> {
    let mut words = [0_u64; WORDS];
    let frame = request();
    let (chunks, _) = frame.as_chunks::<8>();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_ne_bytes(*chunk);
    }
    let map = tools.map_mut("FRAMES").context("no map FRAMES")?;
    Array::<&mut MapData, [u64; WORDS]>::try_from(map)?.set(0, words, 0)?;
    let map = tools.map_mut("CYCLE").context("no map CYCLE")?;
    Array::<&mut MapData, [u64; 2]>::try_from(map)?.set(0, [1, 0], 0)?;
    let map = tools.map_mut("TESTED").context("no map TESTED")?;
    ProgramArray::try_from(map)?.set(0, tested.fd()?, 0)?;
    Ok(())
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

/// Frames that the asker's interface received.
fn received(ns: &NetNs) -> Result<u64> {
    let text = ns.ip(&["-j", "-s", "link", "show", "c0"])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .context("no counter of received frames")
}

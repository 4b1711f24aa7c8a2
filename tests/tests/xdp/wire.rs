//! On a cable: what a client sees of an open and of a closed gate, while the VIP stays on the node's
//! interface (as after SIGKILL) and a process on the node goes on sending from it.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::{
    Nanos,
    abi::Reason,
    gate::{ADVERT_SLOT, Epoch, Lease},
};
use ha_core::InstanceId;
use ha_tests::{NetNs, eventually, kernel::has_tcx, now};
use ha_user::dataplane::{Dataplane, Hook, Mode};

use crate::fixture_net::{CLIENT, CLIENT_IF, Cable, NODE_IF, VIP};

const ID: InstanceId = InstanceId(0);
const EPOCH: Epoch = Epoch(1);
const PATIENCE: Duration = Duration::from_secs(5);

struct Wire {
    cable: Cable,
    dataplane: Dataplane,
    client: UdpSocket,
    node: UdpSocket,
}

fn socket(ns: &NetNs, address: Ipv4Addr) -> Result<UdpSocket> {
    let socket = ns.enter(|| UdpSocket::bind((address, 4000)))??;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Wire {
    fn new(mode: Mode, tcx: bool) -> Result<Self> {
        let cable = Cable::new()?;
        cable
            .node
            .ip(&["addr", "add", &format!("{VIP}/24"), "dev", NODE_IF])?;
        let mut dataplane = Dataplane::open(&cable.options(mode))?;
        if !tcx {
            dataplane.without_tcx();
        }
        dataplane.set_instance(ID, &cable.config()?, &[VIP.into()], &[])?;
        dataplane.set_epoch(ID, EPOCH);
        let (ifindex, _) = cable.interface()?;
        let attachment = cable.node.enter(|| dataplane.attach(NODE_IF, ifindex))??;
        let hook = match mode {
            Mode::Native => Hook::Native,
            Mode::Tc => Hook::Tc,
            Mode::Auto | Mode::Generic => Hook::Generic,
        };
        ensure!(attachment.hook == hook);
        ensure!(attachment.tcx == (tcx && has_tcx()));
        let client = socket(&cable.client, CLIENT)?;
        let node = socket(&cable.node, VIP)?;
        Ok(Self {
            cable,
            dataplane,
            client,
            node,
        })
    }

    fn open(&self) {
        let until = now().after(Nanos::from_secs(60));
        self.dataplane
            .set_lease(ID, ADVERT_SLOT, Lease::new(EPOCH, until));
    }

    fn close(&self) {
        self.dataplane.set_epoch(ID, EPOCH.raised());
    }

    fn counts(&self) -> Result<BTreeMap<Reason, u64>> {
        Ok(self.dataplane.counters()?.into_iter().collect())
    }

    /// The client's neighbour entry of the VIP.
    fn neighbour(&self) -> Result<String> {
        let vip = VIP.to_string();
        self.cable
            .client
            .ip(&["neigh", "show", "to", &vip, "dev", CLIENT_IF])
    }
}

/// Sends, whatever the neighbour table says.
fn send(socket: &UdpSocket, text: &[u8], to: Ipv4Addr) -> Result<()> {
    match socket.send_to(text, (to, 4000)) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EHOSTUNREACH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn receive(socket: &UdpSocket) -> Result<Option<Vec<u8>>> {
    let mut buffer = [0; 64];
    match socket.recv(&mut buffer) {
        Ok(len) => Ok(Some(buffer[..len].to_vec())),
        Err(error)
            if error.kind() == io::ErrorKind::WouldBlock
                || error.raw_os_error() == Some(libc::EHOSTUNREACH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn an_open_gate_speaks_and_a_closed_one_is_silent(mode: Mode, tcx: bool) -> Result<()> {
    let wire = Wire::new(mode, tcx)?;
    // What native XDP transmits over a veth reaches only an end that has XDP as well.
    let _pass = (mode == Mode::Native)
        .then(|| wire.cable.pass(&wire.cable.client, CLIENT_IF))
        .transpose()?;
    let (_, mac) = wire.cable.interface()?;
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");

    // Closed from the start: nobody answers for the VIP, though the kernel has it.
    send(&wire.client, b"hello?", VIP)?;
    eventually(PATIENCE, "the request is dropped", || {
        Ok(wire.counts()?[&Reason::DropArpClosed] >= 2)
    })?;
    ensure!(!wire.neighbour()?.contains(&mac), "{}", wire.neighbour()?);
    ensure!(receive(&wire.node)?.is_none());

    // Open: XDP answers, packets flow both ways.
    wire.open();
    eventually(PATIENCE, "the answer reaches the client", || {
        send(&wire.client, b"hello", VIP)?;
        Ok(wire.neighbour()?.contains(&mac))
    })?;
    ensure!(wire.counts()?[&Reason::ArpAnswered] >= 1);
    eventually(PATIENCE, "a packet reaches the VIP", || {
        send(&wire.client, b"hello", VIP)?;
        Ok(receive(&wire.node)?.is_some())
    })?;
    eventually(PATIENCE, "a packet from the VIP reaches the client", || {
        send(&wire.node, b"hello back", CLIENT)?;
        Ok(receive(&wire.client)?.is_some_and(|text| text == b"hello back"))
    })?;

    // Closed: nothing in, nothing out, whatever was resolved before.
    wire.close();
    while receive(&wire.client)?.is_some() || receive(&wire.node)?.is_some() {}
    let before = wire.counts()?;
    for _ in 0..50 {
        send(&wire.client, b"still there?", VIP)?;
        send(&wire.node, b"yes", CLIENT)?;
    }
    eventually(PATIENCE, "all of it is dropped", || {
        let after = wire.counts()?;
        Ok([Reason::DropVipClosed, Reason::EgressVipClosed]
            .iter()
            .all(|reason| after[reason] - before[reason] >= 50))
    })?;
    ensure!(receive(&wire.node)?.is_none(), "nothing came in");
    ensure!(receive(&wire.client)?.is_none(), "nothing went out");

    // Nor does the kernel ask for anybody in the VIP's name.
    wire.cable.node.ip(&["neigh", "flush", "dev", NODE_IF])?;
    send(&wire.node, b"who?", Ipv4Addr::new(10, 9, 0, 77))?;
    eventually(PATIENCE, "the node's own request is dropped", || {
        Ok(wire.counts()?[&Reason::EgressArpClosed] >= 1)
    })?;
    let Wire {
        cable, dataplane, ..
    } = wire;
    cable.node.enter(|| dataplane.close())?.context("closing")?;
    ensure!(cable.xdp()?.is_none());
    Ok(())
}

#[test]
fn native() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Native, true)
}

#[test]
fn generic() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Generic, true)
}

#[test]
fn auto() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Auto, true)
}

#[test]
fn native_with_a_filter_for_tcx() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Native, false)
}

#[test]
fn at_tc() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Tc, true)
}

#[test]
fn at_tc_with_filters_for_tcx() -> Result<()> {
    an_open_gate_speaks_and_a_closed_one_is_silent(Mode::Tc, false)
}

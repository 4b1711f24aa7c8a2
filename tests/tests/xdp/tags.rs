//! VLAN tags on a cable: where the driver and the kernel put them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{
    Nanos,
    abi::Reason,
    gate::{ADVERT_SLOT, Epoch, Lease},
    wire::ethernet,
};
use ha_tests::{eventually, now, sys};
use ha_user::dataplane::{Mode, keep_tags};

use crate::{
    adoption::{ID, close, start},
    fixture_net::{CLIENT, CLIENT_IF, Cable, NODE_IF, VIP},
    frames::{arp, request},
};

#[test]
fn a_driver_leaves_the_tags_when_it_is_told() -> Result<()> {
    let cable = Cable::new()?;
    let (ifindex, _) = cable.interface()?;
    let shown = || cable.node.run("ethtool", &["-k", NODE_IF]);
    for stripped in ["on", "off"] {
        cable
            .node
            .run("ethtool", &["-K", NODE_IF, "rxvlan", stripped])?;
        let before = shown()?;
        ensure!(
            before.contains(&format!("rx-vlan-offload: {stripped}")),
            "{before}"
        );
        ensure!(cable.node.enter(|| keep_tags(ifindex))??);
        ensure!(shown()?.contains("rx-vlan-offload: off"), "{}", shown()?);
    }
    Ok(())
}

#[test]
fn a_driver_that_is_not_there_is_an_error() -> Result<()> {
    let cable = Cable::new()?;
    let error = cable.node.enter(|| keep_tags(4711))?.unwrap_err();
    ensure!(error.raw_os_error() == Some(libc::ENODEV), "{error}");
    Ok(())
}

/// A request for the VIP with a priority tag is answered; one with a VLAN's is none of ours.
fn only_a_priority_is_our_own(mode: Mode) -> Result<()> {
    let cable = Cable::new()?;
    let (dataplane, _) = start(&cable, mode)?;
    let epoch = Epoch(41);
    dataplane.set_epoch(ID, epoch);
    let until = now().after(Nanos::from_secs(60));
    dataplane.set_lease(ID, ADVERT_SLOT, Lease::new(epoch, until));
    let counts =
        || -> Result<BTreeMap<Reason, u64>> { Ok(dataplane.counters()?.into_iter().collect()) };
    let socket = cable
        .client
        .enter(|| sys::packet_socket(CLIENT_IF))?
        .context("opening a packet socket")?;
    let ask = arp(ethernet::BROADCAST, request(CLIENT.octets(), VIP.octets()));
    for (tag, reason) in [
        ([0x81, 0x00, 0xe0, 0x00], Reason::ArpAnswered),
        ([0x81, 0x00, 0x00, 0x07], Reason::PassVlan),
    ] {
        let before = counts()?;
        let (stations, rest) = ask.split_at(12);
        socket.send(&[stations, &tag, rest].concat())?;
        eventually(Duration::from_secs(5), "the request is judged", || {
            Ok(counts()?[&reason] > before[&reason])
        })?;
        let after = counts()?;
        let others = [Reason::ArpAnswered, Reason::PassVlan]
            .into_iter()
            .filter(|other| *other != reason);
        for other in others {
            ensure!(after[&other] == before[&other], "{tag:x?}: {other:?}");
        }
    }
    close(&cable, dataplane)
}

#[test]
fn native() -> Result<()> {
    only_a_priority_is_our_own(Mode::Native)
}

/// The kernel has moved the tag to the metadata.
#[test]
fn at_tc() -> Result<()> {
    only_a_priority_is_our_own(Mode::Tc)
}

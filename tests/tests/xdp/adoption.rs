//! Attaching, pinning, and what a daemon finds after another one.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    maps::{Array, MapData},
    programs::links::{FdLink, PinnedLink},
};
use ha_common::{
    Nanos,
    gate::{ADVERT_SLOT, Epoch, Lease},
};
use ha_core::InstanceId;
use ha_tests::{eventually, now};
use ha_user::dataplane::{Attachment, Dataplane, DataplaneError, Hook, Mode};

use crate::{
    fixture::unpinned,
    fixture_net::{Cable, NODE_IF, VIP},
    frames::udp,
};

pub(crate) const ID: InstanceId = InstanceId(3);

/// The daemon's start: open, set, attach.
pub(crate) fn start(cable: &Cable, mode: Mode) -> Result<(Dataplane, Attachment)> {
    let mut dataplane = Dataplane::open(&cable.options(mode))?;
    dataplane.set_instance(ID, &cable.config()?, &[VIP.into()], &[])?;
    let attachment = attach(cable, &mut dataplane)?;
    Ok((dataplane, attachment))
}

pub(crate) fn attach(cable: &Cable, dataplane: &mut Dataplane) -> Result<Attachment> {
    let (ifindex, _) = cable.interface()?;
    Ok(cable.node.enter(|| dataplane.attach(NODE_IF, ifindex))??)
}

/// The daemon's end, on the node.
pub(crate) fn close(cable: &Cable, dataplane: Dataplane) -> Result<()> {
    Ok(cable.node.enter(|| dataplane.close())??)
}

pub(crate) fn link_id(path: &Path) -> Result<u32> {
    Ok(FdLink::from(PinnedLink::from_pin(path)?).info()?.id())
}

/// Waits until XDP is off: a child process that is just being started holds every descriptor for a
/// moment, and a link lives as long as the last one.
pub(crate) fn wait_without_xdp(cable: &Cable) -> Result<()> {
    eventually(Duration::from_secs(5), "XDP is taken off", || {
        Ok(cable.xdp()?.is_none())
    })
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[test]
fn a_killed_daemon_leaves_the_gate_and_the_next_one_adopts_it() -> Result<()> {
    let cable = Cable::new()?;
    let (ifindex, _) = cable.interface()?;
    let (first, attachment) = start(&cable, Mode::Native)?;
    ensure!(
        attachment.hook == Hook::Native && !attachment.adopted,
        "{attachment:?}"
    );
    let epoch = Epoch(41);
    let until = now().after(Nanos::from_secs(60));
    first.set_epoch(ID, epoch);
    first.set_lease(ID, ADVERT_SLOT, Lease::new(epoch, until));
    let (_, first_program) = cable.xdp()?.context("XDP is attached")?;
    let xdp_pin = cable.pin_dir().join(format!("links/xdp-{ifindex}"));
    let first_link = link_id(&xdp_pin)?;

    // What SIGKILL leaves: descriptors and mappings are closed, nothing else is done.
    drop(first);
    ensure!(cable.xdp()? == Some((true, first_program)), "XDP stays");

    let (second, attachment) = start(&cable, Mode::Native)?;
    ensure!(
        attachment.hook == Hook::Native && attachment.adopted,
        "{attachment:?}"
    );
    ensure!(second.epoch(ID) == epoch, "the epoch survives");
    ensure!(second.gate_open(ID, now()), "the lease survives");
    ensure!(!second.gate_open(ID, until), "and ends when it would have");
    let (_, second_program) = cable.xdp()?.context("XDP is attached")?;
    ensure!(second_program != first_program, "the new daemon's program");
    ensure!(
        link_id(&xdp_pin)? == first_link,
        "under the same link: never off the interface"
    );

    second.set_epoch(ID, epoch.raised());
    drop(second);
    let (third, _) = start(&cable, Mode::Native)?;
    ensure!(!third.gate_open(ID, now()), "a closed gate stays closed");

    close(&cable, third)?;
    ensure!(cable.xdp()?.is_none(), "closing takes XDP off");
    ensure!(!cable.pin_dir().exists(), "and leaves no pin");
    Ok(())
}

#[test]
fn without_pins_everything_ends_with_the_daemon() -> Result<()> {
    let cable = Cable::new()?;
    let mut dataplane = Dataplane::open(&unpinned())?;
    let attachment = attach(&cable, &mut dataplane)?;
    ensure!(attachment.hook == Hook::Native && !attachment.adopted);
    ensure!(
        attach(&cable, &mut dataplane)? == attachment,
        "again: nothing happens"
    );
    ensure!(cable.xdp()?.is_some());
    drop(dataplane);
    wait_without_xdp(&cable)
}

#[test]
fn generic_where_it_is_configured() -> Result<()> {
    let cable = Cable::new()?;
    let (dataplane, attachment) = start(&cable, Mode::Generic)?;
    ensure!(attachment.hook == Hook::Generic);
    ensure!(matches!(cable.xdp()?, Some((false, _))));
    drop(dataplane);
    // What runs is kept, unless the configuration says otherwise.
    let (dataplane, attachment) = start(&cable, Mode::Generic)?;
    ensure!(
        attachment.hook == Hook::Generic && attachment.adopted,
        "{attachment:?}"
    );
    drop(dataplane);
    let (dataplane, attachment) = start(&cable, Mode::Native)?;
    ensure!(
        attachment.hook == Hook::Native && !attachment.adopted,
        "{attachment:?}"
    );
    ensure!(matches!(cable.xdp()?, Some((true, _))));
    close(&cable, dataplane)?;
    Ok(())
}

#[test]
fn auto_on_a_veth_is_generic() -> Result<()> {
    let cable = Cable::new()?;
    // Also where a daemon in native mode was killed.
    drop(start(&cable, Mode::Native)?);
    let (dataplane, attachment) = start(&cable, Mode::Auto)?;
    ensure!(
        attachment.hook == Hook::Generic && !attachment.adopted,
        "{attachment:?}"
    );
    ensure!(matches!(cable.xdp()?, Some((false, _))));
    drop(dataplane);
    let (dataplane, attachment) = start(&cable, Mode::Auto)?;
    ensure!(
        attachment.hook == Hook::Generic && attachment.adopted,
        "{attachment:?}"
    );
    close(&cable, dataplane)?;
    Ok(())
}

#[test]
fn detaching_one_interface_leaves_the_rest() -> Result<()> {
    let cable = Cable::new()?;
    let (ifindex, _) = cable.interface()?;
    let (mut dataplane, _) = start(&cable, Mode::Native)?;
    cable.node.enter(|| dataplane.detach(ifindex))??;
    wait_without_xdp(&cable)?;
    ensure!(names(&cable.pin_dir().join("links"))?.is_empty());
    ensure!(!attach(&cable, &mut dataplane)?.adopted);
    close(&cable, dataplane)?;
    Ok(())
}

#[test]
fn somebody_elses_program_is_never_replaced() -> Result<()> {
    let cable = Cable::new()?;
    let foreign = cable.pass(&cable.node, NODE_IF)?;
    let (_, id) = cable.xdp()?.context("the foreign program is attached")?;
    for mode in [Mode::Native, Mode::Generic] {
        match start(&cable, mode) {
            Err(error) => match error.downcast_ref() {
                Some(DataplaneError::ForeignXdp {
                    interface,
                    program_id,
                    native,
                }) => {
                    ensure!(interface == NODE_IF && u64::from(*program_id) == id && *native);
                    ensure!(error.to_string().contains(&format!("id {id}")), "{error}");
                }
                _ => bail!("another error: {error}"),
            },
            Ok(_) => bail!("it was replaced"),
        }
        ensure!(cable.xdp()? == Some((true, id)));
    }
    drop(foreign);
    wait_without_xdp(&cable)?;
    close(&cable, start(&cable, Mode::Native)?.0)?;
    Ok(())
}

#[test]
fn the_link_of_a_vanished_interface_is_no_obstacle() -> Result<()> {
    let cable = Cable::new()?;
    let (ifindex, _) = cable.interface()?;
    let (first, _) = start(&cable, Mode::Native)?;
    drop(first);
    cable.node.ip(&["link", "del", NODE_IF])?;
    // Another interface, with the very index of the old one.
    cable.plug(&["index", &ifindex.to_string()])?;
    ensure!(cable.interface()?.0 == ifindex);
    ensure!(cable.xdp()?.is_none());
    let (second, attachment) = start(&cable, Mode::Native)?;
    ensure!(!attachment.adopted, "{attachment:?}");
    ensure!(cable.xdp()?.is_some());
    // It vanishes under a running daemon, too.
    cable.node.ip(&["link", "del", NODE_IF])?;
    close(&cable, second)?;
    Ok(())
}

#[test]
fn an_unknown_file_system_is_an_error() -> Result<()> {
    let cable = Cable::new()?;
    let mut options = cable.options(Mode::Auto);
    options.pin_dir = Some(cable.dir().join("not-a-bpffs"));
    match Dataplane::open(&options) {
        Err(DataplaneError::NotBpffs { path }) => {
            ensure!(path == cable.dir().join("not-a-bpffs"));
            Ok(())
        }
        Err(error) => bail!("another error: {error}"),
        Ok(_) => bail!("nothing can be pinned there"),
    }
}

#[test]
fn maps_of_another_layout_are_not_adopted() -> Result<()> {
    let cable = Cable::new()?;
    start(&cable, Mode::Native)?.0.set_epoch(ID, Epoch(9));
    // A map of the present version with another layout, and maps of another version.
    let maps = names(&cable.pin_dir())?
        .into_iter()
        .find(|name| name.starts_with("maps-v"))
        .context("maps are pinned")?;
    let gates = cable.pin_dir().join(&maps).join("GATES");
    std::fs::remove_file(&gates)?;
    Array::<MapData, u32>::create(7, 0)?.pin(&gates)?;
    let older = cable.pin_dir().join("maps-v0");
    std::fs::create_dir(&older)?;
    Array::<MapData, u32>::create(7, 0)?.pin(older.join("GATES"))?;

    let (second, attachment) = start(&cable, Mode::Native)?;
    ensure!(attachment.adopted, "the links are adopted all the same");
    ensure!(second.epoch(ID) == Epoch::NONE, "new maps: closed");
    ensure!(!older.exists());
    close(&cable, second)?;
    Ok(())
}

#[test]
fn what_the_configuration_no_longer_names_is_forgotten() -> Result<()> {
    let cable = Cable::new()?;
    let (mut first, _) = start(&cable, Mode::Native)?;
    let frame = udp([10, 9, 0, 2], VIP.octets());
    ensure!(first.run_ingress(&frame)?.code == 1, "the gate is closed");
    drop(first);

    // A daemon without this instance and interface.
    let mut second = Dataplane::open(&cable.options(Mode::Native))?;
    ensure!(
        second.run_ingress(&frame)?.code == 1,
        "guarded until the daemon knows"
    );
    ensure!(cable.xdp()?.is_some());
    let (ifindex, _) = cable.interface()?;
    second.close_vip(VIP.into())?;
    second.forget_leftovers(&[(ifindex, VIP.into())])?;
    ensure!(
        cable.xdp()?.is_some() && second.run_ingress(&frame)?.code == 1,
        "an address that cannot be taken off keeps its programs, and is closed"
    );
    second.forget_leftovers(&[])?;
    ensure!(second.run_ingress(&frame)?.code == 2, "an ordinary address");
    wait_without_xdp(&cable)?;
    close(&cable, second)?;
    Ok(())
}

#[test]
fn an_interface_that_does_not_exist_is_an_error() -> Result<()> {
    let cable = Cable::new()?;
    let mut dataplane = Dataplane::open(&cable.options(Mode::Auto))?;
    let error = cable
        .node
        .enter(|| dataplane.attach("nowhere", 4711))?
        .unwrap_err();
    match &error {
        DataplaneError::Kernel { source, .. } => {
            ensure!(source.raw_os_error() == Some(libc::ENODEV), "{error}");
        }
        _ => bail!("another error: {error}"),
    }
    ensure!(names(&cable.pin_dir().join("links"))?.is_empty());
    close(&cable, dataplane)?;
    Ok(())
}

#[test]
fn without_tcx_the_egress_guard_is_a_filter_that_is_found_again() -> Result<()> {
    let cable = Cable::new()?;
    let filters = || {
        cable
            .node
            .run("tc", &["filter", "show", "dev", NODE_IF, "egress"])
    };
    let start = || -> Result<Dataplane> {
        let mut dataplane = Dataplane::open(&cable.options(Mode::Native))?;
        dataplane.without_tcx();
        ensure!(!attach(&cable, &mut dataplane)?.tcx);
        Ok(dataplane)
    };
    let ours = |text: &str| text.matches("handle 0x6841").count();
    let first = start()?;
    ensure!(ours(&filters()?) == 1, "{}", filters()?);
    let before = filters()?;
    drop(first);
    ensure!(filters()? == before, "it stays");
    let second = start()?;
    ensure!(
        ours(&filters()?) == 1,
        "replaced, not added: {}",
        filters()?
    );
    ensure!(filters()? != before, "by the new daemon's program");
    close(&cable, second)?;
    ensure!(ours(&filters()?) == 0, "{}", filters()?);

    // Unpinned: it goes with the daemon.
    let mut third = Dataplane::open(&unpinned())?;
    third.without_tcx();
    attach(&cable, &mut third)?;
    ensure!(ours(&filters()?) == 1);
    cable.node.enter(|| drop(third))?;
    ensure!(ours(&filters()?) == 0);
    Ok(())
}

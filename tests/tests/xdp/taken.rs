//! Where XDP is taken: the ingress program at tc, beside what others have.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use ha_common::{
    Nanos,
    gate::{ADVERT_SLOT, Epoch, Lease},
};
use ha_tests::{eventually, kernel::has_tcx, now};
use ha_user::dataplane::{Attachment, Dataplane, DataplaneError, Hook, Mode, Options};

use crate::{
    adoption::{self, ID, close, link_id, start, wait_without_xdp},
    fixture_net::{Cable, NODE_IF, VIP},
};

/// The programs of `had` at the interface's tc, of links and of filters.
fn at_tc(cable: &Cable) -> Result<String> {
    let mut shown = String::new();
    for (side, name) in [
        (TcAttachType::Ingress, "ingress"),
        (TcAttachType::Egress, "egress"),
    ] {
        if has_tcx() {
            let (_, programs) = cable
                .node
                .enter(|| SchedClassifier::query_tcx(NODE_IF, side))??;
            for program in programs {
                let name = program.name_as_str().context("no name")?;
                writeln!(shown, "{name} {}", program.id())?;
            }
        }
        let filters = ["filter", "show", "dev", NODE_IF, name];
        let filters = cable.node.run("tc", &filters)?;
        for name in filters.split_whitespace() {
            // "had_egress direct-action … name had_egress"
            if name.starts_with("had_") {
                writeln!(shown, "{name}")?;
                break;
            }
        }
    }
    Ok(shown)
}

/// The kernel takes a link's program off a while after its pin was removed.
fn wait_without_tc(cable: &Cable) -> Result<()> {
    eventually(Duration::from_secs(5), "nothing of had is at tc", || {
        Ok(at_tc(cable)?.is_empty())
    })
}

/// Whether programs at tc are links: in each of the ways in which this kernel can have them.
fn ways() -> impl Iterator<Item = bool> {
    [true, false].into_iter().filter(|tcx| !tcx || has_tcx())
}

fn open(options: &Options, tcx: bool) -> Result<Dataplane> {
    let mut dataplane = Dataplane::open(options)?;
    if !tcx {
        dataplane.without_tcx();
    }
    Ok(dataplane)
}

/// As [`start`].
fn start_by(cable: &Cable, mode: Mode, tcx: bool) -> Result<(Dataplane, Attachment)> {
    let mut dataplane = open(&cable.options(mode), tcx)?;
    dataplane.set_instance(ID, &cable.config()?, &[VIP.into()], &[])?;
    let attachment = adoption::attach(cable, &mut dataplane)?;
    Ok((dataplane, attachment))
}

#[test]
fn auto_leaves_xdp_to_others() -> Result<()> {
    let cable = Cable::new()?;
    let foreign = cable.pass(&cable.node, NODE_IF)?;
    let there = cable.xdp()?.context("the foreign program is attached")?;
    let (dataplane, attachment) = start(&cable, Mode::Auto)?;
    ensure!(
        attachment.hook == Hook::Tc && attachment.tcx == has_tcx(),
        "{attachment:?}"
    );
    ensure!(cable.xdp()? == Some(there), "it stays");
    close(&cable, dataplane)?;
    ensure!(cable.xdp()? == Some(there), "to the end");
    ensure!(!cable.pin_dir().exists());
    drop(foreign);
    wait_without_xdp(&cable)
}

#[test]
fn a_killed_daemon_leaves_its_gate_at_tc_and_the_next_one_adopts_it() -> Result<()> {
    ways().try_for_each(adopts)
}

fn adopts(tcx: bool) -> Result<()> {
    let cable = Cable::new()?;
    let (ifindex, _) = cable.interface()?;
    let (first, attachment) = start_by(&cable, Mode::Tc, tcx)?;
    ensure!(
        attachment.hook == Hook::Tc && !attachment.adopted,
        "{attachment:?}"
    );
    let epoch = Epoch(41);
    first.set_epoch(ID, epoch);
    first.set_lease(
        ID,
        ADVERT_SLOT,
        Lease::new(epoch, now().after(Nanos::from_secs(60))),
    );
    let pin = cable.pin_dir().join(format!("links/tcx-ingress-{ifindex}"));
    // A filter is no link, and has no pin.
    let link = || tcx.then(|| link_id(&pin)).transpose();
    let first_link = link()?;
    let before = at_tc(&cable)?;
    ensure!(
        before.contains("had_ingress_tc") && before.contains("had_egress"),
        "{before}"
    );
    drop(first);
    ensure!(at_tc(&cable)? == before, "it stays");

    // `auto` adopts it too: what runs is kept.
    let (second, attachment) = start_by(&cable, Mode::Auto, tcx)?;
    ensure!(
        attachment.hook == Hook::Tc && attachment.adopted,
        "{attachment:?}"
    );
    ensure!(second.gate_open(ID, now()), "the lease survives");
    ensure!(link()? == first_link, "under the same link");
    ensure!(at_tc(&cable)? != before || !tcx, "the new daemon's program");
    ensure!(cable.xdp()?.is_none(), "and nothing beside it");
    close(&cable, second)?;
    wait_without_tc(&cable)?;
    ensure!(!cable.pin_dir().exists());
    Ok(())
}

#[test]
fn another_mode_after_a_restart_leaves_nothing_of_the_former() -> Result<()> {
    for tcx in ways() {
        let cable = Cable::new()?;
        let start = |mode| -> Result<Dataplane> {
            let mut dataplane = open(&cable.options(mode), tcx)?;
            adoption::attach(&cable, &mut dataplane)?;
            Ok(dataplane)
        };
        for (mode, xdp) in [
            (Mode::Native, Some(true)),
            (Mode::Tc, None),
            (Mode::Generic, Some(false)),
            (Mode::Tc, None),
            (Mode::Native, Some(true)),
        ] {
            // As after SIGKILL.
            drop(start(mode)?);
            let found = cable.xdp()?.map(|(native, _)| native);
            ensure!(found == xdp, "{mode:?}: {found:?}");
            let expected = [usize::from(xdp.is_none()), 1];
            let patience = Duration::from_secs(5);
            eventually(
                patience,
                "each program is there as often as it should",
                || {
                    let shown = at_tc(&cable)?;
                    let count = |name| shown.matches(name).count();
                    Ok([count("had_ingress_tc"), count("had_egress")] == expected)
                },
            )?;
        }
        close(&cable, start(Mode::Tc)?)?;
        wait_without_tc(&cable)?;
    }
    Ok(())
}

#[test]
fn two_daemons_do_not_share_an_interface() -> Result<()> {
    ways().try_for_each(are_refused)
}

fn are_refused(tcx: bool) -> Result<()> {
    let cable = Cable::new()?;
    for (first, second) in [
        (Mode::Tc, Mode::Auto),
        (Mode::Tc, Mode::Native),
        (Mode::Tc, Mode::Tc),
        (Mode::Native, Mode::Tc),
        (Mode::Generic, Mode::Auto),
    ] {
        let (dataplane, _) = start_by(&cable, first, tcx)?;
        let options = Options {
            mode: second,
            pin_dir: Some(cable.dir().join("bpf/other")),
        };
        let mut other = open(&options, tcx)?;
        let before = at_tc(&cable)?;
        match adoption::attach(&cable, &mut other) {
            Err(error) => match error.downcast_ref() {
                Some(DataplaneError::OtherHad { interface, .. }) => ensure!(interface == NODE_IF),
                _ => bail!("another error: {error}"),
            },
            Ok(attachment) => bail!("{second:?} beside {first:?}: {attachment:?}"),
        }
        ensure!(at_tc(&cable)? == before, "the first one's stay");
        close(&cable, other)?;
        close(&cable, dataplane)?;
    }
    Ok(())
}

/// The next daemon has no instance there any more.
#[test]
fn what_a_killed_daemon_left_elsewhere_goes() -> Result<()> {
    for tcx in ways() {
        for mode in [Mode::Tc, Mode::Native] {
            let cable = Cable::new()?;
            drop(start_by(&cable, mode, tcx)?);
            ensure!(at_tc(&cable)?.contains("had_egress"));
            let mut next = open(&cable.options(mode), tcx)?;
            cable.node.enter(|| next.forget_leftovers(&[]))??;
            wait_without_tc(&cable)?;
            wait_without_xdp(&cable)?;
            close(&cable, next)?;
        }
    }
    Ok(())
}

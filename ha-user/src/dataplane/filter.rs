//! A program at tc: as tcx link, or as clsact filter where there is no tcx.

use std::{
    path::{Path, PathBuf},
    thread,
};

use aya::programs::{
    LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
    links::FdLink,
    tc::{SchedClassifierLink, TcAttachOptions},
};
use tracing::{info, warn};

use super::{
    DataplaneError,
    attach::Place,
    clsact::{self, Clsact},
    held::{self, Held},
    interface::{self, DETACH_POLL, DETACH_POLLS},
    pins::{self, Pins},
    xdp,
};

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The program of ingress where XDP is taken.
    Ingress,
    /// The guard.
    Egress,
    /// The guards of an interface that no instance names.
    GuardIngress,
    GuardEgress,
}

impl Side {
    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress | Self::GuardIngress => TcAttachType::Ingress,
            Self::Egress | Self::GuardEgress => TcAttachType::Egress,
        }
    }

    /// Of the link's pin.
    const fn kind(self) -> &'static str {
        match self {
            Self::Ingress => "tcx-ingress",
            Self::Egress => "tcx",
            Self::GuardIngress => "guard-ingress",
            Self::GuardEgress => "guard-egress",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::GuardIngress => "guard's ingress",
            Self::GuardEgress => "guard's egress",
        }
    }
}

/// An attached program.
pub(super) enum Filter {
    /// A link.
    Tcx(Held),
    /// A filter of clsact.
    Clsact(Clsact),
}

impl Filter {
    pub(super) const fn is_tcx(&self) -> bool {
        matches!(self, Self::Tcx(_))
    }

    /// Takes the program off.
    pub(super) fn release(self) -> Result<(), DataplaneError> {
        match self {
            Self::Tcx(held) => held.release(),
            Self::Clsact(filter) => filter.release(),
        }
    }
}

fn pin(place: Place<'_>, side: Side) -> Option<PathBuf> {
    place.pins.map(|pins| pins.link(side.kind(), place.ifindex))
}

/// Whether an earlier daemon left its ingress program.
pub(super) fn is_left(place: Place<'_>) -> bool {
    pin(place, Side::Ingress).is_some_and(|path| path.exists())
        || clsact::own_program(place).is_some()
}

/// Attaches, or puts the program where an earlier daemon's is. Whether one was.
pub(super) fn attach(
    program: &mut SchedClassifier,
    place: Place<'_>,
    tcx: bool,
    side: Side,
) -> Result<(Filter, bool), DataplaneError> {
    let name = place.name;
    let pin = pin(place, side);
    if let Some(path) = pin.as_deref().filter(|path| path.exists()) {
        match adopt_tcx(program, path) {
            Ok(link) => return Ok((Filter::Tcx(Held::adopted(link, path.into())), true)),
            Err(error) => warn!(interface = name, %error, "a pinned link is dead: attaching anew"),
        }
        pins::remove_file(path)?;
    }
    if !tcx {
        return attach_clsact(program, place, side);
    }
    match create_tcx(program, name, side) {
        Ok(link) => Ok((Filter::Tcx(Held::new(link, pin)?), false)),
        Err(error) => {
            info!(interface = name, %error, "no tcx (it takes Linux 6.6): clsact filter");
            attach_clsact(program, place, side)
        }
    }
}

fn attach_clsact(
    program: &mut SchedClassifier,
    place: Place<'_>,
    side: Side,
) -> Result<(Filter, bool), DataplaneError> {
    let (filter, adopted) = clsact::attach(program, place, side)?;
    Ok((Filter::Clsact(filter), adopted))
}

fn adopt_tcx(program: &mut SchedClassifier, path: &Path) -> Result<FdLink, DataplaneError> {
    let what = format!("adopting {}", path.display());
    let link = SchedClassifierLink::try_from(held::open(path)?)
        .map_err(|error| DataplaneError::kernel(what.clone(), error))?;
    let failed = |error: ProgramError| DataplaneError::kernel(what.clone(), error);
    let id = program.attach_to_link(link).map_err(failed)?;
    tcx_link(program.take_link(id).map_err(failed)?)
}

fn create_tcx(
    program: &mut SchedClassifier,
    name: &str,
    side: Side,
) -> Result<FdLink, DataplaneError> {
    let failed = |error: ProgramError| {
        let what = format!("attaching the {} program to {name}", side.name());
        DataplaneError::kernel(what, error)
    };
    let id = program
        .attach_with_options(
            name,
            side.attach_type(),
            TcAttachOptions::TcxOrder(LinkOrder::first()),
        )
        .map_err(failed)?;
    tcx_link(program.take_link(id).map_err(failed)?)
}

fn tcx_link(link: SchedClassifierLink) -> Result<FdLink, DataplaneError> {
    FdLink::try_from(link).map_err(|error| DataplaneError::kernel("attaching a tcx link", error))
}

/// Removes what an earlier daemon left on an interface on one side, if anything.
pub(super) fn remove(place: Place<'_>, side: Side) -> Result<(), DataplaneError> {
    if let Some(path) = pin(place, side) {
        pins::remove_file(&path)?;
    }
    clsact::remove_with_pin(place, side)
}

/// Removes the filters that an earlier daemon with these pins left on an interface, which may be gone, unless another
/// one has it by now.
pub(super) fn remove_left(pins: &Pins, ifindex: u32) -> Result<(), DataplaneError> {
    let Ok(interface) = interface::query(ifindex) else {
        return Ok(());
    };
    let place = Place {
        pins: Some(pins),
        name: &interface.name,
        ifindex,
    };
    let has_xdp = xdp::is_pinned(place);
    if other_had(place).is_some() || (!has_xdp && xdp::refuse_other_had(place).is_err()) {
        return Ok(());
    }
    let egress = clsact::remove(place.name, Side::Egress);
    remove(place, Side::Ingress).and(egress)
}

/// The ingress program at tc of another daemon: it would take the adverts, and answer. Its number.
///
/// Where nothing is pinned, nobody can tell whose a filter is: then it counts as that of an earlier run.
pub(super) fn other_had(place: Place<'_>) -> Option<u32> {
    let own = pin(place, Side::Ingress)
        .filter(|path| path.exists())
        .and_then(|path| held::open(&path).ok())
        .and_then(|link| Some(link.info().ok()?.program_id()));
    let filter = place.pins.and_then(|_| clsact::program(place));
    let is_foreign = |id: &u32| Some(*id) != own && clsact::own_program(place) != Some(*id);
    had_programs(place.name)
        .into_iter()
        .chain(filter)
        .find(is_foreign)
}

/// Waits until this daemon's ingress program is off an interface, for a second at most.
pub(super) fn wait_until_gone(name: &str) {
    for _ in 0..DETACH_POLLS {
        if had_programs(name).is_empty() {
            break;
        }
        thread::sleep(DETACH_POLL);
    }
}

/// The programs `had_ingress_tc` at an interface's tcx; none where there is no tcx.
fn had_programs(name: &str) -> Vec<u32> {
    SchedClassifier::query_tcx(name, TcAttachType::Ingress)
        .map(|(_, programs)| programs)
        .unwrap_or_default()
        .iter()
        .filter(|program| program.name() == b"had_ingress_tc")
        .map(ProgramInfo::id)
        .collect()
}

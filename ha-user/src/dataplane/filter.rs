//! A program at tc: as tcx link, or as clsact filter where there is no tcx.

use std::{
    path::{Path, PathBuf},
    thread,
};

use aya::programs::{
    Link as _, LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::FdLink,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use tracing::{info, warn};

use super::{
    DataplaneError,
    attach::Place,
    held::{self, Held},
    interface::{DETACH_POLL, DETACH_POLLS},
    pins,
};

/// The clsact filter's place: first, and by a handle ("hA"; of a guard "hB") that a later daemon knows again.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x6841);
const GUARD_HANDLE: TcHandle = TcHandle::new(0, 0x6842);

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
    const fn attach_type(self) -> TcAttachType {
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

    const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::GuardIngress => "guard's ingress",
            Self::GuardEgress => "guard's egress",
        }
    }

    const fn handle(self) -> TcHandle {
        match self {
            Self::Ingress | Self::Egress => HANDLE,
            Self::GuardIngress | Self::GuardEgress => GUARD_HANDLE,
        }
    }
}

/// An attached program.
pub(super) enum Filter {
    /// A link.
    Tcx(Held),
    /// A filter stays when its loader ends; this one is removed with the link, where nothing is pinned.
    Clsact {
        link: Option<SchedClassifierLink>,
        interface: String,
        side: Side,
    },
}

impl Filter {
    pub(super) const fn is_tcx(&self) -> bool {
        matches!(self, Self::Tcx(_))
    }

    /// Takes the program off.
    pub(super) fn release(self) -> Result<(), DataplaneError> {
        match self {
            Self::Tcx(held) => held.release(),
            Self::Clsact {
                link: Some(link),
                interface,
                side,
            } => removed(link, &interface, side),
            // The interface may be gone, and its filters with it.
            Self::Clsact {
                link: None,
                interface,
                side,
            } => match clsact_link(&interface, side) {
                Ok(link) => removed(link, &interface, side),
                Err(_) => Ok(()),
            },
        }
    }
}

fn pin(place: Place<'_>, side: Side) -> Option<PathBuf> {
    place.pins.map(|pins| pins.link(side.kind(), place.ifindex))
}

/// Whether an earlier daemon left a link.
pub(super) fn is_pinned(place: Place<'_>, side: Side) -> bool {
    pin(place, side).is_some_and(|path| path.exists())
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
        return attach_clsact(program, name, side, pin.is_some());
    }
    match create_tcx(program, name, side) {
        Ok(link) => Ok((Filter::Tcx(Held::new(link, pin)?), false)),
        Err(error) => {
            info!(interface = name, %error, "no tcx (it takes Linux 6.6): clsact filter");
            attach_clsact(program, name, side, pin.is_some())
        }
    }
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

/// The filter at our place, whether or not it is there.
fn clsact_link(name: &str, side: Side) -> Result<SchedClassifierLink, DataplaneError> {
    SchedClassifierLink::attached(name, side.attach_type(), PRIORITY, side.handle(), None).map_err(
        |source| DataplaneError::Kernel {
            what: format!("looking for {name}"),
            source,
        },
    )
}

/// Replaces the filter that an earlier daemon left at our place, else makes one.
fn attach_clsact(
    program: &mut SchedClassifier,
    name: &str,
    side: Side,
    stays: bool,
) -> Result<(Filter, bool), DataplaneError> {
    let failed = |error: ProgramError| {
        let what = format!("attaching the {} filter to {name}", side.name());
        DataplaneError::kernel(what, error)
    };
    let (id, adopted) = match program.attach_to_link(clsact_link(name, side)?) {
        Ok(id) => (id, true),
        Err(_) => {
            // It may be there: then the filter's own error is the one that counts.
            let _ = tc::qdisc_add_clsact(name);
            let options = NlOptions {
                priority: PRIORITY,
                handle: side.handle(),
                classid: None,
            };
            let id = program
                .attach_with_options(name, side.attach_type(), TcAttachOptions::Netlink(options))
                .map_err(failed)?;
            (id, false)
        }
    };
    let link = program.take_link(id).map_err(failed)?;
    let kept = if stays {
        // Dropping it would remove the filter, which is to outlive this daemon.
        std::mem::forget(link);
        None
    } else {
        Some(link)
    };
    let filter = Filter::Clsact {
        link: kept,
        interface: name.into(),
        side,
    };
    Ok((filter, adopted))
}

/// Removes what an earlier daemon left on an interface on one side, if anything.
pub(super) fn remove(place: Place<'_>, side: Side) -> Result<(), DataplaneError> {
    if let Some(path) = pin(place, side) {
        pins::remove_file(&path)?;
    }
    remove_clsact(place.name, side)
}

/// Removes the filter that an earlier daemon left on an interface, if there is one.
pub(super) fn remove_clsact(name: &str, side: Side) -> Result<(), DataplaneError> {
    let Ok(link) = clsact_link(name, side) else {
        return Ok(());
    };
    match removed(link, name, side) {
        // No such filter; no clsact qdisc.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn removed(link: SchedClassifierLink, name: &str, side: Side) -> Result<(), DataplaneError> {
    let result = link.detach().map_err(|error| {
        let what = format!("removing the {} filter of {name}", side.name());
        DataplaneError::kernel(what, error)
    });
    match result {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// The ingress program at tcx of another daemon: it would take the adverts, and answer. Its number.
pub(super) fn other_had(place: Place<'_>) -> Option<u32> {
    let own = pin(place, Side::Ingress)
        .filter(|path| path.exists())
        .and_then(|path| held::open(&path).ok())
        .and_then(|link| Some(link.info().ok()?.program_id()));
    had_programs(place.name)
        .into_iter()
        .find(|id| Some(*id) != own)
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
        .map(aya::programs::ProgramInfo::id)
        .collect()
}

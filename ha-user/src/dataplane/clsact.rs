//! Programs at tc as clsact filters, where there is no tcx (before Linux 6.6).
//!
//! A filter outlives its loader and has no link that could be pinned. Whose it is a pin of its program tells: of the one
//! of ingress, for by that two daemons would get into each other's way.

use std::{fs, path::PathBuf};

use aya::programs::{
    Link as _, ProgramError, ProgramInfo, SchedClassifier,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use tracing::warn;

use super::{
    DataplaneError,
    attach::Place,
    filter::Side,
    pins,
    tc_query::{self, Slot},
};

/// The filter's place: first, and by a handle ("hA"; of a guard "hB") that a later daemon knows again.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x6841);
const GUARD_HANDLE: TcHandle = TcHandle::new(0, 0x6842);

const fn handle(side: Side) -> TcHandle {
    match side {
        Side::Ingress | Side::Egress => HANDLE,
        Side::GuardIngress | Side::GuardEgress => GUARD_HANDLE,
    }
}

/// A filter; removed when it is dropped, where nothing is pinned.
pub(super) struct Clsact {
    link: Option<SchedClassifierLink>,
    interface: String,
    side: Side,
    pin: Option<PathBuf>,
}

impl Clsact {
    /// Takes the program off.
    pub(super) fn release(self) -> Result<(), DataplaneError> {
        let Self {
            link,
            interface,
            side,
            pin,
        } = self;
        let result = match link.map_or_else(|| link_to(&interface, side), Ok) {
            Ok(link) => removed(link, &interface, side),
            // The interface may be gone, and its filters with it.
            Err(_) => Ok(()),
        };
        // As long as there is a filter, it tells whose it is.
        result.and(pin.map_or(Ok(()), |pin| pins::remove_file(&pin)))
    }
}

/// Where a filter's program is pinned, and where while it takes the place of another.
fn pin(place: Place<'_>, side: Side) -> Option<[PathBuf; 2]> {
    let pins = place.pins.filter(|_| side == Side::Ingress)?;
    let name = "clsact-ingress";
    let draft = pins.scratch(&format!("{name}-{}", place.ifindex));
    Some([pins.link(name, place.ifindex), draft])
}

/// The program of the filter of ingress, if a daemon with these pins has put it there.
pub(super) fn own_program(place: Place<'_>) -> Option<u32> {
    let pins = pin(place, Side::Ingress)?;
    let found = program(place)?;
    let mut pinned = pins
        .iter()
        .filter_map(|pin| Some(ProgramInfo::from_pin(pin).ok()?.id()));
    pinned.find(|id| *id == found)
}

/// The program of the filter of ingress, if there is one.
pub(super) fn program(place: Place<'_>) -> Option<u32> {
    let slot = Slot {
        ifindex: place.ifindex,
        priority: PRIORITY,
        handle: HANDLE,
    };
    tc_query::program(slot).unwrap_or_else(|error| {
        warn!(interface = place.name, %error, "another daemon's filter would not be noticed");
        None
    })
}

/// Replaces the filter that an earlier daemon left at our place, else makes one. Whether one was there.
pub(super) fn attach(
    program: &mut SchedClassifier,
    place: Place<'_>,
    side: Side,
) -> Result<(Clsact, bool), DataplaneError> {
    let Some([pin, draft]) = pin(place, side) else {
        return put(program, place, side, None);
    };
    // Killed at any point between, it has left a filter whose program is pinned.
    pins::remove_file(&draft)?;
    program
        .pin(&draft)
        .map_err(|error| DataplaneError::kernel(format!("pinning {}", draft.display()), error))?;
    let attached = put(program, place, side, Some(pin.clone()));
    if attached.is_err() {
        pins::remove_file(&draft)?;
        return attached;
    }
    match fs::rename(&draft, &pin) {
        Ok(()) => attached,
        Err(source) => {
            attached?.0.release()?;
            Err(DataplaneError::Kernel {
                what: format!("renaming {}", draft.display()),
                source,
            })
        }
    }
}

fn put(
    program: &mut SchedClassifier,
    place: Place<'_>,
    side: Side,
    pin: Option<PathBuf>,
) -> Result<(Clsact, bool), DataplaneError> {
    let name = place.name;
    let failed = |error: ProgramError| {
        let what = format!("attaching the {} filter to {name}", side.name());
        DataplaneError::kernel(what, error)
    };
    let (id, adopted) = match program.attach_to_link(link_to(name, side)?) {
        Ok(id) => (id, true),
        Err(_) => {
            // It may be there: then the filter's own error is the one that counts.
            let _ = tc::qdisc_add_clsact(name);
            let options = NlOptions {
                priority: PRIORITY,
                handle: handle(side),
                classid: None,
            };
            let id = program
                .attach_with_options(name, side.attach_type(), TcAttachOptions::Netlink(options))
                .map_err(failed)?;
            (id, false)
        }
    };
    let link = program.take_link(id).map_err(failed)?;
    let kept = if place.pins.is_some() {
        // Dropping it would remove the filter, which is to outlive this daemon.
        std::mem::forget(link);
        None
    } else {
        Some(link)
    };
    let filter = Clsact {
        link: kept,
        interface: name.into(),
        side,
        pin,
    };
    Ok((filter, adopted))
}

/// The filter at our place, whether or not it is there.
fn link_to(name: &str, side: Side) -> Result<SchedClassifierLink, DataplaneError> {
    SchedClassifierLink::attached(name, side.attach_type(), PRIORITY, handle(side), None).map_err(
        |source| DataplaneError::Kernel {
            what: format!("looking for {name}"),
            source,
        },
    )
}

/// Removes the filter that an earlier daemon left on an interface, if there is one, and its pin.
pub(super) fn remove_with_pin(place: Place<'_>, side: Side) -> Result<(), DataplaneError> {
    remove(place.name, side)?;
    let mut pins = pin(place, side).into_iter().flatten();
    pins.try_for_each(|pin| pins::remove_file(&pin))
}

/// Removes the filter that an earlier daemon left on an interface, if there is one.
pub(super) fn remove(name: &str, side: Side) -> Result<(), DataplaneError> {
    let Ok(link) = link_to(name, side) else {
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

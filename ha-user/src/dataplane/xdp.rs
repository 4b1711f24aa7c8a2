//! XDP, in native or generic mode.

use std::{
    path::{Path, PathBuf},
    thread,
};

use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink, loaded_programs, xdp::XdpLink};
use tracing::{info, warn};

use super::{
    DataplaneError, Hook, Mode,
    attach::Place,
    held::{self, Held},
    interface::{self, AttachedXdp, DETACH_POLL, DETACH_POLLS, Interface, Kind},
    pins,
};

/// Where a link is pinned, if anything is.
fn pin(place: Place<'_>) -> Option<PathBuf> {
    place.pins.map(|pins| pins.link("xdp", place.ifindex))
}

/// Whether an earlier daemon left a link.
pub(super) fn is_pinned(place: Place<'_>) -> bool {
    pin(place).is_some_and(|path| path.exists())
}

/// Takes off what an earlier daemon left, if anything.
pub(super) fn remove(place: Place<'_>) -> Result<(), DataplaneError> {
    match pin(place).filter(|path| path.exists()) {
        Some(path) => {
            info!(
                interface = place.name,
                "attaching again in the configured mode"
            );
            pins::remove_file(&path)?;
            wait_until_gone(place.ifindex)
        }
        None => Ok(()),
    }
}

/// Attaches, or adopts the pinned link. How it is attached, and whether it was found so.
pub(super) fn attach(
    program: &mut Xdp,
    place: Place<'_>,
    mode: Mode,
) -> Result<(Held, Hook, bool), DataplaneError> {
    let Place { name, ifindex, .. } = place;
    let kind = interface::query(ifindex)?.kind;
    let (mode, why) = match (mode, kind.why_generic()) {
        (Mode::Auto, Some(why)) => (Mode::Generic, Some(why)),
        _ => (mode, None),
    };
    let pin = pin(place);
    if let Some(path) = pin.as_deref().filter(|path| path.exists()) {
        match adopt(program, path, ifindex) {
            Ok((link, hook)) if fits(mode, hook) => {
                return Ok((Held::adopted(link, path.into()), hook, true));
            }
            Ok(_) => info!(interface = name, "attaching again in the configured mode"),
            Err(error) => warn!(interface = name, %error, "a pinned link is dead: attaching anew"),
        }
        pins::remove_file(path)?;
        wait_until_gone(ifindex)?;
    }
    refuse_other_had(place)?;
    if let Some(AttachedXdp { native, program_id }) = interface::query(ifindex)?.xdp {
        return Err(DataplaneError::ForeignXdp {
            interface: name.into(),
            program_id,
            native,
        });
    }
    let (link, hook) = match mode {
        Mode::Native if kind == Kind::Bond => {
            return Err(DataplaneError::NativeBond {
                interface: name.into(),
            });
        }
        Mode::Native => (
            create(program, name, ifindex, XdpMode::Driver)?,
            Hook::Native,
        ),
        Mode::Auto => match create(program, name, ifindex, XdpMode::Driver) {
            Ok(link) => (link, Hook::Native),
            Err(error) => {
                let link = create(program, name, ifindex, XdpMode::Skb)?;
                warn!(interface = name, %error, "no native XDP: generic mode");
                (link, Hook::Generic)
            }
        },
        Mode::Generic | Mode::Tc => {
            let link = create(program, name, ifindex, XdpMode::Skb)?;
            // Not before: an attempt that fails is repeated.
            if let Some(why) = why {
                info!(interface = name, "XDP in generic mode: {why}");
            }
            (link, Hook::Generic)
        }
    };
    Ok((Held::new(link, pin)?, hook, false))
}

/// Another daemon's program would take the adverts, and answer.
pub(super) fn refuse_other_had(place: Place<'_>) -> Result<(), DataplaneError> {
    match interface::query(place.ifindex)?.xdp {
        Some(AttachedXdp { program_id, .. }) if is_had(program_id) => {
            Err(DataplaneError::OtherHad {
                interface: place.name.into(),
                program_id,
            })
        }
        _ => Ok(()),
    }
}

/// Whether a program is `had_ingress`, by its name.
fn is_had(program_id: u32) -> bool {
    loaded_programs()
        .filter_map(Result::ok)
        .any(|program| program.id() == program_id && program.name() == b"had_ingress")
}

const fn fits(mode: Mode, hook: Hook) -> bool {
    match mode {
        Mode::Auto => true,
        Mode::Native => matches!(hook, Hook::Native),
        Mode::Generic | Mode::Tc => matches!(hook, Hook::Generic),
    }
}

/// Puts the program under a pinned link, and makes sure that this is what the interface has.
fn adopt(program: &mut Xdp, path: &Path, ifindex: u32) -> Result<(FdLink, Hook), DataplaneError> {
    let what = format!("adopting {}", path.display());
    let failed = |error: ProgramError| DataplaneError::kernel(what.clone(), error);
    let link = XdpLink::try_from(held::open(path)?).map_err(|error| {
        DataplaneError::kernel(format!("{} is no XDP link", path.display()), error)
    })?;
    let id = program.attach_to_link(link).map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    let ours = program.info().map_err(failed)?.id();
    match interface::query(ifindex)?.xdp {
        Some(xdp) if xdp.program_id == ours => {
            let hook = if xdp.native {
                Hook::Native
            } else {
                Hook::Generic
            };
            Ok((fd_link(link)?, hook))
        }
        _ => Err(DataplaneError::Kernel {
            what,
            source: std::io::Error::other("it belongs to another interface"),
        }),
    }
}

fn create(
    program: &mut Xdp,
    name: &str,
    ifindex: u32,
    mode: XdpMode,
) -> Result<FdLink, DataplaneError> {
    let failed = |error| DataplaneError::kernel(format!("attaching XDP to {name}"), error);
    let id = program.attach_to_if_index(ifindex, mode).map_err(failed)?;
    // Where the kernel has no link for this, aya falls back to netlink; that is taken off again.
    fd_link(program.take_link(id).map_err(failed)?)
}

fn fd_link(link: XdpLink) -> Result<FdLink, DataplaneError> {
    FdLink::try_from(link).map_err(|error| {
        DataplaneError::kernel("attaching XDP as a link (it takes Linux 5.9)", error)
    })
}

/// Waits until an interface does not have this daemon's program, for a second at most: the kernel takes one
/// off a while after its link's pin was removed.
pub(super) fn wait_until_gone(ifindex: u32) -> Result<(), DataplaneError> {
    for _ in 0..DETACH_POLLS {
        match interface::query(ifindex) {
            Ok(Interface { xdp: Some(xdp), .. }) if is_had(xdp.program_id) => {
                thread::sleep(DETACH_POLL);
            }
            Err(error) if error.errno() != Some(libc::ENODEV) => return Err(error),
            _ => break,
        }
    }
    Ok(())
}

//! Attaching: XDP in native or generic mode, the egress guard as tcx link or clsact filter.

use std::path::{Path, PathBuf};

use aya::programs::{
    Link as _, LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    loaded_programs,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    xdp::XdpLink,
};
use tracing::{info, warn};

use super::{
    Attachment, DataplaneError, Mode,
    interface::{self, AttachedXdp, Kind},
    loader::Programs,
    pins::{self, Pins},
};

/// The clsact filter's place: first, and by a handle ("hA") that a later daemon knows again.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x6841);

/// How to attach.
#[derive(Clone, Copy)]
pub(super) struct Modes {
    pub(super) xdp: Mode,
    /// Whether to try tcx before clsact.
    pub(super) tcx: bool,
}

/// What is attached to one interface.
pub(super) struct Attached {
    xdp: Held,
    egress: Egress,
    attachment: Attachment,
}

/// A link. Closing the descriptor of an unpinned one takes its program off the interface.
struct Held {
    _link: FdLink,
    pin: Option<PathBuf>,
}

enum Egress {
    Tcx(Held),
    /// A filter stays when its loader ends; this one is removed with the link, where nothing is pinned.
    Clsact(Option<SchedClassifierLink>, String),
}

impl Attached {
    pub(super) const fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Lets go of the interface. The kernel takes the XDP program off a while later:
    /// [`interface::wait_without_xdp`].
    pub(super) fn detach(self) -> Result<(), DataplaneError> {
        let egress = match self.egress {
            Egress::Tcx(held) => held.release(),
            Egress::Clsact(Some(link), name) => removed(link, &name),
            // The interface may be gone, and its filters with it.
            Egress::Clsact(None, name) => match clsact_link(&name) {
                Ok(link) => removed(link, &name),
                Err(_) => Ok(()),
            },
        };
        self.xdp.release().and(egress)
    }
}

impl Held {
    fn release(self) -> Result<(), DataplaneError> {
        match &self.pin {
            Some(pin) => pins::remove_file(pin),
            None => Ok(()),
        }
    }

    /// Pins a new link, or notes that it was found pinned.
    fn new(link: FdLink, pin: Option<PathBuf>, pinned: bool) -> Result<Self, DataplaneError> {
        match pin {
            Some(path) if !pinned => {
                let link = link
                    .pin(&path)
                    .map_err(|error| {
                        DataplaneError::kernel(format!("pinning {}", path.display()), error)
                    })?
                    .into();
                Ok(Self {
                    _link: link,
                    pin: Some(path),
                })
            }
            pin => Ok(Self { _link: link, pin }),
        }
    }
}

/// Attaches both programs, or neither.
pub(super) fn attach(
    programs: &mut Programs,
    pins: Option<&Pins>,
    modes: Modes,
    name: &str,
    ifindex: u32,
) -> Result<Attached, DataplaneError> {
    let pin = |kind| pins.map(|pins| pins.link(kind, ifindex));
    let (xdp, native, adopted) =
        attach_xdp(programs.ingress()?, pin("xdp"), modes.xdp, name, ifindex)?;
    match attach_egress(programs.egress()?, pin("tcx"), modes.tcx, name) {
        Ok(egress) => Ok(Attached {
            attachment: Attachment {
                native,
                tcx: matches!(egress, Egress::Tcx(_)),
                adopted,
            },
            xdp,
            egress,
        }),
        Err(error) => {
            if !adopted {
                xdp.release()?;
            }
            Err(error)
        }
    }
}

fn attach_xdp(
    program: &mut Xdp,
    pin: Option<PathBuf>,
    mode: Mode,
    name: &str,
    ifindex: u32,
) -> Result<(Held, bool, bool), DataplaneError> {
    let kind = interface::query(ifindex)?.kind;
    let (mode, why) = match (mode, kind.why_generic()) {
        (Mode::Auto, Some(why)) => (Mode::Generic, Some(why)),
        _ => (mode, None),
    };
    if let Some(path) = pin.as_deref().filter(|path| path.exists()) {
        match adopt_xdp(program, path, ifindex) {
            Ok((link, native)) if mode_fits(mode, native) => {
                return Ok((Held::new(link, pin, true)?, native, true));
            }
            Ok(_) => info!(interface = name, "attaching again in the configured mode"),
            Err(error) => warn!(interface = name, %error, "a pinned link is dead: attaching anew"),
        }
        pins::remove_file(path)?;
        interface::wait_without_xdp(ifindex)?;
    }
    if let Some(AttachedXdp { native, program_id }) = interface::query(ifindex)?.xdp {
        if is_had(program_id) {
            return Err(DataplaneError::OtherHad {
                interface: name.into(),
                program_id,
            });
        }
        return Err(DataplaneError::ForeignXdp {
            interface: name.into(),
            program_id,
            native,
        });
    }
    let (link, native) = match mode {
        Mode::Native if kind == Kind::Bond => {
            return Err(DataplaneError::NativeBond {
                interface: name.into(),
            });
        }
        Mode::Native => (create_xdp(program, name, ifindex, XdpMode::Driver)?, true),
        Mode::Generic => {
            let link = create_xdp(program, name, ifindex, XdpMode::Skb)?;
            // Not before: an attempt that fails is repeated.
            if let Some(why) = why {
                info!(interface = name, "XDP in generic mode: {why}");
            }
            (link, false)
        }
        Mode::Auto => match create_xdp(program, name, ifindex, XdpMode::Driver) {
            Ok(link) => (link, true),
            Err(error) => {
                warn!(interface = name, %error, "no native XDP: generic mode");
                (create_xdp(program, name, ifindex, XdpMode::Skb)?, false)
            }
        },
    };
    Ok((Held::new(link, pin, false)?, native, false))
}

/// Whether a program is `had_ingress`, by its name.
fn is_had(program_id: u32) -> bool {
    loaded_programs()
        .filter_map(Result::ok)
        .any(|program| program.id() == program_id && program.name() == b"had_ingress")
}

const fn mode_fits(mode: Mode, native: bool) -> bool {
    match mode {
        Mode::Auto => true,
        Mode::Native => native,
        Mode::Generic => !native,
    }
}

/// Puts the program under a pinned link, and makes sure that this is what the interface has.
fn adopt_xdp(
    program: &mut Xdp,
    path: &Path,
    ifindex: u32,
) -> Result<(FdLink, bool), DataplaneError> {
    let what = format!("adopting {}", path.display());
    let failed = |error: ProgramError| DataplaneError::kernel(what.clone(), error);
    let link = pinned(path)?;
    let link = XdpLink::try_from(link).map_err(|error| {
        DataplaneError::kernel(format!("{} is no XDP link", path.display()), error)
    })?;
    let id = program.attach_to_link(link).map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    let ours = program.info().map_err(failed)?.id();
    match interface::query(ifindex)?.xdp {
        Some(xdp) if xdp.program_id == ours => Ok((fd_link(link)?, xdp.native)),
        _ => Err(DataplaneError::Kernel {
            what,
            source: std::io::Error::other("it belongs to another interface"),
        }),
    }
}

fn create_xdp(
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

fn pinned(path: &Path) -> Result<FdLink, DataplaneError> {
    PinnedLink::from_pin(path)
        .map(FdLink::from)
        .map_err(|error| DataplaneError::kernel(format!("opening {}", path.display()), error))
}

fn attach_egress(
    program: &mut SchedClassifier,
    pin: Option<PathBuf>,
    tcx: bool,
    name: &str,
) -> Result<Egress, DataplaneError> {
    if let Some(path) = pin.as_deref().filter(|path| path.exists()) {
        match adopt_tcx(program, path) {
            Ok(link) => return Ok(Egress::Tcx(Held::new(link, pin, true)?)),
            Err(error) => warn!(interface = name, %error, "a pinned link is dead: attaching anew"),
        }
        pins::remove_file(path)?;
    }
    if !tcx {
        return attach_clsact(program, name, pin.is_some());
    }
    match create_tcx(program, name) {
        Ok(link) => Ok(Egress::Tcx(Held::new(link, pin, false)?)),
        Err(error) => {
            info!(interface = name, %error, "no tcx (it takes Linux 6.6): clsact filter");
            attach_clsact(program, name, pin.is_some())
        }
    }
}

fn adopt_tcx(program: &mut SchedClassifier, path: &Path) -> Result<FdLink, DataplaneError> {
    let what = format!("adopting {}", path.display());
    let link = SchedClassifierLink::try_from(pinned(path)?)
        .map_err(|error| DataplaneError::kernel(what.clone(), error))?;
    let failed = |error: ProgramError| DataplaneError::kernel(what.clone(), error);
    let id = program.attach_to_link(link).map_err(failed)?;
    tcx_link(program.take_link(id).map_err(failed)?)
}

fn create_tcx(program: &mut SchedClassifier, name: &str) -> Result<FdLink, DataplaneError> {
    let failed = |error: ProgramError| {
        DataplaneError::kernel(format!("attaching the egress guard to {name}"), error)
    };
    let id = program
        .attach_with_options(
            name,
            TcAttachType::Egress,
            TcAttachOptions::TcxOrder(LinkOrder::first()),
        )
        .map_err(failed)?;
    tcx_link(program.take_link(id).map_err(failed)?)
}

fn tcx_link(link: SchedClassifierLink) -> Result<FdLink, DataplaneError> {
    FdLink::try_from(link).map_err(|error| DataplaneError::kernel("attaching a tcx link", error))
}

/// The filter at our place, whether or not it is there.
fn clsact_link(name: &str) -> Result<SchedClassifierLink, DataplaneError> {
    SchedClassifierLink::attached(name, TcAttachType::Egress, PRIORITY, HANDLE, None).map_err(
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
    stays: bool,
) -> Result<Egress, DataplaneError> {
    let failed = |error: ProgramError| {
        DataplaneError::kernel(format!("attaching the egress filter to {name}"), error)
    };
    let id = match program.attach_to_link(clsact_link(name)?) {
        Ok(id) => id,
        Err(_) => {
            // It may be there: then the filter's own error is the one that counts.
            let _ = tc::qdisc_add_clsact(name);
            let options = NlOptions {
                priority: PRIORITY,
                handle: HANDLE,
                classid: None,
            };
            program
                .attach_with_options(
                    name,
                    TcAttachType::Egress,
                    TcAttachOptions::Netlink(options),
                )
                .map_err(failed)?
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
    Ok(Egress::Clsact(kept, name.into()))
}

/// Removes the filter that an earlier daemon left on an interface, if there is one.
pub(super) fn remove_filter(name: &str) -> Result<(), DataplaneError> {
    let Ok(link) = clsact_link(name) else {
        return Ok(());
    };
    match removed(link, name) {
        // No such filter; no clsact qdisc.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn removed(link: SchedClassifierLink, name: &str) -> Result<(), DataplaneError> {
    let result = link.detach().map_err(|error| {
        DataplaneError::kernel(format!("removing the egress filter of {name}"), error)
    });
    match result {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

//! Attaching: the ingress program as XDP or, where XDP is taken, at tc; and the egress guard.

use tracing::warn;

use super::{
    Attachment, DataplaneError, Hook, Mode,
    filter::{self, Filter, Side},
    held::Held,
    interface,
    loader::Programs,
    pins::Pins,
    vlan, xdp,
};

/// How to attach.
#[derive(Clone, Copy)]
pub(super) struct Modes {
    pub(super) ingress: Mode,
    /// Whether to try tcx before clsact.
    pub(super) tcx: bool,
}

/// Where to attach.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) pins: Option<&'a Pins>,
    pub(super) name: &'a str,
    pub(super) ifindex: u32,
}

/// What is attached to one interface.
pub(super) struct Attached {
    ingress: Ingress,
    egress: Filter,
    attachment: Attachment,
}

enum Ingress {
    Xdp(Held),
    Tc(Filter),
    /// The program on the interface below, which has the tagged frames.
    Below,
}

impl Attached {
    pub(super) const fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Lets go of the interface. The kernel takes the programs off a while later: [`wait_until_free`].
    pub(super) fn detach(self) -> Result<(), DataplaneError> {
        let egress = self.egress.release();
        self.ingress.release().and(egress)
    }
}

impl Ingress {
    fn release(self) -> Result<(), DataplaneError> {
        match self {
            Self::Xdp(held) => held.release(),
            Self::Tc(filter) => filter.release(),
            Self::Below => Ok(()),
        }
    }
}

/// Attaches both programs, or neither.
pub(super) fn attach(
    programs: &mut Programs,
    place: Place<'_>,
    modes: Modes,
) -> Result<Attached, DataplaneError> {
    let kind = interface::query(place.ifindex)?.kind;
    let hidden = match modes.ingress {
        Mode::Tc => None,
        _ => vlan::why_hidden(place.ifindex, kind)?,
    };
    let (ingress, hook, adopted) = attach_ingress(programs, place, modes, hidden.as_deref())?;
    let hidden_tags = hook != Hook::Tc && hidden.is_some();
    match filter::attach(programs.egress()?, place, modes.tcx, Side::Egress) {
        Ok((egress, _)) => Ok(Attached {
            attachment: Attachment {
                hook,
                tcx: egress.is_tcx(),
                adopted,
                hidden_tags,
            },
            ingress,
            egress,
        }),
        Err(error) => {
            if !adopted {
                ingress.release()?;
            }
            Err(error)
        }
    }
}

/// Attaches the egress guard of a VLAN's interface, whose ingress program runs on the interface below, as
/// `below` says; then takes off what another mode left on the interface itself.
pub(super) fn attach_above(
    programs: &mut Programs,
    place: Place<'_>,
    tcx: bool,
    below: Attachment,
) -> Result<Attached, DataplaneError> {
    let (egress, adopted) = filter::attach(programs.egress()?, place, tcx, Side::Egress)?;
    filter::remove(place, Side::Ingress)?;
    xdp::remove(place)?;
    Ok(Attached {
        ingress: Ingress::Below,
        attachment: Attachment {
            tcx: egress.is_tcx(),
            adopted: adopted && below.adopted,
            ..below
        },
        egress,
    })
}

/// The ingress program, how it is attached, and whether it was found so. `hidden`: why XDP would take the
/// frames of VLANs for the interface's own.
fn attach_ingress(
    programs: &mut Programs,
    place: Place<'_>,
    modes: Modes,
    hidden: Option<&str>,
) -> Result<(Ingress, Hook, bool), DataplaneError> {
    let name = place.name;
    if let Some(program_id) = filter::other_had(place) {
        return Err(DataplaneError::OtherHad {
            interface: name.into(),
            program_id,
        });
    }
    match modes.ingress {
        Mode::Tc => attach_tc(programs, place, modes.tcx),
        Mode::Auto if filter::is_left(place) => attach_tc(programs, place, modes.tcx),
        Mode::Auto if let Some(why) = hidden => {
            let attached = attach_tc(programs, place, modes.tcx)?;
            warn!(
                interface = name,
                "tc, since XDP does not see the tags of VLANs: {why}"
            );
            Ok(attached)
        }
        Mode::Auto => match attach_xdp(programs, place, Mode::Auto) {
            Err(error @ DataplaneError::OtherHad { .. }) => Err(error),
            Err(xdp) => match attach_tc(programs, place, modes.tcx) {
                Ok(attached) => {
                    warn!(interface = name, "no XDP, but tc: {xdp}");
                    Ok(attached)
                }
                Err(tc) => Err(DataplaneError::NoHook {
                    xdp: Box::new(xdp),
                    tc: Box::new(tc),
                }),
            },
            attached => attached,
        },
        mode => {
            let attached = attach_xdp(programs, place, mode)?;
            if let Some(why) = hidden {
                warn!(
                    interface = name,
                    "XDP takes frames of VLANs for its own: {why}"
                );
            }
            Ok(attached)
        }
    }
}

/// XDP first, then off with what another mode left at tc: so the gate is never absent.
fn attach_xdp(
    programs: &mut Programs,
    place: Place<'_>,
    mode: Mode,
) -> Result<(Ingress, Hook, bool), DataplaneError> {
    let (held, hook, adopted) = xdp::attach(programs.ingress()?, place, mode)?;
    filter::remove(place, Side::Ingress)?;
    Ok((Ingress::Xdp(held), hook, adopted))
}

/// The other way round.
fn attach_tc(
    programs: &mut Programs,
    place: Place<'_>,
    tcx: bool,
) -> Result<(Ingress, Hook, bool), DataplaneError> {
    if !xdp::is_pinned(place) {
        xdp::refuse_other_had(place)?;
    }
    let (filter, adopted) = filter::attach(programs.ingress_tc()?, place, tcx, Side::Ingress)?;
    xdp::remove(place)?;
    Ok((Ingress::Tc(filter), Hook::Tc, adopted))
}

/// Waits until this daemon's programs are off an interface, for a second at most: the kernel takes one off
/// a while after its link's pin was removed.
pub(super) fn wait_until_free(name: &str, ifindex: u32) -> Result<(), DataplaneError> {
    filter::wait_until_gone(name);
    xdp::wait_until_gone(ifindex)
}

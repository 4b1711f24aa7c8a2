//! Socket buffers, as tc sees them.

use aya_ebpf::programs::TcContext;
use ha_common::{abi::Reason, wire::ethernet};

/// Frames up to this long are brought into one piece: any that carries an advert.
const WHOLE_LEN: u32 = 1518;

/// Of a longer one (a jumbo frame, or many that GRO made one) so much: every header that is looked at.
const HEAD_LEN: u32 = 256;

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

const VID_MASK: u32 = ethernet::VID_MASK as u32;

/// The interface.
#[inline(always)]
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Whether it came in by an interface, and is only sent on.
#[inline(always)]
pub(crate) fn came_in(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).ingress_ifindex != 0 }
}

/// Lets the kernel take a frame for this host's though it came to another station.
#[inline(always)]
pub(crate) fn keep(ctx: &TcContext) {
    // It fails for types that the kernel has for itself, which none that came in has.
    let _ = ctx.change_type(PACKET_HOST);
}

/// Brings the bytes of a frame that came in into one piece; `Err`: it has a tag that leads elsewhere, or
/// there is no memory for that.
#[inline(always)]
pub(crate) fn prepare(ctx: &TcContext) -> Result<(), Reason> {
    if has_vlan(ctx) {
        return Err(Reason::PassVlan);
    }
    let len = ctx.len();
    let head = if len > WHOLE_LEN { HEAD_LEN } else { len };
    ctx.pull_data(head).map_err(|_| Reason::DropNoMemory)
}

/// Whether a tag in the metadata, where the kernel puts the outermost one before tc, says that the frame
/// belongs to a VLAN's interface, which has programs of its own. VID 0 says only a priority.
#[inline(always)]
pub(crate) fn has_vlan(ctx: &TcContext) -> bool {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the program's run.
    let (present, tci) = unsafe { ((*skb).vlan_present, (*skb).vlan_tci) };
    present != 0 && tci & VID_MASK != 0
}

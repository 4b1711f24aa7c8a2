//! The filters at tc, as rtnetlink(7) shows them.

use aya::programs::tc::TcHandle;

use super::{
    DataplaneError,
    netlink::{self, Scope, attributes},
};

/// Bytes of `tcmsg`.
const TCMSG_LEN: usize = 20;

// linux/rtnetlink.h and linux/pkt_cls.h: not in libc.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;

/// Where a filter of ingress is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) ifindex: u32,
    pub(super) priority: u16,
    pub(super) handle: TcHandle,
}

/// The number of the program that the filter has, if there is one at the place.
pub(super) fn program(slot: Slot) -> Result<Option<u32>, DataplaneError> {
    let mut found = None;
    let body = [
        [0; 4],
        slot.ifindex.to_ne_bytes(),
        [0; 4],
        INGRESS.to_ne_bytes(),
        [0; 4],
    ]
    .concat();
    let (protocol, kind) = (libc::NETLINK_ROUTE, libc::RTM_GETTFILTER);
    let result = netlink::ask(protocol, kind, Scope::All, &body, |kind, filter| {
        if kind == libc::RTM_NEWTFILTER {
            found = found.or(program_of(filter, slot));
        }
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(source) => Err(DataplaneError::Kernel {
            what: format!("asking for the tc filters of interface {}", slot.ifindex),
            source,
        }),
        Ok(()) => Ok(found),
    }
}

fn program_of(filter: &[u8], slot: Slot) -> Option<u32> {
    let (header, rest) = filter.split_at_checked(TCMSG_LEN)?;
    let number = |at: usize| header.get(at..)?.first_chunk().copied();
    let handle = number(8).map(u32::from_ne_bytes)?;
    let priority = number(16).map(u32::from_ne_bytes)? >> 16;
    if handle != u32::from(slot.handle) || priority != u32::from(slot.priority) {
        return None;
    }
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted);
    if find(rest, TCA_KIND)?.1 != b"bpf\0" {
        return None;
    }
    let (_, options) = find(rest, TCA_OPTIONS)?;
    let (_, id) = find(options, TCA_BPF_ID)?;
    id.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::netlink::attribute;

    const SLOT: Slot = Slot {
        ifindex: 7,
        priority: 1,
        handle: TcHandle::new(0, 0x6841),
    };

    fn filter(handle: u32, priority: u32, kind: &[u8]) -> Vec<u8> {
        let info = (priority << 16) | 0x0300;
        let header = [0, 7, handle, INGRESS, info].map(u32::to_ne_bytes);
        let options = [
            attribute(7, b"had\0"),
            attribute(TCA_BPF_ID, &[42, 0, 0, 0]),
        ];
        let attributes = [
            attribute(TCA_KIND, kind),
            attribute(TCA_OPTIONS, &options.concat()),
        ];
        [header.concat(), attributes.concat()].concat()
    }

    #[test]
    fn a_filter_at_the_place_and_others() {
        let bpf = b"bpf\0";
        assert_eq!(program_of(&filter(0x6841, 1, bpf), SLOT), Some(42));
        assert_eq!(program_of(&filter(0x6842, 1, bpf), SLOT), None);
        assert_eq!(program_of(&filter(0x6841, 2, bpf), SLOT), None);
        assert_eq!(program_of(&filter(0x6841, 1, b"u32\0"), SLOT), None);
    }

    #[test]
    fn malformed_answers_say_nothing() {
        let message = filter(0x6841, 1, b"bpf\0");
        for len in 0..message.len() {
            assert_eq!(program_of(&message[..len], SLOT), None);
        }
    }
}

//! Options that several sockets share.

use socket2::SockFilter;

/// `TC_PRIO_CONTROL`: before bulk traffic in the interface's queue (pfifo_fast, mqprio).
pub const PRIORITY_CONTROL: u32 = 7;

/// A filter of one instruction that accepts zero bytes of each packet (`BPF_RET | BPF_K`).
pub const REJECT_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

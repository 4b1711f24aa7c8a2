//! The dataplane in the kernel: the verdicts by `BPF_PROG_TEST_RUN`, attaching and adopting on real
//! interfaces. Needs root.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "xdp/adoption.rs"]
mod adoption;
#[path = "xdp/bfd.rs"]
mod bfd;
#[path = "xdp/closed.rs"]
mod closed;
#[path = "xdp/egress.rs"]
mod egress;
#[path = "xdp/fixture.rs"]
mod fixture;
#[path = "xdp/fixture_net.rs"]
mod fixture_net;
#[path = "xdp/frames.rs"]
mod frames;
#[path = "xdp/frames_v6.rs"]
mod frames_v6;
#[path = "xdp/guard.rs"]
mod guard;
#[path = "xdp/ingress/mod.rs"]
mod ingress;
#[path = "xdp/leases/mod.rs"]
mod leases;
#[path = "xdp/local.rs"]
mod local;
#[path = "xdp/program.rs"]
mod program;
#[path = "xdp/random.rs"]
mod random;
#[path = "xdp/reports.rs"]
mod reports;
#[path = "xdp/stack.rs"]
mod stack;
#[path = "xdp/tags.rs"]
mod tags;
#[path = "xdp/taken.rs"]
mod taken;
#[path = "xdp/verifier.rs"]
mod verifier;
#[path = "xdp/virtual_mac.rs"]
mod virtual_mac;
#[path = "xdp/wire.rs"]
mod wire;

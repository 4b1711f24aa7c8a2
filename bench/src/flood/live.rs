//! Live frames: `BPF_PROG_TEST_RUN` hands frames to a program as if an interface had received them, and does
//! with them what the program says (Linux 5.18). A generator that costs next to nothing itself.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    programs::{TestRunAttrs, Xdp},
};

/// Frames that go on together: what a driver takes from its ring at a time.
const BATCH: u32 = 64;

/// `struct xdp_md`: where the frame begins and ends, where its metadata do; interface and queue by which it
/// came; the interface by which it leaves.
fn context(length: usize, ifindex: u32) -> Result<[u8; 24]> {
    let mut context = [0; 24];
    let words = [0, u32::try_from(length)?, 0, ifindex, 0, 0];
    for (bytes, word) in context.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(context)
}

/// Lets an interface of this thread's namespace receive a frame `count` times, for a program. Returns the
/// nanoseconds that each took.
pub(super) fn receive(program: &Xdp, ifindex: u32, frame: &[u8], count: u32) -> Result<u32> {
    let context = context(frame.len(), ifindex)?;
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        repeat: count,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .context("live frames (Linux 5.18)")?;
    Ok(u32::try_from(result.duration.as_nanos())?)
}

/// A program of an object, loaded.
pub(super) fn load<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).context("no such program")?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    Ok(program)
}

/// The index of an interface of this thread's namespace.
pub(super) fn ifindex(interface: &str) -> Result<u32> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, interface)?)
}

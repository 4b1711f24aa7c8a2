//! Runs a program a million times on one frame.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, MapData, ProgramArray},
    programs::Xdp,
};
use ha_user::dataplane::{PASS_OBJECT, RESTORE_OBJECT};

/// Runs of the program in one measurement.
const REPEAT: u32 = 1_000_000;
/// Measurements, of which the quickest counts: the others were disturbed.
const TRIES: u32 = 5;
/// Bytes of the map `FRAME`, in words.
const WORDS: usize = 32;

/// Where two words of a frame begin, in network order, of which one rises by one with each run, and the other
/// one falls, so that the checksum holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    pub(super) up: u64,
    pub(super) down: u64,
}

/// The empty program, and the one that puts frames back.
pub(super) struct Runner {
    pass: Ebpf,
    restore: Ebpf,
}

impl Runner {
    pub(super) fn new() -> Result<Self> {
        let mut pass = Ebpf::load(PASS_OBJECT)?;
        program(&mut pass, "pass")?.load()?;
        let mut restore = Ebpf::load(RESTORE_OBJECT)?;
        program(&mut restore, "restore")?.load()?;
        program(&mut restore, "clock")?.load()?;
        Ok(Self { pass, restore })
    }

    /// Nanoseconds that the empty program takes for a frame.
    pub(super) fn empty(&mut self, frame: &[u8]) -> Result<u32> {
        measure(program(&mut self.pass, "pass")?, frame)
    }

    /// Nanoseconds that a program takes that only reads the clock.
    pub(super) fn clock(&mut self, frame: &[u8]) -> Result<u32> {
        measure(program(&mut self.restore, "clock")?, frame)
    }

    /// From now on a word of a frame that is put back rises from run to run, and another one falls.
    pub(super) fn set_steps(&mut self, steps: Option<Steps>) -> Result<()> {
        let Steps { up, down } = steps.unwrap_or_default();
        let map = self.restore.map_mut("STEPS").context("no map STEPS")?;
        Array::<&mut MapData, [u64; 3]>::try_from(map)?.set(0, [up, down, 0], 0)?;
        Ok(())
    }

    /// Nanoseconds that `tested` takes for a frame. Where it rewrites the frame, that is put back before each
    /// run; what this costs is measured with the empty program, and taken off.
    pub(super) fn cost(&mut self, tested: &mut Xdp, frame: &[u8], rewrites: bool) -> Result<u32> {
        if !rewrites {
            return measure(tested, frame);
        }
        let mut frame = frame.to_vec();
        frame.resize(frame.len().next_multiple_of(8), 0);
        let base = self.empty(&frame)?;
        let pass = program(&mut self.pass, "pass")?;
        let around = restored(&mut self.restore, pass, &frame)?;
        let all = restored(&mut self.restore, tested, &frame)?;
        Ok((all + base).saturating_sub(around))
    }
}

fn restored(restore: &mut Ebpf, tested: &Xdp, frame: &[u8]) -> Result<u32> {
    let (chunks, _) = frame.as_chunks::<8>();
    ensure!(chunks.len() <= WORDS, "the frame is too long");
    let mut words = [0_u64; WORDS];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_ne_bytes(*chunk);
    }
    let map = restore.map_mut("FRAME").context("no map FRAME")?;
    Array::<&mut MapData, [u64; WORDS]>::try_from(map)?.set(0, words, 0)?;
    let map = restore.map_mut("TESTED").context("no map TESTED")?;
    ProgramArray::try_from(map)?.set(0, tested.fd()?, 0)?;
    measure(program(restore, "restore")?, frame)
}

fn measure(program: &Xdp, frame: &[u8]) -> Result<u32> {
    let mut best = u32::MAX;
    for _ in 0..TRIES {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: REPEAT,
            ..TestRunOptions::default()
        };
        let nanos = program.test_run(options)?.duration.as_nanos();
        best = best.min(u32::try_from(nanos)?);
    }
    Ok(best)
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

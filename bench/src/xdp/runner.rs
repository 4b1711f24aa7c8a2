//! Runs programs many times on one frame, or on one new frame after the other, in short turns.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, MapData, ProgramArray},
    programs::Xdp,
};
use ha_user::dataplane::{PASS_OBJECT, RESTORE_OBJECT};

/// Runs of a program in one turn.
const REPEAT: u32 = 20_000;
/// Turns of each program in one round.
const TURNS: u32 = 5;
/// Bytes of a value of the map `FRAMES`, in words.
const WORDS: usize = 32;
/// Frames that take turns, where each run must have a new one.
const FRAMES: u32 = 2_048;

/// What a program gets.
pub(super) enum Frames<'f> {
    /// A frame that it leaves as it is.
    Kept(&'f [u8]),
    /// A frame that it rewrites.
    Rewritten(&'f [u8]),
    /// Frames that it rewrites, and takes only once: the one of each number.
    New(&'f Numbered),
}

impl Frames<'_> {
    /// How many of them a program gets in one round.
    pub(super) fn runs(&self) -> u64 {
        let repeat = match self {
            Self::Kept(_) | Self::Rewritten(_) => REPEAT,
            Self::New(_) => FRAMES,
        };
        u64::from(repeat) * u64::from(TURNS)
    }
}

/// Makes the frame of a number.
pub(super) type Numbered = dyn Fn(u64) -> Result<Vec<u8>>;

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

    /// Takes turns of the empty program, and of one that only reads the clock.
    pub(super) fn references(
        &mut self,
        frame: &[u8],
        empty: &mut Turns,
        clock: &mut Turns,
    ) -> Result<()> {
        for _ in 0..TURNS {
            empty.take(program(&mut self.pass, "pass")?, frame, REPEAT)?;
            clock.take(program(&mut self.restore, "clock")?, frame, REPEAT)?;
        }
        Ok(())
    }

    /// Takes turns of `tested`. Where it rewrites the frame, one is put in its place before each run; what this
    /// costs is measured with the empty program.
    pub(super) fn measure(
        &mut self,
        tested: &Xdp,
        frames: &Frames<'_>,
        sample: &mut Sample,
    ) -> Result<()> {
        match *frames {
            Frames::Kept(frame) => {
                for _ in 0..TURNS {
                    sample.tested.take(tested, frame, REPEAT)?;
                }
            }
            Frames::Rewritten(frame) => {
                let data = vec![0; self.set_frames(0..1, |_| Ok(frame.to_vec()))?];
                for _ in 0..TURNS {
                    self.restored_turn(tested, &data, REPEAT, sample)?;
                }
            }
            Frames::New(numbered) => {
                let mut first = 0;
                for _ in 0..TURNS {
                    let next = first + u64::from(FRAMES);
                    let data = vec![0; self.set_frames(first..next, numbered)?];
                    self.restored_turn(tested, &data, FRAMES, sample)?;
                    first = next;
                }
            }
        }
        Ok(())
    }

    /// A turn with frames that are put in the place of `data`, and what that costs.
    fn restored_turn(
        &mut self,
        tested: &Xdp,
        data: &[u8],
        repeat: u32,
        sample: &mut Sample,
    ) -> Result<()> {
        let empty = program(&mut self.pass, "pass")?;
        sample.empty.take(empty, data, repeat)?;
        let around = restored(&mut self.restore, empty)?;
        sample.around.take(around, data, repeat)?;
        let tested = restored(&mut self.restore, tested)?;
        sample.tested.take(tested, data, repeat)
    }

    /// Sets the frames that take turns. Returns the bytes of one, padded to whole words.
    fn set_frames(
        &mut self,
        numbers: Range<u64>,
        numbered: impl Fn(u64) -> Result<Vec<u8>>,
    ) -> Result<usize> {
        let map = self.restore.map_mut("FRAMES").context("no map FRAMES")?;
        let mut frames = Array::<&mut MapData, [u64; WORDS]>::try_from(map)?;
        let (mut count, mut len) = (0, 0);
        for number in numbers {
            let mut frame = numbered(number)?;
            len = frame.len().next_multiple_of(8);
            frame.resize(len, 0);
            let (chunks, _) = frame.as_chunks::<8>();
            ensure!(chunks.len() <= WORDS, "the frame is too long");
            let mut words = [0_u64; WORDS];
            for (word, chunk) in words.iter_mut().zip(chunks) {
                *word = u64::from_ne_bytes(*chunk);
            }
            frames.set(count, words, 0)?;
            count += 1;
        }
        let map = self.restore.map_mut("CYCLE").context("no map CYCLE")?;
        let cycle = [u64::from(count), 0];
        Array::<&mut MapData, [u64; 2]>::try_from(map)?.set(0, cycle, 0)?;
        Ok(len)
    }
}

/// What a program takes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// In the turn in which it was quickest: others were disturbed.
    pub(super) quickest: u32,
    /// In half of the turns at most.
    pub(super) median: u32,
}

/// What a program took in each turn, in nanoseconds a run.
#[derive(Debug, Default)]
pub(super) struct Turns(Vec<u32>);

impl Turns {
    fn take(&mut self, program: &Xdp, frame: &[u8], repeat: u32) -> Result<()> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        let nanos = program.test_run(options)?.duration.as_nanos();
        self.0.push(u32::try_from(nanos)?);
        Ok(())
    }

    /// Of no turns: nothing.
    pub(super) fn cost(&self) -> Cost {
        let mut turns = self.0.clone();
        turns.sort_unstable();
        let at = |index: usize| turns.get(index).copied().unwrap_or(0);
        Cost {
            quickest: at(0),
            median: at(turns.len() / 2),
        }
    }
}

/// The turns of a path.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Of the program; where frames are put in place before each run, with that.
    tested: Turns,
    /// Of putting them in place for the empty program.
    around: Turns,
    /// Of the empty program without that.
    empty: Turns,
}

impl Sample {
    /// What the program takes without what puts frames in place.
    pub(super) fn cost(&self) -> Cost {
        let (tested, around, empty) = (self.tested.cost(), self.around.cost(), self.empty.cost());
        Cost {
            quickest: (tested.quickest + empty.quickest).saturating_sub(around.quickest),
            median: (tested.median + empty.median).saturating_sub(around.median),
        }
    }
}

/// The program that puts the frame back, before it jumps into another one.
fn restored<'r>(restore: &'r mut Ebpf, tested: &Xdp) -> Result<&'r Xdp> {
    let map = restore.map_mut("TESTED").context("no map TESTED")?;
    ProgramArray::try_from(map)?.set(0, tested.fd()?, 0)?;
    Ok(program(restore, "restore")?)
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

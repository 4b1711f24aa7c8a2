//! For the lab: the programs run on a frame of one's choice, without an interface.

use std::io;

use aya::{
    TestRun, TestRunOptions,
    programs::{ProgramInfo, Xdp},
};
use ha_common::abi::VlanKey;

use super::{Dataplane, DataplaneError, loader, offload};

/// The object with the dataplane's programs.
#[must_use]
pub fn object() -> &'static [u8] {
    loader::OBJECT
}

/// The object with a program named `pass` that passes everything.
pub const PASS_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/had-pass"));

/// The object with a program named `lossy` that passes everything but frames to the station in its map
/// `LOST_TO`, and counts heartbeats in its map `HEARTBEATS`.
pub const LOSSY_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/had-lossy"));

/// The object with a program named `restore` that puts the frame in its map `FRAME` back and jumps to the
/// program in its map `TESTED`, and one named `clock` that only reads the clock.
pub const RESTORE_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/had-restore"));

/// Lets an interface leave VLAN tags in the frames. Whether it does.
///
/// # Errors
///
/// The kernel refuses to tell or to change it.
pub fn keep_tags(ifindex: u32) -> io::Result<bool> {
    offload::keep_tags(ifindex)
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `XDP_*`, or `TC_ACT_*` as an unsigned number.
    pub code: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Dataplane {
    /// From now on attaches as on a kernel without tcx (before 6.6).
    pub fn without_tcx(&mut self) {
        self.modes.tcx = false;
    }

    /// Lets frames with a tag belong to the VLAN's interface.
    ///
    /// # Errors
    ///
    /// The map is full.
    pub fn set_vlan(&mut self, key: VlanKey, ifindex: u32) -> Result<(), DataplaneError> {
        self.loaded.settings.set_vlan(key, ifindex)
    }

    /// How many instructions the verifier followed in each program; it gives up at a million.
    ///
    /// # Errors
    ///
    /// The kernel does not tell (it takes Linux 5.16).
    pub fn verified(&mut self) -> Result<Vec<(&'static str, u32)>, DataplaneError> {
        let programs = &mut self.loaded.programs;
        let infos = [
            ("had_ingress", programs.ingress()?.info()),
            ("had_ingress_tc", programs.ingress_tc()?.info()),
            ("had_guard", programs.guard()?.info()),
            ("had_egress", programs.egress()?.info()),
        ];
        infos
            .into_iter()
            .map(|(name, info)| {
                let info =
                    info.map_err(|error| DataplaneError::kernel("asking for a program", error))?;
                let count = info.verified_instruction_count();
                Ok((name, count.ok_or(DataplaneError::Object { what: name })?))
            })
            .collect()
    }

    /// What the kernel tells of one of those programs.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub fn info(&mut self, name: &'static str) -> Result<ProgramInfo, DataplaneError> {
        let programs = &mut self.loaded.programs;
        let info = match name {
            "had_ingress" => programs.ingress()?.info(),
            "had_ingress_tc" => programs.ingress_tc()?.info(),
            "had_guard" => programs.guard()?.info(),
            "had_egress" => programs.egress()?.info(),
            _ => return Err(DataplaneError::Object { what: name }),
        };
        info.map_err(|error| DataplaneError::kernel("asking for a program", error))
    }

    /// The ingress program, for measurements.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn ingress(&mut self) -> Result<&mut Xdp, DataplaneError> {
        self.loaded.programs.ingress()
    }

    /// Runs the ingress program on a frame that came in by the loopback interface (index 1). A frame
    /// has 14 bytes at least.
    ///
    /// # Errors
    ///
    /// The kernel refuses the frame.
    pub fn run_ingress(&mut self, frame: &[u8]) -> Result<Verdict, DataplaneError> {
        run(self.loaded.programs.ingress()?, frame)
    }

    /// The same with the program of tc.
    ///
    /// # Errors
    ///
    /// The kernel refuses the frame.
    pub fn run_ingress_tc(&mut self, frame: &[u8]) -> Result<Verdict, DataplaneError> {
        run(self.loaded.programs.ingress_tc()?, frame)
    }

    /// Runs the guard of other interfaces on a frame that came in by the loopback interface.
    ///
    /// # Errors
    ///
    /// The kernel refuses the frame.
    pub fn run_guard(&mut self, frame: &[u8]) -> Result<Verdict, DataplaneError> {
        run(self.loaded.programs.guard()?, frame)
    }

    /// Runs the egress program on a frame that goes out by the loopback interface.
    ///
    /// # Errors
    ///
    /// The kernel refuses the frame.
    pub fn run_egress(&mut self, frame: &[u8]) -> Result<Verdict, DataplaneError> {
        run(self.loaded.programs.egress()?, frame)
    }
}

fn run<P>(program: &P, frame: &[u8]) -> Result<Verdict, DataplaneError>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = aya::TestRunResult>,
{
    let mut out = vec![0; frame.len() + 64];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })
        .map_err(|error| DataplaneError::kernel("running a program", error))?;
    out.truncate(result.data_size_out as usize);
    Ok(Verdict {
        code: result.return_value,
        frame: out,
    })
}

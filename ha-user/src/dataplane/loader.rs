//! Loading: the built-in object, its programs and its maps.

use std::{io, thread};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use ha_common::abi::{MAX_WATCHES, Reason, TimerTask};

use super::{
    DataplaneError, lease_words::LeaseWords, leases::LeaseSettings, locals::Locals, maps::Settings,
    pins::PINNED_MAPS, pins::Pins, sessions::Sessions, timers, words::Words,
};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/had-dataplane"));

/// Bytes of the shortest frame that `BPF_PROG_TEST_RUN` takes.
const FRAME_LEN: usize = 64;

/// As libbpf does.
const LOAD_ATTEMPTS: u32 = 5;

/// Everything that the kernel holds for a daemon.
pub(super) struct Loaded {
    pub(super) programs: Programs,
    pub(super) settings: Settings,
    pub(super) words: Words,
    pub(super) locals: Locals,
    pub(super) leases: LeaseSettings,
    pub(super) lease_words: LeaseWords,
    pub(super) sessions: Sessions,
    pub(super) events: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    /// Whether the silence timers serve.
    pub(super) has_watch: bool,
}

impl Loaded {
    pub(super) fn counters(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        (0..)
            .zip(Reason::ALL)
            .map(|(index, reason)| {
                let values = self
                    .counters
                    .get(&index, 0)
                    .map_err(|error| DataplaneError::kernel("reading COUNTERS", error))?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }
}

/// The loaded programs.
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    pub(super) fn ingress(&mut self) -> Result<&mut Xdp, DataplaneError> {
        self.program("had_ingress")
    }

    pub(super) fn ingress_tc(&mut self) -> Result<&mut SchedClassifier, DataplaneError> {
        self.program("had_ingress_tc")
    }

    pub(super) fn guard(&mut self) -> Result<&mut SchedClassifier, DataplaneError> {
        self.program("had_guard")
    }

    pub(super) fn egress(&mut self) -> Result<&mut SchedClassifier, DataplaneError> {
        self.program("had_egress")
    }

    /// Runs `had_watch`. Returns what it does.
    pub(super) fn timer(&mut self, task: TimerTask, index: u32) -> Result<u32, DataplaneError> {
        let mut frame = [0; FRAME_LEN];
        frame[..4].copy_from_slice(&(task as u32).to_ne_bytes());
        frame[4..8].copy_from_slice(&index.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::default()
        };
        let result = self
            .program::<Xdp>("had_watch")?
            .test_run(options)
            .map_err(|error| DataplaneError::kernel("running had_watch", error))?;
        Ok(result.return_value)
    }

    fn program<'p, P>(&'p mut self, name: &'static str) -> Result<&'p mut P, DataplaneError>
    where
        &'p mut P: TryFrom<&'p mut Program, Error = ProgramError>,
    {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(DataplaneError::Object { what: name })
    }
}

/// Loads the programs with pinned maps where there are any, and with new ones, pinned at once, where not.
pub(super) fn load(pins: Option<&Pins>) -> Result<Loaded, DataplaneError> {
    let mut loader = EbpfLoader::new();
    // No relocation against the kernel's types, so that theirs need not be read.
    loader.btf(None);
    if let Some(pins) = pins {
        for map in PINNED_MAPS {
            loader.map_pin_path(map.name, pins.map(map.name));
        }
    }
    let ebpf = loader
        .load(OBJECT)
        .map_err(|error| DataplaneError::kernel("creating the dataplane's maps", error))?;
    // The programs first: they name the maps by descriptors that are closed when a map was mapped.
    let mut programs = Programs { ebpf };
    verify_all(&mut programs.ebpf)?;
    let ebpf = &mut programs.ebpf;
    let settings = Settings::take(ebpf)?;
    let words = Words::map(
        map_data(ebpf, "GATES")?.fd(),
        map_data(ebpf, "LEASES")?.fd(),
        map_data(ebpf, "RECEIVED")?.fd(),
        map_data(ebpf, "BFD_RECEIVED")?.fd(),
    )?;
    let lease_words = LeaseWords::map(
        map_data(ebpf, "PROMISES")?.fd(),
        map_data(ebpf, "PATH_STATE")?.fd(),
    )?;
    let locals = Locals::take(ebpf)?;
    let leases = LeaseSettings::take(ebpf)?;
    let sessions = Sessions::take(ebpf)?;
    let events = take(ebpf, "EVENTS")?;
    let counters = take(ebpf, "COUNTERS")?;
    let has_watch =
        timers::prepare(&mut programs)? && programs.timer(TimerTask::Arm, MAX_WATCHES)? == 0;
    Ok(Loaded {
        programs,
        settings,
        words,
        locals,
        leases,
        lease_words,
        sessions,
        events,
        counters,
        has_watch,
    })
}

/// Loads every program, each on a thread of its own: to follow all ways through one takes the kernel hundreds of
/// milliseconds, which it spends on one CPU.
fn verify_all(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    thread::scope(|scope| {
        let threads: Vec<_> = ebpf
            .programs_mut()
            .map(|(name, program)| {
                thread::Builder::new().spawn_scoped(scope, move || {
                    verify(name, || match program {
                        Program::Xdp(program) => program.load(),
                        Program::SchedClassifier(program) => program.load(),
                        _ => Err(ProgramError::UnexpectedProgramType),
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let thread = thread
                .map_err(|error| DataplaneError::kernel("starting a thread to load with", error))?;
            thread.join().unwrap_or_else(|_| {
                let source = io::Error::other("the thread that loads a program panicked");
                let what = "loading the programs".to_owned();
                Err(DataplaneError::Kernel { what, source })
            })
        })
    })
}

/// Loads a program. The verifier gives up when a signal comes: then it is tried again.
fn verify(
    name: &str,
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), DataplaneError> {
    let mut result = load();
    for _ in 1..LOAD_ATTEMPTS {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) =>
            {
                result = load();
            }
            _ => break,
        }
    }
    result.map_err(|error| {
        let what = format!(
            "loading {name} (it takes Linux 5.15, and CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON)"
        );
        match error {
            // The number alone would hide what the verifier said.
            ProgramError::LoadError { .. } => DataplaneError::Kernel {
                what,
                source: io::Error::other(error),
            },
            error => DataplaneError::kernel(what, error),
        }
    })
}

/// Takes a map out of the object, as what it is.
pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DataplaneError>
where
    M: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .ok_or(DataplaneError::Object { what: name })?;
    M::try_from(map).map_err(|error| DataplaneError::kernel(format!("opening {name}"), error))
}

fn map_data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, DataplaneError> {
    match ebpf.take_map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(DataplaneError::Object { what: name }),
    }
}

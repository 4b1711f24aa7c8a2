//! A guest's hardware: what QEMU is told of it. Two guests can be there; a cable joins them, and each has a disk.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};

use crate::vm::tools::Tools;

/// More are of no use to a pair of nodes.
const MOST_PROCESSORS: usize = 4;

/// Bytes of a disk, of which a file holds what was written.
const DISK: u64 = 48 << 20;

/// The kernel's command line. `had.guest` is how tests know where they are. Emulated processors are slow and,
/// beside other work, sometimes away for long, which is no fault; their time stamp counters agree.
const COMMAND_LINE: &str = "had.guest console=ttyS0 loglevel=7 panic=-1 tsc=reliable nowatchdog \
    sysctl.kernel.hung_task_timeout_secs=60 rcupdate.rcu_cpu_stall_suppress=1 mitigations=off nokaslr no_timer_check random.trust_cpu=on";

/// The ports by which the first guest has the second one started and killed, and by which the two talk.
const CONTROL: &str = "had.control";
const SECOND: &str = "had.second";
/// The same port, seen from the second guest.
pub(super) const AGENT: &str = "had.agent";

/// Which guest it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that runs tests.
    First,
    /// The one that it has started.
    Second,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    const fn memory(self) -> &'static str {
        match self {
            Self::First => "1536M",
            Self::Second => "768M",
        }
    }

    const fn mac(self) -> &'static str {
        match self {
            Self::First => "52:54:00:68:61:01",
            Self::Second => "52:54:00:68:61:02",
        }
    }

    fn processors(self) -> usize {
        let here = thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::First => here.min(MOST_PROCESSORS),
            Self::Second => here.min(2),
        }
    }

    /// Where its kernel writes.
    pub(super) fn console(self) -> String {
        format!("{}-console.log", self.name())
    }

    /// What QEMU itself complains of.
    pub(super) fn errors(self) -> String {
        format!("{}-qemu.log", self.name())
    }

    fn disk(self) -> String {
        format!("{}-disk.img", self.name())
    }

    /// Its end of the cable.
    fn plug(self) -> String {
        format!("{}-lan.sock", self.name())
    }
}

/// QEMU for a guest that boots `initramfs` and keeps its files in `dir`, which is its working directory: the paths of
/// sockets are short there.
pub(super) fn command(
    tools: &Tools,
    which: Which,
    dir: &Path,
    initramfs: &Path,
) -> Result<Command> {
    let errors = File::create(dir.join(which.errors()))?;
    let disk = dir.join(which.disk());
    if !disk.exists() {
        let file = File::create(&disk).with_context(|| format!("making {}", disk.display()))?;
        file.set_len(DISK)?;
    }
    // A killed QEMU leaves it.
    let plug = dir.join(which.plug());
    if plug.exists() {
        std::fs::remove_file(&plug)?;
    }
    let kernel: PathBuf = tools.kernel();
    let mut command = tools.qemu();
    command
        .args(["-machine", "q35", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max", "-m", which.memory()])
        .args(["-smp", &which.processors().to_string()])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", COMMAND_LINE])
        .args(["-serial", &format!("file:{}", which.console())])
        // The first of virtio's devices, since its ports are named after its number.
        .args(["-device", "virtio-serial"])
        .arg("-fsdev")
        .arg("local,id=host,path=/,security_model=none,readonly=on,multidevs=remap")
        .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
    match which {
        Which::First => {
            command
                .args(["-chardev", "file,id=report,path=/dev/stdout"])
                .args(["-device", "virtserialport,chardev=report"])
                .args(["-chardev", "socket,id=control,fd=0"])
                .args(["-device", &port("control", CONTROL)])
                .arg("-chardev")
                .arg("socket,id=second,path=agent.sock,server=on,wait=off")
                .args(["-device", &port("second", SECOND)]);
        }
        Which::Second => {
            command
                .args(["-chardev", "socket,id=agent,path=agent.sock"])
                .args(["-device", &port("agent", AGENT)])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
        }
    }
    command
        .arg("-drive")
        .arg(format!("file={},if=none,id=disk,format=raw", which.disk()))
        .args(["-device", "virtio-blk-pci,drive=disk"])
        .arg("-netdev")
        .arg(format!(
            "dgram,id=lan,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            which.plug(),
            which.other().plug()
        ))
        .arg("-device")
        .arg(format!(
            "virtio-net-pci,netdev=lan,mac={},romfile=",
            which.mac()
        ))
        .current_dir(dir)
        .stderr(errors);
    Ok(command)
}

fn port(chardev: &str, name: &str) -> String {
    format!("virtserialport,chardev={chardev},name={name}")
}

//! Other programs that speak BFD, as peers: FRR's bfdd, keepalived, BIRD.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{NetNs, Node, daemon::signal, netns::run};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// FRR's bfdd, alone: it needs no zebra for sessions without an interface.
    Frr,
    /// Debian's keepalived, whose only work is its `bfd_instance`.
    Keepalived,
    /// BIRD 2: the one of the three that has authentication.
    Bird,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Frr => "bfdd",
            Self::Keepalived => "keepalived",
            Self::Bird => "bird",
        }
    }
}

/// A running one; it goes when dropped.
pub struct Speaker {
    program: Program,
    child: Child,
    dir: PathBuf,
}

impl Speaker {
    /// Starts a program with a configuration in a node's namespace. Its files are below the node's directory.
    pub fn start(node: &Node, program: Program, config: &str) -> Result<Self> {
        let dir = node.dir().join(program.name());
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let file = dir.join("conf");
        fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
        let mut command = command(node.ns(), program, &dir)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.name()))?;
        Ok(Self {
            program,
            child,
            dir,
        })
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Runs commands of FRR's shell.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut vtysh = Command::new("vtysh");
        vtysh
            .arg("--vty_socket")
            .arg(&self.dir)
            .args(["-d", "bfdd"]);
        for command in commands {
            vtysh.args(["-c", command]);
        }
        Ok(String::from_utf8_lossy(&run(&mut vtysh)?.stdout).into_owned())
    }

    /// What FRR says of its only session.
    pub fn frr_peer(&self) -> Result<serde_json::Value> {
        let text = self.vtysh(&["show bfd peers json"])?;
        let peers: serde_json::Value = serde_json::from_str(&text)?;
        Ok(peers[0].clone())
    }

    /// Runs a command of BIRD's shell.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let mut birdc = Command::new("birdc");
        birdc
            .arg("-s")
            .arg(self.dir.join("ctl"))
            .args(command.split(' '));
        Ok(String::from_utf8_lossy(&run(&mut birdc)?.stdout).into_owned())
    }

    /// Ends it without a word to its peers.
    pub fn kill(&mut self) -> Result<()> {
        for pid in self.processes().into_iter().rev() {
            signal(pid, Signal::KILL)?;
        }
        self.child.wait().context("waiting for a killed speaker")?;
        Ok(())
    }

    /// Lets it end in order.
    pub fn terminate(&self) -> Result<()> {
        signal(self.child.id(), Signal::TERM)
    }

    /// It and the processes that it started, parents first.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        found
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A failure means that it just ended by itself.
            let _ = self.kill();
        }
    }
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Speaker").field(&self.program).finish()
    }
}

fn command(ns: &NetNs, program: Program, dir: &Path) -> Result<Command> {
    use std::os::unix::process::CommandExt as _;
    let file = |name: &str| dir.join(name);
    let mut command = match program {
        Program::Frr => {
            // It runs as this user, and makes its sockets there.
            run(Command::new("chown").args(["-R", "frr:frr"]).arg(dir))?;
            let path = "/usr/lib/frr/bfdd";
            ensure!(
                Path::new(path).exists(),
                "{path} is missing: cargo xtask setup installs it"
            );
            let mut command = ns.command(path);
            command
                .args(["-P", "0", "--log", "stdout", "-f"])
                .arg(file("conf"));
            command
                .arg("-i")
                .arg(file("pid"))
                .arg("-z")
                .arg(file("zserv"));
            command
                .arg("--vty_socket")
                .arg(dir)
                .arg("--bfdctl")
                .arg(file("ctl"));
            command
        }
        Program::Keepalived => {
            // After SIGKILL it would take the files of its dead processes for running ones.
            for name in ["pid", "vrrp.pid", "bfd.pid", "checkers.pid"] {
                match fs::remove_file(file(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).context("removing keepalived's pid file");
                    }
                    _ => {}
                }
            }
            let mut command = ns.command("keepalived");
            command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file"]);
            command.arg(file("conf")).arg("--pid").arg(file("pid"));
            command.arg("--vrrp_pid").arg(file("vrrp.pid"));
            command.arg("--bfd_pid").arg(file("bfd.pid"));
            command.arg("--checkers_pid").arg(file("checkers.pid"));
            command
        }
        Program::Bird => {
            let mut command = ns.command("bird");
            command.arg("-f").arg("-c").arg(file("conf"));
            command
                .arg("-s")
                .arg(file("ctl"))
                .arg("-P")
                .arg(file("pid"));
            command
        }
    };
    command.process_group(0);
    Ok(command)
}

//! Where the roles of both nodes write down what they do, and find what they are to do.

use std::{
    fmt, fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use ha_tests::{eventually, node::PATIENCE};
use rustix::time::{ClockId, clock_gettime};

/// The roles of the group, in order.
pub(crate) const ROLES: [&str; 2] = ["first", "second"];

/// Name of the check of [`Room::check_of`].
pub(crate) const CHECK: &str = "probe";

/// What a role does.
const SCRIPT: &str = include_str!("script.sh");

/// /proc/uptime counts these.
pub(crate) const TICK: Nanos = Nanos::from_millis(10);

/// A line of the diary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When, rounded down to a [`TICK`].
    pub(crate) at: MonoNs,
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) step: String,
    /// `begin`, `changed`, `done` or `failed`.
    pub(crate) word: String,
    /// Whether the node had the VIP.
    pub(crate) vip: bool,
    pub(crate) epoch: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            role,
            step,
            word,
            ..
        } = self;
        write!(f, "{node} {role} {step} {word}")
    }
}

/// What a role is told by a file. It goes on when the file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// To wait before it changes anything.
    Before,
    /// To wait after that.
    After,
    /// To fail.
    Fail,
    /// To say nothing while it is asked how it is (step `status`).
    Silent,
}

impl Mark {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Fail => "fail",
            Self::Silent => "silent",
        }
    }

    /// The last word that the role writes before it waits there.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Before => "begin",
            Self::After => "changed",
            Self::Fail => "failed",
            Self::Silent => "",
        }
    }
}

pub(crate) struct Room {
    dir: PathBuf,
    vip: Ipv4Addr,
}

impl Room {
    pub(crate) fn new(dir: &Path, vip: Ipv4Addr) -> Result<Self> {
        let dir = dir.join("room");
        fs::create_dir(&dir)?;
        let script = dir.join("script");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        fs::write(dir.join("diary"), "")?;
        Ok(Self { dir, vip })
    }

    /// The sections of the roles; `keys` are more of each.
    pub(crate) fn sections(&self, keys: &str) -> String {
        let dir = self.dir.display();
        let vip = self.vip;
        let command = format!("\"{dir}/script\", \"{dir}\", \"{vip}\"");
        let sections = ROLES.map(|role| {
            format!(
                "\n[[role]]\nname = \"{role}\"\nkind = \"script\"\nuser = \"root\"\npromote = [{command}]\n\
                 demote = [{command}]\nstatus = [{command}, \"status\"]\n{keys}\n"
            )
        });
        sections.concat()
    }

    /// The section of a check, which hangs on a node that [`Self::hang`] names.
    pub(crate) fn check_of(&self, node: &str) -> String {
        let dir = self.dir.display();
        let vip = self.vip;
        format!(
            "\n[[check]]\nname = \"{CHECK}\"\nkind = \"script\"\nuser = \"root\"\n\
             command = [\"{dir}/script\", \"{dir}\", \"{vip}\", \"check\", \"{node}\"]\ninterval = \"100ms\"\n\
             timeout = \"500ms\"\nfall = 2\nrise = 1\ndamping = \"0s\"\n"
        )
    }

    /// Has that check hang, or go on.
    pub(crate) fn hang(&self, node: &str, hangs: bool) -> Result<()> {
        let file = self.dir.join(format!("hangs.{node}"));
        if hangs {
            fs::write(file, "")?;
        } else {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    pub(crate) fn diary(&self) -> Result<Vec<Entry>> {
        let text = fs::read_to_string(self.dir.join("diary"))?;
        let behind = behind_uptime();
        text.lines()
            .map(|line| entry(line, behind).with_context(|| format!("a line of the diary: {line}")))
            .collect()
    }

    /// How many lines it has.
    pub(crate) fn page(&self) -> Result<usize> {
        Ok(self.diary()?.len())
    }

    /// What was done since then, without the words between begin and end.
    pub(crate) fn since(&self, page: usize) -> Result<Vec<String>> {
        let diary = self.diary()?;
        let entries = diary.iter().skip(page);
        let entries = entries.filter(|entry| entry.word != "changed");
        Ok(entries.map(ToString::to_string).collect())
    }

    /// Waits until a line is there since then.
    pub(crate) fn wait_for(&self, page: usize, line: &str) -> Result<Entry> {
        let mut found = None;
        eventually(PATIENCE, &format!("the diary has: {line}"), || {
            let mut diary = self.diary()?.into_iter().skip(page);
            found = diary.find(|entry| entry.to_string() == line);
            Ok(found.is_some())
        })
        .with_context(|| format!("it has: {:?}", self.since(page)))?;
        found.context("a line that was found")
    }

    /// The roles that a node has promoted, or has begun to demote.
    pub(crate) fn promoted(&self, node: &str) -> Vec<&'static str> {
        let is = |role: &&str| self.dir.join(format!("promoted.{node}.{role}")).exists();
        ROLES.into_iter().filter(is).collect()
    }

    /// What a node has promoted does not outlive its power.
    pub(crate) fn forget(&self, node: &str) -> Result<()> {
        for role in self.promoted(node) {
            fs::remove_file(self.dir.join(format!("promoted.{node}.{role}")))?;
        }
        Ok(())
    }

    pub(crate) fn set(&self, mark: Mark, node: &str, role: &str, step: &str) -> Result<()> {
        fs::write(self.mark(mark, node, role, step), "")?;
        Ok(())
    }

    pub(crate) fn lift(&self, mark: Mark, node: &str, role: &str, step: &str) -> Result<()> {
        fs::remove_file(self.mark(mark, node, role, step))?;
        Ok(())
    }

    fn mark(&self, mark: Mark, node: &str, role: &str, step: &str) -> PathBuf {
        self.dir
            .join(format!("{}.{node}.{role}.{step}", mark.name()))
    }
}

/// How far CLOCK_MONOTONIC is behind what /proc/uptime shows: a suspended machine's time.
fn behind_uptime() -> Nanos {
    let of = |clock| {
        let time = clock_gettime(clock);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
        secs * 1_000_000_000 + rest
    };
    let (monotonic, uptime) = (of(ClockId::Monotonic), of(ClockId::Boottime));
    let behind = uptime.saturating_sub(monotonic);
    // Nobody suspended it for less: that is the time between the two questions.
    Nanos(if behind < TICK.0 { 0 } else { behind })
}

fn entry(line: &str, behind: Nanos) -> Option<Entry> {
    let mut words = line.split(' ');
    let (secs, hundredths) = words.next()?.split_once('.')?;
    let ticks = secs.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?;
    let mut word = || words.next().map(str::to_owned);
    Some(Entry {
        at: MonoNs(ticks * TICK.0).before(behind),
        node: word()?,
        role: word()?,
        step: word()?,
        word: word()?,
        vip: word()? == "vip",
        epoch: word()?.parse().ok()?,
    })
}

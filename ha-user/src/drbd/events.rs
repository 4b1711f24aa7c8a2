//! What `drbdsetup events2` tells of changes.

use ha_core::check::Observation;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdout},
};

use super::{DRBDSETUP, Line};
use crate::checks::{tool::Start, words::clean};

/// Bytes of the longest line.
const LONGEST: usize = 4_096;

/// A process that prints a line for each change.
pub(crate) struct Events {
    resource: String,
    start: Start,
    source: Option<Source>,
    /// Whether there was a probe since one was started: no more than one is started for each.
    may_start: bool,
}

struct Source {
    /// It ends with it.
    _process: Child,
    lines: ChildStdout,
    read: Vec<u8>,
    /// What is at the beginning has been printed; what follows is news.
    is_news: bool,
}

impl Events {
    pub(crate) fn new(resource: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            start: Start::new(DRBDSETUP),
            source: None,
            may_start: false,
        }
    }

    /// There was a probe.
    pub(crate) const fn probed(&mut self) {
        self.may_start = true;
    }

    /// Waits for a change. For ever, where there is no process that would tell.
    pub(crate) async fn next(&mut self, active: bool) -> Observation {
        if self.source.is_none() && self.may_start {
            self.source = self.begin().await.and_then(Source::of);
        }
        loop {
            let Some(source) = &mut self.source else {
                return std::future::pending().await;
            };
            match source.next().await {
                Some(line) => {
                    if let Some(observation) = source.observe(&line, active) {
                        return observation;
                    }
                }
                None => self.source = None,
            }
        }
    }

    /// Starts the process. Given up before it runs, it is taken up the next time.
    async fn begin(&mut self) -> Option<Child> {
        let process = match self.start.late().await {
            Ok(None) => {
                let process = self.start.begin(&["events2", &self.resource]).await;
                process.ok()
            }
            Ok(late) => late,
            Err(_) => None,
        };
        self.may_start = false;
        process
    }
}

impl Source {
    fn of(mut process: Child) -> Option<Self> {
        Some(Self {
            lines: process.stdout.take()?,
            _process: process,
            read: Vec::new(),
            is_news: false,
        })
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if self.read.len() > LONGEST {
                return None;
            }
            match self.lines.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn observe(&mut self, line: &str, active: bool) -> Option<Observation> {
        if line.trim() == "exists -" {
            self.is_news = true;
            // Something may have changed since the last probe.
            return Some(Observation::Changed);
        }
        self.is_news.then(|| observe(line, active)).flatten()
    }
}

/// What a line of news means; `None`: nothing.
pub(crate) fn observe(line: &str, active: bool) -> Option<Observation> {
    let line = Line::read(line)?;
    // Handlers are called.
    if !matches!(line.event, "create" | "change" | "destroy") {
        return None;
    }
    let is = |field, values: &[&str]| {
        line.field(field)
            .is_some_and(|value| values.contains(&value))
    };
    let gone = line.event == "destroy" && matches!(line.object, "resource" | "device");
    let bad = match line.object {
        "device" => {
            is("disk", &["Failed", "Diskless", "Outdated", "Inconsistent"])
                && !is("client", &["yes"])
                || is("quorum", &["no"])
        }
        // Who uses the resource goes on. A connection that is made begins with it.
        "connection" => !active && line.event == "change" && is("connection", &["StandAlone"]),
        _ => false,
    };
    if gone || bad {
        let fields = ["disk", "quorum", "connection"];
        let said = fields.into_iter().find_map(|field| line.field(field));
        let said = said.map_or("is gone".to_owned(), clean);
        return Some(Observation::Suspect(format!(
            "{} {said}",
            clean(line.object)
        )));
    }
    let tells = [
        "role",
        "suspended",
        "disk",
        "quorum",
        "connection",
        "replication",
    ];
    let told = tells.into_iter().any(|field| line.field(field).is_some());
    told.then_some(Observation::Changed)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const QUIET: Duration = Duration::from_millis(100);

    async fn start(script: &str) -> Child {
        let arguments = ["-c", script];
        Start::new("sh").begin(&arguments).await.unwrap()
    }

    /// A process that prints, goes on, and is killed with its source.
    #[tokio::test]
    async fn what_a_process_prints_is_news_from_the_end_of_the_beginning() {
        let printed = "exists device name:r0 volume:0 disk:Diskless\nexists -\nchange resource name:r0 role:Primary\nchange device na";
        let script =
            format!("printf '{printed}'; sleep 0.1; echo 'me:r0 disk:Failed'; exec sleep 1000");
        let process = start(&script).await;
        let pid = process.id().unwrap();
        let mut events = Events::new("r0");
        events.source = Source::of(process);
        for expected in [
            Observation::Changed,
            Observation::Changed,
            Observation::Suspect("device Failed".to_owned()),
        ] {
            // Given up in the middle of a line, it goes on there.
            let mut news = timeout(Duration::ZERO, events.next(true)).await;
            if news.is_err() {
                news = timeout(PATIENCE, events.next(true)).await;
            }
            assert_eq!(news, Ok(expected));
        }
        assert!(timeout(QUIET, events.next(true)).await.is_err());
        drop(events);
        let gone = async {
            while is_alive(pid) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, gone)
            .await
            .expect("the end of the process");
    }

    /// Neither gone nor only waiting to be reaped.
    fn is_alive(pid: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    }

    #[tokio::test]
    async fn a_process_that_ends_is_not_begun_again_before_a_probe() {
        let mut events = Events::new("r0");
        events.source = Source::of(start("echo 'exists -'").await);
        let first = timeout(PATIENCE, events.next(true)).await;
        assert_eq!(first, Ok(Observation::Changed));
        assert!(timeout(QUIET, events.next(true)).await.is_err());
        assert!(events.source.is_none());
    }
}

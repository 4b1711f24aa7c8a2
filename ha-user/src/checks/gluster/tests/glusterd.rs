//! A glusterd of one test with a volume of one brick, in namespaces of its own: it has neither this host's network
//! nor its `/var/lib` and `/run`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::PATIENCE;

/// It ends with it, as do the daemons that it started.
pub(super) struct Glusterd {
    daemon: Child,
    dir: tempfile::TempDir,
}

/// Runs glusterd with directories below the first argument.
const SCRIPT: &str = r#"
set -e
ip link set lo up
mkdir -p "$1/lib" "$1/log" "$1/run"
mount --bind "$1/lib" /var/lib/glusterd
mount --bind "$1/log" /var/log/glusterfs
mount --bind "$1/run" /run
exec glusterd --no-daemon --log-file="$1/log/glusterd"
"#;

impl Glusterd {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = fs::File::create(dir.path().join("output")).unwrap();
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount"])
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv and unshare");
        let glusterd = Self { daemon, dir };
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        let brick = format!("{host}:{}", glusterd.dir.path().join("brick").display());
        for question in [
            &["volume", "create", "gv0", &brick, "force"][..],
            &["volume", "start", "gv0"][..],
        ] {
            let done = async {
                while !glusterd.gluster(question) {
                    sleep(Duration::from_millis(100)).await;
                }
            };
            if timeout(PATIENCE, done).await.is_err() {
                let output = fs::read_to_string(glusterd.dir.path().join("output"));
                panic!("{question:?}: {output:?}");
            }
        }
        glusterd
    }

    fn gluster(&self, question: &[&str]) -> bool {
        let output = Command::new("gluster")
            .args(["--log-file=/dev/null", "--mode=script"])
            .arg(format!("--glusterd-sock={}", self.socket()))
            .args(question)
            .stdin(Stdio::null())
            .output()
            .expect("gluster");
        output.status.success()
    }

    pub(super) fn socket(&self) -> String {
        let socket = self.dir.path().join("run/glusterd.socket");
        socket.display().to_string()
    }

    pub(super) fn kill_brick(&self) {
        assert_eq!(self.kill_all("run/gluster/vols"), 1);
    }

    /// Kills those of its processes whose numbers stand in the files below a directory.
    fn kill_all(&self, dir: &str) -> usize {
        let ours = self.dir.path().display().to_string();
        let mut killed = 0;
        let mut dirs: Vec<PathBuf> = vec![self.dir.path().join(dir)];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = path.path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let number = fs::read_to_string(&path).unwrap_or_default();
                let Some(pid) = number.trim().parse().ok().and_then(Pid::from_raw) else {
                    continue;
                };
                let command = fs::read(format!("/proc/{}/cmdline", number.trim()));
                let command = String::from_utf8_lossy(&command.unwrap_or_default()).into_owned();
                if command.contains(&ours) && kill_process(pid, Signal::KILL).is_ok() {
                    killed += 1;
                }
            }
        }
        killed
    }
}

impl Drop for Glusterd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        self.kill_all("run");
    }
}

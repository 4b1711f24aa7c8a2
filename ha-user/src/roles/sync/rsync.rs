//! rsync at both ends of a stream. The one that is asked serves one directory, which nobody can write to through it; the
//! one that asks receives into the same directory of its own node.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixListener,
    process::Command,
    task::spawn_blocking,
};

use super::{
    ground::{Directory, replace},
    words::broken,
};
use crate::{
    checks::{ScriptRuns, launched, words},
    config::Script,
    link::{PIECE, Stream},
};

/// Which is [`super::ground::DRAFTS`].
const PARTIAL: &str = "--partial-dir=.had-sync";
const PLACES: [&str; 3] = ["/usr/bin/rsync", "/usr/local/bin/rsync", "/bin/rsync"];
/// Seconds in which nothing is exchanged, after which both ends give up: as long as a large file may take to be compared.
/// That the other node is dead is noticed otherwise.
const SILENCE: u32 = 3_600;
/// rsync(1): a file went while it was to be copied. It will be seen to change.
const VANISHED: &str = "exit code 24";

/// Where rsync is.
pub(super) fn program() -> Result<&'static str, String> {
    let found = PLACES.into_iter().find(|place| Path::new(place).is_file());
    found.ok_or_else(|| "there is no rsync: install it on all nodes".to_owned())
}

/// What is copied, and how.
pub(super) struct Copy<'a> {
    pub(super) directory: &'a Directory,
    /// [`Directory::prepare`]
    pub(super) drafts: &'a Directory,
    pub(super) exclude: &'a [String],
    /// Where that is kept which is here otherwise; `None`: it is what was copied before.
    pub(super) kept: Option<&'a Path>,
    /// A socket to make: its directory is the daemon's own.
    pub(super) socket: Temporary,
}

/// A file of one stream alone, which is removed with this.
pub(super) struct Temporary(pub(super) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Where it was not made there is none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Serves a directory over a stream until the other end has had enough.
pub(super) async fn serve(
    stream: Stream,
    directory: &Directory,
    configuration: &Temporary,
) -> Result<(), String> {
    let text = daemon_configuration(&directory.path());
    let file = configuration.0.clone();
    let written = spawn_blocking(move || {
        make_room(&file).map_err(|error| words::of_io(&error))?;
        replace(&file, text.as_bytes())
    });
    written.await.map_err(|_| "the daemon ends")??;
    let mut command = Command::from(launched(program()?));
    command
        .args(["--server", "--daemon"])
        .arg(format!("--config={}", configuration.0.display()))
        .arg(".")
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // It may hang, as every use of a file.
    let spawned = spawn_blocking(move || command.spawn()).await;
    let spawned = spawned.map_err(|_| "the daemon ends")?;
    let mut child =
        spawned.map_err(|error| format!("rsync cannot be run: {}", words::of_io(&error)))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("rsync has no pipes".to_owned());
    };
    let relayed = relay(stream, output, input).await;
    relayed.map_err(|error| broken(&error))
}

/// One directory, read-only, with owners by their names; what its links lead to is not part of it.
fn daemon_configuration(path: &Path) -> String {
    format!(
        "use chroot = no\nread only = yes\nlist = no\nuid = 0\ngid = 0\nnumeric ids = no\nmunge symlinks = no\n\
         refuse options = copy-links copy-dirlinks copy-unsafe-links\n\
         reverse lookup = no\nlog file = /dev/null\ntimeout = {SILENCE}\n[files]\npath = {}\n",
        path.display()
    )
}

/// Receives a directory; how many of `runs` it takes is one. Where this is dropped, rsync is killed.
pub(super) async fn receive(
    stream: Stream,
    copy: &Copy<'_>,
    runs: &mut ScriptRuns,
) -> Result<(), String> {
    let listener = listen(&copy.socket.0)?;
    let script = Arc::new(script(copy)?);
    let relay = async {
        let (socket, _) = listener.accept().await?;
        let (from, to) = socket.into_split();
        relay(stream, from, to).await
    };
    let run = runs.run(&script);
    tokio::pin!(run, relay);
    let mut lost = None;
    let ended = tokio::select! {
        biased;
        ended = &mut run => ended,
        relayed = &mut relay => {
            lost = relayed.err();
            // Without the stream it has nothing to wait for; with all of it, it may still be at work.
            run.await
        }
    };
    match ended {
        Ok(_) => Ok(()),
        Err(why) if why.starts_with(VANISHED) => Ok(()),
        Err(why) => Err(match lost {
            None => format!("rsync: {why}"),
            Some(error) => format!("rsync: {why} ({})", broken(&error)),
        }),
    }
}

/// Makes the directory of a file, where nobody else gets.
fn make_room(file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent() else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)
}

fn listen(socket: &Path) -> Result<UnixListener, String> {
    let made = || {
        make_room(socket)?;
        UnixListener::bind(socket)
    };
    made().map_err(|error| format!("{}: {}", socket.display(), words::of_io(&error)))
}

fn script(copy: &Copy<'_>) -> Result<Script, String> {
    let mut command: Vec<String> = [
        program()?,
        "--archive",
        // Neither devices nor sockets: what reads a directory of files has no use for them.
        "--no-D",
        // To the nanosecond: else a file that changed twice in a second, and has the same length, would be left as it is.
        "--modify-window=-1",
        // What is mounted below the directory is another one.
        "--one-file-system",
        // A file is there as it was or as it is, and what has to go stays until all of the others are there.
        "--delay-updates",
        PARTIAL,
        "--delete-after",
        "--exclude=/lost+found",
    ]
    .map(str::to_owned)
    .to_vec();
    command.push(format!("--timeout={SILENCE}"));
    command.push(format!("--temp-dir={}", copy.drafts.path().display()));
    let exclude = copy.exclude.iter();
    command.extend(exclude.map(|pattern| format!("--exclude={pattern}")));
    if let Some(kept) = copy.kept {
        // Both nodes may have been written to at the same time, with as much.
        command.push("--checksum".to_owned());
        command.push("--backup".to_owned());
        command.push(format!("--backup-dir={}", kept.display()));
    }
    command.push("rsync://had/files/".to_owned());
    command.push(format!("{}/", copy.directory.path().display()));
    // Its own program, also where another one has taken its place.
    let own = std::process::id();
    let connect = format!("exec /proc/{own}/exe --relay {}", quoted(&copy.socket.0));
    Ok(Script {
        check: None,
        command,
        user: Some("root".to_owned()),
        env: vec![("RSYNC_CONNECT_PROG".to_owned(), connect)],
        directory: PathBuf::from("/"),
    })
}

/// For a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Carries bytes both ways until both have ended.
async fn relay(
    stream: Stream,
    mut from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    stream.allow_for_disks();
    let Stream {
        mut reader,
        mut writer,
    } = stream;
    let outwards = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await?;
            writer
                .write(piece.get(..length).unwrap_or_default())
                .await?;
            if length == 0 {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let inwards = async move {
        // A pipe is closed by being dropped, at the end of this.
        let mut to = to;
        loop {
            let piece = reader.read().await?;
            if piece.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(piece).await?;
        }
    };
    tokio::try_join!(outwards, inwards).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{super::ground::DRAFTS, *};

    #[test]
    fn drafts_are_where_they_are_swept() {
        assert_eq!(PARTIAL, format!("--partial-dir={DRAFTS}"));
    }
}

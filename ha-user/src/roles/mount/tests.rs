//! Whom a file system is used by, here; with real file systems in the guest, whose kernel has loop devices.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::linux::fs::MetadataExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ha_common::Nanos;
use rustix::fs::{major, minor};

use super::{
    attach,
    table::{self, Number},
    users::{self, Leaving},
};
use crate::sys::clock;

/// A file system of its own on each machine.
const ELSEWHERE: &str = "/dev/shm";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sleeps, and no longer becomes another program, when this returns.
fn sleeper(command: &mut Command) -> Killed {
    let command = command.args(["sleep", "1000"]).stdin(Stdio::null());
    let child = Killed(command.spawn().unwrap());
    let name = format!("/proc/{}/comm", child.0.id());
    by_and_by(|| fs::read_to_string(&name).unwrap() == "sleep\n");
    child
}

/// Waits for it, for a minute.
fn by_and_by(mut condition: impl FnMut() -> bool) {
    let deadline = clock::now().after(Nanos::from_secs(60));
    while !condition() {
        assert!(clock::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has this device's file system left, wherever it is mounted.
fn leaving(device: Number) -> Leaving {
    Leaving {
        own: BTreeSet::from([device]),
        mounts: Vec::new(),
    }
}

fn device_of(path: &Path) -> Number {
    let device = path.metadata().unwrap().st_dev();
    (major(device), minor(device))
}

#[test]
fn who_uses_a_file_system_is_found_and_nobody_else() {
    let dir = tempfile::tempdir_in(ELSEWHERE).unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let leaving = leaving(device_of(dir.path()));
    assert_ne!(device_of(dir.path()), device_of(Path::new("/")));
    let there = sleeper(Command::new("env").current_dir(dir.path()));
    let opened = sleeper(Command::new("env").current_dir("/").stdout(file));
    let elsewhere = sleeper(Command::new("env").current_dir("/").stdout(Stdio::null()));
    let found: Vec<i32> = users::of(&leaving).iter().map(|user| user.pid).collect();
    let has = |child: &Killed| found.contains(&i32::try_from(child.0.id()).unwrap());
    assert!(has(&there) && has(&opened) && !has(&elsewhere));
    // Others may be, but neither we, though we have it open, nor the first process.
    let _ours = File::open(dir.path()).unwrap();
    assert!(users::are_we(&leaving));
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(!found.contains(&own) && !found.contains(&1));
    assert!(!users::of(&leaving).iter().any(|user| user.pid == own));
}

#[test]
fn what_is_no_block_device_is_not_mounted() {
    let why = attach::number_of(Path::new("/dev/null")).unwrap_err();
    assert_eq!(why, "/dev/null is no block device");
    let why = attach::number_of(Path::new("/dev/had-no-such-device")).unwrap_err();
    assert!(why.contains("No such file"), "{why}");
}

#[test]
fn what_nobody_else_would_see_is_not_mounted() {
    let mounts = |tags: &str| table::of(&format!("36 35 8:1 / / rw {tags}- ext4 /dev/sda1 rw\n"));
    let judged =
        |tags, is_first| attach::seen_by_others(&mounts(tags), Path::new("/srv"), is_first);
    // As systemd leaves it to everybody, and to a service with ProtectSystem=.
    judged("shared:1 ", false).unwrap();
    let why = judged("shared:270 master:1 ", false).unwrap_err();
    assert!(why.contains("packaging/roles.conf"), "{why}");
    judged("", false).unwrap_err();
    // Without systemd nothing is shared, and nobody is elsewhere.
    judged("", true).unwrap();
}

/// Needs loop devices: `cargo xtask vm-test -- in_guest`.
mod in_guest {
    use std::{
        io::{Read as _, Write as _},
        path::PathBuf,
    };

    use ha_common::MonoNs;
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, unmount,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{
        config::MountRole,
        roles::{Role as _, mount::Mount},
    };

    /// Bytes of a disk.
    const SIZE: u64 = 8 << 20;

    struct Disk {
        dir: TempDir,
        device: String,
    }

    impl Disk {
        /// With a file system.
        fn new() -> Self {
            run("modprobe", &["loop"]);
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("place")).unwrap();
            let file = dir.path().join("disk");
            File::create(&file).unwrap().set_len(SIZE).unwrap();
            let device = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
            let device = device.trim().to_owned();
            run("mkfs.ext4", &["-q", &device]);
            Self { dir, device }
        }

        fn place(&self) -> PathBuf {
            self.dir.path().join("place")
        }

        fn role(&self, kind: &str, options: &[&str], fsck: bool) -> Mount {
            Mount::new(&MountRole {
                device: PathBuf::from(&self.device),
                place: self.place(),
                kind: kind.to_owned(),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                fsck,
                fsck_limit: Nanos::from_secs(60),
                promote_limit: Nanos::from_secs(60),
                demote_limit: Nanos::from_secs(60),
            })
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = unmount(self.place(), UnmountFlags::DETACH);
            let _ = Command::new("losetup").args(["-d", &self.device]).status();
        }
    }

    fn run(program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn soon() -> MonoNs {
        clock::now().after(Nanos::from_secs(60))
    }

    async fn is_mounted(role: &mut Mount) -> bool {
        role.observe().await.promoted.unwrap()
    }

    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn a_file_system_comes_and_goes_and_each_step_may_be_taken_twice() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &["noatime", "nodev", "data=ordered"], true);
        assert!(!is_mounted(&mut role).await);
        role.step("unmount", soon()).await.unwrap();
        for _ in 0..2 {
            role.step("fsck", soon()).await.unwrap();
            role.step("mount", soon()).await.unwrap();
            assert!(is_mounted(&mut role).await);
        }
        let shown = run(
            "findmnt",
            &["-no", "OPTIONS", disk.place().to_str().unwrap()],
        );
        assert!(
            shown.contains("noatime") && shown.contains("nodev"),
            "{shown}"
        );
        for _ in 0..2 {
            role.step("unmount", soon()).await.unwrap();
            assert!(!is_mounted(&mut role).await);
        }
    }

    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn nothing_is_mounted_over_or_hidden_and_what_cannot_be_is_said() {
        let disk = Disk::new();
        let other = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        mount("none", disk.place(), "tmpfs", MountFlags::empty(), None).unwrap();
        let why = role.step("mount", soon()).await.unwrap_err();
        assert!(why.contains("something else is mounted at"), "{why}");
        assert!(role.observe().await.able.is_err());
        unmount(disk.place(), UnmountFlags::empty()).unwrap();

        let below = disk.place().join("below");
        fs::create_dir(&below).unwrap();
        mount("none", &below, "tmpfs", MountFlags::empty(), None).unwrap();
        let why = role.step("mount", soon()).await.unwrap_err();
        assert!(why.contains("mounted below"), "{why}");
        unmount(&below, UnmountFlags::empty()).unwrap();

        let why = disk.role("xfs", &[], false).step("mount", soon()).await;
        let why = why.unwrap_err();
        assert!(why.contains("cannot be mounted"), "{why}");
        let why = disk
            .role("ext4", &["nonsense"], false)
            .step("mount", soon())
            .await;
        assert!(why.unwrap_err().contains("cannot be mounted"));
        assert!(!is_mounted(&mut role).await);
        // Another device's.
        other
            .role("ext4", &[], false)
            .step("mount", soon())
            .await
            .unwrap();
        assert!(!is_mounted(&mut role).await);
    }

    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn a_damaged_file_system_is_not_mounted() {
        let disk = Disk::new();
        let mut device = File::options().write(true).open(&disk.device).unwrap();
        // The superblock's place, and its magic number.
        device.write_all(&vec![0x5a; 64 << 10]).unwrap();
        device.sync_all().unwrap();
        let mut role = disk.role("ext4", &[], true);
        let why = role.step("fsck", soon()).await.unwrap_err();
        assert!(why.contains("does not mend by itself"), "{why}");
    }

    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn whoever_holds_it_up_is_ended_and_then_killed_and_all_its_mounts_go() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        role.step("mount", soon()).await.unwrap();
        let again = disk.dir.path().join("again");
        fs::create_dir(&again).unwrap();
        mount_bind(disk.place(), &again).unwrap();
        let below = disk.place().join("below");
        fs::create_dir(&below).unwrap();
        mount("none", &below, "tmpfs", MountFlags::empty(), None).unwrap();

        let mut meek = sleeper(Command::new("env").current_dir(disk.place()));
        let file = File::create(disk.place().join("file")).unwrap();
        let mut stubborn = Killed(
            Command::new("sh")
                .args(["-c", "trap '' TERM; echo; while :; do sleep 1; done"])
                .current_dir("/")
                .stdin(file)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut deaf = [0];
        let told = stubborn.0.stdout.as_mut().unwrap();
        told.read_exact(&mut deaf).unwrap();
        let far = sleeper(Command::new("env").current_dir("/"));
        let deadline = clock::now().after(Nanos::from_secs(8));
        let said = role.step("unmount", deadline).await.unwrap();
        assert!(said.contains("sleep") && said.contains("sh ("), "{said}");
        assert!(!is_mounted(&mut role).await);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&disk.device), "{mounts}");
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(meek.0.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert_eq!(stubborn.0.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(Path::new(&format!("/proc/{}", far.0.id())).exists());
    }

    /// Preloads a library, and so has it mapped and not open.
    fn mapper(library: &Path) -> Killed {
        let child = sleeper(
            Command::new("env")
                .current_dir("/")
                .arg(format!("LD_PRELOAD={}", library.display())),
        );
        let maps = format!("/proc/{}/maps", child.0.id());
        by_and_by(|| {
            fs::read_to_string(&maps)
                .unwrap()
                .contains(library.to_str().unwrap())
        });
        child
    }

    /// A chroot has the system's `/dev`, say.
    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn who_uses_elsewhere_what_is_mounted_below_is_left_alone() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        role.step("mount", soon()).await.unwrap();
        let below = |name| {
            let place = disk.place().join(name);
            fs::create_dir(&place).unwrap();
            place
        };
        let [dev, shared, private] = ["dev", "shared", "private"].map(below);
        mount_bind("/dev", &dev).unwrap();
        let elsewhere = tempfile::tempdir_in(ELSEWHERE).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps.lines().find_map(|line| {
            let path = line.split_ascii_whitespace().nth(5)?;
            path.contains("libgcc_s").then_some(path)
        });
        fs::copy(library.unwrap(), elsewhere.path().join("library")).unwrap();
        mount_bind(elsewhere.path(), &shared).unwrap();
        mount("none", &private, "tmpfs", MountFlags::empty(), None).unwrap();

        let null = File::open(dev.join("null")).unwrap();
        let opened = Command::new("sleep").arg("1000").stdin(null).spawn();
        // In a mount namespace of its own, as many services are.
        let secluded = sleeper(
            Command::new("unshare")
                .args(["--mount", "--propagation=slave", "env", "-C"])
                .arg(&private),
        );
        let work = format!("/proc/{}/cwd", secluded.0.id());
        by_and_by(|| fs::read_link(&work).is_ok_and(|link| link == private));
        let mut near = [
            sleeper(Command::new("env").current_dir(disk.place())),
            Killed(opened.unwrap()),
            mapper(&shared.join("library")),
            secluded,
        ];
        let mut far = [
            sleeper(Command::new("env").current_dir("/dev")),
            sleeper(Command::new("env").current_dir(elsewhere.path())),
            mapper(&elsewhere.path().join("library")),
        ];

        role.step("unmount", soon()).await.unwrap();
        assert!(!is_mounted(&mut role).await);
        use std::os::unix::process::ExitStatusExt as _;
        for child in &mut near {
            let mut status = None;
            by_and_by(|| {
                status = child.0.try_wait().unwrap();
                status.is_some()
            });
            assert_eq!(status.unwrap().signal(), Some(libc::SIGTERM));
        }
        for child in &mut far {
            assert_eq!(child.0.try_wait().unwrap(), None);
        }
    }

    /// What is unmounted below a mount is unmounted below those that it shares with, such as the system's `/dev`.
    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn what_is_bound_from_elsewhere_stays_there_with_all_below_it() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        role.step("mount", soon()).await.unwrap();
        let elsewhere = disk.dir.path().join("elsewhere");
        let inner = elsewhere.join("inner");
        fs::create_dir(&elsewhere).unwrap();
        mount("none", &elsewhere, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&elsewhere, MountPropagationFlags::SHARED).unwrap();
        fs::create_dir(&inner).unwrap();
        mount("none", &inner, "tmpfs", MountFlags::empty(), None).unwrap();
        let below = disk.place().join("below");
        fs::create_dir(&below).unwrap();
        mount_bind_recursive(&elsewhere, &below).unwrap();
        assert!(table::at(&table::read().unwrap(), &below.join("inner")).is_some());

        role.step("unmount", soon()).await.unwrap();
        assert!(!is_mounted(&mut role).await);
        let mounts = table::read().unwrap();
        let is_there = |place| table::at(&mounts, place).is_some();
        assert!(is_there(&elsewhere) && is_there(&inner));
        unmount(&inner, UnmountFlags::empty()).unwrap();
        unmount(&elsewhere, UnmountFlags::empty()).unwrap();
    }

    #[tokio::test]
    #[ignore = "needs loop devices"]
    async fn we_do_not_kill_ourselves_and_say_so() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        role.step("mount", soon()).await.unwrap();
        let ours = File::open(disk.place()).unwrap();
        let deadline = clock::now().after(Nanos::from_secs(4));
        let why = role.step("unmount", deadline).await.unwrap_err();
        assert!(why.contains("in use by had itself"), "{why}");
        drop(ours);
        role.step("unmount", soon()).await.unwrap();
    }

    /// As where the device does not answer: who writes waits for it, and can be killed only when it does.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs loop devices"]
    async fn who_cannot_be_killed_is_named_in_time() {
        let disk = Disk::new();
        let mut role = disk.role("ext4", &[], false);
        role.step("mount", soon()).await.unwrap();
        let place = disk.place();
        run("fsfreeze", &["--freeze", place.to_str().unwrap()]);
        let writer = Killed(
            Command::new("sh")
                .args(["-c", "cd \"$1\"; echo words > file", "sh"])
                .arg(&place)
                .spawn()
                .unwrap(),
        );
        // It waits for the file system to thaw, and for nothing else.
        let wait = format!("/proc/{}/wchan", writer.0.id());
        by_and_by(|| fs::read_to_string(&wait).unwrap() == "percpu_rwsem_wait");
        let why = role
            .step("unmount", clock::now().after(Nanos::from_secs(4)))
            .await
            .unwrap_err();
        assert!(why.contains("is in use by sh ("), "{why}");
        assert!(is_mounted(&mut role).await);
        run("fsfreeze", &["--unfreeze", place.to_str().unwrap()]);
        role.step("unmount", soon()).await.unwrap();
        assert!(!is_mounted(&mut role).await);
    }
}

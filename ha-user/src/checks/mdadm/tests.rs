//! With texts as Linux 4.19 to 6.12 print them. Real arrays are in the guest's tests: this needs a kernel that has
//! them.

use std::{fs, path::Path, time::Duration};

use tokio::time::timeout;

use super::{
    MdadmProbe, judge,
    mdstat::{Array, Work, parse},
};
use crate::{checks::probe::Probe as _, config::Mdadm};

const WHOLE: &str = "\
Personalities : [raid1] [linear] [multipath] [raid0] [raid6] [raid5] [raid4] [raid10]
md1 : active raid1 sdb2[1] sda2[0]
      243949568 blocks super 1.2 [2/2] [UU]
      bitmap: 1/2 pages [4KB], 65536KB chunk

md0 : active raid1 sdb1[1] sda1[0]
      1046528 blocks super 1.2 [2/2] [UU]

unused devices: <none>
";

const DEGRADED: &str = "\
Personalities : [raid1]
md0 : active raid1 sdb1[1](F) sda1[0]
      1046528 blocks super 1.2 [2/1] [U_]
      bitmap: 1/1 pages [4KB], 65536KB chunk

unused devices: <none>
";

const REBUILT: &str = "\
Personalities : [raid6] [raid5] [raid4]
md5 : active raid5 sdd1[4] sdc1[2] sdb1[1] sda1[0]
      3144192 blocks super 1.2 level 5, 512k chunk, algorithm 2 [4/3] [UUU_]
      [==>..................]  recovery = 12.6% (132096/1048064) finish=0.1min speed=132096K/sec

unused devices: <none>
";

const SYNCHRONISED: &str = "\
Personalities : [raid1]
md0 : active raid1 sdb1[1] sda1[0]
      1046528 blocks super 1.2 [2/2] [UU]
      \tresync=DELAYED
md1 : active (auto-read-only) raid1 sdd1[1] sdc1[0]
      1046528 blocks super 1.2 [2/2] [UU]
      \tresync=PENDING
md2 : active raid1 sdf1[1] sde1[0]
      1046528 blocks super 1.2 [2/2] [UU]
      [===>.................]  check = 17.5% (183168/1046528) finish=0.3min speed=45792K/sec
";

const ODD: &str = "\
Personalities : [raid0] [linear]
md127 : inactive sdc1[0](S)
      1046528 blocks super 1.2

md9 : active raid0 sdb1[1] sda1[0]
      2093056 blocks super 1.2 512k chunks

md8 : active raid1 sde1[2](S) sdf1[1] sdg1[0]
      1046528 blocks super 1.2 [2/2] [UU]

unused devices: sdh1[0]
";

fn judged(text: &str, array: Option<&str>, allow_recovery: bool) -> Result<String, String> {
    let config = Mdadm {
        array: array.map(str::to_owned),
        allow_recovery,
    };
    judge(&config, &parse(text))
}

fn fails(text: &str, array: Option<&str>) -> String {
    judged(text, array, true).expect_err("it fails")
}

#[test]
fn arrays_are_read_field_by_field() {
    let arrays = parse(WHOLE);
    let names: Vec<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
    assert_eq!(names, ["md1", "md0"]);
    assert!(
        arrays
            .iter()
            .all(|array| array.active && array.members == Some((2, 2)))
    );
    assert_eq!(
        parse(REBUILT),
        [Array {
            name: "md5".to_owned(),
            active: true,
            faulty: Vec::new(),
            members: Some((4, 3)),
            work: Some(Work {
                kind: "recovery".to_owned(),
                progress: "12.6%".to_owned()
            }),
        }]
    );
    let degraded = &parse(DEGRADED)[0];
    assert_eq!((degraded.members, degraded.missing()), (Some((2, 1)), 1));
    assert_eq!(degraded.faulty, ["sdb1"]);
    assert!(parse("").is_empty());
    assert!(parse("Personalities : \nunused devices: <none>\n").is_empty());
}

#[test]
fn only_a_whole_array_passes() {
    assert_eq!(
        judged(WHOLE, None, true),
        Ok("md1 is whole; md0 is whole".to_owned())
    );
    assert_eq!(
        judged(WHOLE, Some("md0"), false),
        Ok("md0 is whole".to_owned())
    );
    assert_eq!(fails(WHOLE, Some("md")), "there is no array md");
    assert_eq!(fails(WHOLE, Some("md2")), "there is no array md2");
    assert_eq!(
        fails("Personalities : \nunused devices: <none>\n", None),
        "there is no array"
    );
    assert_eq!(
        fails(DEGRADED, None),
        "md0 has 1 of 2 members (faulty: sdb1)"
    );
    let missing = DEGRADED.replace("sdb1[1](F) ", "");
    assert_eq!(fails(&missing, None), "md0 has 1 of 2 members");
    assert_eq!(fails(ODD, None), "md127 is inactive");
    assert_eq!(fails(ODD, Some("md127")), "md127 is inactive");
    // A level without redundancy; a spare.
    assert_eq!(
        judged(ODD, Some("md9"), false),
        Ok("md9 is whole".to_owned())
    );
    assert_eq!(
        judged(ODD, Some("md8"), false),
        Ok("md8 is whole".to_owned())
    );
    let faulty = ODD.replace("sdb1[1] sda1[0]", "sdb1[1](F) sda1[0]");
    assert_eq!(
        fails(&faulty, Some("md9")),
        "md9 has a faulty member (sdb1)"
    );
    let broken = WHOLE.replace("md0 : active", "md0 : broken");
    assert_eq!(fails(&broken, None), "md0 is inactive");
}

#[test]
fn reconstruction_passes_where_it_may() {
    assert_eq!(
        judged(REBUILT, None, true),
        Ok("md5 is rebuilt (12.6%)".to_owned())
    );
    assert_eq!(
        judged(REBUILT, None, false),
        Err("md5 has 3 of 4 members, and is rebuilt (12.6%)".to_owned())
    );
    assert_eq!(
        judged(SYNCHRONISED, None, true),
        Ok("md0 is synchronised (DELAYED); md1 is synchronised (PENDING); md2 is whole".to_owned())
    );
    assert_eq!(
        judged(SYNCHRONISED, None, false),
        Err("md0 is synchronised (DELAYED); md1 is synchronised (PENDING)".to_owned())
    );
    assert_eq!(
        judged(SYNCHRONISED, Some("md2"), false),
        Ok("md2 is whole".to_owned())
    );
}

#[test]
fn many_arrays_make_no_long_sentence() {
    let text: String = (0..9)
        .map(|number| format!("md{number} : active raid1 sdb1[1]\n      1 blocks [2/1] [U_]\n"))
        .collect();
    let words = fails(&text, None);
    assert!(
        words.ends_with("md2 has 1 of 2 members; and 6 more"),
        "{words}"
    );
}

async fn result(probe: &mut MdadmProbe) -> Result<String, String> {
    let result = timeout(Duration::from_secs(10), probe.probe()).await;
    result.expect("an answer")
}

#[tokio::test]
async fn the_file_is_read_anew_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mdstat");
    let config = Mdadm {
        array: None,
        allow_recovery: true,
    };
    let mut probe = MdadmProbe::of(&config, &file);
    let words = result(&mut probe).await.unwrap_err();
    assert!(
        words.starts_with("there is no ") && words.ends_with("no software RAID loaded"),
        "{words}"
    );
    fs::write(&file, WHOLE).unwrap();
    result(&mut probe).await.unwrap();
    // A plain file tells nothing.
    timeout(Duration::from_millis(50), probe.watch())
        .await
        .expect_err("no news");
    fs::write(&file, DEGRADED).unwrap();
    result(&mut probe).await.unwrap_err();
    if !Path::new(super::MDSTAT).exists() {
        let mut real = MdadmProbe::new(&config);
        let words = result(&mut real).await.unwrap_err();
        assert!(words.starts_with("there is no /proc/mdstat"), "{words}");
    }
}

/// /proc/mounts tells its changes in the same way as /proc/mdstat, and is in every kernel.
#[tokio::test]
#[ignore = "needs root, for a mount namespace: cargo xtask test runs it"]
async fn a_change_is_news() {
    use rustix::{
        mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
        thread::{UnshareFlags, unshare_unsafe},
    };
    // SAFETY: the flag gives this thread a mount namespace of its own, and nothing that memory depends on changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Mdadm {
        array: None,
        allow_recovery: true,
    };
    let mut probe = MdadmProbe::of(&config, Path::new("/proc/thread-self/mounts"));
    for _ in 0..2 {
        assert_eq!(
            result(&mut probe).await,
            Err("there is no array".to_owned())
        );
        timeout(Duration::from_millis(50), probe.watch())
            .await
            .expect_err("no news");
        mount("none", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        timeout(Duration::from_secs(10), probe.watch())
            .await
            .expect("news");
        unmount(dir.path(), UnmountFlags::empty()).unwrap();
    }
}

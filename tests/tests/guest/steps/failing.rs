//! A step fails, or hangs.

use ha_tests::ha_pair::DIR;

use super::cases::{
    Case,
    Fault::{Fails, Overcome, Stuck},
    NO_OPENER, OPENER,
    Plan::{Demote, Follow, HandOver, Promote},
    RESUME, STUBBORN, SUSPEND,
    Server::{After, Before, Either},
};

/// A user of the file system that is no process.
const LOOP: &str = "set -e; modprobe loop; truncate -s 1M /srv/pair/image\n\
                    losetup -f --show /srv/pair/image >/run/had-pair/loop";
const NO_LOOP: &str = "losetup -d $(cat /run/had-pair/loop)";

/// Longer than a promotion may take. Nobody can demote the node meanwhile.
const PRIMARY_FOR_A_WHILE: &str = "drbdadm primary r0 &&\n\
    { sleep 40 3<>/dev/drbd0 >/dev/null 2>&1 </dev/null & }";

/// What is said of a node that may still have its roles.
const NOT_PROVEN: &str = "NOT PROVEN that this node";

/// Each step.
pub(super) fn cases() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            (Promote, "inspect"),
            "`drbdsetup` hangs",
            Fails(r#""failed":"disk: inspect: "#),
            Either,
        )
        .held(),
        case(
            (Promote, "primary"),
            "the other node is made Primary by hand, and its device is in use",
            Fails(r#""failed":"disk: primary: "#),
            Either,
        )
        .after_elsewhere(PRIMARY_FOR_A_WHILE),
        case(
            (Promote, "fsck"),
            "`fsck` hangs",
            Fails(r#""failed":"data: fsck: "#),
            Either,
        )
        .held(),
        case(
            (Promote, "mount"),
            "something else is mounted there",
            Fails(r#""failed":"data: mount: something else is mounted"#),
            Before,
        )
        .with("", "umount /srv/pair")
        .before_mount("mount -t tmpfs tmpfs /srv/pair"),
        case(
            (Promote, "mount"),
            "the device hangs",
            Stuck(NOT_PROVEN),
            Either,
        )
        .with("", RESUME)
        .before_mount(SUSPEND),
        case(
            (Promote, "start"),
            "the unit fails",
            Fails(r#""failed":"service: start: "#),
            Either,
        )
        .with(
            &format!("touch {DIR}/fail-start"),
            &format!("rm {DIR}/fail-start"),
        ),
        case(
            (HandOver, "stop"),
            "the unit's end hangs",
            Fails("taken back: service: stop: "),
            Before,
        )
        .held(),
        case(
            (HandOver, "unmount"),
            "a loop device uses the file system",
            Fails("taken back: data: unmount: "),
            Before,
        )
        .with(LOOP, NO_LOOP),
        case(
            (HandOver, "secondary"),
            "a process uses the device",
            Fails("taken back: disk: secondary: "),
            Before,
        )
        .with(OPENER, NO_OPENER),
        case(
            (Demote, "stop"),
            "the unit's end hangs",
            Overcome("service: stop: "),
            After,
        )
        .held(),
        case(
            (Demote, "unmount"),
            "a process that ignores SIGTERM uses the file system",
            Overcome(r#""end".*"standby""#),
            After,
        )
        .with(STUBBORN, ""),
        case(
            (Demote, "unmount"),
            "a loop device uses the file system",
            Stuck(NOT_PROVEN),
            After,
        )
        .with(LOOP, NO_LOOP),
        case(
            (Demote, "secondary"),
            "a process uses the device",
            Stuck(NOT_PROVEN),
            After,
        )
        .with(OPENER, NO_OPENER),
        case(
            (Follow, "connect"),
            "`drbdadm` hangs",
            Fails(r#""failed":"disk: connect: "#),
            Before,
        )
        .held(),
    ]
}

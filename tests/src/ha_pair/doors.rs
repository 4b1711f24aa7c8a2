//! Steps that are held up: what a daemon runs for them waits at a door for as long as a file is there.

use anyhow::Result;

use super::{DIR, HaPair};

/// What a door is: nothing is run for one that is open.
const DOOR: &str = r#"door() {
  while [ -e "/run/had-pair/hold-$1" ]; do sleep 0.5; done
  [ ! -e "/run/had-pair/fail-$1" ]
}
"#;

/// The programs, and what stands in place of each.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "drbdadm",
        r#"door "$1" || exit 11
exec /run/had-pair/bin/drbdadm "$@""#,
    ),
    // Of the looks at the resource it holds only the one with which a promotion begins. No program is run to find that
    // out: a look has two seconds, and an emulated processor is slow to start programs.
    (
        "drbdsetup",
        r#"case "$1 $2" in
"events2 --now")
  if [ -e /run/had-pair/hold-inspect ]; then
    while read -r line; do last=$line; done </run/had-pair/state/roles/db.journal
    case $last in *'"begin"'*'"promote"'*) door inspect ;; esac
  fi ;;
"secondary --force=yes") door force-secondary ;;
esac
exec /run/had-pair/bin/drbdsetup "$@""#,
    ),
    (
        "fsck",
        r#"door fsck
/run/had-pair/bin/fsck "$@"
code=$?
door checked
exit $code"#,
    ),
];

/// What the unit passes, by the name of a step.
pub(super) fn of_unit() -> String {
    format!("{DOOR}door \"$1\"\n")
}

impl HaPair {
    /// Puts doors in front of everything that steps run. On the first machine they go with this.
    pub fn put_doors(&mut self) -> Result<()> {
        let mut script = format!("set -e\nmkdir -p {DIR}/bin\n");
        for (program, text) in PROGRAMS {
            script.push_str(&format!(
                "cp /usr/sbin/{program} {DIR}/bin/{program}\n\
                 cat >{DIR}/{program} <<'END'\n#!/bin/sh\n{DOOR}{text}\nEND\n\
                 chmod 755 {DIR}/{program}\n\
                 mount --bind {DIR}/{program} /usr/sbin/{program}\n"
            ));
        }
        for side in [0, 1] {
            self.machines.on(side, &script)?;
        }
        Ok(())
    }
}

/// What takes them away.
pub(super) fn removal() -> String {
    let programs = PROGRAMS.iter();
    programs
        .map(|(program, _)| format!("umount /usr/sbin/{program} 2>/dev/null\n"))
        .collect()
}

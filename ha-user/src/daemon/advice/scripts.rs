//! Scripts that cannot be run, as a daemon would say when it tries to.

use crate::{
    checks::judge_script,
    config::{CheckKind, Config},
};

/// Each with its check.
pub(super) fn of(config: &Config) -> Vec<String> {
    let checks = config.checks.iter().filter_map(|check| {
        let CheckKind::Script(script) = &check.kind else {
            return None;
        };
        let why = judge_script(script).err()?;
        Some(format!("[[check]] \"{}\" would fail: {why}", check.name))
    });
    checks.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use rustix::process::geteuid;

    use crate::config::for_tests;

    fn said(script: &Path, user: &str) -> String {
        let text = format!(
            "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\n[[check]]\nname = \"db\"\nkind = \"script\"\ncommand = [\"{}\", \"argument\"]\nuser = \"{user}\"\n",
            script.display()
        );
        super::of(&for_tests(&text)).join("\n")
    }

    #[test]
    fn what_a_run_would_say_is_told_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("check");
        let own = geteuid().as_raw().to_string();
        let shown = script.display();
        let missing = said(&script, &own);
        assert_eq!(
            missing,
            format!("[[check]] \"db\" would fail: {shown} does not exist")
        );
        // Nobody runs it.
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let allow = |mode| fs::set_permissions(&script, fs::Permissions::from_mode(mode));
        allow(0o644).unwrap();
        let plain = said(&script, &own);
        assert!(plain.ends_with(&format!("run chmod +x {shown}")), "{plain}");
        allow(0o777).unwrap();
        let open = said(&script, &own);
        assert!(open.ends_with(&format!("run chmod go-w {shown}")), "{open}");
        allow(0o755).unwrap();
        assert_eq!(said(&script, &own), "");
        assert_eq!(
            said(&script, "no-such-user"),
            "[[check]] \"db\" would fail: there is no user no-such-user"
        );
    }
}

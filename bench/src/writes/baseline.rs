//! keepalived as its users run it before a pair of databases: a check script that asks the server, and notify
//! scripts that promote and demote it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use ha_tests::{Node, VirtualRouter, mariadb::Server};

use crate::pair::PRIORITY;

/// What the scripts of the set-ups do, to a letter.
const PROMOTE: &str = "STOP SLAVE; SET GLOBAL read_only=0";
const DEMOTE: &str = "SET GLOBAL read_only=1";
/// The check: as root, so that it is no question of accounts.
const CHECK: &str = "SELECT 1";

/// The virtual router of one node: adverts each 10 ms, the server asked each second.
pub(super) fn router(node: &Node, peer: &Node, server: &Server) -> Result<VirtualRouter> {
    let script = |name: &str, sql: &str| -> Result<String> {
        let path = node.dir().join(name);
        let text = format!(
            "#!/bin/sh\nexec mariadb --no-defaults --connect-timeout=1 --socket={} --execute='{sql}' > /dev/null 2>&1\n",
            server.socket().display()
        );
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    };
    let (promote, demote) = (script("promote.sh", PROMOTE)?, script("demote.sh", DEMOTE)?);
    let check = script("check.sh", CHECK)?;
    let mut router = node
        .router()
        .priority(PRIORITY)
        .interval_ms(10)
        .peers(&[peer.address()]);
    router.keepalived_blocks = format!(
        "vrrp_script mariadb {{\n  script \"{check}\"\n  interval 1\n  timeout 1\n  fall 1\n  rise 1\n  user root\n}}\n"
    );
    router.keepalived_lines = format!(
        "  track_script {{\n    mariadb\n  }}\n  notify_master \"{promote}\" root\n  \
         notify_backup \"{demote}\" root\n  notify_fault \"{demote}\" root\n"
    );
    Ok(router)
}

//! Who may log in at the lab's servers.

use std::{fs, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};

/// The schema that the clients write to.
pub const DATABASE: &str = "shop";

/// Random bytes of a password.
const PASSWORD_BYTES: usize = 12;

/// An account with a password; each installation of the servers has passwords of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub user: &'static str,
    hosts: &'static [&'static str],
    grants: &'static [&'static str],
}

/// A client that writes: the only one that `read_only` stops.
pub const WRITER: Account = Account {
    user: "writer",
    hosts: &["%", "localhost"],
    grants: &["SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON shop.*"],
};

/// What replicas log in with.
pub const REPLICATION: Account = Account {
    user: "repl",
    hosts: &["%"],
    grants: &["REPLICATION SLAVE ON *.*"],
};

/// What the daemon logs in with: as the documentation says.
pub const HA: Account = Account {
    user: "had",
    hosts: &["localhost", "%"],
    grants: &[
        "READ ONLY ADMIN, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, SLAVE MONITOR, BINLOG ADMIN, BINLOG MONITOR, \
         BINLOG REPLAY, CONNECTION ADMIN, PROCESS, RELOAD, EVENT, SUPER ON *.*",
        "ALL PRIVILEGES ON had.*",
    ],
};

/// All of them.
pub(super) const ALL: [Account; 3] = [WRITER, REPLICATION, HA];

impl Account {
    /// Name of the file with its password, beside the server's configuration.
    pub(super) fn password_file(self) -> String {
        format!("{}.password", self.user)
    }

    /// Its password, from a directory with such a file.
    pub(super) fn password(self, dir: &Path) -> Result<String> {
        let path = dir.join(self.password_file());
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Writes new passwords below `dir`, and returns the statements that make the accounts.
pub(super) fn create(dir: &Path) -> Result<String> {
    // The installation itself runs without accounts, until they are read.
    let mut statements = format!("FLUSH PRIVILEGES;\nCREATE DATABASE {DATABASE};\n");
    for account in ALL {
        let password = password()?;
        write_secret(&dir.join(account.password_file()), &password)?;
        for host in account.hosts {
            let who = format!("'{}'@'{host}'", account.user);
            statements.push_str(&format!("CREATE USER {who} IDENTIFIED BY '{password}';\n"));
            for grant in account.grants {
                statements.push_str(&format!("GRANT {grant} TO {who};\n"));
            }
        }
    }
    Ok(statements)
}

/// Writes a file that nobody else may read.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("making {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}

fn password() -> Result<String> {
    let mut bytes = [0; PASSWORD_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

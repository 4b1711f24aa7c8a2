//! Both families' words for the same things.

use ha_core::data::mysql::Dialect;

pub(super) use crate::roles::database::quoted;

/// What is said to a server.
#[derive(Debug)]
pub(super) struct Statements {
    /// `version`, `server_id`, whether it is read-only, what is here (in two parts), and the history.
    pub(super) globals: &'static str,
    pub(super) link: &'static str,
    pub(super) start: &'static str,
    pub(super) stop: &'static str,
    pub(super) start_receiving: &'static str,
    pub(super) stop_receiving: &'static str,
    pub(super) start_applying: &'static str,
    pub(super) stop_applying: &'static str,
    /// The thread that receives, if its end has to be waited for in another way than by stopping it.
    pub(super) receiver: Option<&'static str>,
    pub(super) forget_link: &'static str,
    pub(super) forbid_writes: &'static str,
    pub(super) allow_writes: &'static [&'static str],
    pub(super) source_on: &'static str,
    pub(super) source_off: &'static str,
    pub(super) replica_on: &'static str,
    pub(super) replica_off: &'static str,
    pub(super) wait_alone: &'static str,
    pub(super) go_alone: &'static str,
    /// Commands of a replica's session, and of the server's own threads.
    pub(super) spared_commands: &'static str,
    /// As a replica that has applied all it received says.
    pub(super) read_all: &'static str,
    /// Whether a server that starts as a replica takes back what its engine has not committed.
    pub(super) takes_back: bool,
    pub(super) columns: &'static Columns,
    pub(super) semi_sync: &'static SemiSyncNames,
}

/// Columns of the state of replication.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) host: &'static str,
    pub(super) port: &'static str,
    pub(super) receiving: &'static str,
    pub(super) applying: &'static str,
    pub(super) applying_state: &'static str,
    pub(super) by_gtid: &'static str,
    pub(super) received: &'static str,
    pub(super) lag: &'static str,
}

/// Variables and counters of semi-synchronous replication.
#[derive(Debug)]
pub(super) struct SemiSyncNames {
    pub(super) source: &'static str,
    pub(super) waits_alone: &'static str,
    pub(super) replica: &'static str,
    pub(super) acknowledges: &'static str,
    pub(super) replicas: &'static str,
    pub(super) waiting: &'static str,
}

static MARIADB: Statements = Statements {
    globals: "SELECT @@global.version, @@global.server_id, @@global.read_only, @@global.gtid_slave_pos, @@global.gtid_binlog_pos, @@global.gtid_binlog_state",
    link: "SHOW SLAVE STATUS",
    start: "START SLAVE",
    stop: "STOP SLAVE",
    start_receiving: "START SLAVE IO_THREAD",
    stop_receiving: "STOP SLAVE IO_THREAD",
    start_applying: "START SLAVE SQL_THREAD",
    stop_applying: "STOP SLAVE SQL_THREAD",
    receiver: Some("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Slave_IO'"),
    forget_link: "RESET SLAVE ALL",
    forbid_writes: "SET GLOBAL read_only = 1",
    allow_writes: &["SET GLOBAL read_only = 0"],
    source_on: "SET GLOBAL rpl_semi_sync_master_enabled = 1",
    source_off: "SET GLOBAL rpl_semi_sync_master_enabled = 0",
    replica_on: "SET GLOBAL rpl_semi_sync_slave_enabled = 1",
    replica_off: "SET GLOBAL rpl_semi_sync_slave_enabled = 0",
    wait_alone: "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
    go_alone: "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 0",
    spared_commands: "'Binlog Dump', 'Daemon', 'Slave_IO', 'Slave_SQL', 'Slave_worker'",
    read_all: "has read all relay log",
    takes_back: true,
    columns: &Columns {
        host: "Master_Host",
        port: "Master_Port",
        receiving: "Slave_IO_Running",
        applying: "Slave_SQL_Running",
        applying_state: "Slave_SQL_Running_State",
        by_gtid: "Using_Gtid",
        received: "Gtid_IO_Pos",
        lag: "Seconds_Behind_Master",
    },
    semi_sync: &SemiSyncNames {
        source: "rpl_semi_sync_master_enabled",
        waits_alone: "rpl_semi_sync_master_wait_no_slave",
        replica: "rpl_semi_sync_slave_enabled",
        acknowledges: "Rpl_semi_sync_slave_status",
        replicas: "Rpl_semi_sync_master_clients",
        waiting: "Rpl_semi_sync_master_wait_sessions",
    },
};

/// Of 8.0.26 and later, with the plugins of the new names.
static MYSQL: Statements = Statements {
    globals: "SELECT @@global.version, @@global.server_id, @@global.super_read_only, @@global.gtid_executed, '', @@global.gtid_executed",
    link: "SHOW REPLICA STATUS",
    start: "START REPLICA",
    stop: "STOP REPLICA",
    start_receiving: "START REPLICA IO_THREAD",
    stop_receiving: "STOP REPLICA IO_THREAD",
    start_applying: "START REPLICA SQL_THREAD",
    stop_applying: "STOP REPLICA SQL_THREAD",
    receiver: None,
    forget_link: "RESET REPLICA ALL",
    forbid_writes: "SET GLOBAL super_read_only = 1",
    allow_writes: &["SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0"],
    source_on: "SET GLOBAL rpl_semi_sync_source_enabled = 1",
    source_off: "SET GLOBAL rpl_semi_sync_source_enabled = 0",
    replica_on: "SET GLOBAL rpl_semi_sync_replica_enabled = 1",
    replica_off: "SET GLOBAL rpl_semi_sync_replica_enabled = 0",
    wait_alone: "SET GLOBAL rpl_semi_sync_source_wait_no_replica = 1",
    go_alone: "SET GLOBAL rpl_semi_sync_source_wait_no_replica = 0",
    spared_commands: "'Binlog Dump', 'Binlog Dump GTID', 'Daemon', 'Connect'",
    read_all: "has read all relay log",
    takes_back: false,
    columns: &Columns {
        host: "Source_Host",
        port: "Source_Port",
        receiving: "Replica_IO_Running",
        applying: "Replica_SQL_Running",
        applying_state: "Replica_SQL_Running_State",
        by_gtid: "Auto_Position",
        received: "Retrieved_Gtid_Set",
        lag: "Seconds_Behind_Source",
    },
    semi_sync: &SemiSyncNames {
        source: "rpl_semi_sync_source_enabled",
        waits_alone: "rpl_semi_sync_source_wait_no_replica",
        replica: "rpl_semi_sync_replica_enabled",
        acknowledges: "Rpl_semi_sync_replica_status",
        replicas: "Rpl_semi_sync_source_clients",
        waiting: "Rpl_semi_sync_source_wait_sessions",
    },
};

impl Statements {
    pub(super) fn of(dialect: Dialect) -> &'static Self {
        match dialect {
            Dialect::MariaDb => &MARIADB,
            Dialect::MySql => &MYSQL,
        }
    }
}

/// Waits until the server has applied `place`, for at most so many seconds.
pub(super) fn wait_for(dialect: Dialect, place: &str, seconds: f32) -> String {
    let place = quoted(place);
    match dialect {
        Dialect::MariaDb => format!("SELECT MASTER_GTID_WAIT({place}, {seconds})"),
        Dialect::MySql => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({place}, {seconds})"),
    }
}

/// Replication from a source, as somebody. A password stands in it.
pub(super) struct Source<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    /// Whether the server was a primary itself: what it wrote counts as applied.
    pub(super) demotes: bool,
}

impl Source<'_> {
    pub(super) fn statement(&self, dialect: Dialect) -> String {
        let Self {
            host,
            port,
            user,
            password,
            ..
        } = self;
        let (host, user, password) = (quoted(host), quoted(user), quoted(password));
        match dialect {
            Dialect::MariaDb => format!(
                "CHANGE MASTER TO MASTER_HOST={host}, MASTER_PORT={port}, MASTER_USER={user}, MASTER_PASSWORD={password}, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.5, {}",
                if self.demotes {
                    "MASTER_USE_GTID=slave_pos, MASTER_DEMOTE_TO_SLAVE=1"
                } else {
                    "MASTER_USE_GTID=slave_pos"
                }
            ),
            Dialect::MySql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST={host}, SOURCE_PORT={port}, SOURCE_USER={user}, SOURCE_PASSWORD={password}, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=0.5, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
            ),
        }
    }
}

/// A name as an identifier.
pub(super) fn named(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(quoted(r"it's \'"), r"'it''s \\'''");
        assert_eq!(named("a`b"), "`a``b`");
    }

    #[test]
    fn neither_family_is_told_the_other_ones_words() {
        let mysql = format!("{MYSQL:?}");
        for removed in ["SLAVE", "MASTER", "_slave", "_master"] {
            assert!(!mysql.contains(removed), "{removed}");
        }
        let mariadb = format!("{MARIADB:?}");
        for unknown in ["REPLICA", "SOURCE", "super_read_only", "_replica"] {
            assert!(!mariadb.contains(unknown), "{unknown}");
        }
    }
}

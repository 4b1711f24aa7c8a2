//! What is wrong with a server, in words that say what to do.

use mysql_async::{Error, IoError};

use crate::{
    checks::words::clean,
    config::{MysqlPlace, MysqlServer},
};

/// Whom the errors are about.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    place: String,
    user: String,
    has_password: bool,
}

impl Who {
    pub(crate) fn new(server: &MysqlServer) -> Self {
        Self {
            place: match &server.place {
                MysqlPlace::Socket(path) => path.display().to_string(),
                MysqlPlace::Address(address) => address.to_string(),
            },
            user: server.user.clone(),
            has_password: server.password.is_some(),
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// One sentence. What the server says is bounded; a password is in none of it.
    pub(crate) fn words(&self, error: &Error) -> String {
        let place = &self.place;
        match error {
            Error::Server(error) => self.server(error.code, &error.message),
            Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                format!("{place}: the server does not take connections: its queue is full")
            }
            // The library hides errors of the handshake in those of the socket.
            Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.tls(&error.to_string())
            }
            Error::Io(IoError::Io(error)) => format!("{place}: {error}"),
            Error::Io(IoError::Tls(error)) => self.tls(&error.to_string()),
            Error::Driver(error) => format!("{place}: {}", clean(&error.to_string())),
            other => format!("{place}: {}", clean(&other.to_string())),
        }
    }

    fn tls(&self, error: &str) -> String {
        format!(
            "{}: TLS: {}: see `ca_file` and `server_name`",
            self.place,
            clean(error)
        )
    }

    fn server(&self, code: u16, message: &str) -> String {
        let user = &self.user;
        let said = format!("{} ({code})", clean(message));
        match code {
            1045 | 1698 if self.has_password => format!(
                "configuration: the server refuses {user}: wrong password, no such account from here, or one that must use TLS: see `user` and `password_file` ({code})"
            ),
            1045 | 1698 => format!(
                "configuration: the server refuses {user} without a password: add `password_file`, or let the account in by unix_socket ({code})"
            ),
            1044 | 1142 | 1143 | 1227 | 1370 => {
                format!("configuration: {user} may not do this: grant it: {said}")
            }
            1046 | 1049 | 1054 | 1064 | 1146 => {
                format!("configuration: see `database` and `query`: {said}")
            }
            1129 | 1130 => format!("the server does not let this host in: {said}"),
            1040 => format!("the server takes no more connections: {said}"),
            1203 | 1226 => format!("the server takes no more connections from {user}: {said}"),
            1053 => format!("the server is shutting down ({code})"),
            1047 => format!("the node may not serve: {said}"),
            _ => format!("the server answers: {said}"),
        }
    }
}

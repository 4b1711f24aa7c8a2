//! Whether somebody takes connections where a server should.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::config::MysqlPlace;

/// How long that may take to be seen: a queue that is full answers nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Somebody listens, though perhaps he takes nothing up. Where that is not to be seen nobody does.
pub(super) async fn listens(place: &MysqlPlace) -> bool {
    let connected = async {
        match place {
            MysqlPlace::Socket(path) => UnixStream::connect(path).await.map(drop),
            MysqlPlace::Address(address) => TcpStream::connect(address).await.map(drop),
        }
    };
    match timeout(PATIENCE, connected).await {
        Ok(Ok(())) | Err(_) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn who_listens_is_noticed_and_who_has_ended_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let place = MysqlPlace::Socket(path.clone());
        assert!(!listens(&place).await);
        let listener = UnixListener::bind(&path).unwrap();
        assert!(listens(&place).await);
        drop(listener);
        assert!(!listens(&place).await, "its file is there still");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = MysqlPlace::Address(listener.local_addr().unwrap());
        assert!(listens(&place).await);
        drop(listener);
        assert!(!listens(&place).await);
    }
}

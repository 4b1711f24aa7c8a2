//! `kind = "tcp"`: connects, and keeps one connection open whose end is news.

use std::io;

use ha_core::check::Observation;
use tokio::net::TcpStream;

use super::probe::{Pending, Probe};
use crate::config::Tcp;

/// Bytes that a server says unasked and that are read at once.
const BANNER: usize = 512;

/// See [`Tcp`].
pub(super) struct TcpProbe {
    config: Tcp,
    /// The connection that the last probe made.
    open: Option<TcpStream>,
}

impl TcpProbe {
    pub(super) fn new(config: &Tcp) -> Self {
        Self {
            config: config.clone(),
            open: None,
        }
    }
}

impl Probe for TcpProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async {
            let address = self.config.address;
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| format!("{address}: {error}"))?;
            self.open = self.config.keep_open.then_some(stream);
            Ok(format!("{address} accepts connections"))
        })
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let Some(stream) = &self.open else {
                return std::future::pending().await;
            };
            let error = end_of(stream).await;
            self.open = None;
            let address = self.config.address;
            Observation::Suspect(format!("the connection to {address} {error}"))
        })
    }
}

/// Waits for the end of a connection; what the server says before is not listened to.
async fn end_of(stream: &TcpStream) -> String {
    let mut banner = [0; BANNER];
    loop {
        if let Err(error) = stream.readable().await {
            return format!("broke: {error}");
        }
        match stream.try_read(&mut banner) {
            Ok(0) => return "was closed".to_owned(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return format!("broke: {error}"),
        }
    }
}

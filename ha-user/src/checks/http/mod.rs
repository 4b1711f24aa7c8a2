//! `kind = "http"`: asks for a URL, judges the answer, and keeps the connection open, whose end is news.

mod answer;
mod tls;

#[cfg(test)]
mod tests;

use std::{future::poll_fn, pin::Pin};

use ha_core::check::Observation;
use hyper::{
    Request,
    body::{Body as _, Incoming},
    client::conn::http1::{self, Connection, SendRequest},
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use self::tls::Trust;
use super::{
    probe::{Pending, Probe},
    words,
};
use crate::config::{Http, HttpMethod};

/// As the request names us.
const AGENT: &str = concat!("had/", env!("CARGO_PKG_VERSION"));

/// Bytes of an answer that are read; a longer one is not listened to further.
const LONGEST_BODY: usize = 1 << 20;

/// What a connection runs on: TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

type Driver = Connection<TokioIo<Box<dyn Stream>>, String>;

/// See [`Http`].
pub(super) struct HttpProbe {
    config: Http,
    /// How sentences name what is asked for: without the query, in which a secret may stand.
    place: String,
    trust: Option<Trust>,
    /// The connection of the last probe that passed.
    open: Option<Open>,
}

/// A connection on which nothing is asked any more.
struct Open {
    driver: Pin<Box<Driver>>,
    /// While it lives, the connection does.
    _sender: SendRequest<String>,
    /// What is still to come of the answer.
    rest: Option<Incoming>,
    read: usize,
}

impl HttpProbe {
    pub(super) fn new(config: &Http) -> Self {
        let path = config.target.split('?').next().unwrap_or_default();
        Self {
            place: words::clean(&format!("{}{path}", config.address)),
            trust: config.tls.clone().map(Trust::new),
            config: config.clone(),
            open: None,
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        let stream = self.connect().await?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(&error))?;
        let mut driver = Box::pin(driver);
        let (judged, ended) = drive(driver.as_mut(), self.ask(&mut sender)).await;
        let judged = judged?;
        self.open = (self.config.keep_open && judged.stays && !ended).then(|| Open {
            driver,
            _sender: sender,
            rest: Some(judged.rest),
            read: 0,
        });
        Ok(judged.detail)
    }

    async fn connect(&mut self) -> Result<Box<dyn Stream>, String> {
        let address = self.config.address;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("{address}: {}", words::of_io(&error)))?;
        match &mut self.trust {
            None => Ok(Box::new(stream)),
            Some(trust) => match trust.secure(stream).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(format!("{address}: {error}")),
            },
        }
    }

    async fn ask(&self, sender: &mut SendRequest<String>) -> Result<answer::Judged, String> {
        let mut request = Request::builder()
            .method(match self.config.method {
                HttpMethod::Get => hyper::Method::GET,
                HttpMethod::Head => hyper::Method::HEAD,
            })
            .uri(&self.config.target)
            .header(HOST, &self.config.host);
        for header in &self.config.headers {
            request = request.header(&header.name, &header.value);
        }
        let mut request = request
            .body(String::new())
            .map_err(|error| format!("{}: {}", self.place, words::of_error(&error)))?;
        // Only where the operator did not say otherwise.
        let headers = request.headers_mut();
        headers
            .entry(USER_AGENT)
            .or_insert(hyper::header::HeaderValue::from_static(AGENT));
        headers
            .entry(ACCEPT)
            .or_insert(hyper::header::HeaderValue::from_static("*/*"));
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.failed(&error))?;
        answer::judge(response, &self.config, &self.place).await
    }

    fn failed(&self, error: &hyper::Error) -> String {
        format!("{}: {}", self.place, words::of_error(error))
    }
}

impl Probe for HttpProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let end = match &mut self.open {
                Some(open) => open.end().await,
                None => None,
            };
            self.open = None;
            match end {
                Some(end) => {
                    let address = self.config.address;
                    Observation::Suspect(format!("the connection to {address} {end}"))
                }
                None => std::future::pending().await,
            }
        })
    }
}

impl Open {
    /// Waits for the end of the connection, and reads what is left of the answer meanwhile. `None`: there is too
    /// much of it.
    async fn end(&mut self) -> Option<String> {
        while let Some(rest) = &mut self.rest {
            tokio::select! {
                biased;
                frame = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)) => match frame {
                    None => self.rest = None,
                    Some(Ok(frame)) => {
                        self.read += frame.data_ref().map_or(0, bytes_of);
                        if self.read > LONGEST_BODY {
                            return None;
                        }
                    }
                    Some(Err(error)) => return Some(format!("broke: {}", words::of_error(&error))),
                },
                end = self.driver.as_mut() => return Some(ended(&end)),
            }
        }
        Some(ended(&self.driver.as_mut().await))
    }
}

fn bytes_of(data: &hyper::body::Bytes) -> usize {
    data.len()
}

fn ended(end: &hyper::Result<()>) -> String {
    match end {
        Ok(()) => "was closed".to_owned(),
        Err(error) => format!("broke: {}", words::of_error(error)),
    }
}

/// Does something that needs the connection, and says whether this ended meanwhile.
async fn drive<T>(mut driver: Pin<&mut Driver>, work: impl Future<Output = T>) -> (T, bool) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return (done, false),
        // Whoever waits for the answer learns what is wrong, or reads what came before the end.
        _ = driver.as_mut() => {}
    }
    (work.await, true)
}

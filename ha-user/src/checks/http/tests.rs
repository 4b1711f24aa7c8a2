//! Against real servers on loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ha_core::check::Observation;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::HttpProbe;
use crate::{
    checks::probe::Probe as _,
    config::{self, CheckKind},
};

const LONG: Duration = Duration::from_secs(10);

fn probe(keys: &str) -> HttpProbe {
    match config::kind_of(&format!("kind = \"http\"\n{keys}")) {
        CheckKind::Http(http) => HttpProbe::new(&http),
        other => panic!("{other:?}"),
    }
}

async fn passes(probe: &mut HttpProbe) -> String {
    let result = timeout(LONG, probe.probe()).await.expect("an answer");
    result.expect("it passes")
}

async fn fails(probe: &mut HttpProbe) -> String {
    let result = timeout(LONG, probe.probe()).await.expect("an answer");
    result.expect_err("it fails")
}

/// A server that goes with its handle's task.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Gives every connection to `talk`.
    async fn start<F>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut talks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                talks.spawn(talk(stream));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    async fn http() -> Self {
        Self::start(serve).await
    }

    /// Says the same bytes to everybody once a request came.
    async fn saying(bytes: Vec<u8>) -> Self {
        Self::start(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("-")
    };
    let (status, body) = match request.uri().path() {
        "/health" => (200, "all is well\n".to_owned()),
        "/broken" => (500, "out of order".to_owned()),
        "/moved" => (302, String::new()),
        "/long" => (200, format!("{}needle", "x".repeat(300_000))),
        "/endless" => (200, "x".repeat(2 << 20)),
        "/request" => (
            200,
            format!(
                "{} {} host={} agent={} key={}",
                request.method(),
                request.uri(),
                header("host"),
                header("user-agent"),
                header("x-key"),
            ),
        ),
        _ => (404, String::new()),
    };
    let response = Response::builder().status(status).body(body);
    Ok(response.unwrap())
}

#[tokio::test]
async fn the_answer_s_status_decides() {
    let server = Server::http().await;
    let at = server.address;
    let mut right = probe(&format!("url = \"http://{at}/health\""));
    assert_eq!(
        passes(&mut right).await,
        format!("{at}/health answered 200 OK")
    );
    let mut wrong = probe(&format!("url = \"http://{at}/broken?token=hidden\""));
    assert_eq!(
        fails(&mut wrong).await,
        format!("{at}/broken answered 500 Internal Server Error instead of 200-399")
    );
    // It leads elsewhere, and nobody follows.
    let mut moved = probe(&format!("url = \"http://{at}/moved\""));
    assert!(passes(&mut moved).await.contains("302 Found"));
    let mut not_moved = probe(&format!(
        "url = \"http://{at}/moved\"\nstatus = [\"200\", \"204-206\"]"
    ));
    let words = fails(&mut not_moved).await;
    assert!(
        words.ends_with("302 Found instead of 200, 204-206"),
        "{words}"
    );
    let mut head = probe(&format!("url = \"http://{at}/nothing\"\nmethod = \"HEAD\""));
    assert!(fails(&mut head).await.contains("404 Not Found"));
}

#[tokio::test]
async fn the_body_is_searched_as_far_as_it_is_read() {
    let server = Server::http().await;
    let at = server.address;
    let with =
        |path: &str, body: &str| probe(&format!("url = \"http://{at}{path}\"\nbody = \"{body}\""));
    passes(&mut with("/health", "is well")).await;
    passes(&mut with("/long", "xneedle")).await;
    assert_eq!(
        fails(&mut with("/health", "is ill")).await,
        format!("{at}/health answered 200 OK without \"is ill\" in it")
    );
    let words = fails(&mut with("/endless", "needle")).await;
    assert!(
        words.ends_with("without \"needle\" in its first 1024 KiB"),
        "{words}"
    );
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let server = Server::http().await;
    let at = server.address;
    let mut ask = probe(&format!(
        "url = \"http://www.example.org/request?a=b\"\naddress = \"{at}\"\nheaders = {{ X-Key = \"k1\" }}\nbody = \"GET /request?a=b host=www.example.org agent=had/{} key=k1\"",
        env!("CARGO_PKG_VERSION")
    ));
    passes(&mut ask).await;
    let mut other = probe(&format!(
        "url = \"http://{at}/request\"\nhost = \"api.internal\"\nheaders = {{ User-Agent = \"probe\" }}\nbody = \"host=api.internal agent=probe\""
    ));
    passes(&mut other).await;
    assert_eq!(format!("{:?}", ask.config.headers), "[x-key: …]");
}

#[tokio::test]
async fn who_does_not_listen_or_answer_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    // It accepts (the kernel does) and never answers: the timer of the check finds that.
    let mut silent = probe(&format!("url = \"http://{at}/\""));
    timeout(Duration::from_millis(200), silent.probe())
        .await
        .expect_err("no answer");
    drop(listener);
    // A process that another test starts just now may have the listener for a moment.
    let refused = format!("{at}: Connection refused");
    for attempt in 0.. {
        let words = fails(&mut silent).await;
        if words == refused {
            break;
        }
        assert!(attempt < 1_000, "{words}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_in_words() {
    for (said, words) in [
        (&b""[..], "connection closed before message completed"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Le",
            "connection closed before message completed",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version parsed"),
    ] {
        let server = Server::saying(said.to_vec()).await;
        let at = server.address;
        let mut probe = probe(&format!("url = \"http://{at}/\""));
        assert_eq!(fails(&mut probe).await, format!("{at}/: {words}"));
    }
    // The head is right, and the body breaks off.
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is w".to_vec();
    let server = Server::saying(cut).await;
    let mut probe = probe(&format!(
        "url = \"http://{}/\"\nbody = \"well\"",
        server.address
    ));
    let words = fails(&mut probe).await;
    assert!(words.contains("200 OK, and then: "), "{words}");
}

#[tokio::test]
async fn the_end_of_the_connection_is_noticed_at_once() {
    let server = Server::http().await;
    let at = server.address;
    let mut probe = probe(&format!("url = \"http://{at}/long\""));
    for _ in 0..3 {
        passes(&mut probe).await;
        // As long as nothing happens there is no news; to ask again loses nothing.
        timeout(Duration::from_millis(50), probe.watch())
            .await
            .expect_err("no news");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
    drop(server);
    let news = timeout(LONG, probe.watch()).await.expect("news");
    let Observation::Suspect(words) = news else {
        panic!("{news:?}");
    };
    assert!(
        words.starts_with(&format!("the connection to {at} ")),
        "{words}"
    );
}

#[tokio::test]
async fn a_server_that_closes_each_connection_is_no_news() {
    let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let server = Server::saying(closing).await;
    let mut closed = probe(&format!("url = \"http://{}/\"", server.address));
    passes(&mut closed).await;
    timeout(Duration::from_millis(100), closed.watch())
        .await
        .expect_err("no news");
    let server = Server::http().await;
    let mut unwatched = probe(&format!(
        "url = \"http://{}/health\"\nkeep_open = false",
        server.address
    ));
    passes(&mut unwatched).await;
    drop(server);
    timeout(Duration::from_millis(100), unwatched.watch())
        .await
        .expect_err("no news");
}

/// An authority of its own, with its certificate in a file, and a server with a certificate from it.
async fn secure(ca_file: &Path, name: &str) -> Server {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(ca_file, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn with_tls_the_certificate_must_be_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let shown = ca_file.display().to_string();
    let server = secure(&ca_file, "api.example.org").await;
    let at = server.address;
    let url = format!("address = \"{at}\"\nurl = \"https://api.example.org/health\"");
    let trusting = format!("{url}\nca_file = \"{shown}\"");

    let mut right = probe(&trusting);
    assert_eq!(
        passes(&mut right).await,
        format!("{at}/health answered 200 OK")
    );
    let unknown = fails(&mut probe(&url)).await;
    assert!(
        unknown.starts_with(&format!("{at}: no TLS: invalid peer certificate"))
            || unknown.contains("trusts no certificates"),
        "{unknown}"
    );
    let misnamed = fails(&mut probe(&format!(
        "{trusting}\nserver_name = \"www.example.org\""
    )))
    .await;
    assert!(
        misnamed.contains("no TLS: invalid peer certificate"),
        "{misnamed}"
    );
    passes(&mut probe(&format!("{url}\ninsecure = true"))).await;
    // A server without TLS.
    let plain = Server::http().await;
    let mut at_plain = probe(
        &format!("{trusting}\nserver_name = \"x\"")
            .replace(&at.to_string(), &plain.address.to_string()),
    );
    let words = fails(&mut at_plain).await;
    assert!(words.contains(": no TLS: "), "{words}");

    // The end of such a connection is news as well.
    drop(server);
    let news = timeout(LONG, right.watch()).await.expect("news");
    assert!(matches!(news, Observation::Suspect(_)), "{news:?}");
}

#[tokio::test]
async fn replaced_certificates_are_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let keys = |at: SocketAddr| {
        format!(
            "address = \"{at}\"\nurl = \"https://api.example.org/health\"\nca_file = \"{}\"",
            ca_file.display()
        )
    };
    let mut missing = probe(&keys("127.0.0.1:1".parse().unwrap()));
    // Nobody listens there, so the file does not matter yet.
    assert!(fails(&mut missing).await.contains("Connection refused"));

    let server = secure(&ca_file, "api.example.org").await;
    let mut probe = probe(&keys(server.address));
    let good = std::fs::read(&ca_file).unwrap();
    std::fs::remove_file(&ca_file).unwrap();
    let words = fails(&mut probe).await;
    assert!(words.contains("ca.pem cannot be read: "), "{words}");
    std::fs::write(&ca_file, "no certificate").unwrap();
    let words = fails(&mut probe).await;
    assert!(words.contains("has no certificate (PEM) in it"), "{words}");
    std::fs::write(&ca_file, good).unwrap();
    passes(&mut probe).await;
}

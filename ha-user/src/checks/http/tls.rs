//! Whom to believe: the certificates that a server's must go back to.

use std::{path::PathBuf, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{self, CryptoProvider},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use crate::{
    checks::{blocking::Blocking, words},
    config::HttpTls,
};

/// The TLS side of a check.
pub(super) struct Trust {
    config: HttpTls,
    /// As read when it was first needed, or after the last failure.
    known: Option<TlsConnector>,
    reading: Blocking<Result<ClientConfig, String>>,
}

impl Trust {
    pub(super) const fn new(config: HttpTls) -> Self {
        Self {
            config,
            known: None,
            reading: Blocking::new(),
        }
    }

    /// Speaks TLS over a connection. After a failure the trusted certificates are read anew: they may have been
    /// replaced.
    pub(super) async fn secure(
        &mut self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let connector = match self.known.take() {
            Some(connector) => connector,
            None => {
                let config = self.config.clone();
                let read = self
                    .reading
                    .call("reading the trusted certificates", || read(config));
                TlsConnector::from(Arc::new(read.await??))
            }
        };
        let name = self.config.server_name.clone();
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| format!("no TLS: {}", words::of_io(&error)))?;
        self.known = Some(connector);
        Ok(stream)
    }
}

fn read(config: HttpTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?;
    Ok(if config.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth()
    } else {
        builder
            .with_root_certificates(trusted(config.ca_file)?)
            .with_no_client_auth()
    })
}

fn trusted(ca_file: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let Some(file) = ca_file else {
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            return Err(
                "this system trusts no certificates: install them (ca-certificates), or name a ca_file"
                    .to_owned(),
            );
        }
        return Ok(store);
    };
    let shown = file.display();
    let certificates = CertificateDer::pem_file_iter(&file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{shown} cannot be read: {}", words::of_error(&error)))?;
    if certificates.is_empty() {
        return Err(format!("{shown} has no certificate (PEM) in it"));
    }
    for certificate in certificates {
        store
            .add(certificate)
            .map_err(|error| format!("a certificate in {shown} is unusable: {error}"))?;
    }
    Ok(store)
}

/// Takes any certificate, as `insecure` says. That the server has its key is checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

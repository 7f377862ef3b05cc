//! A way to a cluster for verbs that the node's own program does.
//!
//! `cluster join` and `member replace --config` write a node's files, which is the node's matter;
//! talking to gateways is this crate's. What it leaves to others: saying what came of it
//! ([`crate::local`]).

use std::sync::Arc;

use protocol::secret::Disclosed;
use reqwest::Method;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Serialize;

use crate::client::{self, Client, Request};
use crate::error::{CliError, Result};
use crate::local::Failed;
use crate::options::GlobalOptions;
use crate::session::Session;
use crate::settings;

/// Whose certificates are believed.
pub enum Trust {
    /// The authorities of `--ca-cert`, or the system's.
    Options,
    /// These (PEM) and no others.
    Authorities(String),
    /// Anybody's: for what is checked by its hash.
    Unchecked,
}

/// A way to a cluster's gateways.
pub struct Remote {
    client: Client,
    token: Option<Disclosed>,
}

impl Remote {
    /// The servers, authority and operator token of the command line, the environment and the
    /// context file.
    pub fn of_options(options: &GlobalOptions) -> Result<Self, Failed> {
        let var = |name: &str| std::env::var(name).ok();
        let session = Session::open(options, &var)?;
        let token = session.settings.operator_token()?.to_owned();
        Ok(Self { client: session.client, token: Some(Disclosed::new(token)) })
    }

    /// These servers, and nobody's token.
    pub fn at(servers: &[String], trust: &Trust, options: &GlobalOptions) -> Result<Self, Failed> {
        let servers = servers
            .iter()
            .map(|server| settings::server_url(server))
            .collect::<Result<Vec<_>>>()?;
        let tls = match trust {
            Trust::Options => client::tls_of(options.ca_cert.as_deref())?,
            Trust::Authorities(pem) => client::tls_with(roots_of(pem)?)?,
            Trust::Unchecked => unchecked()?,
        };
        let client = Client::over(servers, tls, options.timeout.ms)?;
        Ok(Self { client, token: None })
    }

    /// Asks for what is there.
    pub async fn get(&self, path: &[&str]) -> Result<Vec<u8>, Failed> {
        let mut request = Request::get(path);
        if let Some(token) = &self.token {
            request = request.bearer(token.expose());
        }
        Ok(self.client.send(&request).await?.body().to_vec())
    }

    /// Changes something, as the operator or with the token given.
    pub async fn post<T: Serialize>(
        &self,
        path: &[&str],
        body: &T,
        token: Option<&str>,
        key: Option<&str>,
    ) -> Result<Vec<u8>, Failed> {
        let mut request = Request::change(Method::POST, path, key)?.json(body)?;
        if let Some(token) = token.or(self.token.as_ref().map(Disclosed::expose)) {
            request = request.bearer(token);
        }
        Ok(self.client.send(&request).await?.body().to_vec())
    }
}

/// The token of `--token` or LEASEHOLD_TOKEN, whatever it is for.
pub fn given_token(options: &GlobalOptions) -> Option<Disclosed> {
    let by_option = options.token.as_ref().map(|token| token.0.clone());
    let token = by_option.or_else(|| std::env::var("LEASEHOLD_TOKEN").ok());
    token.filter(|text| !text.is_empty()).map(Disclosed::new)
}

fn roots_of(pem: &str) -> Result<RootCertStore, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or_else(|| CliError::Usage("the authority is no certificate".to_owned()))?;
    }
    Ok(roots)
}

fn unchecked() -> Result<rustls::ClientConfig, Failed> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CliError::Failed(format!("TLS cannot be set up: {error}")))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes)))
        .with_no_client_auth())
}

/// Believes anybody. What comes over such a connection is checked by its hash.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

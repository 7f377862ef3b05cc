//! The HTTP client: TLS by rustls with aws-lc-rs, trusted roots, a certificate of one's own.
//!
//! Trusted are the authorities that were named and no others, or those of the system when none
//! was. Redirects are not followed: a server never sends one, and a token must not travel where it
//! was not sent. Without TLS only the machine itself is spoken to.

use std::sync::Arc;

use reqwest::Url;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Timeouts;
use crate::error::Error;

/// Whom to trust and who one is.
#[derive(Default)]
pub(crate) struct TlsSettings {
    /// PEM certificates of authorities; the system's when empty.
    pub(crate) roots_pem: Vec<u8>,
    /// PEM certificate chain and private key of this client.
    pub(crate) identity: Option<Identity>,
}

impl TlsSettings {
    /// Trusts authorities (PEM) beside those named before.
    pub(crate) fn trust(&mut self, pem: &[u8]) {
        self.roots_pem.extend_from_slice(pem);
        self.roots_pem.push(b'\n');
    }
}

/// A client certificate with its key.
pub(crate) struct Identity {
    /// Chain, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a PEM chain and a PEM private key.
    pub(crate) fn from_pem(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, Error> {
        let chain = certificates(chain_pem)
            .ok_or_else(|| Error::configuration("the client certificate is not PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| Error::configuration("the client certificate's key is not PEM"))?;
        Ok(Self { chain, key })
    }
}

/// Makes the HTTP client. Reading the system's roots takes a moment, so this is called on the
/// client's own thread.
pub(crate) fn http_client(
    settings: &TlsSettings,
    endpoints: &[Url],
    timeouts: Timeouts,
    user_agent: &str,
) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls_config(settings)?)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .user_agent(user_agent);
    if endpoints.iter().any(is_loopback) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::configuration(format!("no HTTP client: {error}")))
}

fn tls_config(settings: &TlsSettings) -> Result<rustls::ClientConfig, Error> {
    let roots = match settings.roots_pem.as_slice() {
        [] => system_roots(),
        pem => named_roots(pem)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::configuration(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    match &settings.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|error| {
                Error::configuration(format!("the client certificate cannot be used: {error}"))
            })
        }
    }
}

fn named_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let wrong = || Error::configuration("the TLS roots are not PEM certificates of authorities");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).ok_or_else(wrong)? {
        roots.add(certificate).map_err(|_| wrong())?;
    }
    Ok(roots)
}

/// A machine without authorities can still reach servers that need none; the others say so.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The certificates of a PEM text; `None` when there is none, or one is broken.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|certificates| !certificates.is_empty())
}

/// Reads a server's URL: `https`, or `http` on the machine itself.
pub(crate) fn endpoint(text: &str, is_plain_permitted: bool) -> Result<Url, Error> {
    let wrong = |why: &str| Err(Error::configuration(format!("the server's URL {text:?} {why}")));
    let Ok(url) = Url::parse(text) else {
        return wrong("is not a URL, as https://licenses.example.com");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has credentials in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or a fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_plain_permitted || is_loopback(&url) => Ok(url),
        "http" => wrong("is without TLS, which only servers on this machine may be"),
        _ => wrong("is not https"),
    }
}

fn is_loopback(server: &Url) -> bool {
    match server.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_plain_permitted: bool, is_good: bool) {
        assert_eq!(endpoint(text, is_plain_permitted).is_ok(), is_good, "{text}");
    }

    #[test]
    fn servers_beyond_this_machine_need_tls() {
        for good in ["https://a", "https://10.0.0.1:7401/base", "http://127.0.0.1:1"] {
            check(good, false, true);
        }
        check("http://localhost:1", false, true);
        check("http://[::1]:1", false, true);
        for bad in ["http://a", "http://127.0.0.1.example.com", "http://10.0.0.1"] {
            check(bad, false, false);
            check(bad, true, true);
        }
        for never in ["", "a", "ftp://a", "https://u:p@a", "https://a/?q", "https://a/#f"] {
            check(never, true, false);
        }
    }

    #[test]
    fn broken_roots_and_keys_are_named() {
        let broken = TlsSettings { roots_pem: b"no certificate".to_vec(), identity: None };
        let error = tls_config(&broken).unwrap_err();
        assert!(error.to_string().contains("TLS roots"), "{error}");
        let error = Identity::from_pem(b"", b"").err().unwrap();
        assert!(error.to_string().contains("client certificate"), "{error}");
    }
}

//! A kept HTTP/1.1 connection, with TLS or without, one request on its way at a time.
//!
//! One write for a request and one read for an answer is what it comes to: requests are built
//! whole by whoever asks, and nothing runs beside the client's own task. The same connection asks
//! our gateways and etcd's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::answer::AnswerReader;

/// What clients trust.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authority in a PEM file; `protocols` are offered by ALPN.
    pub(crate) fn trusting(ca_cert: &Path, protocols: &[&str]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca_cert);
        for certificate in certificates.with_context(|| format!("{}", ca_cert.display()))? {
            roots.add(certificate?)?;
        }
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over a connection.
    pub(crate) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::from(stream.peer_addr()?.ip());
        Ok(TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?)
    }
}

/// Connects; small writes are not held back.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    tls: Option<Tls>,
    stream: Stream,
    reader: AnswerReader,
    is_broken: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Http {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr, tls: Option<Tls>) -> Result<Self> {
        let stream = Stream::connect(address, tls.as_ref()).await?;
        Ok(Self { address, tls, stream, reader: AnswerReader::default(), is_broken: false })
    }

    /// Sends a request, written out whole, and waits for its answer: the status. The body is
    /// [`Http::body`].
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        ensure!(!self.is_broken, "the connection to {} has broken", self.address);
        // Also when this is not waited for to its end.
        self.is_broken = true;
        self.stream.write(request).await.context("cannot send a request")?;
        self.reader.clear();
        loop {
            let count = self.stream.read(self.reader.room()).await.context("no answer")?;
            ensure!(count > 0, "the connection to {} ended before the answer", self.address);
            if let Some(answer) = self.reader.came(count)? {
                self.is_broken = answer.ends_connection;
                return Ok(answer.status);
            }
        }
    }

    /// A request that must be answered with 200.
    pub(crate) async fn ask_ok(&mut self, what: &str, request: &[u8]) -> Result<&[u8]> {
        let status = self.ask(request).await.with_context(|| what.to_owned())?;
        if status != 200 {
            let body = String::from_utf8_lossy(self.body());
            bail!("{what} was answered {status}: {}", body.trim_end());
        }
        Ok(self.body())
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.reader.body()
    }

    /// Connects again where the connection has broken.
    pub(crate) async fn mend(&mut self) -> Result<()> {
        if self.is_broken {
            self.stream = Stream::connect(self.address, self.tls.as_ref()).await?;
            self.reader.clear();
            self.is_broken = false;
        }
        Ok(())
    }

    /// The version of TLS that was agreed on; `None` without TLS.
    pub(crate) fn tls_version(&self) -> Option<ProtocolVersion> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.protocol_version(),
        }
    }
}

impl Stream {
    async fn connect(address: SocketAddr, tls: Option<&Tls>) -> Result<Self> {
        let connecting = async {
            let stream = dial(address).await?;
            Ok(match tls {
                None => Self::Plain(stream),
                Some(tls) => Self::Tls(Box::new(tls.connect(stream).await?)),
            })
        };
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected,
            Err(_) => bail!("{address} does not shake hands within {CONNECT_WITHIN:?}"),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(room).await,
            Self::Tls(stream) => stream.read(room).await,
        }
    }
}

/// The text between `"name":"` and the next quote. Enough for ids and tokens in the compact JSON of
/// servers; whoever needs more parses.
pub(crate) fn text_after<'a>(body: &'a [u8], name: &[u8]) -> Result<&'a [u8]> {
    let start = memchr::memmem::find(body, name).map(|at| at + name.len());
    let rest = start.and_then(|start| body.get(start..));
    let text = rest.and_then(|rest| Some(&rest[..memchr::memchr(b'"', rest)?]));
    text.with_context(|| {
        let body = String::from_utf8_lossy(body);
        format!("no {}… in an answer: {body}", String::from_utf8_lossy(name))
    })
}

/// Far above what a loaded machine needs for many handshakes at once.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_or_the_answer_is_shown() {
        let body = br#"{"lease_id":"lease-a","renewal_token":"rt1-b"}"#;
        assert_eq!(text_after(body, b"\"lease_id\":\"").unwrap(), b"lease-a");
        assert_eq!(text_after(body, b"\"renewal_token\":\"").unwrap(), b"rt1-b");
        let error = text_after(body, b"\"fence\":\"").unwrap_err().to_string();
        assert!(error.contains("lease-a"), "{error}");
        assert!(text_after(br#"{"lease_id":"cut"#, b"\"lease_id\":\"").is_err());
    }
}

//! gRPC over one HTTP/2 connection, in as few steps as there are: a request is a head and one
//! frame, an answer one message and trailers.
//!
//! A call goes straight to the connection, without the queue and the tasks that a general client
//! puts between: what is saved here is left to the server.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri, Version};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::messages::{
    Acknowledged, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse,
};
use super::{LEASE_TTL_S, SEAT};
use crate::load::http::{Tls, dial};

/// A connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    address: SocketAddr,
    tls: Option<Tls>,
    token: Option<HeaderValue>,
    scheme: &'static str,
    sender: SendRequest<Bytes>,
    /// Drives the connection while a clone is left.
    _driver: Arc<JoinSet<()>>,
}

/// A stream of messages both ways.
pub(crate) struct Stream {
    sender: SendStream<Bytes>,
    receiver: Receiver,
}

enum Receiver {
    /// The server says nothing before the first message.
    Waiting(ResponseFuture),
    Open(Incoming),
}

impl Channel {
    /// Connects.
    pub(crate) async fn connect(
        address: SocketAddr,
        tls: Option<Tls>,
        token: Option<String>,
    ) -> Result<Self> {
        let stream = dial(address).await?;
        let token = token.map(|token| HeaderValue::from_str(&token)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (sender, driver) = match &tls {
            None => shake_hands(stream).await?,
            Some(tls) => shake_hands(tls.connect(stream).await?).await?,
        };
        Ok(Self { address, tls, token, scheme, sender, _driver: Arc::new(driver) })
    }

    /// Connects again, for this clone alone, where the connection has ended.
    pub(crate) async fn mend(&mut self) -> Result<()> {
        if self.sender.clone().ready().await.is_ok() {
            return Ok(());
        }
        let token = self.token.as_ref().and_then(|token| token.to_str().ok()).map(str::to_owned);
        *self = Self::connect(self.address, self.tls.clone(), token).await?;
        Ok(())
    }

    /// Makes a lease.
    pub(crate) async fn grant(&mut self) -> Result<i64> {
        let asked = LeaseGrantRequest { ttl: LEASE_TTL_S };
        let granted: LeaseGrantResponse = self.call("Lease/LeaseGrant", &asked).await?;
        Ok(granted.id)
    }

    /// Ends a lease, and with it the keys under it.
    pub(crate) async fn revoke(&mut self, lease: i64) -> Result<()> {
        let asked = LeaseRevokeRequest { id: lease };
        let Acknowledged {} = self.call("Lease/LeaseRevoke", &asked).await?;
        Ok(())
    }

    /// Puts a seat's key that is not there yet.
    pub(crate) async fn put_seat(&mut self, key: &str, lease: i64) -> Result<()> {
        let asked = TxnRequest::create(key, &SEAT, lease);
        let done: TxnResponse = self.call("KV/Txn", &asked).await?;
        ensure!(done.succeeded, "the key {key} is there already");
        Ok(())
    }

    /// Reads a key, linearizably.
    pub(crate) async fn read(&mut self, key: &str) -> Result<()> {
        let asked = RangeRequest { key: key.as_bytes().to_vec() };
        let found: RangeResponse = self.call("KV/Range", &asked).await?;
        ensure!(found.count == 1, "there is no key {key}");
        Ok(())
    }

    async fn call<Q: Message, A: Message + Default>(&mut self, path: &str, asked: &Q) -> Result<A> {
        let request = self.request(path)?;
        let mut sender = self.sender.clone().ready().await.with_context(|| path.to_owned())?;
        let (response, mut body) = sender.send_request(request, false)?;
        let mut frame = BytesMut::new();
        put_message(&mut frame, asked)?;
        body.send_data(frame.freeze(), true)?;
        let mut incoming = Incoming::of(response).await.with_context(|| path.to_owned())?;
        let answer = incoming.message().await?;
        incoming.end().await.with_context(|| path.to_owned())?;
        answer.with_context(|| format!("{path}: no answer"))
    }

    /// Opens a stream.
    pub(crate) async fn stream(&mut self, path: &str) -> Result<Stream> {
        let request = self.request(path)?;
        let mut sender = self.sender.clone().ready().await.with_context(|| path.to_owned())?;
        let (response, sender) = sender.send_request(request, false)?;
        Ok(Stream { sender, receiver: Receiver::Waiting(response) })
    }

    fn request(&self, path: &str) -> Result<Request<()>> {
        let uri: Uri = format!("{}://{}/etcdserverpb.{path}", self.scheme, self.address).parse()?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(token) = &self.token {
            headers.insert("token", token.clone());
        }
        Ok(request)
    }
}

impl Stream {
    /// Sends messages in one piece.
    pub(crate) fn send<Q: Message>(&mut self, messages: impl Iterator<Item = Q>) -> Result<()> {
        let mut frame = BytesMut::new();
        for message in messages {
            put_message(&mut frame, &message)?;
        }
        Ok(self.sender.send_data(frame.freeze(), false)?)
    }

    /// The next message.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Result<A> {
        if let Receiver::Waiting(response) = &mut self.receiver {
            let incoming = Incoming::of(response).await?;
            self.receiver = Receiver::Open(incoming);
        }
        let Receiver::Open(incoming) = &mut self.receiver else { bail!("the stream is closed") };
        match incoming.message().await? {
            Some(message) => Ok(message),
            None => {
                incoming.end().await?;
                bail!("the stream has ended")
            }
        }
    }
}

/// What a server says in answer to one call.
struct Incoming {
    body: RecvStream,
    bytes: BytesMut,
}

impl Incoming {
    async fn of(
        response: impl Future<Output = Result<http::Response<RecvStream>, h2::Error>>,
    ) -> Result<Self> {
        let (head, body) = response.await?.into_parts();
        ensure!(head.status == 200, "answered {}", head.status);
        // A call that fails at once has its status in the head.
        judge(&head.headers)?;
        Ok(Self { body, bytes: BytesMut::new() })
    }

    async fn message<A: Message + Default>(&mut self) -> Result<Option<A>> {
        loop {
            if let Some(message) = take_message(&mut self.bytes)? {
                return Ok(Some(A::decode(message)?));
            }
            let Some(chunk) = self.body.data().await else { return Ok(None) };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.bytes.extend_from_slice(&chunk);
        }
    }

    async fn end(&mut self) -> Result<()> {
        match self.body.trailers().await? {
            Some(trailers) => judge(&trailers),
            None => Ok(()),
        }
    }
}

fn judge(headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => bail!("status {status}: {}", text("grpc-message").unwrap_or_default()),
    }
}

/// A flag for compression, the length, the message.
fn put_message(frame: &mut BytesMut, message: &impl Message) -> Result<()> {
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len())?);
    Ok(message.encode(frame)?)
}

/// The next whole message.
fn take_message(bytes: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some(head) = bytes.get(..PREFIX_BYTES) else { return Ok(None) };
    ensure!(head[0] == 0, "a compressed message");
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if bytes.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    bytes.advance(PREFIX_BYTES);
    Ok(Some(bytes.split_to(length).freeze()))
}

async fn shake_hands<T>(stream: T) -> Result<(SendRequest<Bytes>, JoinSet<()>)>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Answers of a stream come in small frames, and many of them: that is what is measured here,
    // and not an attack.
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.data_frame_budget(usize::MAX).handshake(stream).await?;
    let mut driver = JoinSet::new();
    // How it ended is seen by whoever asks next.
    driver.spawn(async move { drop(connection.await) });
    Ok((sender, driver))
}

const PREFIX_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let mut frame = BytesMut::new();
        for id in [1, 300] {
            put_message(&mut frame, &LeaseRevokeRequest { id }).unwrap();
        }
        let mut bytes = BytesMut::new();
        let mut got = Vec::new();
        for byte in frame {
            bytes.put_u8(byte);
            while let Some(message) = take_message(&mut bytes).unwrap() {
                got.push(LeaseRevokeRequest::decode(message).unwrap().id);
            }
        }
        assert_eq!((got, bytes.len()), (vec![1, 300], 0));
        assert!(take_message(&mut BytesMut::from(&[1_u8, 0, 0, 0, 0][..])).is_err());
    }
}

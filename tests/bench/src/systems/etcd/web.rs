//! One client of etcd over its JSON gateway, on the same connection that ours are asked over.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jepsen::rng::Rng;

use super::{Access, Job, KEYS, LEASE_TTL_S, SEAT, key_to_read};
use crate::load::http::{Http, text_after};
use crate::load::{Done, Session};

/// A client.
#[derive(Debug)]
pub(crate) struct WebSession {
    http: Http,
    /// The headers that every request has.
    headers: String,
    job: Job,
    rng: Rng,
    request: Vec<u8>,
    body: Vec<u8>,
    value: String,
    taken: Vec<String>,
}

impl WebSession {
    /// A client over a connection.
    pub(crate) fn new(
        http: Http,
        address: SocketAddr,
        access: Access,
        job: Job,
        client: usize,
    ) -> Self {
        let token = access.token.map(|token| format!("Authorization: {token}\r\n"));
        let token = token.unwrap_or_default();
        Self {
            http,
            headers: format!("Host: {address}\r\n{token}Content-Type: application/json\r\n"),
            job,
            rng: Rng::named(client as u64, "client"),
            request: Vec::with_capacity(1_024),
            body: Vec::with_capacity(512),
            value: STANDARD.encode(SEAT),
            taken: Vec::new(),
        }
    }

    async fn take(&mut self) -> Result<String> {
        self.body.clear();
        write!(self.body, "{{\"TTL\":\"{LEASE_TTL_S}\"}}")?;
        let granted = self.ask("/v3/lease/grant").await?;
        let lease = std::str::from_utf8(text_after(granted, b"\"ID\":\"")?)?.to_owned();
        let key = STANDARD.encode(format!("/seat/{lease}"));
        self.body.clear();
        write!(
            self.body,
            "{{\"compare\":[{{\"key\":\"{key}\",\"target\":\"CREATE\",\"result\":\"EQUAL\",\
             \"create_revision\":\"0\"}}],\"success\":[{{\"request_put\":{{\"key\":\"{key}\",\
             \"value\":\"{}\",\"lease\":\"{lease}\"}}}}]}}",
            self.value
        )?;
        let done = self.ask("/v3/kv/txn").await?;
        let has_succeeded = memchr::memmem::find(done, b"\"succeeded\":true").is_some();
        ensure!(has_succeeded, "a seat was there already: {}", String::from_utf8_lossy(done));
        Ok(lease)
    }

    async fn end(&mut self, lease: &str) -> Result<()> {
        self.body.clear();
        write!(self.body, "{{\"ID\":\"{lease}\"}}")?;
        self.ask("/v3/lease/revoke").await?;
        Ok(())
    }

    async fn cycle(&mut self) -> Result<Done> {
        let lease = self.take().await?;
        self.end(&lease).await?;
        Ok(ONE)
    }

    async fn renew(&mut self, lease: i64) -> Result<Done> {
        self.body.clear();
        write!(self.body, "{{\"ID\":\"{lease}\"}}")?;
        let kept = self.ask("/v3/lease/keepalive").await?;
        // A lease that is gone has no time to live.
        let _ttl = text_after(kept, b"\"TTL\":\"").context("a lease is not kept alive")?;
        Ok(ONE)
    }

    async fn read(&mut self) -> Result<Done> {
        let key = STANDARD.encode(key_to_read(self.rng.below(KEYS)));
        self.body.clear();
        write!(self.body, "{{\"key\":\"{key}\"}}")?;
        let found = self.ask("/v3/kv/range").await?;
        ensure!(text_after(found, b"\"count\":\"")? == b"1", "a key is not there");
        Ok(ONE)
    }

    async fn ask(&mut self, path: &str) -> Result<&[u8]> {
        let request = &mut self.request;
        request.clear();
        let length = self.body.len();
        write!(
            request,
            "POST {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n",
            self.headers
        )?;
        request.extend_from_slice(&self.body);
        self.http.ask_ok(path, request).await
    }
}

impl Session for WebSession {
    async fn operate(&mut self) -> Result<Done> {
        match &mut self.job {
            Job::Take => {
                let lease = self.take().await?;
                self.taken.push(lease);
                Ok(ONE)
            }
            Job::Cycle => self.cycle().await,
            Job::Renew(share) => {
                let lease = share.one()?;
                self.renew(lease).await
            }
            Job::Read => self.read().await,
            Job::Mixed(share) => {
                let lease = share.one()?;
                match self.rng.below(100) {
                    0..80 => self.renew(lease).await,
                    80..95 => self.read().await,
                    _ => self.cycle().await,
                }
            }
        }
    }

    async fn give_back(&mut self) -> Result<Done> {
        for lease in std::mem::take(&mut self.taken) {
            self.end(&lease).await?;
        }
        Ok(Done::default())
    }

    async fn mend(&mut self) -> Result<()> {
        self.http.mend().await
    }
}

const ONE: Done = Done { operations: 1, audited: 0 };

//! One client of etcd over gRPC.

use anyhow::{Context, Result, ensure};
use jepsen::rng::Rng;

use super::channel::{Channel, Stream};
use super::messages::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use super::{Job, KEYS, Share, key_to_read};
use crate::load::{Done, Session};

/// A client.
pub(crate) struct GrpcSession {
    channel: Channel,
    job: Job,
    /// Messages on their way at once in its stream of keep-alives.
    window: usize,
    stream: Option<Stream>,
    rng: Rng,
    taken: Vec<i64>,
}

impl GrpcSession {
    /// A client over a connection.
    pub(crate) fn new(channel: Channel, job: Job, client: usize, window: usize) -> Self {
        let rng = Rng::named(client as u64, "client");
        Self { channel, job, window: window.max(1), stream: None, rng, taken: Vec::new() }
    }

    async fn take(&mut self) -> Result<i64> {
        let lease = self.channel.grant().await?;
        self.channel.put_seat(&format!("/seat/{lease}"), lease).await?;
        Ok(lease)
    }

    async fn cycle(&mut self) -> Result<Done> {
        let lease = self.take().await?;
        self.channel.revoke(lease).await?;
        Ok(ONE)
    }

    async fn read(&mut self) -> Result<Done> {
        let number = self.rng.below(KEYS);
        self.channel.read(&key_to_read(number)).await?;
        Ok(ONE)
    }

    async fn renew(&mut self, leases: &[i64]) -> Result<Done> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => empty.insert(self.channel.stream("Lease/LeaseKeepAlive").await?),
        };
        stream.send(leases.iter().map(|lease| LeaseKeepAliveRequest { id: *lease }))?;
        for lease in leases {
            let kept: LeaseKeepAliveResponse = stream.next().await?;
            ensure!(kept.ttl > 0 && kept.id == *lease, "lease {lease} is not kept alive: {kept:?}");
        }
        Ok(Done { operations: leases.len() as u64, audited: 0 })
    }
}

impl Session for GrpcSession {
    async fn operate(&mut self) -> Result<Done> {
        let window = self.window;
        match &mut self.job {
            Job::Take => {
                let lease = self.take().await?;
                self.taken.push(lease);
                Ok(ONE)
            }
            Job::Cycle => self.cycle().await,
            Job::Renew(share) => {
                let leases = several(share, window)?;
                self.renew(&leases).await
            }
            Job::Read => self.read().await,
            Job::Mixed(share) => {
                let lease = share.one()?;
                match self.rng.below(100) {
                    0..80 => self.renew(&[lease]).await,
                    80..95 => self.read().await,
                    _ => self.cycle().await,
                }
            }
        }
    }

    async fn give_back(&mut self) -> Result<Done> {
        for lease in std::mem::take(&mut self.taken) {
            self.channel.revoke(lease).await.context("cannot end a lease")?;
        }
        Ok(Done::default())
    }

    async fn mend(&mut self) -> Result<()> {
        self.stream = None;
        self.channel.mend().await
    }
}

fn several(share: &mut Share, count: usize) -> Result<Vec<i64>> {
    (0..count).map(|_| share.one()).collect()
}

const ONE: Done = Done { operations: 1, audited: 0 };

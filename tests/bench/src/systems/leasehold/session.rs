//! One client of ours: a kept TLS connection, and requests written out by hand.
//!
//! A request is bytes in a buffer that is used again: the line, the fixed headers with the access
//! token, and a body. Of an answer two fields are read, in place. Checkouts name a person and a
//! host, 100,000 of each in turn; they show no idempotency key, as a caller may, and the gateway
//! draws one.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use jepsen::rng::Rng;
use parking_lot::Mutex;

use crate::load::http::{Http, text_after};
use crate::load::{Done, Session};

/// A product and a token that allows its seats.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The product, which has one package.
    pub(crate) product: String,
    /// Access token of its application.
    pub(crate) token: String,
}

/// Leases that are kept alive, of all clients.
pub(crate) type AllHeld = Arc<Vec<Mutex<Held>>>;

/// A lease that is kept alive.
#[derive(Debug)]
pub(crate) struct Held {
    lease: String,
    renewal_token: String,
}

/// The leases that one client renews or reads.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    /// Everybody's.
    pub(crate) all: AllHeld,
    /// The next of this client's.
    pub(crate) next: usize,
    /// The first of them.
    pub(crate) first: usize,
    /// From one to the next.
    pub(crate) step: usize,
}

/// What a client does.
#[derive(Debug)]
pub(crate) enum Job {
    /// Takes seats, and gives them back at the end.
    Take,
    /// Takes a seat and gives it back.
    Cycle,
    /// The same, of one pool after the other.
    CycleOver(Arc<Vec<Pool>>),
    /// Renews one lease per request.
    Renew(Share),
    /// Renews 100 per request.
    RenewMany(Share),
    /// Reads one.
    Read(Share),
    /// 80 % renewals, 15 % reads, 5 % cycles.
    Mixed(Share),
}

/// A client.
#[derive(Debug)]
pub(crate) struct LeaseholdSession {
    http: Http,
    authority: String,
    pool: Arc<Pool>,
    job: Job,
    people: Arc<AtomicU32>,
    rng: Rng,
    request: Vec<u8>,
    body: Vec<u8>,
    taken: Vec<String>,
}

impl LeaseholdSession {
    /// A client over a connection.
    pub(crate) fn new(
        http: Http,
        address: SocketAddr,
        pool: Arc<Pool>,
        job: Job,
        people: Arc<AtomicU32>,
        client: usize,
    ) -> Self {
        Self {
            http,
            authority: address.to_string(),
            pool,
            job,
            people,
            rng: Rng::named(client as u64, "client"),
            request: Vec::with_capacity(2_048),
            body: Vec::with_capacity(512),
            taken: Vec::new(),
        }
    }

    /// Takes a seat and says what keeps it.
    pub(crate) async fn take_and_hold(&mut self) -> Result<Held> {
        let pool = Arc::clone(&self.pool);
        let lease = self.take(&pool).await?;
        let renewal_token = text(self.http.body(), RENEWAL_TOKEN)?;
        Ok(Held { lease, renewal_token })
    }

    async fn take(&mut self, pool: &Pool) -> Result<String> {
        let person = self.people.fetch_add(1, Ordering::Relaxed) % PEOPLE;
        self.body.clear();
        write!(
            self.body,
            "{{\"product_id\":\"{}\",\"user\":\"user-{person:05}@bmw.com\",\
             \"hostname\":\"host-{person:05}\",\"metadata\":{{\"version\":\"8.2.1\"}}}}",
            pool.product
        )?;
        self.write_request("POST", &["/checkout"], &pool.token)?;
        text(self.http.ask_ok("a checkout", &self.request).await?, LEASE_ID)
    }

    async fn return_one(&mut self, pool: &Pool, lease: &str) -> Result<()> {
        self.body.clear();
        write!(self.body, "{{\"lease_id\":\"{lease}\"}}")?;
        self.write_request("POST", &["/", lease, "/return"], &pool.token)?;
        self.http.ask_ok("a return", &self.request).await?;
        Ok(())
    }

    async fn cycle(&mut self, pool: &Pool) -> Result<Done> {
        let lease = self.take(pool).await?;
        self.return_one(pool, &lease).await?;
        Ok(Done { operations: 1, audited: 2 })
    }

    async fn renew(&mut self, held: &Mutex<Held>) -> Result<Done> {
        let pool = Arc::clone(&self.pool);
        {
            let held = held.lock();
            self.body.clear();
            write!(
                self.body,
                "{{\"renewal_token\":\"{}\",\"still_active\":true}}",
                held.renewal_token
            )?;
            self.write_request("PUT", &["/", &held.lease, "/heartbeat"], &pool.token)?;
        }
        let answer = self.http.ask_ok("a heartbeat", &self.request).await?;
        held.lock().keep(text_after(answer, RENEWAL_TOKEN)?)?;
        Ok(Done { operations: 1, audited: 0 })
    }

    async fn renew_many(&mut self, batch: &[usize], all: &[Mutex<Held>]) -> Result<Done> {
        let pool = Arc::clone(&self.pool);
        self.body.clear();
        self.body.extend_from_slice(b"{\"leases\":[");
        for (at, number) in batch.iter().enumerate() {
            let held = all[*number].lock();
            let comma = if at == 0 { "" } else { "," };
            write!(
                self.body,
                "{comma}{{\"lease_id\":\"{}\",\"renewal_token\":\"{}\"}}",
                held.lease, held.renewal_token
            )?;
        }
        self.body.extend_from_slice(b"]}");
        self.write_request("POST", &["/heartbeats"], &pool.token)?;
        // Results come in the order of what was asked; one that is not renewed has no token.
        let mut rest = self.http.ask_ok("a bulk heartbeat", &self.request).await?;
        for number in batch {
            let token = text_after(rest, RENEWAL_TOKEN)?;
            all[*number].lock().keep(token)?;
            let end = memchr::memmem::find(rest, RENEWAL_TOKEN).unwrap_or(0);
            rest = &rest[end + RENEWAL_TOKEN.len() + token.len()..];
        }
        Ok(Done { operations: batch.len() as u64, audited: 0 })
    }

    async fn read(&mut self, held: &Mutex<Held>) -> Result<Done> {
        let pool = Arc::clone(&self.pool);
        self.body.clear();
        let lease = held.lock().lease.clone();
        self.write_request("GET", &["/", &lease], &pool.token)?;
        let answer = self.http.ask_ok("a read", &self.request).await?;
        ensure!(text_after(answer, LEASE_ID)? == lease.as_bytes(), "another lease was shown");
        Ok(Done { operations: 1, audited: 0 })
    }

    /// Writes out a request for a path below the licenses, with the body that was written before.
    fn write_request(&mut self, method: &str, path: &[&str], token: &str) -> Result<()> {
        let request = &mut self.request;
        request.clear();
        write!(request, "{method} /api/v1/licenses")?;
        path.iter().for_each(|part| request.extend_from_slice(part.as_bytes()));
        write!(
            request,
            " HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n",
            self.authority
        )?;
        if method != "GET" {
            let length = self.body.len();
            write!(request, "Content-Type: application/json\r\nContent-Length: {length}\r\n")?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&self.body);
        Ok(())
    }
}

impl Session for LeaseholdSession {
    async fn operate(&mut self) -> Result<Done> {
        let pool = Arc::clone(&self.pool);
        match &mut self.job {
            Job::Take => {
                let lease = self.take(&pool).await?;
                self.taken.push(lease);
                Ok(Done { operations: 1, audited: 1 })
            }
            Job::Cycle => self.cycle(&pool).await,
            Job::CycleOver(pools) => {
                let pools = Arc::clone(pools);
                let at = self.rng.below(pools.len() as u64);
                self.cycle(&pools[usize::try_from(at)?]).await
            }
            Job::Renew(share) => {
                let (at, all) = share.one()?;
                self.renew(&all[at]).await
            }
            Job::RenewMany(share) => {
                let (batch, all) = share.several(RENEWED_AT_ONCE)?;
                self.renew_many(&batch, &all).await
            }
            Job::Read(share) => {
                let (at, all) = share.one()?;
                self.read(&all[at]).await
            }
            Job::Mixed(share) => {
                let (at, all) = share.one()?;
                match self.rng.below(100) {
                    0..80 => self.renew(&all[at]).await,
                    80..95 => self.read(&all[at]).await,
                    _ => self.cycle(&pool).await,
                }
            }
        }
    }

    async fn give_back(&mut self) -> Result<Done> {
        let pool = Arc::clone(&self.pool);
        let taken = std::mem::take(&mut self.taken);
        for lease in &taken {
            self.return_one(&pool, lease).await?;
        }
        Ok(Done { operations: 0, audited: taken.len() as u64 })
    }

    async fn mend(&mut self) -> Result<()> {
        self.http.mend().await
    }
}

impl Held {
    /// The token for the next renewal.
    fn keep(&mut self, renewal_token: &[u8]) -> Result<()> {
        self.renewal_token.clear();
        self.renewal_token.push_str(std::str::from_utf8(renewal_token)?);
        Ok(())
    }
}

impl Share {
    /// The next lease.
    fn one(&mut self) -> Result<(usize, AllHeld)> {
        let at = if self.next < self.all.len() { self.next } else { self.first };
        ensure!(at < self.all.len(), "there are fewer leases than clients");
        self.next = at + self.step;
        Ok((at, Arc::clone(&self.all)))
    }

    /// The next few; fewer where this client has no more.
    fn several(&mut self, most: usize) -> Result<(Vec<usize>, AllHeld)> {
        let own = self.all.len().saturating_sub(self.first).div_ceil(self.step.max(1));
        let mut batch = Vec::with_capacity(most);
        for _ in 0..most.min(own) {
            batch.push(self.one()?.0);
        }
        ensure!(!batch.is_empty(), "there are fewer leases than clients");
        Ok((batch, Arc::clone(&self.all)))
    }
}

fn text(body: &[u8], name: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(text_after(body, name)?).context("an answer is not UTF-8")?;
    Ok(text.to_owned())
}

const LEASE_ID: &[u8] = b"\"lease_id\":\"";
const RENEWAL_TOKEN: &[u8] = b"\"renewal_token\":\"";
/// People, and as many hosts, that seats are taken for.
pub(crate) const PEOPLE: u32 = 100_000;
/// Leases in a bulk request.
pub(crate) const RENEWED_AT_ONCE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(leases: usize, client: usize, clients: usize) -> Share {
        let held = |at| Mutex::new(Held { lease: format!("l{at}"), renewal_token: String::new() });
        let all = Arc::new((0..leases).map(held).collect());
        Share { all, next: client, first: client, step: clients }
    }

    #[test]
    fn clients_go_round_their_own_leases() {
        let mut second = share(7, 1, 3);
        let got: Vec<usize> = (0..5).map(|_| second.one().unwrap().0).collect();
        assert_eq!(got, [1, 4, 1, 4, 1]);
        assert!(share(2, 2, 3).one().is_err());
    }

    #[test]
    fn a_batch_has_no_lease_twice() {
        assert_eq!(share(10, 0, 3).several(100).unwrap().0, [0, 3, 6, 9]);
        assert_eq!(share(10, 0, 3).several(2).unwrap().0, [0, 3]);
        assert!(share(2, 2, 3).several(100).is_err());
    }
}

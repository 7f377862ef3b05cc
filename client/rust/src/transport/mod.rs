//! One call to whichever server answers: endpoints in turn, retries, waits.
//!
//! A call is asked of the server that answered last, then of the others; when a whole round brought
//! no answer, another follows after a wait: full jitter under an exponential ceiling, on top of
//! what the servers asked for. Everything ends at one deadline. All attempts of a call are the same
//! bytes under the same idempotency key.
//!
//! An answer is counted from when the *first* attempt was sent: a repeated call may be answered
//! with what the first one did.
//!
//! What it leaves to others: TLS ([`tls`]), one attempt ([`attempt`]), how long to wait
//! ([`retry`]), access tokens ([`crate::access`]), what an answer means.

pub(crate) mod attempt;
pub(crate) mod retry;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::secret::Disclosed;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::environment::{Deadline, Environment, Stamp, random_u64};
use crate::error::{self, Error, Outcome, Unavailable};
use attempt::{Fault, Heard};
use retry::Backoff;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// For a connection, TLS handshake included.
    pub(crate) connect: Duration,
    /// For one attempt at one server.
    pub(crate) request: Duration,
    /// For a call with all its attempts.
    pub(crate) total: Duration,
}

/// The way to the servers.
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    /// Who answered last.
    preferred: AtomicUsize,
    timeouts: Timeouts,
    environment: Arc<dyn Environment>,
}

/// A call, before it is known who will answer it.
pub(crate) struct Call {
    method: Method,
    path: Vec<String>,
    headers: HeaderMap,
    body: Body,
}

/// What a call carries.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Vec<u8>),
    /// A form, whose values may be secret.
    Form(Vec<(&'static str, Disclosed)>),
}

/// What was answered, whatever the status; never an answer that says "ask again".
#[derive(Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// When to ask again, where it says so.
    pub(crate) retry_after: Option<Duration>,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// Who answered.
    pub(crate) endpoint: String,
    /// When the first attempt that may have arrived was sent.
    pub(crate) sent: Stamp,
}

impl Call {
    /// A call that is repeated until it is answered: it must be repeatable by its nature or by an
    /// idempotency key. The path comes in segments, which are escaped.
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            headers: HeaderMap::new(),
            body: Body::Empty,
        }
    }

    /// Sends a JSON body.
    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| Error::configuration(format!("the request is not JSON: {error}")))?;
        self.body = Body::Json(bytes);
        Ok(self)
    }

    /// Sends a JSON body that was written before.
    pub(crate) fn json_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.body = Body::Json(bytes);
        self
    }

    /// Sends a form.
    pub(crate) fn form(mut self, fields: Vec<(&'static str, Disclosed)>) -> Self {
        self.body = Body::Form(fields);
        self
    }

    /// Adds or replaces a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Names the request, so that all its attempts are one.
    pub(crate) fn idempotency_key(self, key: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(key)
            .map_err(|_| Error::configuration("the idempotency key has characters of no key"))?;
        Ok(self.header(IDEMPOTENCY_KEY, value))
    }

    /// Proves who asks.
    pub(crate) fn set_bearer(&mut self, token: &str) -> Result<(), Error> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Unauthorized {
                reason: "the access token that was given has characters of no token".to_owned(),
            })?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}

impl Reply {
    /// Reads the body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Protocol {
            endpoint: self.endpoint.clone(),
            reason: format!("HTTP {} with a body that is not the answer: {error}", self.status),
        })
    }

    /// An answer that is neither what was asked for nor a decision.
    pub(crate) fn unexpected(&self) -> Error {
        let problem: attempt::Problem = serde_json::from_slice(&self.body).unwrap_or_default();
        match problem.code {
            Some(code) => Error::Rejected {
                status: self.status,
                detail: problem.detail.or(problem.title).unwrap_or_else(|| code.clone()),
                code,
            },
            None => Error::Protocol {
                endpoint: self.endpoint.clone(),
                reason: format!("HTTP {} with a body of another protocol", self.status),
            },
        }
    }
}

/// What is known of a call that was not answered yet.
#[derive(Default)]
struct Trail {
    sent: Option<Stamp>,
    is_in_doubt: bool,
    retry_after: Option<Duration>,
    attempts: Vec<error::Attempt>,
}

impl Trail {
    fn note(&mut self, endpoint: &Url, fault: Fault, sent: Stamp) {
        if fault.was_sent {
            self.sent = Some(self.sent.map_or(sent, |first| first.earlier(sent)));
        }
        self.is_in_doubt |= fault.outcome == Outcome::Unknown;
        self.retry_after = fault.retry_after.or(self.retry_after);
        let endpoint = shown(endpoint);
        self.attempts.retain(|other| other.endpoint != endpoint);
        self.attempts.push(error::Attempt { endpoint, reason: fault.reason });
    }

    fn into_error(self) -> Error {
        let outcome = if self.is_in_doubt { Outcome::Unknown } else { Outcome::NotExecuted };
        let Self { retry_after, attempts, .. } = self;
        Error::Unavailable(Unavailable { outcome, retry_after, attempts })
    }
}

/// How a round over all servers ended.
enum Round {
    Answered(Reply),
    /// Nobody answered; at least this long to wait.
    Nobody(Option<Duration>),
    /// The time is up.
    Over,
}

impl Transport {
    /// The way to these servers.
    pub(crate) fn new(
        http: reqwest::Client,
        endpoints: Vec<Url>,
        timeouts: Timeouts,
        environment: Arc<dyn Environment>,
    ) -> Self {
        Self { http, endpoints, preferred: AtomicUsize::new(0), timeouts, environment }
    }

    /// Sends a call until it is answered or the deadline passes.
    pub(crate) async fn send(&self, call: &Call, deadline: Deadline) -> Result<Reply, Error> {
        let backoff = Backoff::between_rounds(self.timeouts.total);
        let mut trail = Trail::default();
        for round in 0.. {
            let floor = match self.round(call, deadline, &mut trail).await? {
                Round::Answered(reply) => return Ok(reply),
                Round::Nobody(floor) => floor,
                Round::Over => break,
            };
            let wait = backoff.wait(round, random_u64(&*self.environment), floor);
            // A wait that the time does not allow is not begun.
            if wait >= deadline.left(&*self.environment) {
                break;
            }
            self.environment.sleep(wait).await;
        }
        Err(trail.into_error())
    }

    /// Asks every server once, the one that answered last first.
    async fn round(
        &self,
        call: &Call,
        deadline: Deadline,
        trail: &mut Trail,
    ) -> Result<Round, Error> {
        let count = self.endpoints.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut floor: Option<Duration> = None;
        for step in 0..count {
            let left = deadline.left(&*self.environment);
            if left.is_zero() {
                return Ok(Round::Over);
            }
            let index = (first + step) % count;
            let endpoint = &self.endpoints[index];
            // A stalled server gets its part of the time only.
            let servers_left = u32::try_from(count - step).unwrap_or(u32::MAX);
            let budget = self.timeouts.request.min(left / servers_left).max(SHORTEST_ATTEMPT);
            let sent = Stamp::now(&*self.environment);
            let heard =
                attempt::attempt(&self.http, &*self.environment, endpoint, call, budget).await?;
            let fault = match heard {
                Heard::Answer { status, body, retry_after, headers } => {
                    self.preferred.store(index, Ordering::Relaxed);
                    let sent = trail.sent.map_or(sent, |first| first.earlier(sent));
                    let endpoint = shown(endpoint);
                    return Ok(Round::Answered(Reply {
                        status,
                        body,
                        retry_after,
                        headers,
                        endpoint,
                        sent,
                    }));
                }
                Heard::Fault(fault) => fault,
            };
            tracing::debug!(%endpoint, reason = %fault.reason, "a license server did not answer");
            let is_everyones = fault.is_everyones;
            floor = match (floor, fault.retry_after) {
                (Some(floor), Some(wait)) => Some(floor.min(wait)),
                (floor, wait) => floor.or(wait),
            };
            trail.note(endpoint, fault, sent);
            if is_everyones {
                // Another server would say the same: "not so fast" is for the caller.
                return Ok(Round::Nobody(floor));
            }
        }
        Ok(Round::Nobody(floor))
    }
}

/// A server as people write it, without the slash at the end.
pub(crate) fn shown(server: &Url) -> String {
    server.as_str().trim_end_matches('/').to_owned()
}

/// The header that makes several attempts one request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Below this an attempt could not end in any other way than by its timeout.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(1);

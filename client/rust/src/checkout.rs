//! A checkout: what is asked for, and what came of it.
//!
//! One checkout has one idempotency key, kept over all retries and servers. When even so no answer
//! came, the seat may have been taken: the next equal checkout within two minutes asks under the
//! same key, and so finds that seat instead of taking a second one.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use protocol::cloud::denial::DenialReason;
use protocol::cloud::lease::{CheckoutMetadata, CheckoutRequest, CheckoutResponse};
use reqwest::Method;
use thiserror::Error as ThisError;

use crate::client::Inner;
use crate::denied::Denied;
use crate::error::{Error, Outcome, Unavailable};
use crate::lease::Lease;
use crate::lease::info::LeaseInfo;
use crate::lease::tenure::{Tenure, Term};
use crate::transport::{Call, Reply};

/// What came of a checkout.
#[derive(Debug)]
pub enum Checkout {
    /// A seat is held.
    Granted(Lease),
    /// The server decided against it.
    Denied(Denied),
}

/// Why [`Checkout`] gave no lease, where both kinds of reason go one way.
#[derive(Debug, Clone, PartialEq, ThisError)]
pub enum CheckoutError {
    /// The server decided against it.
    #[error("the license is denied: {0}")]
    Denied(Denied),
    /// There was no decision.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A checkout that is being put together; `await` it for the lease, or [`Self::outcome`] to keep
/// decisions apart from errors.
#[must_use = "a checkout does nothing until it is awaited"]
pub struct CheckoutCall {
    client: Arc<Inner>,
    request: CheckoutRequest,
    key: Option<String>,
}

impl CheckoutCall {
    pub(crate) fn new(client: Arc<Inner>, product: &str, user: &str) -> Self {
        let request = CheckoutRequest {
            product_id: product.to_owned(),
            user: user.to_owned(),
            hostname: client.core.hostname.clone(),
            metadata: CheckoutMetadata::default(),
            features: Vec::new(),
            quantity: 1,
            pool: None,
        };
        Self { client, request, key: None }
    }

    /// Says which version of the program asks; compared with what the package covers.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.request.metadata.version = Some(version.into());
        self
    }

    /// The program's own name for its session.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.request.metadata.session_id = Some(session.into());
        self
    }

    /// Asks for features, all of them or nothing.
    pub fn features<T: Into<String>>(mut self, features: impl IntoIterator<Item = T>) -> Self {
        self.request.features = features.into_iter().map(Into::into).collect();
        self
    }

    /// Asks for so many seats instead of one.
    pub fn quantity(mut self, quantity: u32) -> Self {
        self.request.quantity = quantity;
        self
    }

    /// Asks for seats of this pool.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.request.pool = Some(pool.into());
        self
    }

    /// Names the checkout, so that the same one asked again, by whatever process, is one: 1 to 128
    /// visible ASCII characters. Without it the client draws a name.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Takes the seat, or says why not.
    ///
    /// # Errors
    /// When there was no decision; [`Error`] tells obstacles apart.
    pub async fn outcome(self) -> Result<Checkout, Error> {
        let Self { client, request, key } = self;
        let worker = Arc::clone(&client);
        worker.worker.run(async move { take(&client, &request, key).await }).await?
    }
}

impl IntoFuture for CheckoutCall {
    type Output = Result<Lease, CheckoutError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.outcome().await? {
                Checkout::Granted(lease) => Ok(lease),
                Checkout::Denied(denied) => Err(CheckoutError::Denied(denied)),
            }
        })
    }
}

impl fmt::Debug for CheckoutCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckoutCall").field("request", &self.request).finish_non_exhaustive()
    }
}

async fn take(
    client: &Arc<Inner>,
    request: &CheckoutRequest,
    key: Option<String>,
) -> Result<Checkout, Error> {
    let core = &client.core;
    let body = serde_json::to_vec(request)
        .map_err(|error| Error::configuration(format!("the request is not JSON: {error}")))?;
    let is_drawn = key.is_none();
    let key = match key.or_else(|| core.take_lost_key(&body)) {
        Some(key) => key,
        None => core.new_key()?,
    };
    let call = Call::new(Method::POST, &["api", "v1", "licenses", "checkout"])
        .json(request)?
        .idempotency_key(&key)?;
    let reply = match core.send(call, core.deadline()).await {
        Ok(reply) => reply,
        Err(error) => {
            let in_doubt =
                matches!(&error, Error::Unavailable(Unavailable { outcome: Outcome::Unknown, .. }));
            if in_doubt && is_drawn {
                core.keep_lost_key(body, key);
            }
            return Err(error);
        }
    };
    if matches!(reply.status, 200 | 201) {
        return granted(client, &request.product_id, &reply);
    }
    let Some(denied) = Denied::read(&reply.body, reply.retry_after) else {
        return Err(reply.unexpected());
    };
    match denied.reason.known() {
        Some(DenialReason::AppRemoved | DenialReason::InsufficientScope) => {
            Err(Error::Unauthorized { reason: denied.to_string() })
        }
        Some(DenialReason::IdempotencyKeyReused) => Err(Error::Rejected {
            status: reply.status,
            code: denied.reason.code().to_owned(),
            detail: denied.detail,
        }),
        _ => Ok(Checkout::Denied(denied)),
    }
}

fn granted(client: &Arc<Inner>, product: &str, reply: &Reply) -> Result<Checkout, Error> {
    let answer: CheckoutResponse = reply.json()?;
    let term = Term {
        sent: reply.sent,
        expires_in: std::time::Duration::from_millis(answer.expires_in_ms),
        interval: std::time::Duration::from_millis(answer.heartbeat_interval_ms),
    };
    let tenure = Tenure::new(term);
    let info = LeaseInfo::of(&answer, product);
    let lease = Lease::start(client, info, tenure, answer.renewal_token, None)?;
    if lease.verdict().permits_use() {
        return Ok(Checkout::Granted(lease));
    }
    // The answer took longer than the lease lasts; dropping the handle gives it back.
    Err(Error::Unavailable(Unavailable {
        outcome: Outcome::NotExecuted,
        retry_after: None,
        attempts: vec![crate::error::Attempt {
            endpoint: reply.endpoint.clone(),
            reason: "the answer came after the lease's end".to_owned(),
        }],
    }))
}

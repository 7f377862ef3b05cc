//! The client: checkouts, leases kept from an earlier run, and an orderly end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::LicenseClientBuilder;
use crate::checkout::CheckoutCall;
use crate::core::Core;
use crate::environment::Stamp;
use crate::error::Error;
use crate::lease::Lease;
use crate::lease::tenure::{Tenure, Term};
use crate::verdict::GraceReason;
use crate::worker::Worker;

/// A license client of one application. Cheap to clone; all clones share connections, access token
/// and background thread.
#[derive(Clone)]
pub struct LicenseClient {
    inner: Arc<Inner>,
}

/// What a client and its leases share.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) worker: Worker,
}

/// What was kept from an earlier run.
#[derive(Debug)]
pub enum Resume {
    /// A lease that is still good. It is renewed as soon as a server answers.
    Resumed(Lease),
    /// Nothing is kept.
    Nothing,
    /// What is kept is not believed: ended, changed, of another host, or the clock went back.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

impl LicenseClient {
    /// A client of one server, with everything else as it comes. Opens nothing and cannot fail:
    /// what is wrong with the arguments is told by the first call.
    pub fn new(
        server_url: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Self {
        Self::builder().endpoint(server_url).credentials(client_id, client_secret).assemble()
    }

    /// A client that is put together.
    pub fn builder() -> LicenseClientBuilder {
        LicenseClientBuilder::new()
    }

    pub(crate) fn of(core: Core) -> Self {
        Self { inner: Arc::new(Inner { core: Arc::new(core), worker: Worker::default() }) }
    }

    /// Takes a seat of a product for a user. `await` gives the lease; [`CheckoutCall`] has more to
    /// ask for.
    pub fn checkout(&self, product: &str, user: &str) -> CheckoutCall {
        CheckoutCall::new(Arc::clone(&self.inner), product, user)
    }

    /// Gives back the lease of a product that an earlier run kept in the offline store: one that
    /// was borrowed, or one whose program ended while no server answered. Needs no server. One
    /// process may use what is kept: a second one's renewals are a copy's.
    ///
    /// # Errors
    /// When the store cannot say.
    pub async fn resume(&self, product: &str) -> Result<Resume, Error> {
        let (inner, product) = (Arc::clone(&self.inner), product.to_owned());
        self.inner.worker.run(async move { resume(&inner, &product).await }).await?
    }

    /// Waits until every lease that was dropped is given back, or that was given up. For the end
    /// of a program: what is still under way when the process ends is left to expire.
    pub async fn settle(&self) {
        self.inner.core.no_return_pending().await;
    }
}

impl fmt::Debug for LicenseClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LicenseClient")
            .field("endpoints", &self.inner.core.network.endpoints())
            .field("client_id", &self.inner.core.access.client_id())
            .finish_non_exhaustive()
    }
}

async fn resume(inner: &Arc<Inner>, product: &str) -> Result<Resume, Error> {
    let core = &inner.core;
    let mut record = match core.load(product).await? {
        None => return Ok(Resume::Nothing),
        Some(Err(reason)) => return Ok(Resume::Refused { reason }),
        Some(Ok(record)) => record,
    };
    let now = Stamp::now(core.environment());
    if record.info.product != product {
        return Ok(Resume::Refused { reason: "it is of another product".to_owned() });
    }
    let believed = match record.verify(now.wall_ms, &core.hostname) {
        Ok(believed) => believed,
        Err(reason) => return Ok(Resume::Refused { reason }),
    };
    // The time that was seen now counts from now on, whatever the clock says later.
    core.save(&record).await?;
    let term = Term {
        sent: now,
        expires_in: Duration::from_millis(believed.left_ms),
        interval: Duration::from_millis(record.heartbeat_interval_ms),
    };
    let tenure = if believed.claims.borrowed {
        Tenure::borrowed_before(term)
    } else {
        let mut tenure = Tenure::new(term);
        tenure.troubled(GraceReason::Unreachable);
        tenure
    };
    let info = record.info.clone().proved_by(&believed.claims);
    let renewal_token = record.renewal_token.clone();
    let lease = Lease::start(inner, info, tenure, renewal_token, Some(record))?;
    Ok(Resume::Resumed(lease))
}

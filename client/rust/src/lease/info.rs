//! What a lease is: what was granted at the checkout and does not change.

use protocol::cloud::lease::{CheckoutResponse, LeaseType};
use protocol::fence::Fence;
use protocol::wire::Money;
use serde::{Deserialize, Serialize};

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseInfo {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) lease_type: LeaseType,
    #[serde(default)]
    pub(crate) cost: Option<Money>,
    #[serde(default)]
    pub(crate) currency: Option<String>,
    pub(crate) fence: Fence,
    pub(crate) package: String,
    pub(crate) quantity: u32,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    #[serde(default)]
    pub(crate) pool: Option<String>,
}

impl LeaseInfo {
    /// From the answer to a checkout of this product.
    pub(crate) fn of(answer: &CheckoutResponse, product: &str) -> Self {
        Self {
            id: answer.lease_id.clone(),
            product: product.to_owned(),
            lease_type: answer.lease_type,
            cost: answer.cost,
            currency: answer.currency.clone(),
            fence: answer.fence,
            package: answer.package_id.clone(),
            quantity: answer.quantity,
            features: answer.features.clone(),
            pool: answer.pool.clone(),
        }
    }
}

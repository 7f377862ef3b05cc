//! How an application is let in, beside its secret.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TokenAlgorithm;

/// `GET /admin/apps/{app_id}/policy`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppPolicyView {
    /// The application.
    #[schema(example = "app-00000000000000a1")]
    pub app_id: String,
    /// The policy.
    #[serde(flatten)]
    pub policy: AppPolicy,
}

/// `PUT /admin/apps/{app_id}/policy`: the whole policy; what is left out is not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppPolicy {
    /// Whether it must show a client certificate, to which its access tokens are bound (RFC 8705).
    /// Switching it on ends the tokens that were given before.
    pub certificate_bound: bool,
    /// SHA-256 (hex) of the certificates that it may show; empty: any.
    #[schema(max_items = 16)]
    pub certificates: Vec<String>,
    /// Requests a second on one node; absent: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 50, minimum = 1)]
    pub requests_per_second: Option<u32>,
    /// Requests at once above that rate; the rate itself when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 100, minimum = 1)]
    pub burst: Option<u32>,
    /// What signs its access tokens; RS256 when left out.
    pub token_algorithm: TokenAlgorithm,
}

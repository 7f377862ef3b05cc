//! Secrets that a face shares with its callers: evaluation keys and the vendors of the classic
//! face. They are sealed when they arrive and never shown again.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::optional_count;
use crate::secret::Disclosed;
use crate::wire;

/// Shortest secret that may be brought along.
pub const MIN_SHARED_SECRET_CHARS: usize = 16;
/// Longest secret that may be brought along.
pub const MAX_SHARED_SECRET_CHARS: usize = 512;

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Disclosed, D::Error> {
    let secret = Disclosed::deserialize(deserializer)?;
    let visible = secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    let length = secret.expose().len();
    if visible && (MIN_SHARED_SECRET_CHARS..=MAX_SHARED_SECRET_CHARS).contains(&length) {
        Ok(secret)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want {MIN_SHARED_SECRET_CHARS} to {MAX_SHARED_SECRET_CHARS} visible ASCII characters"
        )))
    }
}

fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Disclosed>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "secret")] Disclosed);
    Ok(Option::<Given>::deserialize(deserializer)?.map(|Given(secret)| secret))
}

/// `GET /admin/evaluation/keys`: which versions of the key that signs license files are in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvaluationKeys {
    /// What new license files are signed with.
    #[schema(example = 2)]
    pub current: u32,
    /// The oldest version that is still accepted.
    #[schema(example = 1)]
    pub minimum: u32,
    /// Every version that is kept, ascending.
    #[schema(example = json!([1, 2]))]
    pub versions: Vec<u32>,
}

/// `POST /admin/evaluation/keys/rotate`: makes a new version, which signs from now on; the body may
/// be left out.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateEvaluationKeyRequest {
    /// The oldest version that is accepted from now on, never above the new one; unchanged when
    /// left out.
    #[serde(default, deserialize_with = "optional_count::<1, { u32::MAX }, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2, minimum = 1)]
    pub minimum: Option<u32>,
    /// The new version's secret, to go on with one that clients have; made up when left out.
    #[serde(default, deserialize_with = "optional_secret")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 16, max_length = 512)]
    pub secret: Option<Disclosed>,
}

/// `POST /admin/classic/vendors`: the secret that a vendor's clients sign with; replaces the former
/// one.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassicVendorRequest {
    /// The vendor, as its clients name it in `X-Vendor-ID`.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "techvendor", max_length = 128)]
    pub vendor_id: String,
    /// The secret; never shown again.
    #[serde(deserialize_with = "secret")]
    #[schema(min_length = 16, max_length = 512)]
    pub secret: Disclosed,
}

/// A vendor whose clients sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassicVendorView {
    /// The vendor.
    #[schema(example = "techvendor")]
    pub vendor_id: String,
}

/// `GET /admin/classic/vendors`, in order of vendor id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassicVendorList {
    /// One page.
    pub vendors: Vec<ClassicVendorView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

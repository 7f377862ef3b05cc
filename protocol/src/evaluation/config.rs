//! What a program is configured with: `EDON_*` variables.
//!
//! The two flags that bypass checks count only in builds for development; elsewhere they are read
//! and reported, so that whoever set them learns that they do nothing. Without a secret of its own
//! the ring has the published ones, which sign nothing that a server would believe.

use std::collections::BTreeMap;

use super::key_ring::{
    KeyRing, KeyRingError, KeyVersion, PUBLISHED_SECRET_V1, PUBLISHED_SECRET_V2,
};
use super::wire::base_url;
use crate::secret::Secret;

/// Where the server is.
pub const ACTIVATION_SERVER: &str = "EDON_ACTIVATION_SERVER";
/// Where it is when nobody says.
pub const DEFAULT_ACTIVATION_SERVER: &str = "https://activation.edon.ai/v1/validate";
/// Secret of key version 1.
pub const SECRET_V1: &str = "EDON_LICENSE_SECRET_V1";
/// Secret of key version 2.
pub const SECRET_V2: &str = "EDON_LICENSE_SECRET_V2";
/// Development: skip the check at startup.
pub const SKIP_LICENSE_CHECK: &str = "EDON_SKIP_LICENSE_CHECK";
/// Development: make a license without a server.
pub const ALLOW_OFFLINE_ACTIVATION: &str = "EDON_ALLOW_OFFLINE_ACTIVATION";

/// What is in force.
pub struct Config {
    /// What `/activate` and `/validate` are appended to.
    pub base_url: String,
    /// The keys of license files.
    pub ring: KeyRing,
    /// Whether the check at startup is skipped; never outside development.
    pub skip_license_check: bool,
    /// Whether a license may be made without a server; never outside development.
    pub allow_offline_activation: bool,
    /// Bypass variables that are set and have no effect in this build.
    pub ignored: Vec<&'static str>,
}

impl Config {
    /// Reads the variables. `is_development` is a property of the build. Files are signed by key
    /// version `current` and accepted from `minimum` on; the published client has 1 and 1.
    pub fn resolve(
        variables: &BTreeMap<String, String>,
        current: KeyVersion,
        minimum: KeyVersion,
        is_development: bool,
    ) -> Result<Self, KeyRingError> {
        let variable = |name: &str| {
            variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let secret = |name, published: &str| {
            Secret::new(variable(name).unwrap_or(published).as_bytes().to_vec())
        };
        let keys = BTreeMap::from([
            (KeyVersion(1), secret(SECRET_V1, PUBLISHED_SECRET_V1)),
            (KeyVersion(2), secret(SECRET_V2, PUBLISHED_SECRET_V2)),
        ]);
        let is_set = |name| variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let bypasses = [SKIP_LICENSE_CHECK, ALLOW_OFFLINE_ACTIVATION];
        let ignored = bypasses.into_iter().filter(|name| is_set(name) && !is_development);
        Ok(Self {
            base_url: base_url(variable(ACTIVATION_SERVER).unwrap_or(DEFAULT_ACTIVATION_SERVER))
                .to_owned(),
            ring: KeyRing::new(keys, current, minimum)?,
            skip_license_check: is_development && is_set(SKIP_LICENSE_CHECK),
            allow_offline_activation: is_development && is_set(ALLOW_OFFLINE_ACTIVATION),
            ignored: ignored.collect(),
        })
    }
}

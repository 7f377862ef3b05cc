//! The two tokens of an activated cluster: for its next call, and for when no call gets through.
//!
//! Both are signed with the cluster's Ed25519 key and told apart by their type. Neither outlives
//! the license, and both carry its token version: what suspends or rotates the license makes them
//! stale, which the ledger says when they are next shown.

use lease::ids::LicenseId;
use lease::license::Activated;
use lease::offline::OfflineProof;
use protocol::deployment::refusal::Refusal;
use protocol::deployment::token::{self, DeploymentClaims, Expect, TOKEN_SECONDS};
use protocol::offline::{Holder, HolderKind, Protocol, exp_seconds};
use protocol::secret::Disclosed;
use protocol::wire::UtcTime;

use super::PlanTold;
use super::refusal::by_gateway;
use crate::calls::offline::{Signing, key_set_of};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{TokenOf, offline_token, parse_uuid, uuid_text};
use crate::shared::Shared;

/// What an access token of ours proves, but for whether its version is still the license's.
pub(super) struct Believed {
    /// The license.
    pub(super) license: LicenseId,
    /// Version of its tokens when this one was given.
    pub(super) token_version: u32,
}

/// Reads the access token that a cluster of machines shows.
pub(super) fn believed(
    shared: &Shared,
    keys: &Keys,
    signing: &Signing,
    text: Option<&str>,
    cluster_id: &str,
) -> Result<Believed, Failure> {
    let invalid = || by_gateway(&Refusal::InvalidToken);
    let expect = Expect {
        now_ms: shared.context.cluster.displayed_civil_ms(),
        issuer: &signing.issuer,
        epoch: signing.epoch.number,
        cluster_id,
    };
    let claims =
        token::verify(text.ok_or_else(invalid)?, &key_set_of(keys)?, &expect).map_err(|error| {
            tracing::debug!(reason = error.code(), "an access token is not believed");
            invalid()
        })?;
    let license = parse_uuid(&claims.license_id).map(LicenseId).ok_or_else(invalid)?;
    let token_version = u32::try_from(claims.token_version).map_err(|_| invalid())?;
    Ok(Believed { license, token_version })
}

/// The access token of a cluster, and when it ends.
pub(super) fn access(
    keys: &Keys,
    signing: &Signing,
    activated: &Activated,
    cluster_id: &str,
) -> Result<(Disclosed, UtcTime), Failure> {
    let iat = u64::try_from(activated.civil_ms.div_euclid(1_000)).unwrap_or(0);
    let exp = iat.saturating_add(TOKEN_SECONDS).min(exp_seconds(activated.valid_until_ms));
    let claims = DeploymentClaims {
        iss: signing.issuer.to_string(),
        license_id: uuid_text(activated.license.0),
        cluster_id: cluster_id.to_owned(),
        token_version: activated.token_version.into(),
        epoch: signing.epoch.number,
        iat,
        exp,
    };
    let token = token::sign(&keys.offline.key, &claims)
        .map_err(|_| Failure::internal("an access token could not be signed"))?;
    let ends_ms = i64::try_from(exp).unwrap_or(i64::MAX).saturating_mul(1_000);
    Ok((Disclosed::new(token), UtcTime::from_unix_ms(ends_ms)))
}

/// The offline token of a cluster, where policy allows one: a day at most.
pub(super) fn offline(
    keys: &Keys,
    signing: &Signing,
    activated: &Activated,
    cluster_id: &str,
    plan: &PlanTold,
) -> Result<Option<Disclosed>, Failure> {
    let Some(proof) = &activated.offline else { return Ok(None) };
    let proof = OfflineProof {
        // The ledger holds the seat for as long as the plan says, which is never shorter.
        ends_ms: proof.ends_ms.min(proof.issued_ms.saturating_add(MAX_OFFLINE_MS)),
        features: plan.features.iter().map(|feature| feature.as_str().into()).collect(),
        ..OfflineProof::clone(proof)
    };
    let of = TokenOf {
        issuer: &signing.issuer,
        protocol: Protocol::Deployment,
        license_id: uuid_text(activated.license.0),
        holder: Holder::of(HolderKind::Cluster, cluster_id),
        token_version: activated.token_version,
        max_nodes: Some(plan.max_nodes),
        cluster_id: Some(cluster_id.to_owned()),
    };
    Ok(Some(Disclosed::new(offline_token(keys, &signing.epoch, &proof, of)?)))
}

/// The document's longest life of an offline token.
const MAX_OFFLINE_MS: i64 = 24 * 60 * 60 * 1_000;

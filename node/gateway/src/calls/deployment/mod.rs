//! `deployment`: clusters of machines activate a license, keep its slot by heartbeats, give it
//! back, and report what their jobs used.
//!
//! ```text
//! activate ─┬ setup (an e-mail address): records who accepted the terms, takes nothing
//!           └ runtime (a cluster id):    takes the slot ─▶ access token, offline token
//! heartbeat: key and access token ─▶ the slot lasts, newer tokens
//! ```
//!
//! Nothing is decided here. The key is turned into its MAC, the access token is read (signature,
//! end, cluster, epoch: `token`), and the ledger says the rest; what it refuses is put into the
//! document's statuses and sentences by one table (`refusal`).
//!
//! What it leaves to others: the forms (`protocol::deployment`), the rules (`lease`).

pub(crate) mod refusal;
pub(crate) mod telemetry;
mod token;

use lease::command::Command;
use lease::ids::{ActivationId, Face, Name};
use lease::license::{Activate, Activated, Claim, Deactivate, LicenseRow, Plan, Verify, VerifyBy};
use lease::limits::{MAX_HOLDER_BYTES, MAX_METADATA_BYTES, MAX_NAME_BYTES};
use lease::outcome::{Outcome, RefusalCode};
use protocol::deployment::cluster_id;
use protocol::deployment::license_key::LicenseKey;
use protocol::deployment::refusal::Refusal;
use protocol::deployment::wire::{
    ActivateCall, ActivateRequest, DeactivateAnswer, DeactivateRequest, HeartbeatRequest,
    LicenseDetails, Metadata, OfflineKeyAnswer, TokenAnswer, bearer,
};
use protocol::wire::UtcTime;
use storage::seam::Entropy;

use crate::call::Call;
use crate::calls::offline::{Signing, key_set_of};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{address_tag, draw_lease, draw_uuid, license_key_mac, subject};
use crate::reply::Reply;
use crate::shared::Shared;

use refusal::{Asked, by_gateway};

/// `POST /v1/license/activate`
pub(crate) async fn activate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ActivateRequest = call.json()?;
    let entropy = &*shared.context.entropy;
    let signing = Signing::of(shared)?;
    let asked = Asked::new(&keys, &request.license_key, request.nodes);
    let (cluster_id, claim) = match request.call().map_err(|refusal| by_gateway(&refusal))? {
        ActivateCall::Setup { email, cluster_id } => {
            fits(email, MAX_NAME_BYTES, "email")?;
            let cluster_id = match cluster_id {
                Some(cluster_id) => cluster_id.to_owned(),
                None => draw_cluster_id(entropy, request.metadata.as_ref()),
            };
            let accepted = request.terms_accepted_at();
            let contact = subject(entropy, email);
            let terms_accepted_at_ms = accepted.map(|accepted| accepted.unix_ms);
            (cluster_id, Claim::Setup { contact, terms_accepted_at_ms })
        }
        ActivateCall::Runtime { cluster_id } => {
            let metadata = metadata_text(request.metadata.as_ref()).into();
            (cluster_id.to_owned(), Claim::Deployment { nodes: asked.nodes, metadata })
        }
    };
    let command = Command::Activate(Box::new(Activate {
        key_mac: Some(asked.key_mac),
        address: address_tag(&keys.license_keys, call.address),
        holder: holder(&cluster_id)?,
        activation: ActivationId(draw_uuid(entropy)),
        lease: draw_lease(&*shared.context.clock, entropy),
        claim,
    }));
    match asked.decide(shared, call, command).await? {
        Ok(Outcome::Activated(activated)) => {
            answer(shared, &keys, &signing, &activated, cluster_id)
        }
        Ok(_) => Err(Failure::internal("an activation had the outcome of another command")),
        Err(refused) => Err(refused.failure),
    }
}

/// `POST /v1/license/heartbeat`
pub(crate) async fn heartbeat(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: HeartbeatRequest = call.json()?;
    let signing = Signing::of(shared)?;
    let asked = Asked::new(&keys, &request.license_key, request.nodes);
    let text = bearer(call.header("authorization"), request.token.as_ref());
    let claims = token::believed(shared, &keys, &signing, text, &request.cluster_id)?;
    // A token of another license does not count, and neither says whether the key shown is one:
    // version 0 is stale under any license, once the ledger has judged the key.
    let shown =
        shared.read(call).await?.license_by_key(&asked.key_mac, Face::Deployment).map(id_of);
    let is_of_license = shown == Some(claims.license);
    let token_version = if is_of_license { claims.token_version } else { 0 };
    let command = Command::Verify(Box::new(Verify {
        by: VerifyBy::Deployment { key_mac: asked.key_mac, token_version, nodes: asked.nodes },
        address: address_tag(&keys.license_keys, call.address),
        holder: holder(&request.cluster_id)?,
        lease: draw_lease(&*shared.context.clock, &*shared.context.entropy),
    }));
    match asked.decide(shared, call, command).await? {
        Ok(Outcome::Activated(activated)) => {
            answer(shared, &keys, &signing, &activated, request.cluster_id)
        }
        Ok(_) => Err(Failure::internal("a heartbeat had the outcome of another command")),
        Err(refused) if refused.code == RefusalCode::StaleTokenVersion && !is_of_license => {
            Err(refusal::by_ledger(&Refusal::InvalidToken))
        }
        Err(refused) => Err(refused.failure),
    }
}

/// `POST /v1/license/deactivate`
pub(crate) async fn deactivate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: DeactivateRequest = call.json()?;
    let asked = Asked::new(&keys, &request.license_key, None);
    let command = Command::Deactivate(Box::new(Deactivate {
        key_mac: asked.key_mac,
        address: address_tag(&keys.license_keys, call.address),
        holder: holder(&request.cluster_id)?,
    }));
    match asked.decide(shared, call, command).await? {
        Ok(Outcome::Done | Outcome::Unchanged) => Ok(Reply::ok(&DeactivateAnswer::DONE)),
        Ok(_) => Err(Failure::internal("a deactivation had the outcome of another command")),
        Err(refused) => Err(refused.failure),
    }
}

/// `GET /v1/license/offline-key`
pub(crate) async fn offline_key(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let answer = OfflineKeyAnswer::of(&keys.offline.public, &key_set_of(&keys)?)
        .map_err(|_| Failure::internal("the offline key is of another kind"))?;
    Ok(Reply::ok(&answer))
}

/// The answer to a cluster whose activation this node's ledger has.
fn answer(
    shared: &Shared,
    keys: &Keys,
    signing: &Signing,
    activated: &Activated,
    cluster_id: String,
) -> Result<Reply, Failure> {
    let ledger = shared.context.cluster.ledger();
    let license = ledger
        .license(activated.license)
        .ok_or_else(|| Failure::internal("an activation without its license"))?;
    let details = details(license, activated);
    let plan = PlanTold { features: details.features.clone(), max_nodes: details.max_nodes };
    // Signing takes time that writers of the ledger shall not wait for.
    drop(ledger);
    let now = UtcTime::from_unix_ms(activated.civil_ms);
    let answer = TokenAnswer::without_token(details, cluster_id, now);
    if activated.activation.is_none() {
        return Ok(Reply::ok(&answer));
    }
    let cluster_id = answer.cluster_id.clone();
    let (access_token, ends) = token::access(keys, signing, activated, &cluster_id)?;
    let offline_token = token::offline(keys, signing, activated, &cluster_id, &plan)?;
    Ok(Reply::ok(&answer.with_token(access_token, ends, offline_token)))
}

/// What an offline token says of the plan.
struct PlanTold {
    features: Vec<String>,
    max_nodes: u32,
}

fn details(license: &LicenseRow, activated: &Activated) -> LicenseDetails {
    let Plan { slug, kind, features, max_nodes, .. } = &license.terms.plan;
    let enabled = features.iter().filter(|feature| feature.enabled);
    LicenseDetails {
        license_type: if kind.is_empty() { slug.to_string() } else { kind.to_string() },
        max_nodes: *max_nodes,
        features: enabled.map(|feature| feature.slug.to_string()).collect(),
        expires_at: Some(UtcTime::from_unix_ms(activated.valid_until_ms)),
        token_version: activated.token_version.into(),
    }
}

fn id_of(license: &LicenseRow) -> lease::ids::LicenseId {
    license.terms.license
}

impl Asked {
    fn new(keys: &Keys, key: &LicenseKey, nodes: Option<u32>) -> Self {
        let key_mac = license_key_mac(&keys.license_keys, key.expose());
        Self { key_mac, nodes: nodes.unwrap_or(0) }
    }
}

/// The holder of a cluster id. One of many characters of several bytes each is too long to keep.
fn holder(cluster_id: &str) -> Result<Name, Failure> {
    fits(cluster_id, MAX_HOLDER_BYTES, "cluster_id")?;
    Ok(cluster_id.into())
}

fn fits(text: &str, max_bytes: usize, field: &str) -> Result<(), Failure> {
    if text.len() <= max_bytes {
        return Ok(());
    }
    let what = format!("{field}: want at most {max_bytes} bytes");
    Err(by_gateway(&Refusal::InvalidRequest(what)))
}

/// What a cluster says of itself, as operators are shown it: short enough to keep.
fn metadata_text(metadata: Option<&Metadata>) -> String {
    let Some(metadata) = metadata.filter(|metadata| **metadata != Metadata::default()) else {
        return String::new();
    };
    let text = |metadata: &Metadata| serde_json::to_string(metadata).unwrap_or_default();
    let whole = text(metadata);
    if whole.len() <= MAX_METADATA_BYTES {
        return whole;
    }
    let cut = |value: &Option<String>| {
        value.as_ref().map(|value| value.chars().take(SHORT_CHARS).collect::<String>())
    };
    text(&Metadata {
        hostname: cut(&metadata.hostname),
        ip: cut(&metadata.ip),
        product: cut(&metadata.product),
        version: cut(&metadata.version),
    })
}

fn draw_cluster_id(entropy: &dyn Entropy, metadata: Option<&Metadata>) -> String {
    let mut random = [0; 4];
    entropy.fill(&mut random);
    let hostname = metadata.and_then(|metadata| metadata.hostname.as_deref());
    cluster_id::generate(random, hostname.unwrap_or_default())
}

/// Characters of each text of metadata that is too long as a whole: four of them, of four bytes
/// each, and their names fit.
const SHORT_CHARS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_kept_whole_or_cut_and_always_fits() {
        assert_eq!(metadata_text(None), "");
        assert_eq!(metadata_text(Some(&Metadata::default())), "");
        let short = Metadata { hostname: Some("walnut".to_owned()), ..Metadata::default() };
        assert_eq!(metadata_text(Some(&short)), r#"{"hostname":"walnut"}"#);
        for character in ["a", "\"", "\\", "\u{1f600}"] {
            let long = Some(character.repeat(256));
            let metadata = Metadata {
                hostname: long.clone(),
                ip: long.clone(),
                product: long.clone(),
                version: long,
            };
            let text = metadata_text(Some(&metadata));
            assert!(text.len() <= MAX_METADATA_BYTES, "{character:?}: {}", text.len());
            let read: Metadata = serde_json::from_str(&text).unwrap();
            assert_eq!(read.version, Some(character.repeat(SHORT_CHARS)), "{character:?}");
        }
    }

    #[test]
    fn a_cluster_without_an_id_gets_one_of_its_host() {
        let id = draw_cluster_id(&storage::seam::RealEntropy, None);
        assert!(id.starts_with("bzzz-cluster-") && id.ends_with("-unknown"), "{id}");
        let metadata = Metadata { hostname: Some("walnut".to_owned()), ..Metadata::default() };
        let ids = [0, 1].map(|_| draw_cluster_id(&storage::seam::RealEntropy, Some(&metadata)));
        assert!(ids[0].ends_with("-walnut") && ids[0] != ids[1], "{ids:?}");
    }
}

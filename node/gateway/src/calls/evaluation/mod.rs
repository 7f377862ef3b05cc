//! `evaluation`: hosts activate an evaluation, and ask from time to time whether it still holds.
//!
//! The published client takes every status but 200 for a server that cannot be reached, and then
//! runs for another day. So what is decided against a caller is 200 with `ok:false` and a reason
//! (`refusal`); other statuses are left to what is no decision: a body that is no request (400),
//! too many wrong codes (429), a cluster that cannot decide (503).
//!
//! Of a host there is its hash alone: the first digits of it, which every client sends, are the
//! activation's holder, and the signed license file has no host name in it. The activation's id is
//! the host's proof; a second activation of a host confirms the first, with the end it had, and
//! signs a new file with the key that is current then. That is how customers come to a file of a
//! newer key when older ones are no longer accepted: a validation names no key version.
//!
//! What it leaves to others: the forms and the signature (`protocol::evaluation`), the rules
//! (`lease`), rotation of the key (`calls::licensing::secrets`).

mod events;
mod refusal;

use std::collections::BTreeMap;

use http::StatusCode;
use lease::Ledger;
use lease::command::Command;
use lease::ids::{ActivationId, Name};
use lease::license::{Activate, Activated, ActivationRow, Claim, Plan, Verify, VerifyBy};
use lease::outcome::{Outcome, Refusal};
use protocol::deployment::license_key::LicenseKey;
use protocol::evaluation::event::Subject;
use protocol::evaluation::identity;
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::{License, LicenseFile};
use protocol::evaluation::refusal::RefusalReason;
use protocol::evaluation::wire::{
    ActivateRequest, ActivationDetails, Answer, EpochSeconds, ValidateRequest,
};
use protocol::offline::{Holder, HolderKind, Protocol};
use protocol::secret::{Disclosed, Secret};

use crate::call::Call;
use crate::calls::licensing::secrets::EVALUATION_KEY;
use crate::calls::offline::Signing;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{
    TokenOf, address_tag, draw_lease, draw_uuid, license_key_mac, offline_token, uuid_text,
};
use crate::reply::Reply;
use crate::shared::Shared;

use events::Asked;
use refusal::Verdict;

/// `POST /v1/activate`
pub(crate) async fn activate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ActivateRequest = call.json()?;
    let subject = Subject {
        activation_id: None,
        org_id: request.org_id.clone(),
        project_id: request.project_id.clone(),
    };
    let asked = Asked::Activation(subject);
    let code = request.activation_code.as_ref().map(Disclosed::expose);
    let key_mac = match code.filter(|code| !code.trim().is_empty()).map(str::parse::<LicenseKey>) {
        None => None,
        Some(Ok(code)) => Some(license_key_mac(&keys.license_keys, code.expose())),
        // No code has this form.
        Some(Err(_)) => {
            shared.metrics.count_refusal(RefusalReason::InvalidCode.code());
            return Ok(refused(shared, &asked, RefusalReason::InvalidCode));
        }
    };
    let entropy = &*shared.context.entropy;
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let command = Command::Activate(Box::new(Activate {
        key_mac,
        address: address_tag(&keys.license_keys, call.address),
        holder: Name::from(request.hostname_hash.binding()),
        activation: ActivationId(draw_uuid(entropy)),
        lease: draw_lease(entropy),
        claim: Claim::Evaluation {
            org: text(&request.org_id),
            project: text(&request.project_id),
            version: text(&request.version),
        },
    }));
    let activated = match decide(shared, call, command).await? {
        Ok(activated) => activated,
        Err(refusal) => return say(shared, &asked, &refusal),
    };
    let granted = Granted::of(&shared.context.cluster.ledger(), &activated)?;
    let kind = request.kind.as_deref().unwrap_or(EVALUATION);
    let license = granted.license_file(&keys, kind)?;
    let token = granted.offline_token(shared, &keys, &activated)?;
    asked.granted(&granted.subject(), EpochSeconds::from_unix_ms(activated.civil_ms));
    Ok(granted.reply(&activated, Some(license), token))
}

/// `POST /v1/validate`
pub(crate) async fn validate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ValidateRequest = call.json()?;
    let activation: Option<identity::ActivationId> = request.activation_id.parse().ok();
    let subject = Subject {
        // A text that is no id of ours may be anything: it is not logged.
        activation_id: activation.map(|activation| activation.to_string()),
        org_id: request.org_id.clone(),
        project_id: request.project_id.clone(),
    };
    let asked = Asked::Validation(subject);
    let Some(activation) = activation else {
        shared.metrics.count_refusal(RefusalReason::UnknownActivation.code());
        return Ok(refused(shared, &asked, RefusalReason::UnknownActivation));
    };
    let command = Command::Verify(Box::new(Verify {
        by: VerifyBy::Evaluation { activation: ActivationId(u128::from_be_bytes(activation.0)) },
        address: address_tag(&keys.license_keys, call.address),
        holder: Name::from(request.hostname_hash.binding()),
        lease: draw_lease(&*shared.context.entropy),
    }));
    let activated = match decide(shared, call, command).await? {
        Ok(activated) => activated,
        Err(refusal) => return say(shared, &asked, &refusal),
    };
    let granted = Granted::of(&shared.context.cluster.ledger(), &activated)?;
    if !granted.is_of(&request) {
        shared.metrics.count_refusal(RefusalReason::ProjectMismatch.code());
        return Ok(refused(shared, &asked, RefusalReason::ProjectMismatch));
    }
    let token = granted.offline_token(shared, &keys, &activated)?;
    asked.granted(&granted.subject(), EpochSeconds::from_unix_ms(activated.civil_ms));
    Ok(granted.reply(&activated, None, token))
}

/// Has a command decided, and waits until this node knows what it was decided by.
async fn decide(
    shared: &Shared,
    call: &Call,
    command: Command,
) -> Result<Result<Box<Activated>, Refusal>, Failure> {
    // No request id: both commands are repeatable by themselves.
    let decided = shared.decide(call, None, command).await?;
    let decision = match decided.outcome {
        Outcome::Activated(activated) => Ok(activated),
        Outcome::Refused(refusal) => Err(refusal),
        _ => return Err(Failure::internal("an activation had the outcome of another command")),
    };
    if shared.has_applied(call, decided.index).await {
        Ok(decision)
    } else {
        Err(Failure::not_seen_in_time())
    }
}

/// The answer to what the ledger refused.
fn say(shared: &Shared, asked: &Asked, refusal: &Refusal) -> Result<Reply, Failure> {
    match refusal::verdict(refusal.code) {
        Verdict::Say(reason) => Ok(refused(shared, asked, reason)),
        Verdict::TooManyRequests => {
            asked.refused(TOO_MANY, now(shared));
            Err(refusal::too_many_requests(refusal))
        }
        Verdict::Unavailable => Err(refusal::unavailable(refusal)),
        Verdict::Impossible => {
            Err(Failure::internal("an evaluation met a refusal of another face"))
        }
    }
}

/// 200 with `ok:false`.
fn refused(shared: &Shared, asked: &Asked, reason: RefusalReason) -> Reply {
    asked.refused(reason.code(), now(shared));
    Reply::json(StatusCode::OK, &Answer::refused(reason, now(shared)))
}

fn now(shared: &Shared) -> EpochSeconds {
    EpochSeconds::from_unix_ms(shared.context.cluster.displayed_civil_ms())
}

/// An activation that is in force, as this node's ledger has it.
struct Granted {
    row: ActivationRow,
    plan: String,
    features: Vec<Name>,
    token_version: u32,
    /// Its last millisecond.
    valid_until_ms: i64,
    /// Version of the key that signs now.
    key_version: u32,
}

impl Granted {
    fn of(ledger: &Ledger, activated: &Activated) -> Result<Self, Failure> {
        let row = activated.activation.and_then(|activation| ledger.activation(activation));
        let (Some(row), Some(license)) = (row, ledger.license(activated.license)) else {
            return Err(Failure::internal("an activation is not where it was made"));
        };
        let Plan { slug, kind, features, .. } = &license.terms.plan;
        let enabled = features.iter().filter(|feature| feature.enabled);
        Ok(Self {
            row: row.clone(),
            plan: if kind.is_empty() { slug.to_string() } else { kind.to_string() },
            features: enabled.map(|feature| feature.slug.clone()).collect(),
            token_version: activated.token_version,
            valid_until_ms: activated.valid_until_ms,
            key_version: ledger.key_window(EVALUATION_KEY).map_or(1, |window| window.current),
        })
    }

    /// Whether a validation names the organisation and project that the activation was made for. A
    /// part that either does not name fits.
    fn is_of(&self, request: &ValidateRequest) -> bool {
        let fits = |kept: &str, named: &Option<String>| {
            kept.is_empty() || named.as_ref().is_none_or(|named| named == kept)
        };
        fits(&self.row.org, &request.org_id) && fits(&self.row.project, &request.project_id)
    }

    fn activation_id(&self) -> String {
        identity::ActivationId(self.row.activation.0.to_be_bytes()).to_string()
    }

    fn subject(&self) -> Subject {
        Subject {
            activation_id: Some(self.activation_id()),
            org_id: named(&self.row.org),
            project_id: named(&self.row.project),
        }
    }

    /// The license file, signed with the key that is current. It has no host name: there is none
    /// to put in.
    fn license_file(&self, keys: &Keys, kind: &str) -> Result<LicenseFile, Failure> {
        let version = KeyVersion(self.key_version);
        let Some(key) = keys.evaluation.get(&self.key_version) else {
            // It was stored a moment ago, and this node is about to open it.
            return Err(refusal::no_key_yet());
        };
        let key = Secret::new(key.expose().clone());
        let ring = KeyRing::new(BTreeMap::from([(version, key)]), version, version)
            .map_err(|_| Failure::internal("an evaluation key signs nothing"))?;
        let license = License {
            kind: kind.to_owned(),
            version: self.row.version.to_string(),
            activated_at: EpochSeconds::from_unix_ms(self.row.activated_at_ms).seconds(),
            expires_at: EpochSeconds::from_unix_ms(self.valid_until_ms).seconds(),
            activation_id: self.activation_id(),
            org_id: named(&self.row.org),
            project_id: named(&self.row.project),
            plan: self.plan.clone(),
            hostname: None,
            revoked: false,
            offline: false,
        };
        Ok(LicenseFile::issue(&license, &ring))
    }

    /// The offline token, where policy allows one: for whoever has this host hash.
    fn offline_token(
        &self,
        shared: &Shared,
        keys: &Keys,
        activated: &Activated,
    ) -> Result<Option<Disclosed>, Failure> {
        let Some(proof) = &activated.offline else { return Ok(None) };
        let signing = Signing::of(shared)?;
        let of = TokenOf {
            issuer: &signing.issuer,
            protocol: Protocol::Evaluation,
            license_id: uuid_text(activated.license.0),
            holder: Holder::of(HolderKind::Host, &self.row.holder),
            token_version: self.token_version,
            max_nodes: None,
            cluster_id: None,
        };
        let mut proof = proof.clone();
        proof.features.clone_from(&self.features);
        Ok(Some(Disclosed::new(offline_token(keys, signing.epoch, &proof, of)?)))
    }

    fn reply(
        &self,
        activated: &Activated,
        license: Option<LicenseFile>,
        token: Option<Disclosed>,
    ) -> Reply {
        let details = ActivationDetails {
            activation_id: self.activation_id(),
            org_id: named(&self.row.org),
            project_id: named(&self.row.project),
            plan: self.plan.clone(),
            expires_at: EpochSeconds::from_unix_ms(self.valid_until_ms),
        };
        let server_time = EpochSeconds::from_unix_ms(activated.civil_ms);
        Reply::ok(&Answer::granted(details, server_time, license, token))
    }
}

fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The `type` of a license file, where the request does not say.
const EVALUATION: &str = "evaluation";
/// In events: no reason of the document's.
const TOO_MANY: &str = "rate_limited";

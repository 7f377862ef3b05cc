//! `evaluation`: hosts activate an evaluation, and ask from time to time whether it still holds.
//!
//! The published client takes every status but 200 for a server that cannot be reached, and then
//! runs for another day. So what is decided against a caller is 200 with `ok:false` and a reason
//! (`refusal`); other statuses are left to what is no decision: a body that is no request (400),
//! too many wrong codes (429), a cluster that cannot decide (503).
//!
//! Of a host there is its hash alone: the first digits of it, which every client sends. They are
//! not enough to tell hosts apart: every host that has no name sends the hash of `unknown`. So the
//! holder of an activation is a hash over host, organisation and project (`holder`), each such
//! three have an activation and a seat of their own, and no organisation takes over another's. A
//! validation is compared in the ledger, so that one that does not fit changes nothing; a part that
//! it does not name, or the activation does not, fits.
//!
//! The signed license file has no host name in it. The activation's id is the host's proof; a
//! second activation by the same three confirms the first, with the end it had, and signs a new
//! file with the key that is current then. That is how customers come to a file of a newer key when
//! older ones are no longer accepted: a validation names no key version.
//!
//! What it leaves to others: the forms and the signature (`protocol::evaluation`), the rules
//! (`lease`), rotation of the key (`calls::licensing::secrets`).

mod events;
mod holder;
mod refusal;

use std::collections::BTreeMap;

use http::StatusCode;
use lease::Ledger;
use lease::command::Command;
use lease::ids::{ActivationId, Name};
use lease::license::{Activate, Activated, ActivationRow, Claim, Plan, Verify, VerifyBy};
use lease::outcome::{Outcome, Refusal, RefusalCode};
use protocol::deployment::license_key::LicenseKey;
use protocol::evaluation::event::Subject;
use protocol::evaluation::identity::{self, HostHash};
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
        holder: holder::of_activation(&request),
        activation: ActivationId(draw_uuid(entropy)),
        lease: draw_lease(&*shared.context.clock, entropy),
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
    let host = &request.hostname_hash;
    let granted = Granted::of(&shared.context.cluster.ledger(), &activated);
    // What was decided may have been undone since: then it is as if it had been asked later.
    let Some(granted) = granted else { return Ok(unknown(shared, &asked)) };
    let kind = request.kind.as_deref().unwrap_or(EVALUATION);
    let license = granted.license_file(&keys, kind)?;
    let token = granted.offline_token(shared, &keys, host, &activated)?;
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
        return Ok(unknown(shared, &asked));
    };
    let activation = ActivationId(u128::from_be_bytes(activation.0));
    let verify = |holder: Name| {
        Command::Verify(Box::new(Verify {
            by: VerifyBy::Evaluation { activation },
            address: address_tag(&keys.license_keys, call.address),
            holder,
            lease: draw_lease(&*shared.context.clock, &*shared.context.entropy),
        }))
    };
    // What the activation is for was settled when it was made, so this node's ledger tells, or does
    // not have it yet.
    let holder = || {
        let ledger = shared.context.cluster.ledger();
        holder::of_validation(&request, ledger.activation(activation))
    };
    let first = holder();
    let mut decided = decide(shared, call, verify(first.clone())).await?;
    if is_mismatch(&decided) && holder() != first {
        decided = decide(shared, call, verify(holder())).await?;
    }
    let activated = match decided {
        Ok(activated) => activated,
        Err(refusal) => {
            let ledger = shared.context.cluster.ledger();
            let row = ledger.activation(activation);
            let of_other = row.is_some_and(|row| !holder::is_for(row, &request));
            if refusal.code == RefusalCode::HolderMismatch && of_other {
                return Ok(refused(shared, &asked, RefusalReason::ProjectMismatch));
            }
            return say(shared, &asked, &refusal);
        }
    };
    let host = &request.hostname_hash;
    let granted = Granted::of(&shared.context.cluster.ledger(), &activated);
    // What was decided may have been undone since: then it is as if it had been asked later.
    let Some(granted) = granted else { return Ok(unknown(shared, &asked)) };
    let token = granted.offline_token(shared, &keys, host, &activated)?;
    asked.granted(&granted.subject(), EpochSeconds::from_unix_ms(activated.civil_ms));
    Ok(granted.reply(&activated, None, token))
}

fn is_mismatch(decided: &Result<Box<Activated>, Refusal>) -> bool {
    matches!(decided, Err(refusal) if refusal.code == RefusalCode::HolderMismatch)
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
    shared.seen(call, decided.index).await?;
    Ok(decision)
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

/// The refusal of what no activation is named by, decided here and not in the ledger.
fn unknown(shared: &Shared, asked: &Asked) -> Reply {
    shared.metrics.count_refusal(RefusalReason::UnknownActivation.code());
    refused(shared, asked, RefusalReason::UnknownActivation)
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
    /// `None`: it is gone by now.
    fn of(ledger: &Ledger, activated: &Activated) -> Option<Self> {
        let row = ledger.activation(activated.activation?)?;
        let license = ledger.license(activated.license)?;
        let Plan { slug, kind, features, .. } = &license.terms.plan;
        let enabled = features.iter().filter(|feature| feature.enabled);
        Some(Self {
            row: row.clone(),
            plan: if kind.is_empty() { slug.to_string() } else { kind.to_string() },
            features: enabled.map(|feature| feature.slug.clone()).collect(),
            token_version: activated.token_version,
            valid_until_ms: activated.valid_until_ms,
            key_version: ledger.key_window(EVALUATION_KEY).map_or(1, |window| window.current),
        })
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
        host: &HostHash,
        activated: &Activated,
    ) -> Result<Option<Disclosed>, Failure> {
        let Some(proof) = &activated.offline else { return Ok(None) };
        let signing = Signing::of(shared)?;
        let of = TokenOf {
            issuer: &signing.issuer,
            protocol: Protocol::Evaluation,
            license_id: uuid_text(activated.license.0),
            holder: Holder::of(HolderKind::Host, host.binding()),
            token_version: self.token_version,
            max_nodes: None,
            cluster_id: None,
        };
        let mut proof = proof.clone();
        proof.features.clone_from(&self.features);
        Ok(Some(Disclosed::new(offline_token(keys, &signing.epoch, &proof, of)?)))
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

//! The cluster's keys: which versions there are, new ones, and an end to the old.
//!
//! | key | a new version | the old one goes when |
//! |---|---|---|
//! | data key | one entry: wraps, every secret anew | nothing is sealed under it |
//! | pepper | a secret of its own beside the old | no credential is stored under it |
//! | token signing | a node makes it for itself | an hour after, by itself |
//!
//! What is sealed or stored under an old version is never guessed: it is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use lease::command::{Command, Sealed, SealedSecret, SigningAlgorithm};
use lease::ids::{ActivationId, NodeId};
use lease::operate::{CLIENT_SECRET_PEPPER, OPERATOR_PEPPER, pepper_secret};
use lease::outcome::{Outcome, RefusalCode};
use lease::{Ledger, PepperHolder};
use protocol::cloud::admin::{
    DataKeyView, KeyStatus, NodeKeys, PepperVersion, PepperView, RotateKeyRequest,
    RotateKeyResponse, RotatedKey, TokenKeyView,
};
use protocol::cloud::problem::Problem;
use protocol::wire::UtcTime;
use zeroize::Zeroizing;

use super::certs::{members, tell};
use super::device::record_of;
use super::facts;
use super::operators::id_text;
use crate::call::Call;
use crate::control::{NodeOrder, OrderError};
use crate::failure::Failure;
use crate::keys::{Keys, VaultError};
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::tokens::app_id_text;

/// `GET /admin/keys`
pub(crate) async fn status(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let (secrets, peppers, token_keys) = {
        let ledger = shared.read(call).await?;
        (
            ledger.secrets().cloned().collect::<Vec<_>>(),
            [CLIENT_SECRET_PEPPER, OPERATOR_PEPPER].map(|name| pepper_view(&ledger, name)),
            token_keys(&ledger),
        )
    };
    let records = count_records(shared, &keys).await;
    let sealed = count_secrets(&keys, &secrets);
    let data_keys = keys
        .vault
        .data_key_versions()
        .into_iter()
        .map(|version| DataKeyView {
            version,
            secrets: sealed.get(&version).copied().unwrap_or(0),
            records: records.get(&version).copied().unwrap_or(0),
        })
        .collect();
    let nodes = facts::of_members(shared)
        .await
        .into_iter()
        .map(|(node_id, facts)| NodeKeys {
            node_id,
            data_key: facts.map(|facts| facts.data_key_version),
        })
        .collect();
    Ok(Reply::ok(&KeyStatus { data_keys, peppers: peppers.into(), token_keys, nodes }))
}

/// `POST /admin/keys/rotate`
pub(crate) async fn rotate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: RotateKeyRequest = call.json()?;
    let what = request.what;
    if request.node_id.is_some() && what != RotatedKey::TokenSigning {
        return Err(Failure::field("node_id", "only token-signing is a node's own"));
    }
    if request.force && !(request.finish && what == RotatedKey::DataKey) {
        return Err(Failure::field("force", "goes with finish of the data key"));
    }
    shared.catch_up(call.deadline).await?;
    let response = match (what, request.finish) {
        (RotatedKey::DataKey, false) => replace_data_key(shared, call, &request).await?,
        (RotatedKey::DataKey, true) => retire_data_keys(shared, call, request.force).await?,
        (RotatedKey::ClientSecretPepper, false) => {
            add_pepper(shared, call, &request, CLIENT_SECRET_PEPPER).await?
        }
        (RotatedKey::ClientSecretPepper, true) => {
            drop_peppers(shared, call, what, CLIENT_SECRET_PEPPER).await?
        }
        (RotatedKey::OperatorPepper, false) => {
            add_pepper(shared, call, &request, OPERATOR_PEPPER).await?
        }
        (RotatedKey::OperatorPepper, true) => {
            drop_peppers(shared, call, what, OPERATOR_PEPPER).await?
        }
        (RotatedKey::TokenSigning, false) => rotate_token_keys(shared, &request).await?,
        (RotatedKey::TokenSigning, true) => {
            return Err(Failure::field("finish", "old token keys go by themselves, after an hour"));
        }
    };
    Ok(Reply::ok(&response))
}

/// Seals every secret under a new data key.
async fn replace_data_key(
    shared: &Shared,
    call: &Call,
    request: &RotateKeyRequest,
) -> Result<RotateKeyResponse, Failure> {
    let keys = shared.current_keys(call.deadline).await?;
    let replace = {
        let ledger = shared.context.cluster.ledger();
        let members: Vec<(NodeId, [u8; 32])> =
            ledger.members().map(|member| (member.node, member.kek_public)).collect();
        let secrets: Vec<SealedSecret> = ledger.secrets().cloned().collect();
        keys.vault.replace_data_key(&members, &secrets).map_err(vault_failure)?
    };
    let request_id = call.request_id(request);
    decide(shared, call, Some(request_id), Command::ReplaceDataKey(Box::new(replace))).await?;
    let version = shared.current_keys(call.deadline).await?.vault.data_key_version();
    let message = format!(
        "every secret is sealed under version {version}; what devices have follows, then end the \
         former: leasehold keys rotate --data-key --finish"
    );
    Ok(RotateKeyResponse { message, ..response(request.what, Some(version)) })
}

/// Lets former data keys go that nothing is sealed under.
async fn retire_data_keys(
    shared: &Shared,
    call: &Call,
    force: bool,
) -> Result<RotateKeyResponse, Failure> {
    let keys = shared.current_keys(call.deadline).await?;
    let newest = keys.vault.data_key_version();
    let old: Vec<u32> =
        keys.vault.data_key_versions().into_iter().filter(|version| *version < newest).collect();
    let what = RotatedKey::DataKey;
    if old.is_empty() {
        let message = format!("version {newest} is the only one");
        return Ok(RotateKeyResponse { message, ..response(what, Some(newest)) });
    }
    let late: Vec<String> = facts::of_members(shared)
        .await
        .into_iter()
        .filter(|(_, facts)| match facts {
            Some(facts) => facts.data_key_version != newest,
            None => !force,
        })
        .map(|(node, _)| node.to_string())
        .collect();
    if !late.is_empty() {
        return Err(in_use(&format!(
            "node {} does not work with version {newest} yet, or does not answer; --force leaves \
             out nodes that do not answer",
            late.join(", ")
        )));
    }
    let secrets: Vec<SealedSecret> = shared.context.cluster.ledger().secrets().cloned().collect();
    let (secrets, records) = (count_secrets(&keys, &secrets), count_records(shared, &keys).await);
    for version in &old {
        let secrets = secrets.get(version).copied().unwrap_or(0);
        let records = records.get(version).copied().unwrap_or(0);
        if secrets > 0 || records > 0 {
            let left = if secrets > 0 {
                "rotate the data key again to seal the secrets anew"
            } else {
                "devices' session keys are being sealed anew; ask again"
            };
            return Err(in_use(&format!(
                "{secrets} secrets and {records} session keys are still sealed under version \
                 {version}; {left}"
            )));
        }
    }
    for version in &old {
        decide(shared, call, None, Command::RetireDataKey { version: *version }).await?;
    }
    let message = format!("version {newest} is the only one left");
    Ok(RotateKeyResponse { dropped: old, message, ..response(what, Some(newest)) })
}

/// Makes a new version of a pepper.
async fn add_pepper(
    shared: &Shared,
    call: &Call,
    request: &RotateKeyRequest,
    pepper: &str,
) -> Result<RotateKeyResponse, Failure> {
    let keys = shared.current_keys(call.deadline).await?;
    let newest = shared.context.cluster.ledger().pepper_versions(pepper).max().unwrap_or(0);
    if newest >= MAX_PEPPER_VERSION {
        return Err(in_use("there is no higher version"));
    }
    let mut random = Zeroizing::new([0; 32]);
    shared.context.entropy.fill(&mut *random);
    let name = pepper_secret(pepper, newest + 1);
    let secret = keys.vault.seal_secret(&name, 1, &*random).map_err(vault_failure)?;
    let request_id = call.request_id(request);
    decide(shared, call, Some(request_id), Command::PutSecret(secret)).await?;
    shared.current_keys(call.deadline).await?;
    let version = shared.context.cluster.ledger().pepper_versions(pepper).max();
    let message =
        "new credentials are stored under the new version, others as they are shown".to_owned();
    Ok(RotateKeyResponse { message, ..response(request.what, version) })
}

/// Lets former versions of a pepper go that no credential is stored under.
async fn drop_peppers(
    shared: &Shared,
    call: &Call,
    what: RotatedKey,
    pepper: &str,
) -> Result<RotateKeyResponse, Failure> {
    let now = shared.catch_up(call.deadline).await?;
    let (newest, old, left) = {
        let ledger = shared.context.cluster.ledger();
        let mut versions: Vec<u32> = ledger.pepper_versions(pepper).collect();
        let newest = versions.pop();
        let holders = versions.iter().flat_map(|old| ledger.holders_under(pepper, *old, now));
        let left: Vec<String> = holders.map(|holder| named(&ledger, holder)).collect();
        (newest, versions, left)
    };
    if !left.is_empty() {
        return Err(in_use(&still_stored(&left)));
    }
    for version in &old {
        let name = pepper_secret(pepper, *version).as_str().into();
        decide(shared, call, None, Command::RemoveSecret { name }).await?;
    }
    let message = match (old.is_empty(), newest) {
        (true, Some(newest)) => format!("version {newest} is the only one"),
        _ => "the former versions are gone".to_owned(),
    };
    Ok(RotateKeyResponse { dropped: old, message, ..response(what, newest) })
}

/// Whose credential it is, for people.
fn named(ledger: &Ledger, holder: PepperHolder) -> String {
    match holder {
        PepperHolder::App(app) => format!("application {}", app_id_text(app)),
        PepperHolder::Operator(id) => {
            let name = ledger.operator(id).map_or("", |operator| &*operator.name);
            format!("operator token {} ({name})", id_text(id))
        }
        PepperHolder::Ticket(node) => format!("join token of node {node}"),
    }
}

/// What is in the way, and what to do about it.
fn still_stored(left: &[String]) -> String {
    let (noun, them) =
        if left.len() == 1 { ("credential is", "it") } else { ("credentials are", "them") };
    let (shown, more) = left.split_at(left.len().min(HOLDERS_NAMED));
    let and_more =
        if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!(
        "{} {noun} still stored under a former version: {}{and_more}; showing {them} once moves \
         {them}, and so does a new secret; revoke operator tokens that nobody uses, and withdraw \
         join tokens: leasehold member remove <node>",
        left.len(),
        shown.join(", ")
    )
}

/// Tells nodes to sign with new keys.
async fn rotate_token_keys(
    shared: &Shared,
    request: &RotateKeyRequest,
) -> Result<RotateKeyResponse, Failure> {
    let nodes = members(shared, request.node_id)?;
    let told = nodes.iter().map(|node| tell(shared, *node, NodeOrder::RotateTokenKeys));
    let told: Vec<Result<String, OrderError>> = join_all(told).await;
    let failed: Vec<String> = nodes
        .iter()
        .zip(&told)
        .filter_map(|(node, told)| Some(format!("node {node}: {}", told.as_ref().err()?)))
        .collect();
    if failed.len() == nodes.len() {
        return Err(Problem::new(409, "not_rotated", "No node signs with a new key.")
            .detail(failed.join("; "))
            .into());
    }
    let mut message = format!(
        "{} of {} nodes sign with new keys; the former verify for an hour more",
        nodes.len() - failed.len(),
        nodes.len()
    );
    for failure in failed {
        message.push_str("; ");
        message.push_str(&failure);
    }
    Ok(RotateKeyResponse { message, ..response(request.what, None) })
}

/// Session keys of devices by the version that they are sealed under. While there is one version
/// alone, nothing is opened.
async fn count_records(shared: &Shared, keys: &Arc<Keys>) -> BTreeMap<u32, u64> {
    let only = match keys.vault.data_key_versions().as_slice() {
        [only] => Some(*only),
        _ => None,
    };
    let mut counted = BTreeMap::new();
    let mut after = None;
    loop {
        let page = sealed_after(&shared.context.cluster.ledger(), after);
        let Some((last, _)) = page.last() else { return counted };
        after = Some(*last);
        for (activation, sealed) in &page {
            let version =
                only.or_else(|| keys.vault.version_of_record(&record_of(*activation), sealed));
            *counted.entry(version.unwrap_or(0)).or_default() += 1;
        }
        tokio::task::yield_now().await;
    }
}

fn sealed_after(ledger: &Ledger, after: Option<ActivationId>) -> Vec<(ActivationId, Sealed)> {
    let rows = ledger.activations(after);
    let sealed = rows.filter_map(|row| Some((row.activation, row.session.clone()?)));
    sealed.take(RECORDS_AT_ONCE).collect()
}

fn count_secrets(keys: &Keys, secrets: &[SealedSecret]) -> BTreeMap<u32, u64> {
    let mut counted = BTreeMap::new();
    for secret in secrets {
        let version = keys.vault.version_of_secret(secret).unwrap_or(0);
        *counted.entry(version).or_default() += 1;
    }
    counted
}

fn pepper_view(ledger: &Ledger, name: &str) -> PepperView {
    let versions = ledger
        .pepper_versions(name)
        .map(|version| PepperVersion { version, credentials: ledger.stored_under(name, version) });
    PepperView { name: name.to_owned(), versions: versions.collect() }
}

fn token_keys(ledger: &Ledger) -> Vec<TokenKeyView> {
    let mut keys: Vec<TokenKeyView> = ledger
        .signing_keys()
        .map(|key| TokenKeyView {
            kid: key.kid.to_string(),
            node_id: key.node,
            algorithm: match key.algorithm {
                SigningAlgorithm::Rs256 => "RS256".to_owned(),
                SigningAlgorithm::EdDsa => "EdDSA".to_owned(),
            },
            verifies_until: ledger
                .retired_key(&key.kid)
                .map(|retired| UtcTime::from_unix_ms(retired.verifies_until_ms)),
        })
        .collect();
    keys.sort_by_key(|key| (key.node_id, key.verifies_until.is_some()));
    keys
}

/// Has a command decided, and waits until this node has it.
async fn decide(
    shared: &Shared,
    call: &Call,
    request: Option<lease::ids::RequestId>,
    command: Command,
) -> Result<(), Failure> {
    let decided = shared.decide(call, request, command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => shared.seen(call, decided.index).await,
        Outcome::Refused(refusal) if refusal.code == RefusalCode::VersionConflict => {
            Err(Problem::new(409, "version_conflict", "Somebody changed it in the meantime.")
                .detail("look at what is stored, then ask again")
                .into())
        }
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a key had the outcome of another command")),
    }
}

fn response(what: RotatedKey, version: Option<u32>) -> RotateKeyResponse {
    RotateKeyResponse { what, version, dropped: Vec::new(), message: String::new() }
}

fn in_use(detail: &str) -> Failure {
    Problem::new(409, "key_in_use", "The former version is still needed.").detail(detail).into()
}

fn vault_failure(error: VaultError) -> Failure {
    tracing::error!(%error, "a key could not be rotated");
    Failure::internal("a key could not be rotated")
}

/// Credentials that an answer names.
const HOLDERS_NAMED: usize = 10;
/// Activations looked at under one read lock.
const RECORDS_AT_ONCE: usize = 1_000;
/// The highest that a stored form can name.
const MAX_PEPPER_VERSION: u32 = u16::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_named_up_to_ten() {
        let named =
            |count: u32| (1..=count).map(|id| format!("application {id}")).collect::<Vec<_>>();
        for (count, has) in [
            (1, "1 credential is still stored under a former version: application 1; showing it"),
            (10, "application 9, application 10; showing them"),
            (12, "12 credentials are"),
            (12, "application 10 and 2 more; showing them"),
        ] {
            let said = still_stored(&named(count));
            assert!(said.contains(has), "{said}");
        }
    }
}

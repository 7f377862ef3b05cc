//! API keys of the classic face: made, listed and taken back by operators. A key is shown once;
//! the ledger keeps a MAC of it.

use std::cmp::Reverse;

use lease::command::{Command, Role};
use lease::ids::ApiKeyId;
use lease::offline::ApiKeyRow;
use lease::outcome::Outcome;
use protocol::classic::api_key;
use protocol::classic::refusal::Refusal;
use protocol::classic::validation::{FieldError, ValidationErrors};
use protocol::classic::wire::{
    self, KeyRevoked, KeyStatus, KeyView, NewKeyAnswer, NewKeyRequest, OkStatus,
};
use zeroize::Zeroizing;

use super::refusal::{Verdict, verdict};
use super::{as_operator, invalid, refused};
use crate::call::Call;
use crate::failure::Failure;
use crate::licensing::api_key_mac;
use crate::reply::Reply;
use crate::shared::{MAX_DRAWS, Shared};

/// `GET /api/keys`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Auditor).await?;
    let ledger = shared.read(&call).await?;
    let mut rows: Vec<&ApiKeyRow> = ledger.api_keys().collect();
    rows.sort_by_key(|row| (Reverse(row.created_at_ms), row.key));
    let view = |row: &ApiKeyRow| KeyView {
        id: key_text(row.key),
        tenant_id: row.tenant.to_string(),
        name: row.name.to_string(),
        environment: row.environment.to_string(),
        created_at: wire::iso_naive(row.created_at_ms),
        // Uses are not written down: a borrow would cost one write more.
        last_used_at: None,
        status: KeyStatus::Active,
    };
    Ok(Reply::ok(&wire::Keys { keys: rows.into_iter().map(view).collect() }))
}

/// `POST /api/keys`
pub(crate) async fn make(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let held = shared.serving_keys()?;
    let call = as_operator(shared, call, Role::Admin).await?;
    let request = NewKeyRequest::from_body(&call.body).map_err(invalid)?;
    for _ in 0..MAX_DRAWS {
        let mut random = Zeroizing::new([0; 32]);
        shared.context.entropy.fill(&mut *random);
        let mut id = [0; 8];
        shared.context.entropy.fill(&mut id);
        let text = api_key::generate(&request.tenant_id, &request.environment, &random)
            .map_err(|error| invalid(not_a_name(&request, &error.to_string())))?;
        let key = ApiKeyId(u64::from_be_bytes(id));
        let row = ApiKeyRow {
            key,
            mac: api_key_mac(&held.license_keys, text.expose()),
            name: request.name.as_str().into(),
            environment: request.environment.as_str().into(),
            tenant: request.tenant_id.as_str().into(),
            created_at_ms: 0,
        };
        // No request id: a repeat could not show the key that the first call made.
        match change(shared, &call, Command::AddApiKey(row)).await? {
            Changed::Done => {
                return Ok(Reply::ok(&NewKeyAnswer { key_id: key_text(key), api_key: text }));
            }
            Changed::DrawAnother => {}
        }
    }
    Err(Failure::internal("every id drawn was taken"))
}

/// `DELETE /api/keys/{key_id}`
pub(crate) async fn revoke(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Admin).await?;
    let text = call.param("key_id")?;
    let Some(key) = parse_key(text) else {
        return Err(refused(&Refusal::KeyNotFound).because("unknown_api_key").into());
    };
    match change(shared, &call, Command::RemoveApiKey { key }).await? {
        Changed::Done => Ok(Reply::ok(&KeyRevoked { status: OkStatus::Ok, key_id: key_text(key) })),
        Changed::DrawAnother => Err(Failure::internal("a removal met another command's refusal")),
    }
}

/// What became of a change.
enum Changed {
    Done,
    DrawAnother,
}

/// Has a change decided, and waits until this node has it.
async fn change(shared: &Shared, call: &Call, command: Command) -> Result<Changed, Failure> {
    let decided = shared.decide(call, None, command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => {
            return match verdict(refusal.code) {
                Verdict::DrawAnother => Ok(Changed::DrawAnother),
                Verdict::Final(refusal) => Err(refused(&refusal).into()),
                _ => Err(Failure::internal("a key met another face's refusal")),
            };
        }
        _ => return Err(Failure::internal("a key had the outcome of another command")),
    }
    shared.seen(call, decided.index).await?;
    Ok(Changed::Done)
}

/// A key's name in lists.
pub(super) fn key_text(key: ApiKeyId) -> String {
    api_key::key_id(key.0.to_be_bytes())
}

fn parse_key(text: &str) -> Option<ApiKeyId> {
    let digits = text.strip_prefix("key_")?;
    let key = ApiKeyId(u64::from_str_radix(digits, 16).ok()?);
    // One spelling per key.
    (key_text(key) == text).then_some(key)
}

/// A tenant or environment that cannot stand in a key.
fn not_a_name(request: &NewKeyRequest, reason: &str) -> ValidationErrors {
    let is_tenant = api_key::generate(&request.tenant_id, "test", &[0; 32]).is_ok();
    let (field, input) = match is_tenant {
        true => ("environment", &request.environment),
        false => ("tenant_id", &request.tenant_id),
    };
    ValidationErrors {
        detail: vec![FieldError {
            kind: "value_error".to_owned(),
            loc: vec!["body".into(), field.into()],
            msg: format!("Value error, {reason}"),
            input: input.as_str().into(),
            ctx: None,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name() {
        let key = ApiKeyId(0x1a53_99c3_0c9c_32e0);
        assert_eq!(key_text(key), "key_1a5399c30c9c32e0");
        assert_eq!(parse_key("key_1a5399c30c9c32e0"), Some(key));
        for text in ["", "key_", "key_1A5399C30C9C32E0", "key_+a5399c30c9c32e0", "key_1a"] {
            assert_eq!(parse_key(text), None, "{text:?}");
        }
    }
}

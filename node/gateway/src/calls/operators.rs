//! Operator tokens: add, list, remove, and which one asks.
//!
//! A token is shown once, in the answer that made it, and known by its MAC from then on. A repeat
//! of the call under one idempotency key draws another token, finds that it is not the one in
//! force, and says so instead of showing one that does not work.

use http::StatusCode;
use lease::command::{Command, Operator, Role};
use lease::ids::OperatorId;
use lease::operate::RemoveOperator;
use lease::outcome::{Outcome, RefusalCode};
use protocol::cloud::admin::{
    API_KEY_PREFIX, AddOperatorRequest, AddOperatorResponse, OperatorList, OperatorRole,
    OperatorView, PageQuery,
};
use protocol::cloud::problem::Problem;
use protocol::wire::UtcTime;

use crate::call::{Call, Principal};
use crate::calls::paged;
use crate::credentials::{new_operator_token, operator_token_mac};
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::{MAX_DRAWS, Shared};

/// `GET /admin/operators`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let page: PageQuery = paged::asked(call)?;
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let ledger = shared.read(call).await?;
    let operators = ledger.operators();
    let (rows, next) = paged::by_name(operators, &page, |row: &&Operator| id_text(row.operator));
    let operators = rows.into_iter().map(|row| view(row, now_ms)).collect();
    Ok(Reply::ok(&OperatorList { operators, next }))
}

/// `GET /admin/operators/self`
pub(crate) async fn whoami(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let Principal::Operator(principal) = &call.principal else {
        return Err(Failure::internal("an operator's call without an operator"));
    };
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let ledger = shared.read(call).await?;
    let row = ledger.operator(principal.operator);
    let row = row.ok_or_else(|| Failure::internal("a token that was let in is not there"))?;
    Ok(Reply::ok(&view(row, now_ms)))
}

/// `POST /admin/operators`
pub(crate) async fn add(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: AddOperatorRequest = call.json()?;
    let request_id = call.request_id(&request);
    let token = new_operator_token(&*shared.context.entropy);
    let token_mac = operator_token_mac(&keys.operator_pepper, token.expose());
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let lifetime_ms =
        |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let expires_at_ms =
        request.expires_in.map(|seconds| now_ms.saturating_add(lifetime_ms(seconds)));
    let mut draws = 0;
    let decided = loop {
        let mut number = [0; 8];
        shared.context.entropy.fill(&mut number);
        let command = Command::AddOperator(Operator {
            operator: OperatorId(u64::from_le_bytes(number)),
            name: request.name.as_str().into(),
            role: ledger_role(request.role),
            token_mac,
            expires_at_ms,
        });
        let decided = shared.decide(call, Some(request_id), command).await?;
        draws += 1;
        match decided.outcome {
            Outcome::Done | Outcome::Unchanged => break decided,
            // The number was drawn before.
            Outcome::Refused(refusal)
                if refusal.code == RefusalCode::VersionConflict && draws < MAX_DRAWS => {}
            Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
            _ => return Err(Failure::internal("a token had the outcome of another command")),
        }
    };
    shared.seen(call, decided.index).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.operator_by_mac(&token_mac).ok_or_else(shown_before)?;
    let response = AddOperatorResponse { token, operator: view(row, now_ms) };
    Ok(Reply::json(StatusCode::CREATED, &response))
}

/// `DELETE /admin/operators/{operator_id}`
pub(crate) async fn remove(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let operator = parse_id(call.subject()?).ok_or_else(|| {
        Failure::problem(StatusCode::NOT_FOUND, "unknown_operator", "No such operator token.")
    })?;
    let request_id = call.request_id(&());
    let command = Command::RemoveOperator(RemoveOperator { operator });
    match shared.submit(call, Some(request_id), command).await? {
        Outcome::Done | Outcome::Unchanged => Ok(Reply::no_content()),
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a removal had the outcome of another command")),
    }
}

/// 409: the token was made by an earlier request with this key, and shown then.
fn shown_before() -> Failure {
    Problem::new(409, "secret_shown_before", "This was done before.")
        .detail("an earlier request with this key made the token and showed it; add another")
        .into()
}

fn view(row: &Operator, now_ms: i64) -> OperatorView {
    OperatorView {
        operator_id: id_text(row.operator),
        name: row.name.to_string(),
        role: wire_role(row.role),
        expires_at: row.expires_at_ms.map(UtcTime::from_unix_ms),
        expired: !row.is_in_force(now_ms),
        api_key: row.name.starts_with(API_KEY_PREFIX),
    }
}

/// The id as the API shows it, which is also how the audit log names its holder.
pub(crate) fn id_text(operator: OperatorId) -> String {
    format!("operator-{:016x}", operator.0)
}

fn parse_id(text: &str) -> Option<OperatorId> {
    let digits = text.strip_prefix("operator-")?;
    let number = u64::from_str_radix(digits, 16).ok().map(OperatorId)?;
    (id_text(number) == text).then_some(number)
}

fn wire_role(role: Role) -> OperatorRole {
    match role {
        Role::Auditor => OperatorRole::Auditor,
        Role::Operator => OperatorRole::Operator,
        Role::Admin => OperatorRole::Admin,
    }
}

fn ledger_role(role: OperatorRole) -> Role {
    match role {
        OperatorRole::Auditor => Role::Auditor,
        OperatorRole::Operator => Role::Operator,
        OperatorRole::Admin => Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = id_text(OperatorId(255));
        assert_eq!(text, "operator-00000000000000ff");
        assert_eq!(parse_id(&text), Some(OperatorId(255)));
        for other in ["", "operator-", "operator-ff", "operator-00000000000000FF", "app-ff"] {
            assert_eq!(parse_id(other), None, "{other:?}");
        }
    }
}

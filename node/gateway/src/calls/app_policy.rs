//! How an application is let in, beside its secret.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use lease::command::{Command, SigningAlgorithm};
use lease::ids::AppId;
use lease::operate::AppPolicy as Row;
use lease::outcome::Outcome;
use protocol::cloud::admin::{AppPolicy, AppPolicyView, TokenAlgorithm};
use protocol::cloud::problem::Problem;

use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::tokens::{app_id_text, parse_app_id};

/// `GET /admin/apps/{app_id}/policy`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let app = app_in_path(call)?;
    let ledger = shared.read(call).await?;
    if ledger.app(app).is_none() {
        return Err(unknown_app());
    }
    let plain = Row::plain(app);
    Ok(Reply::ok(&view(ledger.app_policy(app).unwrap_or(&plain))))
}

/// `PUT /admin/apps/{app_id}/policy`
pub(crate) async fn set(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let app = app_in_path(call)?;
    let policy: AppPolicy = call.json()?;
    let row = row(app, &policy)?;
    let shown = view(&row);
    let request_id = call.request_id(&policy);
    let decided =
        shared.decide(call, Some(request_id), Command::SetAppPolicy(Box::new(row))).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("a policy had the outcome of another command")),
    }
    shared.seen(call, decided.index).await?;
    Ok(Reply::ok(&shown))
}

fn row(app: AppId, policy: &AppPolicy) -> Result<Row, Failure> {
    if policy.certificates.len() > MAX_CERTIFICATES {
        return Err(Failure::field("certificates", "want at most 16"));
    }
    let mut certificates = Vec::with_capacity(policy.certificates.len());
    for text in &policy.certificates {
        let sha256 = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let sha256 = sha256.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        certificates.push(
            sha256
                .ok_or_else(|| Failure::field("certificates", "want SHA-256 as 64 hex digits"))?,
        );
    }
    certificates.sort_unstable();
    certificates.dedup();
    let (rate, burst) = (policy.requests_per_second, policy.burst);
    if rate == Some(0) || burst == Some(0) {
        return Err(Failure::field("requests_per_second", "a rate and a burst are 1 or more"));
    }
    if rate.is_none() && burst.is_some() {
        return Err(Failure::field("burst", "goes with requests_per_second"));
    }
    Ok(Row {
        app,
        certificate_bound: policy.certificate_bound,
        certificates,
        requests_per_second: rate,
        burst: burst.or(rate).unwrap_or(0),
        token_algorithm: match policy.token_algorithm {
            TokenAlgorithm::Rs256 => SigningAlgorithm::Rs256,
            TokenAlgorithm::EdDsa => SigningAlgorithm::EdDsa,
        },
    })
}

fn view(row: &Row) -> AppPolicyView {
    let policy = AppPolicy {
        certificate_bound: row.certificate_bound,
        certificates: row.certificates.iter().map(|sha256| HEXLOWER.encode(sha256)).collect(),
        requests_per_second: row.requests_per_second,
        burst: row.requests_per_second.map(|_| row.burst),
        token_algorithm: match row.token_algorithm {
            SigningAlgorithm::Rs256 => TokenAlgorithm::Rs256,
            SigningAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
        },
    };
    AppPolicyView { app_id: app_id_text(row.app), policy }
}

fn app_in_path(call: &Call) -> Result<AppId, Failure> {
    parse_app_id(call.subject()?).ok_or_else(unknown_app)
}

fn unknown_app() -> Failure {
    Problem::new(404, "unknown_app", "No such application.").into()
}

/// As the ledger's.
const MAX_CERTIFICATES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_its_row_and_nonsense_is_refused() {
        let policy = AppPolicy {
            certificate_bound: true,
            certificates: vec!["AB".repeat(32), "ab".repeat(32)],
            requests_per_second: Some(5),
            burst: None,
            token_algorithm: TokenAlgorithm::EdDsa,
        };
        let stored = row(AppId(7), &policy).ok().unwrap();
        assert_eq!((stored.certificates.len(), stored.burst), (1, 5));
        let again = view(&stored).policy;
        assert_eq!(row(AppId(7), &again).ok(), Some(stored));
        assert_eq!(row(AppId(7), &AppPolicy::default()).ok(), Some(Row::plain(AppId(7))));
        let plain = AppPolicy::default;
        for (what, policy) in [
            ("no hash", AppPolicy { certificates: vec!["ab".to_owned()], ..plain() }),
            ("too many", AppPolicy { certificates: vec!["ab".repeat(32); 17], ..plain() }),
            ("no rate", AppPolicy { requests_per_second: Some(0), ..plain() }),
            ("burst alone", AppPolicy { burst: Some(1), ..plain() }),
        ] {
            assert!(row(AppId(7), &policy).is_err(), "{what}");
        }
    }
}

//! An application's own leases: give back, show.

use lease::command::{Command, Return, UsageReport};
use lease::outcome::{Outcome, Receipt};
use protocol::cloud::denial::DenialReason;
use protocol::cloud::lease::{
    ReturnRequest, ReturnResponse, ReturnedStatus, UsageMetadata, lease_duration,
};
use protocol::wire::Money;

use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::cloud_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view;

/// `POST /api/v1/licenses/{lease_id}/return`
pub(crate) async fn give_back(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ReturnRequest = call.json()?;
    if call.subject()? != request.lease_id {
        return Err(Failure::field("lease_id", "the body names another lease than the path"));
    }
    let lease = view::ledger_id(call.lease(&keys)?);
    let usage = usage_report(&request.usage_metadata)?;
    let request_id = call.request_id(&request);
    let command = Command::Return(Box::new(Return { lease, usage }));
    match shared.submit(call, Some(request_id), command).await? {
        Outcome::Returned(receipt) => Ok(Reply::ok(&response(&receipt))),
        Outcome::Refused(refusal) => Err(cloud_failure(&refusal, &[])),
        _ => Err(Failure::internal("a return had the outcome of another command")),
    }
}

/// `GET /api/v1/licenses/{lease_id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let lease = view::ledger_id(call.lease(&keys)?);
    let app = call.app()?;
    let ledger = shared.read(call).await?;
    match ledger.lease(&lease) {
        Some(found) if found.app != app.app => Err(Failure::denied(DenialReason::UnknownLease)),
        Some(found) => {
            let (epoch, since_ms) = (view::epoch(&ledger)?, ledger.since_written_ms());
            Ok(Reply::ok(&view::lease_response(&keys, &epoch, &found, since_ms)))
        }
        // The id is ours and nothing lives under it.
        None => Err(Failure::denied(DenialReason::LeaseEnded)),
    }
}

fn usage_report(usage: &UsageMetadata) -> Result<UsageReport, Failure> {
    let too_long = |name: &&String| name.chars().nth(lease::limits::MAX_FEATURE_CHARS).is_some();
    if let Some(at) = usage.features_used.iter().position(|name| too_long(&name)) {
        let field = format!("usage_metadata.features_used[{at}]");
        return Err(Failure::field(&field, "want at most 64 characters"));
    }
    Ok(UsageReport {
        session_duration_s: usage.session_duration_seconds.unwrap_or(0),
        features_used: usage.features_used.iter().map(|name| name.as_str().into()).collect(),
        files_processed: usage.files_processed.unwrap_or(0),
    })
}

fn response(receipt: &Receipt) -> ReturnResponse {
    ReturnResponse {
        status: ReturnedStatus::Returned,
        total_cost: Money(receipt.total_cost.0),
        lease_duration: lease_duration(receipt.duration_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_report_is_bounded_and_its_fault_named() {
        let usage = UsageMetadata {
            session_duration_seconds: Some(3600),
            features_used: vec!["a".to_owned(), "b".repeat(65)],
            files_processed: None,
        };
        let Err(Failure::Problem { problem, .. }) = usage_report(&usage) else {
            panic!("65 characters were accepted")
        };
        assert_eq!(problem.status, 400);
        assert_eq!(problem.field.as_deref(), Some("usage_metadata.features_used[1]"));
        let usage = UsageMetadata { features_used: vec!["a".to_owned()], ..usage };
        let report = usage_report(&usage).unwrap();
        assert_eq!((report.session_duration_s, report.files_processed), (3600, 0));
    }
}

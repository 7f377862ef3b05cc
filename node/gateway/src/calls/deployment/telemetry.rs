//! `POST /v1/telemetry`: what jobs used, counted once per job, and what the plan has left.
//!
//! The job is the idempotency key: its report counts once for as long as keys of callers are
//! remembered, and a second report of it with other amounts is refused. With an access token it
//! counts for the token's license; without, for the only one under which the cluster has a slot.

use std::collections::BTreeMap;

use http::StatusCode;
use lease::command::Command;
use lease::ids::{KeyOrigin, RequestId};
use lease::license::{LicenseState, ReportUsage};
use lease::money::Measure;
use lease::outcome::{Outcome, RefusalCode, UsageTotals};
use protocol::deployment::refusal::Refusal;
use protocol::deployment::telemetry::{MetricUsage, TelemetryAnswer, TelemetryRequest};
use protocol::deployment::wire::bearer;

use super::holder;
use super::refusal::{self, by_gateway};
use super::token::{self, Believed};
use crate::call::Call;
use crate::calls::offline::Signing;
use crate::failure::Failure;
use crate::licensing::address_tag;
use crate::reply::Reply;
use crate::shared::Shared;

/// `POST /v1/telemetry`
pub(crate) async fn report(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: TelemetryRequest = call.json()?;
    let mut license = None;
    if call.parts.headers.contains_key(http::header::AUTHORIZATION) {
        let signing = Signing::of(shared)?;
        let text = bearer(Some(call.header("authorization").unwrap_or_default()), None);
        let believed = token::believed(shared, &keys, &signing, text, &request.cluster_id)?;
        is_current(shared, call, &believed).await?;
        license = Some(believed.license);
    }
    let metrics = request.metrics.iter();
    let command = Command::ReportUsage(Box::new(ReportUsage {
        holder: holder(&request.cluster_id)?,
        address: address_tag(&keys.license_keys, call.address),
        metrics: metrics.map(|(name, amount)| (name.as_str().into(), Measure(amount.0))).collect(),
        license,
    }));
    let job = job_id(call, &request);
    match shared.submit(call, Some(job), command).await? {
        Outcome::Counted(totals) => {
            let reported: Vec<&str> = request.metrics.keys().map(String::as_str).collect();
            Ok(Reply::json(StatusCode::ACCEPTED, &answer(&totals, &reported)))
        }
        Outcome::Refused(refused) if refused.code == RefusalCode::LimitReached => {
            let what = "metrics: the license counts as many as it may; use names it has";
            Err(refusal::by_ledger(&Refusal::InvalidRequest(what.to_owned())))
        }
        Outcome::Refused(refused) => {
            let now_ms = shared.context.cluster.displayed_civil_ms();
            Err(refusal::without_key(&refused, now_ms))
        }
        _ => Err(Failure::internal("a report had the outcome of another command")),
    }
}

/// Whether a token that is shown is still the license's: suspension comes before staleness.
async fn is_current(shared: &Shared, call: &Call, believed: &Believed) -> Result<(), Failure> {
    let ledger = shared.read(call).await?;
    let refusal = match ledger.license(believed.license) {
        None => Refusal::InvalidToken,
        Some(license) => match license.state {
            LicenseState::Suspended => Refusal::Suspended,
            LicenseState::Revoked | LicenseState::Cancelled => Refusal::Cancelled,
            LicenseState::Active if believed.token_version < license.token_version => {
                Refusal::StaleTokenVersion
            }
            LicenseState::Active => return Ok(()),
        },
    };
    Err(by_gateway(&refusal))
}

/// The job of a cluster, as the key under which it counts once.
fn job_id(call: &Call, request: &TelemetryRequest) -> RequestId {
    let mut amounts = Vec::with_capacity(256);
    for (name, amount) in &request.metrics {
        amounts.extend_from_slice(name.as_bytes());
        amounts.push(0);
        amounts.extend_from_slice(&amount.0.normalize().serialize());
    }
    let cluster = format!("cluster {}", request.cluster_id);
    RequestId {
        scope: RequestId::scope_of(&cluster, call.operation.id, &request.job_id),
        body: RequestId::body_of(&amounts),
        origin: KeyOrigin::Caller,
    }
}

/// Those reported and those with a quota.
fn answer(totals: &UsageTotals, reported: &[&str]) -> TelemetryAnswer {
    let told = totals
        .totals
        .iter()
        .filter(|total| total.quota.is_some() || reported.contains(&&*total.metric));
    let usage: BTreeMap<String, MetricUsage> = told
        .map(|total| {
            let quota = total.quota.map(|quota| quota.0);
            (total.metric.to_string(), MetricUsage::of(total.used.0, quota))
        })
        .collect();
    TelemetryAnswer::of(usage)
}

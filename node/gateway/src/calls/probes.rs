//! Probes, metrics and the OpenAPI document.

use std::collections::BTreeSet;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use lease::operate::AlarmKind;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::call::Call;
use crate::failure::Failure;
use crate::openapi as document;
use crate::reply::{JSON, Reply, TEXT};
use crate::shared::Shared;

/// The query of the readiness probe.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadyQuery {
    /// Lists every check when it is there.
    #[serde(default)]
    verbose: Option<String>,
}

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    ReadyQuery::into_params(|| None)
}

/// `GET /livez`
pub(crate) async fn livez(_shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    Ok(Reply::new(StatusCode::OK, TEXT, b"ok\n".to_vec()))
}

/// `GET /readyz`
pub(crate) async fn readyz(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: ReadyQuery = call.query()?;
    let checks = shared.readiness(call.deadline).await;
    let is_ready = checks.iter().all(|check| check.failure.is_none());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = ready_text(&checks, &shared.own_alarms(), query.verbose.is_some());
    Ok(Reply::new(status, TEXT, text.into_bytes()))
}

/// `GET /metrics`
pub(crate) async fn metrics(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let text = shared
        .metrics
        .render(&shared.context, shared.config.faces.classic.is_some())
        .map_err(|_| Failure::internal("the metrics could not be written"))?;
    let content_type =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(Reply::new(StatusCode::OK, content_type, text.into_bytes()))
}

/// `GET /openapi.json`
pub(crate) async fn openapi(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let an_hour = HeaderValue::from_static("public, max-age=3600");
    let reply =
        Reply::new(StatusCode::OK, JSON, document::served(&shared.config.faces).into_bytes());
    Ok(reply.header(CACHE_CONTROL, an_hour))
}

/// One thing that must hold for a node to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// Why it does not hold.
    pub(crate) failure: Option<&'static str>,
}

/// As Kubernetes' own servers write it; an alarm that keeps nobody from reading is a line of its
/// own and no check.
fn ready_text(checks: &[Check], alarms: &BTreeSet<AlarmKind>, is_verbose: bool) -> String {
    let mut text = String::new();
    for check in checks {
        match check.failure {
            None if is_verbose => text.push_str(&format!("[+]{} ok\n", check.name)),
            None => {}
            Some(reason) => text.push_str(&format!("[-]{} failed: {reason}\n", check.name)),
        }
    }
    for alarm in alarms.iter().filter(|_| is_verbose) {
        text.push_str(&format!("[!]alarm {} is raised\n", alarm.name()));
    }
    let is_ready = checks.iter().all(|check| check.failure.is_none());
    match (is_ready, is_verbose) {
        (true, false) => text.push_str("ok\n"),
        (true, true) => text.push_str("readyz check passed\n"),
        (false, _) => text.push_str("readyz check failed\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reads_like_kubernetes() {
        let ok = Check { name: "recovered", failure: None };
        let bad = Check { name: "quorum", failure: Some("not heard from") };
        let table: [(&[Check], bool, &str); 4] = [
            (&[ok.clone(), ok.clone()], false, "ok\n"),
            (
                &[ok.clone(), ok.clone()],
                true,
                "[+]recovered ok\n[+]recovered ok\nreadyz check passed\n",
            ),
            (
                &[ok.clone(), bad.clone()],
                false,
                "[-]quorum failed: not heard from\nreadyz check failed\n",
            ),
            (
                &[ok, bad],
                true,
                "[+]recovered ok\n[-]quorum failed: not heard from\nreadyz check failed\n",
            ),
        ];
        for (checks, is_verbose, want) in table {
            assert_eq!(ready_text(checks, &BTreeSet::new(), is_verbose), want);
        }
        let full = BTreeSet::from([AlarmKind::NoSpace]);
        let checks = [Check { name: "recovered", failure: None }];
        assert_eq!(ready_text(&checks, &full, false), "ok\n");
        let want = "[+]recovered ok\n[!]alarm NOSPACE is raised\nreadyz check passed\n";
        assert_eq!(ready_text(&checks, &full, true), want);
    }
}

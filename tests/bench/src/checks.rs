//! That nothing was switched off: a figure counts only if these hold.
//!
//! What is checked is what a client and an operator can see from outside: what the listener does
//! without TLS and without a token, how often logs were synced, and that the audit log has grown by
//! as many events as there were acknowledged writes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::load::http::{Http, dial};
use crate::plan::System;
use crate::results::{Cell, Check, Results};
use crate::systems::leasehold::Leasehold;

/// Asks every gateway without TLS, with TLS, and without a token.
pub(crate) async fn of_gateways(system: &Leasehold, run: &str) -> Result<Vec<Check>> {
    let mut plain = Vec::new();
    let mut versions = Vec::new();
    let mut statuses = Vec::new();
    for address in system.addresses()? {
        plain.push(said_without_tls(address).await?);
        let mut http = Http::connect(address, Some(system.tls())).await?;
        versions.push(http.tls_version().map_or("none".to_owned(), |it| format!("{it:?}")));
        let request = format!(
            "POST /api/v1/licenses/checkout HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        statuses.push(http.ask(request.as_bytes()).await?);
    }
    let check = |id: &str, ok: bool, seen: String| Check {
        id: id.to_owned(),
        run: run.to_owned(),
        ok,
        seen,
    };
    let is_refused = |said: &String| !said.starts_with("HTTP/");
    Ok(vec![
        check(
            "plain_http_refused",
            plain.iter().all(is_refused),
            format!("each gateway's answer to HTTP without TLS: {}", plain.join(", ")),
        ),
        check(
            "tls_1_3",
            versions.iter().all(|version| version == "TLSv1_3"),
            format!("agreed on with each gateway: {}", versions.join(", ")),
        ),
        check(
            "token_required",
            statuses.iter().all(|status| *status == 401),
            format!("a checkout without a token: {statuses:?}"),
        ),
    ])
}

/// What a gateway says to HTTP in the clear, as far as it can be shown.
async fn said_without_tls(address: SocketAddr) -> Result<String> {
    let mut stream = dial(address).await?;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(ENDS_WITHIN, stream.read_to_end(&mut said)).await;
    let text: String = said.iter().take(12).map(|byte| char::from(*byte)).collect();
    Ok(match (said.first(), ended) {
        (None, Ok(_)) => "connection closed".to_owned(),
        (None, Err(_)) => "silence".to_owned(),
        // A TLS record of type alert.
        (Some(21), _) => "TLS alert".to_owned(),
        _ => text,
    })
}

/// What the cells of a run say: logs were synced, and what was acknowledged was audited.
pub(crate) fn of_cells(results: &Results, run: &str) -> Vec<Check> {
    let ours = |cell: &&Cell| cell.run == run && cell.key.system == System::Leasehold;
    let rounds: Vec<_> = results.cells.iter().filter(ours).flat_map(|cell| &cell.rounds).collect();
    let written: Vec<_> = rounds
        .iter()
        .filter(|round| round.acknowledged_writes.is_some_and(|it| it > 0.0))
        .collect();
    if written.is_empty() {
        return Vec::new();
    }
    let acknowledged: f64 = written.iter().filter_map(|round| round.acknowledged_writes).sum();
    let events: f64 = written.iter().filter_map(|round| round.audit_events).sum();
    let is_equal = written.iter().all(|round| round.acknowledged_writes == round.audit_events);
    let syncs: f64 = written.iter().flat_map(|round| &round.fdatasyncs).sum();
    let is_synced = written.iter().all(|round| {
        let synced = round.fdatasyncs.iter().filter(|syncs| **syncs > 0.0).count();
        synced * 2 > round.fdatasyncs.len()
    });
    let check = |id: &str, ok, seen| Check { id: id.to_owned(), run: run.to_owned(), ok, seen };
    vec![
        check(
            "audit_events",
            is_equal,
            format!(
                "{acknowledged} acknowledged writes, {events} audit events, \
                 equal in each of {} measurements: {is_equal}",
                written.len()
            ),
        ),
        check(
            "fdatasync",
            is_synced,
            format!(
                "{syncs} syncs of logs in {} measurements; in each a majority of nodes synced: \
                 {is_synced}",
                written.len()
            ),
        ),
    ]
}

const ENDS_WITHIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Workload;
    use crate::results::tests::{made_up, results_of};

    fn ids_of(acknowledged: f64, events: f64, syncs: [f64; 3]) -> Vec<(String, bool)> {
        let (key, mut figures) = made_up(System::Leasehold, Workload::Checkout, 64, 100.0);
        figures.acknowledged_writes = Some(acknowledged);
        figures.audit_events = Some(events);
        figures.fdatasyncs = syncs.to_vec();
        let results = results_of(&[(key, figures)]);
        of_cells(&results, "r1").into_iter().map(|check| (check.id, check.ok)).collect()
    }

    #[test]
    fn a_write_without_its_event_is_found() {
        let pair =
            |audit, sync| vec![("audit_events".to_owned(), audit), ("fdatasync".to_owned(), sync)];
        assert_eq!(ids_of(10.0, 10.0, [5.0, 4.0, 4.0]), pair(true, true));
        assert_eq!(ids_of(10.0, 9.0, [5.0, 4.0, 0.0]), pair(false, true));
        assert_eq!(ids_of(10.0, 10.0, [5.0, 0.0, 0.0]), pair(true, false));
        assert_eq!(ids_of(0.0, 0.0, [0.0; 3]), []);
    }
}

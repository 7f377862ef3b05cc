//! Renewal: when, with which token, and what each answer makes of the verdict.

use std::time::Duration;

use leasehold_client::{
    Checkout, DenialReason, GraceReason, Lease, LicenseClient, LostReason, Reason, Verdict,
};
use serde_json::json;

use crate::far::{ATTEMPT, Far, TERM_MS, both, denied, granted, renewed, returned, story, within};

const HEARTBEAT: &str = "PUT /api/v1/licenses/lease-1/heartbeat";
const THIRD: Duration = Duration::from_millis(TERM_MS / 3);

/// A lease that was granted a moment ago.
pub(crate) async fn lease(far: &mut Far, client: &LicenseClient) -> Lease {
    let server = async {
        let request = far.expect("POST /api/v1/licenses/checkout").await;
        request.answer(200, &granted("lease-1", TERM_MS));
    };
    match both(client.checkout("p", "u").outcome(), server).await.0 {
        Ok(Checkout::Granted(lease)) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_is_renewed_at_a_third_of_its_term_with_the_token_of_the_last_answer() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        for round in 0..20 {
            let (request, waited) = far.later().await;
            assert!(waited <= THIRD && waited >= THIRD * 4 / 5, "{waited:?}");
            assert_eq!(request.line, HEARTBEAT);
            let want = json!({ "renewal_token": format!("rt-{round}"), "still_active": true });
            assert_eq!(request.json(), want);
            request.answer(200, &renewed(&format!("rt-{}", round + 1), TERM_MS));
            assert_eq!(lease.verdict(), Verdict::Held);
        }
        assert_eq!(far.tokens_given, 1);
        far.end(lease).await;
    });
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_token_and_counts_from_the_first() {
    story(async {
        let mut far = Far::start(2).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let (request, _) = far.later().await;
        let sent = far.world.now();
        // Heard, and the answer lost.
        far.world.advance(ATTEMPT);
        let again = far.expect(HEARTBEAT).await;
        assert_eq!((again.server, again.json()), (1, request.json()));
        let mut watch = lease.watch();
        again.answer(200, &renewed("rt-1", TERM_MS));
        let (next, _) = far.later().await;
        assert_eq!(next.json()["renewal_token"], "rt-1");
        let ends = far.world.now() + lease.remaining();
        assert_eq!(ends, sent + Duration::from_millis(TERM_MS));
        assert_eq!(watch.current(), Verdict::Held);
        assert!(tokio::time::timeout(Duration::ZERO, watch.changed()).await.is_err());
        next.answer(200, &renewed("rt-2", TERM_MS));
        far.end(lease).await;
    });
}

/// The verdict after this answer to a heartbeat.
async fn after(status: u16, body: &serde_json::Value) -> Verdict {
    let mut far = Far::start(1).await;
    let client = far.client();
    let lease = lease(&mut far, &client).await;
    let mut watch = lease.watch();
    let (request, _) = far.later().await;
    request.answer(status, body);
    let told = within(watch.changed()).await.unwrap();
    assert_eq!(told, lease.verdict());
    far.end(lease).await;
    told
}

#[test]
fn each_decision_has_its_reason() {
    let lost = |reason| Verdict::Lost { reason };
    let table = [
        (410, "lease_ended", lost(LostReason::Ended)),
        (404, "unknown_lease", lost(LostReason::Ended)),
        (410, "of_tomorrow", lost(LostReason::Ended)),
        (409, "renewal_token_replayed", lost(LostReason::Replayed)),
        (409, "renewal_token_invalid", lost(LostReason::Replayed)),
        (
            403,
            "package_revoked",
            lost(LostReason::Denied(Reason::from(DenialReason::PackageRevoked))),
        ),
    ];
    story(async {
        for (status, reason, want) in table {
            assert_eq!(after(status, &denied(reason)).await, want, "{reason}");
        }
    });
}

#[test]
fn what_is_no_decision_is_grace() {
    story(async {
        let table = [
            (403, denied("insufficient_scope"), GraceReason::Unauthorized),
            (409, denied("restore_hold"), GraceReason::Unreachable),
            (507, denied("no_space"), GraceReason::Unreachable),
            (400, json!({ "code": "invalid_field" }), GraceReason::Misunderstood),
            (200, json!({ "status": "renewed" }), GraceReason::Misunderstood),
        ];
        for (status, body, want) in table {
            let verdict = after(status, &body).await;
            let Verdict::Grace { why, .. } = verdict else { panic!("{status}: {verdict:?}") };
            assert_eq!(why, want, "{status}");
        }
    });
}

#[test]
fn an_outage_is_grace_until_the_end_and_then_final() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let mut watch = lease.watch();
        let grace = far.outage(&mut watch).await;
        assert!(matches!(grace, Verdict::Grace { why: GraceReason::Unreachable, .. }));
        assert!(far.world.now() < THIRD + crate::far::TOTAL);
        let reason = LostReason::Expired { why: Some(GraceReason::Unreachable) };
        assert_eq!(far.outage(&mut watch).await, Verdict::Lost { reason });
        assert_eq!(far.world.now(), Duration::from_millis(TERM_MS));
        assert_eq!(lease.remaining(), Duration::ZERO);
        // Nothing is asked any more until the handle is gone; then the server may still have it.
        drop(lease);
        let (request, _) = far.later().await;
        assert_eq!(request.line, "POST /api/v1/licenses/lease-1/return");
        request.answer(410, &denied("lease_ended"));
        within(client.settle()).await;
    });
}

#[test]
fn a_server_that_comes_back_ends_the_grace() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let mut watch = lease.watch();
        // A wait beyond the deadline ends the call, and the next renewal waits as long.
        let (request, _) = far.later().await;
        let body = json!({ "outcome": "not_executed" });
        request.answer_with(503, &[("retry-after", "100")], &body);
        assert!(matches!(within(watch.changed()).await.unwrap(), Verdict::Grace { .. }));
        let (request, waited) = far.later().await;
        assert!(waited >= Duration::from_secs(100), "{waited:?}");
        request.answer(200, &renewed("rt-1", TERM_MS));
        assert_eq!(within(watch.changed()).await, Some(Verdict::Held));
        far.end(lease).await;
    });
}

#[test]
fn a_lease_goes_on_over_a_restore() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let mut watch = lease.watch();
        let held = json!({ "renewal_token": "rt-0", "still_active": true });
        // The access token is of the former epoch, and so is the renewal token: the first is asked
        // for anew, the second shown again.
        let refused = json!({ "code": "invalid_token", "title": "No.", "status": 401 });
        let (request, _) = far.later().await;
        assert_eq!(request.header("authorization"), "Bearer token-1");
        request.answer(401, &refused);
        let request = far.expect(HEARTBEAT).await;
        assert_eq!(request.header("authorization"), "Bearer token-2");
        assert_eq!(request.json(), held);
        // Not yet: nothing is lost.
        request.answer(409, &denied("restore_hold"));
        assert!(matches!(within(watch.changed()).await.unwrap(), Verdict::Grace { .. }));
        let (request, _) = far.later().await;
        assert_eq!(request.json(), held);
        request.answer(200, &renewed("rt-of-the-new-epoch", TERM_MS));
        assert_eq!(within(watch.changed()).await, Some(Verdict::Held));
        let (request, _) = far.later().await;
        assert_eq!(request.json()["renewal_token"], "rt-of-the-new-epoch");
        request.answer(200, &renewed("rt-next", TERM_MS));
        far.end(lease).await;
    });
}

#[test]
fn an_answer_after_the_end_changes_nothing() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let (request, _) = far.later().await;
        far.world.advance(Duration::from_millis(TERM_MS));
        request.answer(200, &renewed("rt-1", TERM_MS));
        let verdict = lease.verdict();
        let Verdict::Lost { reason: LostReason::Expired { .. } } = verdict else {
            panic!("{verdict:?}")
        };
        drop(lease);
        far.expect_last("/return").await.answer(200, &returned());
        within(client.settle()).await;
    });
}

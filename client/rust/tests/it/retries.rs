//! Retries: who is asked next, when, and under which key.

use std::time::Duration;

use leasehold_client::{Checkout, Error, Outcome};
use serde_json::{Value, json};

use crate::far::{ATTEMPT, Far, Request, TERM_MS, both, granted, story};

const CHECKOUT: &str = "POST /api/v1/licenses/checkout";

/// What the first server does.
#[derive(Debug, Clone, Copy)]
enum First {
    Cuts,
    Hangs,
    Says(u16, &'static str),
}
use First::{Cuts, Hangs, Says};

/// The first server fails so; the second answers. The key is kept, and the second server is asked
/// first from then on.
async fn check_failover(first: First) {
    let mut far = Far::start(2).await;
    let client = far.client();
    let server = async {
        let request = far.expect(CHECKOUT).await;
        assert_eq!(request.server, 0);
        let key = request.key();
        let mut hung = None;
        match first {
            Cuts => request.cut(),
            Hangs => {
                hung = Some(request);
                far.world.advance(ATTEMPT);
            }
            Says(status, body) => request.answer_text(status, body),
        }
        let request = far.expect(CHECKOUT).await;
        assert_eq!((request.server, request.key()), (1, key), "{first:?}");
        request.answer(200, &granted("lease-1", TERM_MS));
        drop(hung);
    };
    let (outcome, ()) = both(client.checkout("p", "u").outcome(), server).await;
    let Ok(Checkout::Granted(lease)) = outcome else { panic!("{first:?}: {outcome:?}") };
    // Counted from the first sending, whoever answered.
    let took = if let Hangs = first { ATTEMPT } else { Duration::ZERO };
    assert_eq!(lease.remaining(), Duration::from_millis(TERM_MS) - took, "{first:?}");
    let released = async {
        let request = far.expect_last("/return").await;
        assert_eq!(request.server, 1, "{first:?}");
        request.answer(200, &crate::far::returned());
    };
    both(lease.release(), released).await.0.unwrap();
}

#[test]
fn another_server_is_asked_under_the_same_key() {
    story(async {
        for first in [
            Cuts,
            Hangs,
            Says(503, r#"{"code":"no_quorum","outcome":"not_executed"}"#),
            Says(503, "<html>busy</html>"),
            Says(502, ""),
            Says(504, ""),
            Says(500, "{}"),
        ] {
            check_failover(first).await;
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    story(async {
        let mut far = Far::start(1).await;
        // Port 1 of loopback: nobody listens.
        let builder = leasehold_client::LicenseClient::builder().endpoint("http://127.0.0.1:1");
        let client = builder
            .endpoints(far.urls())
            .credentials("client-1", "secret-1")
            .environment(far.environment())
            .build()
            .unwrap();
        let server = async {
            far.expect(CHECKOUT).await.answer(200, &granted("lease-1", TERM_MS));
        };
        let (lease, ()) = both(async { client.checkout("p", "u").await }, server).await;
        far.end(lease.unwrap()).await;
    });
}

/// One server says this to every attempt. Gives the waits between them and the error.
async fn waits(status: u16, wait: Option<&str>, body: &Value) -> (Vec<Duration>, Error) {
    let mut far = Far::start(1).await;
    let client = far.client();
    let mut heard = Vec::new();
    let call = client.checkout("p", "u").outcome();
    tokio::pin!(call);
    let answer = |request: Request| match wait {
        Some(wait) => request.answer_with(status, &[("retry-after", wait)], body),
        None => request.answer(status, body),
    };
    let outcome = loop {
        tokio::select! {
            outcome = &mut call => break outcome,
            (request, waited) = far.later() => {
                heard.push(waited);
                answer(request);
            }
        }
    };
    heard.remove(0);
    (heard, outcome.unwrap_err())
}

#[test]
fn a_server_is_not_asked_before_the_time_it_named() {
    story(async {
        let body = json!({ "code": "overloaded", "outcome": "not_executed" });
        let (waits, error) = waits(503, Some("11"), &body).await;
        assert!(waits.len() >= 3, "{waits:?}");
        let floor = Duration::from_secs(11);
        assert!(waits.iter().all(|wait| *wait >= floor && *wait <= floor * 2), "{waits:?}");
        let Error::Unavailable(trouble) = error else { panic!("{error}") };
        assert_eq!(trouble.outcome, Outcome::NotExecuted);
        assert_eq!(trouble.retry_after, Some(floor));
        assert!(trouble.attempts[0].reason.contains("overloaded"));
    });
}

#[test]
fn a_wait_beyond_the_deadline_is_not_begun() {
    story(async {
        let (waits, error) = waits(503, Some("3600"), &json!({ "outcome": "not_executed" })).await;
        assert!(waits.is_empty(), "{waits:?}");
        let Error::Unavailable(trouble) = error else { panic!("{error}") };
        assert_eq!(trouble.retry_after, Some(Duration::from_secs(3_600)));
    });
}

#[test]
fn waits_grow_and_differ_when_nobody_says_how_long() {
    story(async {
        let (waits, error) = waits(503, None, &json!({ "outcome": "unknown" })).await;
        assert!(waits.len() >= 8, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)), "{waits:?}");
        let early: Duration = waits.iter().take(4).sum();
        let late: Duration = waits.iter().rev().skip(1).take(4).sum();
        assert!(early < late, "{waits:?}");
        let Error::Unavailable(trouble) = error else { panic!("{error}") };
        assert_eq!(trouble.outcome, Outcome::Unknown);
        assert!(Error::Unavailable(trouble).is_transient());
    });
}

#[test]
fn not_so_fast_is_not_carried_to_the_next_server() {
    story(async {
        let mut far = Far::start(2).await;
        let client = far.client();
        let server = async {
            let request = far.expect(CHECKOUT).await;
            let key = request.key();
            request.answer_with(429, &[("retry-after", "5")], &json!({ "code": "too_many" }));
            let (request, waited) = far.later().await;
            assert!(waited >= Duration::from_secs(5), "{waited:?}");
            assert_eq!((request.server, request.key()), (0, key));
            request.answer(200, &granted("lease-1", TERM_MS));
        };
        let (outcome, ()) = both(client.checkout("p", "u").outcome(), server).await;
        let Ok(Checkout::Granted(lease)) = outcome else { panic!("{outcome:?}") };
        // Nothing was executed by the first attempt, yet it was sent: the end is counted from it.
        assert!(lease.remaining() <= Duration::from_millis(TERM_MS) - Duration::from_secs(5));
        far.end(lease).await;
    });
}

//! Checkouts: what is sent, and what comes of each answer.

use std::time::Duration;

use leasehold_client::{
    Checkout, CheckoutError, DenialReason, Error, Fence, LeaseType, LicenseClient, Release, Verdict,
};
use serde_json::json;

use crate::far::{Far, TERM_MS, both, denied, granted, returned, story};

const CHECKOUT: &str = "POST /api/v1/licenses/checkout";

#[test]
fn the_example_of_the_document_works() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        far.wants_tokens = true;
        let application = async {
            let lease = client.checkout("davinci-configurator-se", "alice@bmw.com").await?;
            assert_eq!((lease.id(), lease.lease_type()), ("lease-1", LeaseType::Commit));
            assert_eq!((lease.verdict(), lease.package()), (Verdict::Held, "package-1"));
            assert_eq!(lease.remaining(), Duration::from_millis(TERM_MS));
            let fence: Fence = "00000001-0000000000000002-0003-0000000000000004".parse()?;
            assert_eq!(lease.fence(), fence);
            let released = lease.release().await?;
            assert!(matches!(released, Release::Returned { .. }), "{released:?}");
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let server = async {
            let request = far.expect("POST /oauth/token").await;
            assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
            let form = String::from_utf8(request.body.clone()).unwrap();
            let want = "grant_type=client_credentials&client_id=client-1\
                        &client_secret=secret-1+%26%3D%2B\
                        &scope=license%3Acheckout+license%3Areturn";
            assert_eq!(form, want);
            request.answer(200, &crate::far::token_body("token-1", 3_600));
            let request = far.expect(CHECKOUT).await;
            assert_eq!(request.header("authorization"), "Bearer token-1");
            assert_eq!(request.key().len(), 32);
            let want = json!({
                "product_id": "davinci-configurator-se", "user": "alice@bmw.com",
                "hostname": "host-1", "metadata": {}, "quantity": 1
            });
            assert_eq!(request.json(), want);
            request.answer(200, &granted("lease-1", TERM_MS));
            let request = far.expect("POST /api/v1/licenses/lease-1/return").await;
            let usage = json!({ "session_duration_seconds": 0 });
            let want = json!({ "lease_id": "lease-1", "usage_metadata": usage });
            assert_eq!(request.json(), want);
            request.answer(200, &returned());
        };
        both(application, server).await.0.unwrap();
        assert!(far.is_silent());
    });
}

#[test]
fn all_that_can_be_asked_for_is_sent() {
    story(async {
        let mut far = Far::start(1).await;
        let call = far
            .client()
            .checkout("p", "u")
            .version("8.2.1")
            .session("s")
            .features(["b", "a"])
            .quantity(3)
            .pool("team-a")
            .idempotency_key("k-1");
        let server = async {
            let request = far.expect(CHECKOUT).await;
            assert_eq!(request.key(), "k-1");
            let want = json!({
                "product_id": "p", "user": "u", "hostname": "host-1",
                "metadata": { "version": "8.2.1", "session_id": "s" },
                "features": ["b", "a"], "quantity": 3, "pool": "team-a"
            });
            assert_eq!(request.json(), want);
            request.answer(409, &denied("max_overage_exceeded"));
        };
        let (outcome, ()) = both(call.outcome(), server).await;
        assert!(matches!(outcome, Ok(Checkout::Denied(_))));
    });
}

/// Asks for a seat and answers so.
async fn ask(status: u16, headers: &[(&'static str, &str)], body: &str) -> Result<Checkout, Error> {
    let mut far = Far::start(1).await;
    let client = far.client();
    let server = async {
        let request = far.expect(CHECKOUT).await;
        match serde_json::from_str(body) {
            Ok(json) => request.answer_with(status, headers, &json),
            Err(_) => request.answer_text(status, body),
        }
    };
    both(client.checkout("p", "u").outcome(), server).await.0
}

#[test]
fn a_decision_is_a_value_with_all_it_says() {
    story(async {
        let body = r#"{"status":"denied","reason":"max_overage_exceeded","detail":"All out.",
            "available_at":"2026-11-22T12:00:00Z","would_be_satisfied_by":{"quantity":2}}"#;
        let outcome = ask(409, &[("retry-after", "90")], body).await;
        let Ok(Checkout::Denied(denied)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(denied.reason.known(), Some(DenialReason::MaxOverageExceeded));
        assert_eq!(denied.retry_after, Some(Duration::from_secs(90)));
        assert_eq!(denied.would_be_satisfied_by.unwrap().quantity, Some(2));
        let at = denied.available_at.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(at.as_secs(), 1_795_348_800);
        assert_eq!(denied.detail, "All out.");
    });
}

#[test]
fn decisions_are_told_from_obstacles() {
    let table = [
        (409, "max_overage_exceeded", true),
        (404, "unknown_product", true),
        (403, "package_suspended", true),
        (403, "version_not_covered", true),
        (409, "a_reason_of_tomorrow", true),
        (403, "insufficient_scope", false),
        (422, "idempotency_key_reused", false),
    ];
    story(async {
        for (status, reason, is_decision) in table {
            let outcome = ask(status, &[], &denied(reason).to_string()).await;
            match &outcome {
                Ok(Checkout::Denied(denied)) => {
                    assert!(is_decision && denied.reason.code() == reason, "{outcome:?}");
                }
                Err(Error::Unauthorized { .. } | Error::Rejected { .. }) => {
                    assert!(!is_decision, "{outcome:?}");
                }
                _ => panic!("{reason}: {outcome:?}"),
            }
        }
    });
}

#[test]
fn what_is_no_answer_is_told_as_such() {
    story(async {
        let problem = r#"{"type":"/problems/invalid_field","title":"The request is not valid.",
            "status":400,"code":"invalid_field","detail":"user: too long"}"#;
        let outcome = ask(400, &[], problem).await;
        let Err(Error::Rejected { status: 400, code, detail }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((code.as_str(), detail.as_str()), ("invalid_field", "user: too long"));
        for (status, body) in [
            (200, "<html>"),
            (200, "{}"),
            (200, r#"{"status":"success"}"#),
            (404, "not here"),
            (307, "{}"),
            (501, "{}"),
        ] {
            let outcome = ask(status, &[], body).await;
            assert!(matches!(outcome, Err(Error::Protocol { .. })), "{status} {outcome:?}");
        }
    });
}

#[test]
fn the_short_form_says_denied_as_an_error_of_its_own() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let server =
            async { far.expect(CHECKOUT).await.answer(409, &denied("max_overage_exceeded")) };
        let (outcome, ()) = both(async { client.checkout("p", "u").await }, server).await;
        let Err(CheckoutError::Denied(denied)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(denied.to_string(), "No. (max_overage_exceeded)");
    });
}

#[test]
fn a_client_that_cannot_work_says_so_at_the_first_call() {
    story(async {
        for (url, word) in [("licenses", "not a URL"), ("http://a.example", "without TLS")] {
            let client = LicenseClient::new(url, "id", "secret");
            let error = client.checkout("p", "u").outcome().await.unwrap_err();
            assert!(matches!(error, Error::Configuration { .. }), "{error}");
            assert!(error.to_string().contains(word), "{error}");
            assert!(!format!("{client:?}").contains("secret"));
        }
    });
    let build = |builder: leasehold_client::LicenseClientBuilder| builder.build().unwrap_err();
    build(LicenseClient::builder().credentials("i", "s"));
    build(LicenseClient::builder().endpoint("https://a"));
    build(LicenseClient::builder().endpoint("https://a").credentials("i", ""));
    let wrong = LicenseClient::builder().endpoint("https://a").credentials("i", "s");
    build(wrong.client_certificate_pem(b"no", b"no"));
}

#[test]
fn a_lost_seat_is_found_again_by_an_equal_checkout() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        // Every attempt is heard and none answered, until the time is up.
        let mut keys = Vec::new();
        let lost = {
            let call = client.checkout("p", "u").outcome();
            tokio::pin!(call);
            loop {
                tokio::select! {
                    lost = &mut call => break lost,
                    (request, _) = far.later() => {
                        keys.push(request.key());
                        request.cut();
                    }
                }
            }
        };
        let Err(Error::Unavailable(trouble)) = lost else { panic!("{lost:?}") };
        assert_eq!(trouble.outcome, leasehold_client::Outcome::Unknown);
        assert!(keys.len() > 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        // Another checkout has a key of its own; an equal one asks for what was lost, once.
        for (user, is_same) in [("other", false), ("u", true), ("u", false)] {
            let server = async {
                let request = far.expect(CHECKOUT).await;
                assert_eq!(request.key() == keys[0], is_same, "{user}");
                request.answer(409, &denied("max_overage_exceeded"));
            };
            both(client.checkout("p", user).outcome(), server).await.0.unwrap();
        }
    });
}

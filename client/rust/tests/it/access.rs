//! Access tokens: asked for once, refreshed early, thrown away when refused.

use std::time::Duration;

use leasehold_client::{Checkout, Error, LicenseClient};
use serde_json::json;

use crate::far::{Far, both, denied, story, token_body, within};

const TOKEN: &str = "POST /oauth/token";
const CHECKOUT: &str = "POST /api/v1/licenses/checkout";

/// A checkout whose outcome does not matter.
async fn call(client: &LicenseClient) -> Result<Checkout, Error> {
    client.checkout("p", "u").outcome().await
}

#[test]
fn many_that_wait_ask_once() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let calls = async {
            let (a, b, c, d) =
                tokio::join!(call(&client), call(&client), call(&client), call(&client));
            for outcome in [a, b, c, d] {
                assert!(matches!(outcome, Ok(Checkout::Denied(_))), "{outcome:?}");
            }
        };
        let server = async {
            for _ in 0..4 {
                far.expect(CHECKOUT).await.answer(409, &denied("max_overage_exceeded"));
            }
            assert_eq!(far.tokens_given, 1);
        };
        both(calls, server).await;
    });
}

#[test]
fn a_token_is_refreshed_before_its_end_and_used_to_its_end() {
    story(async {
        let mut far = Far::start(1).await;
        far.wants_tokens = true;
        let client = far.client();
        let no = denied("max_overage_exceeded");
        // Seconds that pass, what the token endpoint says (200: a new token), the token used then.
        let table = [
            (0, Some(200), "token-1"),
            (799, None, "token-1"),
            (2, Some(400), "token-1"),
            (1, Some(200), "token-2"),
            (700, None, "token-2"),
            (301, Some(200), "token-3"),
        ];
        let mut given = 0;
        for (seconds, endpoint, used) in table {
            far.world.advance(Duration::from_secs(seconds));
            let server = async {
                match endpoint {
                    None => {}
                    Some(200) => {
                        given += 1;
                        let body = token_body(&format!("token-{given}"), 1_000);
                        far.expect(TOKEN).await.answer(200, &body);
                    }
                    // Busy for longer than the call may last: the old token still does.
                    Some(_) => {
                        let body = json!({ "error": "temporarily_unavailable" });
                        far.expect(TOKEN).await.answer_with(503, &[("retry-after", "99")], &body);
                    }
                }
                let request = far.expect(CHECKOUT).await;
                assert_eq!(request.header("authorization"), format!("Bearer {used}"));
                request.answer(409, &no);
            };
            both(call(&client), server).await.0.unwrap();
        }
    });
}

#[test]
fn a_refused_token_is_replaced_once_and_the_call_repeated_under_its_key() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let refused = json!({ "code": "invalid_token", "title": "No.", "status": 401 });
        let server = async {
            let request = far.expect(CHECKOUT).await;
            let key = request.key();
            request.answer(401, &refused);
            let request = far.expect(CHECKOUT).await;
            assert_eq!(request.header("authorization"), "Bearer token-2");
            assert_eq!(request.key(), key);
            request.answer(409, &denied("max_overage_exceeded"));
        };
        both(call(&client), server).await.0.unwrap();
        // Refused again: somebody has to correct the credentials.
        let server = async {
            far.expect(CHECKOUT).await.answer(401, &refused);
            far.expect(CHECKOUT).await.answer(401, &denied("app_removed"));
        };
        let (outcome, ()) = both(call(&client), server).await;
        let Err(Error::Unauthorized { reason }) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("app_removed"), "{reason}");
        assert!(far.is_silent());
    });
}

#[test]
fn wrong_credentials_are_told_and_not_asked_with_twice() {
    story(async {
        let mut far = Far::start(2).await;
        far.wants_tokens = true;
        let client = far.client();
        for (status, code) in [(401, "invalid_client"), (400, "invalid_scope")] {
            let body = json!({ "error": code, "error_description": "No." });
            let server = async { far.expect(TOKEN).await.answer(status, &body) };
            let (outcome, ()) = both(call(&client), server).await;
            let Err(Error::Unauthorized { reason }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(reason, format!("No. ({code})"));
        }
        assert!(far.is_silent());
    });
}

#[test]
fn no_token_means_that_nothing_was_done() {
    story(async {
        let mut far = Far::start(1).await;
        far.wants_tokens = true;
        let client = far.client();
        let asked = call(&client);
        tokio::pin!(asked);
        let outcome = loop {
            tokio::select! {
                outcome = &mut asked => break outcome,
                (request, _) = far.later() => request.cut(),
            }
        };
        let Err(Error::Unavailable(trouble)) = within(async { outcome }).await else { panic!() };
        assert_eq!(trouble.outcome, leasehold_client::Outcome::NotExecuted);
    });
}

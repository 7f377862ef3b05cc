//! Bodies, queries, forms and headers of the cloud protocol and of the admin API, and what readers
//! of every other protocol's bodies share.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use protocol::cloud::admin::{self, LeaseQuery, LicenseQuery};
use protocol::cloud::body::{decode, idempotency_key};
use protocol::cloud::denial::Denied;
use protocol::cloud::lease;
use protocol::cloud::problem::Problem;
use protocol::oauth::claims::ServerMetadata;
use protocol::oauth::token::{TokenErrorBody, TokenRequest, TokenResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Decoder, Family, Verdict};

/// A JSON body: what was read is written and read again, and is the same.
pub(super) fn body<T: DeserializeOwned + Serialize + 'static>(
    name: &'static str,
    family: Family,
    examples: &[&str],
) -> Decoder {
    let examples = examples.iter().map(|text| text.as_bytes().to_vec()).collect();
    Decoder::new(name, family, examples, |bytes, _| {
        let Ok(value) = decode::<T>(bytes) else { return Ok(Verdict::Refused) };
        let written = serde_json::to_vec(&value).context("what was read cannot be written")?;
        let again: T = decode(&written).with_context(|| shown("cannot be read again", &written))?;
        ensure!(serde_json::to_vec(&again)? == written, shown("reads back differently", &written));
        Ok(Verdict::Accepted)
    })
}

/// A query: read twice it is the same.
pub(super) fn query<T: DeserializeOwned + PartialEq + Debug + 'static>(
    name: &'static str,
    examples: &[&str],
) -> Decoder {
    let examples = examples.iter().map(|text| text.as_bytes().to_vec()).collect();
    Decoder::new(name, Family::Bodies, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(value) = serde_urlencoded::from_str::<T>(&text) else {
            return Ok(Verdict::Refused);
        };
        ensure!(serde_urlencoded::from_str::<T>(&text)? == value, "two readings of one query");
        Ok(Verdict::Accepted)
    })
}

/// A text with a type of its own: printed and read again it is the same value.
pub(super) fn text<T: FromStr + Display + PartialEq + 'static>(
    name: &'static str,
    family: Family,
    examples: &[&str],
) -> Decoder {
    let examples = examples.iter().map(|text| text.as_bytes().to_vec()).collect();
    Decoder::new(name, family, examples, |bytes, _| {
        let Ok(value) = String::from_utf8_lossy(bytes).parse::<T>() else {
            return Ok(Verdict::Refused);
        };
        let printed = value.to_string();
        ensure!(printed.parse::<T>().is_ok_and(|again| again == value), "{printed:?} is another");
        Ok(Verdict::Accepted)
    })
}

fn shown(what: &str, written: &[u8]) -> String {
    format!("{what}: {}", String::from_utf8_lossy(written))
}

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let mut decoders = checkouts();
    decoders.extend(offline());
    decoders.extend(administration());
    decoders.extend(queries());
    decoders.extend([token_form(), basic_header(), idempotency_keys()]);
    decoders.extend([
        body::<TokenResponse>("token-response", Family::Bodies, &[TOKEN_RESPONSE]),
        body::<TokenErrorBody>(
            "token-error",
            Family::Bodies,
            &[r#"{"error":"invalid_client","error_description":"no","outcome":"not_executed"}"#],
        ),
        body::<ServerMetadata>(
            "server-metadata",
            Family::Bodies,
            &[&serde_json::to_string(&ServerMetadata::at("https://h:1", "https://h:1"))?],
        ),
        body::<Problem>("problem", Family::Bodies, &[PROBLEM]),
        body::<Denied>("denied", Family::Bodies, &[DENIED]),
    ]);
    Ok(decoders)
}

fn checkouts() -> Vec<Decoder> {
    vec![
        body::<lease::CheckoutRequest>("checkout-request", Family::Bodies, &[CHECKOUT]),
        body::<lease::CheckoutResponse>("checkout-response", Family::Bodies, &[CHECKOUT_RESPONSE]),
        body::<lease::HeartbeatRequest>(
            "heartbeat-request",
            Family::Bodies,
            &[r#"{"renewal_token":"rt1-AQ","still_active":true}"#],
        ),
        body::<lease::HeartbeatResponse>(
            "heartbeat-response",
            Family::Bodies,
            &[HEARTBEAT_RESPONSE],
        ),
        body::<lease::BulkHeartbeatRequest>(
            "bulk-heartbeat-request",
            Family::Bodies,
            &[r#"{"leases":[{"lease_id":"lease-a","renewal_token":"rt1-AQ"},
                {"lease_id":"lease-b","renewal_token":"rt1-Ag","still_active":false}]}"#],
        ),
        body::<lease::BulkHeartbeatResponse>(
            "bulk-heartbeat-response",
            Family::Bodies,
            &[
                r#"{"results":[{"lease_id":"lease-a","status":"renewed",
                "expires_at":"2026-11-22T10:36:14Z","expires_in_ms":900000},
                {"lease_id":"lease-b","status":"ended"}]}"#,
                r#"{"results":[]}"#,
            ],
        ),
        body::<lease::ReturnRequest>(
            "return-request",
            Family::Bodies,
            &[r#"{"lease_id":"lease-a","usage_metadata":{"session_duration_seconds":3600,
                "features_used":["can"],"files_processed":7}}"#],
        ),
        body::<lease::ReturnResponse>(
            "return-response",
            Family::Bodies,
            &[r#"{"status":"returned","total_cost":500.25,"lease_duration":"1h 2m 3s"}"#],
        ),
        body::<lease::LeaseResponse>("lease-response", Family::Bodies, &[LEASE]),
        body::<lease::DiscoverResponse>("discover-response", Family::Bodies, &[DISCOVERED]),
    ]
}

fn offline() -> Vec<Decoder> {
    vec![
        body::<lease::BorrowRequest>(
            "borrow-request",
            Family::Bodies,
            &[r#"{"renewal_token":"rt1-AQ","duration_seconds":86400}"#],
        ),
        body::<lease::BorrowResponse>("borrow-response", Family::Bodies, &[BORROW_RESPONSE]),
        body::<lease::ReturnBorrowRequest>(
            "return-borrow-request",
            Family::Bodies,
            &[r#"{"renewal_token":"rt1-AQ"}"#],
        ),
        body::<lease::OfflineValidateRequest>(
            "offline-validate-request",
            Family::Bodies,
            &[r#"{"offline_token":"a.b.c"}"#],
        ),
        body::<lease::OfflineValidateResponse>(
            "offline-validate-response",
            Family::Bodies,
            &[
                r#"{"valid":true,"lease_id":"lease-a","expires_at":"2026-11-22T10:36:14Z",
                "expires_in_ms":5,"borrowed":true}"#,
                r#"{"valid":false,"reason":"expired"}"#,
            ],
        ),
        body::<admin::BorrowRules>(
            "borrow-rules",
            Family::Bodies,
            &[
                r#"{"max_seconds":3600,"seats_max":2,"online_reserve":1,
                "include":[{"user":"alice"}],"exclude":[{"host":"kiosk"}]}"#,
                "{}",
            ],
        ),
        body::<admin::WriteOffRequest>(
            "write-off-request",
            Family::Bodies,
            &[r#"{"reason":"the laptop was stolen"}"#],
        ),
    ]
}

fn administration() -> Vec<Decoder> {
    vec![
        body::<admin::ReasonRequest>(
            "reason-request",
            Family::Bodies,
            &[r#"{"reason":"invoice 4711 is open"}"#, "{}"],
        ),
        body::<admin::RegisterAppRequest>(
            "register-app-request",
            Family::Bodies,
            &[
                r#"{"name":"DaVinci","product_id":"davinci","vendor_id":"vector-de",
                "scopes":"license:checkout license:return","token_algorithm":"EdDSA"}"#,
                r#"{"name":"DaVinci","product_id":"davinci","vendor":"vector-de"}"#,
            ],
        ),
        body::<admin::TrustVendorRequest>(
            "trust-vendor-request",
            Family::Bodies,
            &[r#"{"vendor_id":"vector-de","name":"Vector","public_key":"-----BEGIN"}"#],
        ),
        body::<admin::IssueLicenseRequest>(
            "issue-license-request",
            Family::Bodies,
            &[ISSUE_LICENSE, r#"{"protocol":"deployment","package_id":"p","plan":{}}"#],
        ),
        body::<admin::AddClientRequest>(
            "add-client-request",
            Family::Bodies,
            &[r#"{"email":"owner@example.com"}"#],
        ),
        body::<admin::ActivationChangeRequest>(
            "activation-change-request",
            Family::Bodies,
            &[r#"{"reason":"lost","write_off":true}"#],
        ),
        body::<admin::ActivationList>("activation-list", Family::Bodies, &[ACTIVATIONS]),
        body::<admin::ClassicVendorRequest>(
            "classic-vendor-request",
            Family::Bodies,
            &[r#"{"vendor_id":"techvendor","secret":"0123456789abcdef0123456789abcdef"}"#],
        ),
        body::<admin::RotateEvaluationKeyRequest>(
            "rotate-evaluation-key",
            Family::Bodies,
            &[r#"{"minimum":1,"secret":"0123456789abcdef0123456789abcdef"}"#, "{}"],
        ),
    ]
}

fn queries() -> Vec<Decoder> {
    vec![
        query::<LeaseQuery>(
            "lease-query",
            &["package_id=p&app_id=app-1&limit=5", "after=x%20y", "cursor=x"],
        ),
        query::<LicenseQuery>("license-query", &["protocol=device&state=active&limit=1000"]),
        query::<admin::ActivationQuery>(
            "activation-query",
            &["license_id=l&protocol=evaluation&org_id=o+1&expires_until=2026-11-30T00:00:00Z"],
        ),
        query::<admin::ClientQuery>("client-query", &["email=a%40b.de&state=banned", ""]),
        query::<admin::OfflineQuery>("offline-query", &["cursor=abc&limit=1"]),
        query::<admin::RemoveActivationQuery>(
            "remove-activation-query",
            &["write_off=true&reason=lost"],
        ),
        query::<lease::DiscoverQuery>(
            "discover-query",
            &["product=davinci", "product=a&other=b&product-=c"],
        ),
    ]
}

fn token_form() -> Decoder {
    let examples = [
        "grant_type=client_credentials&client_id=a&client_secret=%73+x&scope=license%3Acheckout",
        "grant_type=client_credentials&client_id=client-1&client_secret=s&other=1",
    ];
    let examples = examples.map(|text| text.as_bytes().to_vec()).to_vec();
    Decoder::new("token-form", Family::Bodies, examples, |bytes, _| {
        Ok(Verdict::of(&TokenRequest::from_form(bytes, None)))
    })
}

fn basic_header() -> Decoder {
    const FORM: &[u8] = b"grant_type=client_credentials";
    let examples = vec![b"Basic Y2xpZW50LTE6cw==".to_vec(), b"basic YTpiJTIw".to_vec()];
    Decoder::new("basic-header", Family::Bodies, examples, |bytes, _| {
        let header = String::from_utf8_lossy(bytes);
        Ok(Verdict::of(&TokenRequest::from_form(FORM, Some(&header))))
    })
}

fn idempotency_keys() -> Decoder {
    let examples = vec![b"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"".to_vec(), b"key-1".to_vec()];
    Decoder::new("idempotency-key", Family::Bodies, examples, |bytes, _| {
        let Ok(key) = idempotency_key(bytes) else { return Ok(Verdict::Refused) };
        ensure!(idempotency_key(key.as_bytes())? == key, "one key has two names");
        Ok(Verdict::Accepted)
    })
}

const CHECKOUT: &str = r#"{"product_id":"davinci-configurator-se","user":"alice@bmw.com",
    "hostname":"dev-workstation-042","metadata":{"version":"8.2"},"features":["can","lin"],
    "quantity":2,"pool":"team"}"#;
const CHECKOUT_RESPONSE: &str = r#"{"status":"success","lease_id":"lease-a",
    "lease_type":"overage","cost":500,"currency":"EUR","expires_at":"2026-11-22T10:36:14Z",
    "expires_in_ms":900000,"heartbeat_interval_ms":300000,"renewal_token":"rt1-AQ",
    "fence":"00000001-000000000000002a-0000-9f3c5d7e11a0b2c4","package_id":"p","quantity":1,
    "features":["can"],"pool":"team"}"#;
const HEARTBEAT_RESPONSE: &str = r#"{"status":"renewed","expires_at":"2026-11-22T10:36:14Z",
    "expires_in_ms":900000,"heartbeat_interval_ms":300000,"renewal_token":"rt1-AQ",
    "fence":"00000001-000000000000002a-0000-9f3c5d7e11a0b2c4","offline_token":"a.b.c"}"#;
const BORROW_RESPONSE: &str = r#"{"status":"borrowed","lease_id":"lease-a",
    "borrowed_until":"2026-11-23T10:36:14Z","expires_at":"2026-11-23T10:36:14Z",
    "expires_in_ms":86400000,"heartbeat_interval_ms":300000,"renewal_token":"rt1-AQ",
    "fence":"00000001-000000000000002a-0000-9f3c5d7e11a0b2c4","offline_token":"a.b.c"}"#;
const LEASE: &str = r#"{"lease_id":"lease-a","state":"active","lease_type":"commit",
    "product_id":"davinci","package_id":"p","quantity":1,"features":["can"],"pool":"team",
    "acquired_at":"2026-11-22T10:00:00Z","expires_at":"2026-11-22T10:36:14Z",
    "expires_in_ms":900000,"cost":0,"fence":"00000001-000000000000002a-0000-9f3c5d7e11a0b2c4"}"#;
const DISCOVERED: &str = r#"{"licenses":[{"product_id":"davinci","product_name":"DaVinci",
    "product_version":">=8.0.0","vendor_id":"vector-de","package_id":"p","state":"active",
    "features":["can"],"total":20,"in_use":3,"commit_available":2,"overage_available":15,
    "overage_per_use":500.5,"currency":"EUR","valid_from":"2026-01-01T00:00:00Z",
    "valid_until":"2026-12-31T00:00:00Z"}]}"#;
const ISSUE_LICENSE: &str = r#"{"protocol":"device","package_id":"p","client_id":"c-1",
    "email":"owner@example.com","organization":"Example Corp","duration_days":365,"open":false,
    "valid_from":"2026-11-22T00:00:00Z","plan":{"slug":"gold","product":"davinci","kind":"pro",
    "features":[{"slug":"export","category":"io","enabled":true,"scopes":[{"slug":"pdf",
    "permission":"limit","limit":100,"metadata":{"unit":"pages"}}]}],"max_devices":5,
    "max_nodes":3,"seats_per_activation":1,"check_mode":"custom","check_interval_seconds":3600,
    "activation_days":30,"slot_ttl_seconds":86400,"offline_seconds":3600,"trial":false,
    "quotas":{"tokens":1000.5}}}"#;
const ACTIVATIONS: &str = r#"{"activations":[{"activation_id":"act-1","protocol":"evaluation",
    "state":"active","license_id":"l","package_id":"p","holder":"h","seats":1,
    "activated_at":"2026-11-22T00:00:00Z","last_seen_at":"2026-11-22T00:00:00Z",
    "expires_at":"2026-12-22T00:00:00Z","org_id":"o","metadata":{"a":[1,2.5,null]}}],
    "groups":[{"org_id":"o","project_id":"p","activations":1,"seats":1}],"total":1,"next":"x"}"#;
const TOKEN_RESPONSE: &str = r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,
    "scope":"license:checkout"}"#;
const PROBLEM: &str = r#"{"type":"about:blank","title":"Unavailable","status":503,
    "code":"no_quorum","detail":"no quorum","field":"a.b","outcome":"unknown","extra":{"x":1}}"#;
const DENIED: &str = r#"{"status":"denied","reason":"max_overage_exceeded",
    "detail":"every seat is out",
    "available_at":"2026-11-22T10:36:14Z","would_be_satisfied_by":{"quantity":2,"pool":"team",
    "features":["can"],"version":">=8.0.0"}}"#;

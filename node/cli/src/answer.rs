//! Reads what a server answers when it does not do what it was asked.
//!
//! Three bodies say no: problem details (RFC 9457) of the admin API, `{"error"}` of OAuth (RFC
//! 6749) and `{"status":"denied"}` of the lease calls. Each is read by the names that it must have;
//! names that are not known are ignored, so that a newer server can say more. A body that is none
//! of them (a proxy's page) leaves the HTTP status to speak.

use protocol::cloud::denial::Remedy;
use serde::Deserialize;
use serde_json::Value;

use crate::exit::Exit;

/// A refusal, whichever body it came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// Machine-readable reason: `code`, `reason` or OAuth's `error`.
    pub(crate) code: String,
    /// What it says to people.
    pub(crate) message: String,
    /// The field that is to blame.
    pub(crate) field: Option<String>,
    /// Whether the request was executed, where that is in doubt.
    pub(crate) outcome: Option<String>,
    /// When asking again may help, RFC 3339.
    pub(crate) available_at: Option<String>,
    /// What could be had instead.
    pub(crate) would_be_satisfied_by: Option<Value>,
    /// The application that an earlier request of the same key has made.
    pub(crate) app_id: Option<String>,
    /// The license that an earlier request of the same key has made.
    pub(crate) license_id: Option<String>,
    /// Finds the request in the server's log.
    pub(crate) request_id: Option<String>,
    /// The key under which the request may be repeated; set by the client.
    pub(crate) idempotency_key: Option<String>,
}

/// Every name that one of the three bodies may have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    field: Option<String>,
    outcome: Option<String>,
    instance: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    available_at: Option<String>,
    would_be_satisfied_by: Option<Value>,
    app_id: Option<String>,
    license_id: Option<String>,
}

impl Refusal {
    /// Reads an answer whose status is not 2xx.
    pub(crate) fn read(status: u16, body: &[u8], request_id: Option<String>) -> Self {
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let code = body.code.or(body.reason).or(body.error);
        let message = [body.detail, body.message, body.error_description, body.title]
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty());
        let message = match (message, &code) {
            (Some(message), _) => message.trim_end_matches('.').to_owned(),
            (None, Some(code)) => code.replace('_', " "),
            (None, None) => format!("the server answered {status} {}", meaning(status)),
        };
        let code = code.unwrap_or_else(|| format!("http_{status}"));
        Self {
            status,
            code,
            message,
            field: body.field,
            outcome: body.outcome,
            available_at: body.available_at,
            would_be_satisfied_by: body.would_be_satisfied_by.filter(|value| !value.is_null()),
            app_id: body.app_id,
            license_id: body.license_id,
            request_id: request_id.or(body.instance),
            idempotency_key: None,
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self.status {
            // The credentials were good; what was asked for is what was refused.
            403 if self.is_denial() => Exit::Refused,
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            400 | 422 if self.is_unverifiable() => Exit::Unverifiable,
            409 | 410 | 422 | 507 => Exit::Refused,
            400 | 413 | 414 | 415 | 431 => Exit::Usage,
            503 => Exit::NoQuorum,
            _ => Exit::Failed,
        }
    }

    /// Whether a 403 is a decision about a seat rather than about who asks.
    fn is_denial(&self) -> bool {
        matches!(self.code.as_str(), "version_not_covered" | "offline_not_allowed")
            || self.code.starts_with("package_")
            || self.code.starts_with("borrow_")
    }

    /// Whether what was sent proves nothing: a package that is no package, a signature that does
    /// not verify, a key that is not accepted or not pinned. A package that is genuine and merely
    /// not for us, or over, is refused.
    fn is_unverifiable(&self) -> bool {
        let code = self.code.as_str();
        match code {
            "package_expired" | "package_for_another_client" => false,
            "key_refused" | "fingerprint_differs" => true,
            _ => code.starts_with("package_") || code.starts_with("vendor_"),
        }
    }

    /// What the user might do about it.
    pub(crate) fn advice(&self) -> Option<String> {
        let advice = match (self.status, self.code.as_str()) {
            (401, "invalid_client") => "check --client-id and the client secret",
            (401, _) => "check --token, LEASEHOLD_TOKEN or the context file",
            (403, "insufficient_scope") => "the token's scope or role is too narrow for this",
            (409, "secret_shown_before") if self.license_id.is_some() => {
                let license_id = self.license_id.as_deref().unwrap_or("LICENSE");
                return Some(format!("`leasehold license rotate {license_id}` makes a new key"));
            }
            (409, "secret_shown_before") => {
                let app_id = self.app_id.as_deref().unwrap_or("APP");
                return Some(format!("`leasehold app rotate-secret {app_id}` makes a new one"));
            }
            _ if self.remedy().is_some() => return self.remedy(),
            (429, _) => "try again in a moment",
            (507, _) => "`leasehold alarm list` says which node; who has a seat keeps it",
            (503, _) => {
                return Some(match (self.outcome.as_deref(), &self.idempotency_key) {
                    (Some("unknown"), Some(key)) => format!(
                        "whether it was done is not known; repeating with --idempotency-key {key} \
                         is safe"
                    ),
                    _ if self.code == "no_quorum" => NO_QUORUM.to_owned(),
                    _ => "nothing was done; `leasehold cluster status` shows who is up".to_owned(),
                });
            }
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

impl Refusal {
    /// What could be had instead, or when.
    fn remedy(&self) -> Option<String> {
        let remedy: Remedy = self
            .would_be_satisfied_by
            .as_ref()
            .and_then(|value| Remedy::deserialize(value).ok())
            .unwrap_or_default();
        let not_before = remedy.not_before.map(|time| time.to_string());
        let parts = [
            remedy.quantity.map(|quantity| format!("--quantity {quantity}")),
            remedy.pool.map(|pool| format!("--pool {pool}")),
            remedy.features.map(|features| match features.as_slice() {
                [] => "no --feature".to_owned(),
                features => format!("only --feature {}", features.join(" --feature ")),
            }),
            remedy.version.map(|range| format!("a version {range}")),
            remedy.scope.map(|scope| format!("a token with {scope}")),
            not_before.map(|time| format!("the same at {time}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match (&self.available_at, parts.is_empty()) {
            (_, false) => Some(format!("this would be granted: {}", parts.join(", "))),
            (Some(at), true) => Some(format!("a seat may be free at {at}")),
            (None, true) => None,
        }
    }
}

/// The words of a status.
fn meaning(status: u16) -> &'static str {
    reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("(no such status)")
}

/// Both what to look at, and what is left when looking is of no use any more.
const NO_QUORUM: &str = "nothing was done; `leasehold cluster status` shows who is up, and when a \
                         majority is lost for good, `leasehold cluster recover` goes on with a \
                         survivor";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, code: &str, exit: Exit, message: &str) {
        let refusal = Refusal::read(status, body.as_bytes(), None);
        assert_eq!(refusal.code, code, "{body}");
        assert_eq!(refusal.exit(), exit, "{status} {body}");
        assert_eq!(refusal.message, message, "{body}");
    }

    #[test]
    fn each_body_is_read_and_each_status_has_its_exit_code() {
        let problem = r#"{"type":"about:blank","title":"Conflict","status":409,
            "detail":"p-1 is another package","code":"package_id_taken","new":{"a":1}}"#;
        check(409, problem, "package_id_taken", Exit::Refused, "p-1 is another package");
        let denied = r#"{"status":"denied","reason":"max_overage_exceeded",
            "detail":"all 20 seats are taken.","available_at":"2025-11-04T16:30:00Z"}"#;
        check(409, denied, "max_overage_exceeded", Exit::Refused, "all 20 seats are taken");
        let denied = r#"{"status":"denied","reason":"lease_ended"}"#;
        check(410, denied, "lease_ended", Exit::Refused, "lease ended");
        let oauth = r#"{"error":"invalid_client","error_description":"no such client"}"#;
        check(401, oauth, "invalid_client", Exit::NotAllowed, "no such client");
        check(403, r#"{"title":"Forbidden"}"#, "http_403", Exit::NotAllowed, "Forbidden");
        let denied = r#"{"status":"denied","reason":"package_suspended"}"#;
        check(403, denied, "package_suspended", Exit::Refused, "package suspended");
        let denied = r#"{"status":"denied","reason":"borrow_too_long"}"#;
        check(403, denied, "borrow_too_long", Exit::Refused, "borrow too long");
        let scope = r#"{"status":"denied","reason":"insufficient_scope"}"#;
        check(403, scope, "insufficient_scope", Exit::NotAllowed, "insufficient scope");
        let refused = |code: &str| format!(r#"{{"code":"{code}","detail":"no"}}"#);
        check(404, &refused("no_such_app"), "no_such_app", Exit::NotFound, "no");
        let signature = "package_signature_invalid";
        check(422, &refused(signature), signature, Exit::Unverifiable, "no");
        check(422, &refused("vendor_not_trusted"), "vendor_not_trusted", Exit::Unverifiable, "no");
        check(400, &refused("package_unsigned"), "package_unsigned", Exit::Unverifiable, "no");
        check(422, &refused("package_expired"), "package_expired", Exit::Refused, "no");
        let reused = "idempotency_key_reused";
        check(422, &refused(reused), reused, Exit::Refused, "no");
        check(409, &refused("vendor_key_differs"), "vendor_key_differs", Exit::Refused, "no");
        check(422, &refused("key_refused"), "key_refused", Exit::Unverifiable, "no");
        check(400, &refused("malformed"), "malformed", Exit::Usage, "no");
        check(503, &refused("no_quorum"), "no_quorum", Exit::NoQuorum, "no");
        check(429, &refused("busy"), "busy", Exit::Failed, "no");
        check(507, &refused("no_space"), "no_space", Exit::Refused, "no");
        let page = "<html>bad gateway</html>";
        check(502, page, "http_502", Exit::Failed, "the server answered 502 Bad Gateway");
        check(500, "", "http_500", Exit::Failed, "the server answered 500 Internal Server Error");
        check(404, "[1]", "http_404", Exit::NotFound, "the server answered 404 Not Found");
    }

    #[test]
    fn a_field_of_another_type_does_not_hide_the_status() {
        check(409, r#"{"code":7}"#, "http_409", Exit::Refused, "the server answered 409 Conflict");
    }

    #[test]
    fn advice_says_when_a_seat_may_be_free_and_what_an_unknown_outcome_means() {
        let denied = r#"{"status":"denied","reason":"x","available_at":"2025-11-04T16:30:00Z"}"#;
        let advice = Refusal::read(409, denied.as_bytes(), None).advice();
        assert_eq!(advice.as_deref(), Some("a seat may be free at 2025-11-04T16:30:00Z"));
        let instead = br#"{"reason":"unknown_feature","would_be_satisfied_by":
            {"quantity":2,"features":["a","b"],"new":1}}"#;
        assert_eq!(
            Refusal::read(404, instead, None).advice().as_deref(),
            Some("this would be granted: --quantity 2, only --feature a --feature b")
        );
        let shown = br#"{"code":"secret_shown_before","app_id":"app-1"}"#;
        let advice = Refusal::read(409, shown, None).advice();
        assert!(advice.is_some_and(|advice| advice.contains("rotate-secret app-1")));
        let shown = br#"{"code":"secret_shown_before","license_id":"l-1"}"#;
        let advice = Refusal::read(409, shown, None).advice();
        assert!(advice.is_some_and(|advice| advice.contains("license rotate l-1")));
        let mut lost = Refusal::read(503, br#"{"outcome":"unknown"}"#, None);
        lost.idempotency_key = Some("k-1".to_owned());
        assert!(lost.advice().is_some_and(|advice| advice.contains("--idempotency-key k-1")));
        let refused = Refusal::read(503, br#"{"outcome":"not_executed"}"#, None).advice();
        assert!(refused.is_some_and(|advice| advice.contains("nothing was done")));
    }
}

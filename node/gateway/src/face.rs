//! How the faces beside `cloud` say no: each in the words of its own protocol document.
//!
//! | protocol | body |
//! |---|---|
//! | `device` and its admin calls | `{"error":TEXT,"message":TEXT}`; 405 has `error` alone |
//! | `deployment` | `{"error":CODE,"message":TEXT}` |
//! | `evaluation` | `{"ok":false,"detail":TEXT}`; `ok` is left out of 404 and 405 |
//! | `classic` | `{"detail":TEXT}` |
//!
//! A path that is not there below the admin calls of `device` is answered in plain text.
//!
//! Decisions against a caller are made by the handlers, which know their document's statuses and
//! sentences; they say them with [`FaceFailure::json`]. Here is what any call can meet before or
//! around that: a route that is not there, a body that is not read, an obstacle in the cluster.
//! All values are texts, but for `ok`: the official device client reads a refusal into a map of
//! texts.

use http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use protocol::cloud::problem::Problem;
use protocol::device::wire::RequestFault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::reply::{JSON, Reply, TEXT};
use crate::routes::Protocol;

/// An answer of a face that is not the one asked for, complete.
#[derive(Debug)]
pub(crate) struct FaceFailure {
    /// The status.
    pub(crate) status: StatusCode,
    /// The media type of the body.
    pub(crate) content_type: HeaderValue,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// Headers beside those of every answer.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What the gateway counts it under; `None`: not a refusal, or the ledger has counted it.
    pub(crate) reason: Option<&'static str>,
}

impl FaceFailure {
    /// A body in JSON.
    pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Self {
        #[expect(clippy::expect_used, reason = "texts and numbers are always JSON")]
        let body = serde_json::to_vec(body).expect("an error body is JSON");
        Self { status, content_type: JSON, body, headers: Vec::new(), reason: None }
    }

    /// A body of plain text.
    pub(crate) fn text(status: StatusCode, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { status, content_type: TEXT, body, headers: Vec::new(), reason: None }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to ask again.
    pub(crate) fn retry_after_s(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Counts the refusal, which the gateway decided itself, under a constant name in snake case.
    pub(crate) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The answer.
    pub(crate) fn into_reply(self) -> Reply {
        let reply = Reply::new(self.status, self.content_type, self.body);
        self.headers.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

impl From<FaceFailure> for Failure {
    fn from(failure: FaceFailure) -> Self {
        Self::Face(Box::new(failure))
    }
}

/// What `device` and its admin calls say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeviceError {
    /// One sentence.
    #[schema(example = "Invalid license key")]
    pub(crate) error: String,
    /// The same sentence; 405 has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl DeviceError {
    /// The usual form.
    pub(crate) fn new(text: &str) -> Self {
        Self { error: text.to_owned(), message: Some(text.to_owned()) }
    }
}

/// What `deployment` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeploymentError {
    /// The code, for programs.
    #[schema(example = "cluster_slot_in_use")]
    pub(crate) error: String,
    /// One sentence.
    pub(crate) message: String,
}

/// What `evaluation` says where its document has no 200 with `ok:false`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EvaluationError {
    /// `false`; left out of 404 and 405.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ok: Option<bool>,
    /// One sentence.
    pub(crate) detail: String,
}

/// What `classic` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ClassicError {
    /// One sentence.
    #[schema(example = "No licenses available for ECU Development Suite")]
    pub(crate) detail: String,
}

/// Whether errors of a protocol come in words of a face.
pub(crate) fn has_own_words(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Device
        | Protocol::DeviceAdmin
        | Protocol::Deployment
        | Protocol::Evaluation
        | Protocol::Classic => true,
        Protocol::Cloud | Protocol::OAuth | Protocol::Admin | Protocol::Operations => false,
    }
}

impl Failure {
    /// The same in the words of a face; what already is in some stays as it is.
    pub(crate) fn in_words_of(self, protocol: Protocol) -> FaceFailure {
        let (status, retry_after_s) = (self.status(), self.retry_after_s());
        let problem = match self {
            Self::Face(failure) => return *failure,
            Self::Problem { problem, .. } => *problem,
            Self::Denied { denied, .. } => {
                Problem::new(status.as_u16(), denied.reason.code(), "This is refused.")
            }
            Self::Token { .. } => Problem::new(status.as_u16(), "refused", "This is refused."),
        };
        let mut failure = word(protocol, status, &problem);
        if let Some(seconds) = retry_after_s {
            failure = failure.retry_after_s(seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1: a 401 names what would do.
            let scheme = match protocol {
                Protocol::DeviceAdmin => "ApiKey realm=\"leasehold\"",
                _ => "LicenseKey realm=\"leasehold\"",
            };
            failure = failure.header(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        failure
    }
}

fn word(protocol: Protocol, status: StatusCode, problem: &Problem) -> FaceFailure {
    match protocol {
        Protocol::Deployment => {
            let code = match status {
                StatusCode::BAD_REQUEST => "invalid_request",
                _ => &problem.code,
            };
            let body = DeploymentError { error: code.to_owned(), message: sentence(problem) };
            FaceFailure::json(status, &body)
        }
        Protocol::Evaluation => {
            let is_place = matches!(status.as_u16(), 404 | 405);
            let body =
                EvaluationError { ok: (!is_place).then_some(false), detail: sentence(problem) };
            FaceFailure::json(status, &body)
        }
        Protocol::Classic => FaceFailure::json(status, &ClassicError { detail: sentence(problem) }),
        Protocol::DeviceAdmin if problem.code == "not_found" => {
            // What its first server said of a sub-action that it did not have.
            FaceFailure::text(status, "404 page not found\n")
        }
        Protocol::Device if status == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = RequestFault::Unreadable.to_string();
            FaceFailure::json(StatusCode::BAD_REQUEST, &DeviceError::new(&text))
        }
        _ => FaceFailure::json(status, &device_words(protocol, status, problem)),
    }
}

/// The sentences of the device protocol's first server, where it had one.
fn device_words(protocol: Protocol, status: StatusCode, problem: &Problem) -> DeviceError {
    let text = match status.as_u16() {
        405 => return DeviceError { error: "Method not allowed".to_owned(), message: None },
        400 if protocol == Protocol::Device => "Invalid request body",
        401 => "Unauthorized",
        404 if problem.code == "not_found" => "Not found",
        413 => "Request body too large",
        429 => "Too many requests",
        500 => "Internal server error",
        _ => &sentence(problem),
    };
    DeviceError::new(text)
}

fn sentence(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{} {detail}", problem.title),
        None => problem.title.clone(),
    }
}

/// Headers that answers of a protocol carry beside those of every answer (device.md, 1.8).
pub(crate) fn dress(headers: &mut HeaderMap, protocol: Protocol) {
    if !matches!(protocol, Protocol::Device | Protocol::DeviceAdmin) {
        return;
    }
    for (name, value) in DEVICE_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

const DEVICE_HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::oauth::token::BearerError;
    use raft::ReadError;

    use super::*;

    fn check(failure: Failure, protocol: Protocol, status: u16, body: &str) -> FaceFailure {
        let failure = failure.in_words_of(protocol);
        assert_eq!(failure.status.as_u16(), status, "{protocol:?}");
        assert_eq!(std::str::from_utf8(&failure.body).unwrap(), body, "{protocol:?}");
        failure
    }

    #[test]
    fn every_face_has_its_own_words_for_what_any_call_can_meet() {
        let overloaded = || Failure::unavailable("overloaded", "Too much.", Duration::from_secs(3));
        let table = [
            (Protocol::Device, r#"{"error":"Too much.","message":"Too much."}"#),
            (Protocol::DeviceAdmin, r#"{"error":"Too much.","message":"Too much."}"#),
            (Protocol::Deployment, r#"{"error":"overloaded","message":"Too much."}"#),
            (Protocol::Evaluation, r#"{"ok":false,"detail":"Too much."}"#),
            (Protocol::Classic, r#"{"detail":"Too much."}"#),
        ];
        for (protocol, body) in table {
            assert!(has_own_words(protocol));
            let failure = check(overloaded(), protocol, 503, body);
            assert_eq!(failure.headers, [(RETRY_AFTER, HeaderValue::from(3))]);
        }
        let field = || Failure::field("email", "is missing");
        let detail = "The request is not valid. email: is missing";
        let twice = format!(r#"{{"error":"{detail}","message":"{detail}"}}"#);
        let body = r#"{"error":"Invalid request body","message":"Invalid request body"}"#;
        check(field(), Protocol::Device, 400, body);
        check(field(), Protocol::DeviceAdmin, 400, &twice);
        let body = format!(r#"{{"error":"invalid_request","message":"{detail}"}}"#);
        check(field(), Protocol::Deployment, 400, &body);
        let body = format!(r#"{{"ok":false,"detail":"{detail}"}}"#);
        check(field(), Protocol::Evaluation, 400, &body);
        check(field(), Protocol::Classic, 400, &format!(r#"{{"detail":"{detail}"}}"#));
    }

    #[test]
    fn a_place_that_is_not_there_is_no_decision_of_a_license() {
        let not_found =
            || Failure::problem(StatusCode::NOT_FOUND, "not_found", "There is nothing here.");
        let body = r#"{"detail":"There is nothing here."}"#;
        check(not_found(), Protocol::Evaluation, 404, body);
        let wrong_method =
            || Failure::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "No.");
        check(wrong_method(), Protocol::Device, 405, r#"{"error":"Method not allowed"}"#);
        check(wrong_method(), Protocol::Evaluation, 405, r#"{"detail":"No."}"#);
    }

    #[test]
    fn a_refused_credential_names_the_scheme_and_obstacles_the_time() {
        let body = r#"{"error":"Unauthorized","message":"Unauthorized"}"#;
        let refused = Failure::unauthenticated(BearerError::InvalidToken);
        let refused = check(refused, Protocol::DeviceAdmin, 401, body);
        assert!(refused.headers.iter().any(|(name, _)| name == WWW_AUTHENTICATE));
        let obstacle = Failure::from(ReadError::NoQuorum).in_words_of(Protocol::Deployment);
        assert!(obstacle.headers.iter().any(|(name, _)| name == RETRY_AFTER));
    }

    #[test]
    fn what_a_handler_says_is_said_as_it_is() {
        let said = FaceFailure::text(StatusCode::BAD_REQUEST, "Invalid secure envelope");
        let failure = Failure::from(said.because("bad_envelope")).in_words_of(Protocol::Device);
        assert_eq!(
            (failure.status.as_u16(), &failure.body[..]),
            (400, &b"Invalid secure envelope"[..])
        );
        assert_eq!(failure.reason, Some("bad_envelope"));
    }
}

//! Every answer that is not the one asked for, and the body it gets.
//!
//! | kind | body | when |
//! |---|---|---|
//! | [`Failure::Denied`] | `{"status":"denied",…}` of `cloud` | the ledger refused a lease call |
//! | [`Failure::Token`] | RFC 6749 `{"error",…}` | the token endpoint |
//! | [`Failure::Face`] | the face's own ([`crate::face`]) | calls of the other faces |
//! | [`Failure::Problem`] | RFC 9457 problem | everything else |
//!
//! Obstacles (no quorum, overload, a sealed node) say whether the write may have happened and when
//! to try again.

use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use lease::ids::TraceId;
use protocol::cloud::body::BodyError;
use protocol::cloud::denial::{DenialReason, Denied};
use protocol::cloud::problem::{self, Problem, ProblemOutcome};
use protocol::oauth::Scope;
use protocol::oauth::token::{BearerError, TokenError};
use protocol::package::PackageError;
use raft::{Executed, ReadError, SubmitError, SubmitErrorKind};

use crate::face::FaceFailure;
use crate::reply::{JSON, Reply};
use crate::routes::Protocol;
use crate::trace;

/// Why a call did not get the answer it asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A decision against a call of the `cloud` protocol.
    Denied {
        /// The body.
        denied: Box<Denied>,
        /// Seconds until asking again makes sense.
        retry_after_s: Option<u64>,
        /// The value of `WWW-Authenticate`, on 401 and 403.
        challenge: Option<String>,
        /// Whether the ledger decided, and has counted it; otherwise the gateway does.
        by_ledger: bool,
    },
    /// The token endpoint's refusal.
    Token {
        /// What it says.
        error: TokenError,
        /// Seconds until asking again makes sense.
        retry_after_s: Option<u64>,
    },
    /// What a face says in its own words, complete.
    Face(Box<FaceFailure>),
    /// Everything else.
    Problem {
        /// The body.
        problem: Box<Problem>,
        /// Seconds until asking again makes sense.
        retry_after_s: Option<u64>,
        /// The value of `WWW-Authenticate`, on 401 and 403.
        challenge: Option<String>,
    },
}

impl Failure {
    /// A problem of this kind.
    pub(crate) fn problem(status: StatusCode, code: &str, title: &str) -> Self {
        Problem::new(status.as_u16(), code, title).into()
    }

    /// A denial with nothing to offer.
    pub(crate) fn denied(reason: DenialReason) -> Self {
        Denied::because(reason).into()
    }

    /// A call without, with an invalid, or with a foreign credential: 401. What exactly was wrong
    /// is for our log only.
    pub(crate) fn unauthenticated(error: BearerError) -> Self {
        let title = match error {
            BearerError::Missing => "A bearer token is needed.",
            _ => "The token is not valid, has expired or was revoked.",
        };
        Self::Problem {
            problem: Box::new(Problem::new(401, "invalid_token", title)),
            retry_after_s: None,
            challenge: Some(error.challenge()),
        }
    }

    /// A token that lacks a scope: 403.
    pub(crate) fn insufficient_scope(scope: Scope) -> Self {
        let mut denied = Denied::because(DenialReason::InsufficientScope);
        denied.would_be_satisfied_by = Some(protocol::cloud::denial::Remedy {
            scope: Some(scope.name().to_owned()),
            ..Default::default()
        });
        Self::Denied {
            denied: Box::new(denied),
            retry_after_s: None,
            challenge: Some(BearerError::InsufficientScope(scope).challenge()),
            by_ledger: false,
        }
    }

    /// An operator whose role does not reach: 403.
    pub(crate) fn role_too_narrow(needed: &str) -> Self {
        Problem::new(403, "role_too_narrow", "The operator's role does not allow this.")
            .detail(format!("This needs the role {needed}."))
            .into()
    }

    /// A field of the request, the path or the query that will not do: 400.
    pub(crate) fn field(field: &str, reason: &str) -> Self {
        Problem::new(400, "invalid_field", "The request is not valid.")
            .detail(format!("{field}: {reason}"))
            .field(field)
            .into()
    }

    /// A node that cannot serve yet: 503.
    pub(crate) fn unavailable(code: &str, title: &str, retry_after: Duration) -> Self {
        Self::Problem {
            problem: Box::new(Problem::new(503, code, title).outcome(ProblemOutcome::NotExecuted)),
            retry_after_s: Some(whole_seconds(retry_after)),
            challenge: None,
        }
    }

    /// A caller who asks more often than may be: 429.
    pub(crate) fn too_many_requests(detail: &str, retry_after_s: u64) -> Self {
        let problem = Problem::new(429, "rate_limited", "This caller asks too often.")
            .detail(detail)
            .outcome(ProblemOutcome::NotExecuted);
        Self::Problem {
            problem: Box::new(problem),
            retry_after_s: Some(retry_after_s),
            challenge: None,
        }
    }

    /// An answer that no correct replica gives; logged where it is made.
    pub(crate) fn internal(detail: &str) -> Self {
        tracing::error!(detail, "a call ended in an impossible way");
        Self::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server is at fault.")
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        let status = match self {
            Self::Face(failure) => return failure.status,
            Self::Denied { denied, .. } => denied.reason.http_status(),
            Self::Token { error, .. } => error.http_status(),
            Self::Problem { problem, .. } => problem.status,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Seconds until asking again makes sense.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Face(_) => None,
            Self::Denied { retry_after_s, .. }
            | Self::Token { retry_after_s, .. }
            | Self::Problem { retry_after_s, .. } => *retry_after_s,
        }
    }

    /// The answer in the words of a part of the face.
    pub(crate) fn into_reply_of(self, protocol: Protocol, trace_id: TraceId) -> Reply {
        if crate::face::has_own_words(protocol) {
            self.in_words_of(protocol).into_reply()
        } else if protocol == Protocol::OAuth {
            self.for_token_endpoint().into_reply(trace_id)
        } else {
            self.into_reply(trace_id)
        }
    }

    /// The same obstacle in the words of the token endpoint, which has no others.
    pub(crate) fn for_token_endpoint(self) -> Self {
        match self {
            Self::Problem { problem, retry_after_s, .. } => {
                let error = match problem.status {
                    413 => TokenError::TooLarge,
                    500 => TokenError::ServerError,
                    429 => TokenError::TooManyRequests,
                    503.. => TokenError::TemporarilyUnavailable,
                    _ => TokenError::InvalidRequest("the request is not valid"),
                };
                Self::Token { error, retry_after_s }
            }
            other => other,
        }
    }

    /// A write that was decided, and that this node has not seen in time: 503, outcome unknown.
    pub(crate) fn not_seen_in_time() -> Self {
        SubmitError { executed: Executed::Unknown, kind: SubmitErrorKind::NoQuorum }.into()
    }

    /// The answer.
    pub(crate) fn into_reply(self, trace_id: TraceId) -> Reply {
        let status = self.status();
        let (content_type, body, retry_after_s, challenge) = match self {
            Self::Face(failure) => return failure.into_reply(),
            Self::Denied { denied, retry_after_s, challenge, .. } => {
                (JSON, json(&*denied), retry_after_s, challenge)
            }
            Self::Token { error, retry_after_s } => {
                // RFC 6749, section 5.2: a 401 names the scheme that would do.
                let challenge = (status == StatusCode::UNAUTHORIZED)
                    .then(|| "Basic realm=\"leasehold\"".to_owned());
                let is_passing = status == StatusCode::SERVICE_UNAVAILABLE;
                let soon = is_passing.then(|| whole_seconds(RETRY_SOON));
                let retry_after_s = retry_after_s.or(soon);
                (JSON, json(&error.body()), retry_after_s, challenge)
            }
            Self::Problem { mut problem, retry_after_s, challenge } => {
                problem.instance = Some(format!("urn:uuid:{}", trace::text(trace_id)));
                (PROBLEM_JSON, problem.to_bytes(), retry_after_s, challenge)
            }
        };
        let mut reply = Reply::new(status, content_type, body);
        if let Some(seconds) = retry_after_s {
            reply = reply.header(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            reply = reply.header(WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

/// 405, naming what would do.
pub(crate) fn method_not_allowed(protocol: Protocol, allowed: &str, trace_id: TraceId) -> Reply {
    let reply = Failure::problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This resource does not take this method.",
    )
    .into_reply_of(protocol, trace_id);
    match HeaderValue::from_str(allowed) {
        Ok(allowed) => reply.header(ALLOW, allowed),
        Err(_) => reply,
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem { problem: Box::new(problem), retry_after_s: None, challenge: None }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::Denied {
            denied: Box::new(denied),
            retry_after_s: None,
            challenge: None,
            by_ledger: false,
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Token { error, retry_after_s: None }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Problem::from(&error).into()
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        Problem::from(&error).into()
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let outcome = match error.executed {
            Executed::NotExecuted => ProblemOutcome::NotExecuted,
            Executed::Unknown => ProblemOutcome::Unknown,
        };
        let (problem, retry_after) = match error.kind {
            SubmitErrorKind::NoQuorum => no_quorum(),
            SubmitErrorKind::Overloaded { retry_after } => overloaded(retry_after),
            SubmitErrorKind::ShuttingDown => shutting_down(),
            SubmitErrorKind::TooLarge(reason) => (
                Problem::new(413, "too_large", "The request does not fit into one entry.")
                    .detail(reason),
                None,
            ),
            SubmitErrorKind::Failed(reason) => failed(&reason),
        };
        Self::Problem {
            problem: Box::new(problem.outcome(outcome)),
            retry_after_s: retry_after.map(whole_seconds),
            challenge: None,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (problem, retry_after) = match error {
            ReadError::NoQuorum => no_quorum(),
            ReadError::Overloaded { retry_after } => overloaded(retry_after),
            ReadError::ShuttingDown => shutting_down(),
            ReadError::Failed(reason) => failed(&reason),
        };
        Self::Problem {
            problem: Box::new(problem.outcome(ProblemOutcome::NotExecuted)),
            retry_after_s: retry_after.map(whole_seconds),
            challenge: None,
        }
    }
}

type Obstacle = (Problem, Option<Duration>);

fn no_quorum() -> Obstacle {
    let problem = Problem::new(503, "no_quorum", "No quorum of the cluster can be reached.");
    (problem, Some(RETRY_SOON))
}

fn overloaded(retry_after: Duration) -> Obstacle {
    (Problem::new(503, "overloaded", "The cluster has more to do than it can."), Some(retry_after))
}

fn shutting_down() -> Obstacle {
    let problem = Problem::new(503, "shutting_down", "This node is stopping; ask another.");
    (problem, Some(RETRY_SOON))
}

fn failed(reason: &str) -> Obstacle {
    tracing::error!(reason, "this node cannot serve any more");
    (Problem::new(503, "node_failed", "This node has failed; ask another."), Some(RETRY_SOON))
}

fn json<T: serde::Serialize>(body: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "texts and numbers are always JSON")]
    serde_json::to_vec(body).expect("an error body is JSON")
}

/// `Retry-After` counts whole seconds; zero would invite a storm.
fn whole_seconds(time: Duration) -> u64 {
    wait_seconds(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The same of milliseconds.
pub(crate) fn wait_seconds(wait_ms: u64) -> u64 {
    wait_ms.div_ceil(1_000).max(1)
}

/// Elections take less than a second in every preset but `global`.
const RETRY_SOON: Duration = Duration::from_secs(1);

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static(problem::CONTENT_TYPE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_says_when_to_try_again_and_whether_it_happened() {
        let kinds = [
            (SubmitErrorKind::NoQuorum, "no_quorum"),
            (SubmitErrorKind::Overloaded { retry_after: Duration::from_millis(20) }, "overloaded"),
            (SubmitErrorKind::ShuttingDown, "shutting_down"),
            (SubmitErrorKind::Failed("disk".to_owned()), "node_failed"),
        ];
        let executed = [
            (Executed::NotExecuted, ProblemOutcome::NotExecuted),
            (Executed::Unknown, ProblemOutcome::Unknown),
        ];
        for (kind, code) in kinds {
            for (executed, outcome) in executed {
                let failure = Failure::from(SubmitError { executed, kind: kind.clone() });
                let Failure::Problem { problem, retry_after_s, .. } = failure else {
                    panic!("not a problem")
                };
                assert_eq!((problem.status, problem.code.as_str()), (503, code));
                assert_eq!(problem.outcome, Some(outcome));
                assert_eq!(retry_after_s, Some(1));
            }
        }
    }

    #[test]
    fn the_token_endpoint_speaks_rfc_6749_only() {
        let failures = [
            (Failure::from(ReadError::NoQuorum), 503),
            (Failure::field("scope", "no"), 400),
            (Failure::from(Problem::new(413, "body_too_large", "Too long.")), 413),
            (Failure::from(Problem::new(500, "internal", "Our fault.")), 500),
            (Failure::from(TokenError::TemporarilyUnavailable), 503),
            (Failure::from(TokenError::InvalidClient), 401),
            (Failure::too_many_requests("2 a second", 3), 429),
        ];
        for (failure, status) in failures {
            let failure = failure.for_token_endpoint();
            assert!(matches!(failure, Failure::Token { .. }));
            assert_eq!(failure.status().as_u16(), status);
            let reply = failure.into_reply(TraceId(1));
            let says_when = reply.headers().any(|(name, _)| name == RETRY_AFTER);
            assert_eq!(says_when, matches!(status, 429 | 503), "{status}");
        }
    }

    #[test]
    fn a_refused_credential_names_the_scheme() {
        for failure in [
            Failure::unauthenticated(BearerError::Missing),
            Failure::unauthenticated(BearerError::InvalidToken),
            Failure::insufficient_scope(Scope::Checkout),
            Failure::from(TokenError::InvalidClient),
        ] {
            let reply = failure.into_reply(TraceId(1));
            assert!(reply.headers().any(|(name, _)| name == WWW_AUTHENTICATE));
        }
    }
}

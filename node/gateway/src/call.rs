//! One request on its way to its handler: who asks, for what, under which key.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::RawPathParams;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, StatusCode, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lease::command::{Command, Role};
use lease::entry::{Actor, Envelope};
use lease::ids::{AppId, Face, KeyOrigin, Name, NodeId, OperatorId, RequestId, TraceId};
use lease::planted::{self, Bug};
use protocol::cloud::body::{self, BodyError};
use protocol::cloud::denial::DenialReason;
use protocol::lease_id::{self, LeaseKey};
use protocol::oauth::Scopes;
use protocol::oauth::token::MAX_FORM_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::seam::{Clock, Entropy};

use crate::consistency::{self, Consistency, Staleness};
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::routes::{Credential, Operation};
use crate::trace;

/// The header, in requests and answers.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How much a client may send, and how long it may take to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyBound {
    bytes: usize,
    time: Duration,
}

impl BodyBound {
    /// Of a caller who has shown a credential.
    pub(crate) const KNOWN: Self = Self { bytes: 256 * 1024, time: Duration::from_secs(10) };
    /// Of anybody: the credential is in the form.
    pub(crate) const STRANGER: Self = Self { bytes: MAX_FORM_BYTES, time: Duration::from_secs(3) };
    /// Of anybody at a face: the credential is in the body.
    pub(crate) const FACE: Self = Self { bytes: 64 * 1024, time: Duration::from_secs(3) };
    /// Of a device, whose first server took as much.
    pub(crate) const DEVICE: Self = Self { bytes: 1024 * 1024, time: Duration::from_secs(3) };

    /// What an operation's callers may send.
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation.credential {
            _ if matches!(operation.path, "/api/activate" | "/api/verify") => Self::DEVICE,
            Credential::Face => Self::FACE,
            Credential::Nobody | Credential::Client => Self::STRANGER,
            Credential::AccessToken(_)
            | Credential::Operator(_)
            | Credential::ApiKey(_)
            | Credential::JoinToken => Self::KNOWN,
        }
    }

    /// How much of the room for strangers' bodies one takes, in shares of 64 KiB: what it
    /// announces, or all it may send.
    pub(crate) fn shares(self, headers: &HeaderMap) -> u32 {
        let most = announced_bytes(headers)
            .map_or(self.bytes as u64, |bytes| bytes.min(self.bytes as u64));
        u32::try_from(most.div_ceil(64 * 1024)).unwrap_or(u32::MAX).max(1)
    }
}

/// A request that was let in.
pub(crate) struct Call {
    /// What is asked.
    pub(crate) operation: &'static Operation,
    /// The request's line and headers.
    pub(crate) parts: request::Parts,
    /// The variable segments of the path.
    pub(crate) params: Params,
    /// Where it comes from; `None` where the listener did not say.
    pub(crate) address: Option<IpAddr>,
    /// The whole body; empty where the operation takes none.
    pub(crate) body: Bytes,
    /// Follows the request into the log.
    pub(crate) trace: TraceId,
    /// Who asks.
    pub(crate) principal: Principal,
    /// The key in force.
    pub(crate) key: Key,
    /// When it must have ended.
    pub(crate) deadline: Deadline,
    /// How fresh what it reads must be.
    pub(crate) consistency: Consistency,
    /// As of when a stale answer is, once it was read.
    pub(crate) staleness: Arc<OnceLock<Staleness>>,
}

/// The variable segments of a path with their names, percent-decoded, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Those of a request for an operation; the router found them in the path's order.
    pub(crate) fn of(operation: &'static Operation, found: &RawPathParams) -> Self {
        let values = found.iter().map(|(_name, value)| value.to_owned());
        Self(operation.path_parameters().zip(values).collect())
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Anybody.
    Anyone,
    /// An application with an access token.
    App(AppPrincipal),
    /// An operator with an operator token.
    Operator(OperatorPrincipal),
    /// Whoever shows a face's own proof; the handler judges it.
    Face(Face),
    /// A node that was invited, with a join token.
    Joiner {
        /// The id it was given.
        node: NodeId,
        /// What the ledger keeps of its token.
        token_mac: [u8; 32],
    },
}

/// An application, as its token and the ledger say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppPrincipal {
    /// The app.
    pub(crate) app: AppId,
    /// Generation of the secret its token was given for.
    pub(crate) generation: u32,
    /// The one product it may check out.
    pub(crate) product: Name,
    /// What the token allows.
    pub(crate) scopes: Scopes,
}

/// An operator, as the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperatorPrincipal {
    /// The token's row.
    pub(crate) operator: OperatorId,
    /// What it allows.
    pub(crate) role: Role,
}

/// An idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The key.
    pub(crate) text: String,
    /// Who chose it.
    pub(crate) origin: KeyOrigin,
}

impl Key {
    /// One of ours.
    pub(crate) fn drawn(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        let text = trace::draw(clock, entropy).hyphenated().to_string();
        Self { text, origin: KeyOrigin::Gateway }
    }

    /// The caller's key, or one of ours.
    pub(crate) fn of_request(
        headers: &HeaderMap,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, BodyError> {
        let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
        match (given.next(), given.next()) {
            (None, _) => Ok(Self::drawn(clock, entropy)),
            (Some(key), None) => {
                Ok(Self { text: body::idempotency_key(key.as_bytes())?, origin: KeyOrigin::Caller })
            }
            (Some(_), Some(_)) => Err(BodyError::Field {
                field: "Idempotency-Key".to_owned(),
                reason: "want one key, not several".to_owned(),
            }),
        }
    }
}

impl Principal {
    /// Its name.
    pub(crate) fn asker(&self) -> Asker {
        match self {
            Self::Anyone => Asker::Anyone,
            Self::App(app) => Asker::App(app.app),
            Self::Operator(operator) => Asker::Operator(operator.operator),
            Self::Face(face) => Asker::Face(*face),
            Self::Joiner { node, .. } => Asker::Joiner(*node),
        }
    }
}

/// A principal's name: in the access log, and in the scope of idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Empty.
    Anyone,
    /// `app-` and 16 hex digits.
    App(AppId),
    /// `operator-` and 16 hex digits.
    Operator(OperatorId),
    /// `face-` and its name: nobody in particular.
    Face(Face),
    /// `join-` and the id that a new node was given.
    Joiner(NodeId),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => Ok(()),
            Self::App(app) => write!(f, "app-{:016x}", app.0),
            Self::Operator(operator) => write!(f, "operator-{:016x}", operator.0),
            Self::Face(face) => write!(f, "face-{}", face.name()),
            Self::Joiner(node) => write!(f, "join-{node}"),
        }
    }
}

impl Call {
    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(body::decode(&self.body)?)
    }

    /// The body as JSON; an empty one is the default.
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { self.json() }
    }

    /// The query.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let query = self.parts.uri.query().unwrap_or_default();
        let query = match self.operation.has_consistency() {
            true => consistency::without_parameter(query),
            false => query.into(),
        };
        serde_urlencoded::from_str(&query)
            .map_err(|error| Failure::field("query", &error.to_string()))
    }

    /// The application that asks.
    pub(crate) fn app(&self) -> Result<&AppPrincipal, Failure> {
        match &self.principal {
            Principal::App(app) => Ok(app),
            _ => Err(Failure::internal("a lease call without an application")),
        }
    }

    /// The variable segment of the path of an operation that has one.
    pub(crate) fn subject(&self) -> Result<&str, Failure> {
        match self.params.0.as_slice() {
            [(_name, value)] => Ok(value),
            _ => Err(Failure::internal("a call without its one path parameter")),
        }
    }

    /// A variable segment of the path, percent-decoded.
    pub(crate) fn param(&self, name: &str) -> Result<&str, Failure> {
        let mut params = self.params.0.iter();
        match params.find(|(its_name, _)| *its_name == name) {
            Some((_, value)) => Ok(value),
            None => Err(Failure::internal("a call without its path parameter")),
        }
    }

    /// A header's text; `None` when it is missing, there twice, or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.parts.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// The lease in the path, if it is one of ours.
    pub(crate) fn lease(&self, keys: &Keys) -> Result<LeaseKey, Failure> {
        lease_id::decode(&keys.lease_id, self.subject()?)
            .map_err(|_| Failure::denied(DenialReason::UnknownLease))
    }

    /// What makes the call happen once. `request` is the call's typed body, so that two spellings
    /// of one request are one request; the path's variable segments belong to it.
    pub(crate) fn request_id<T: Serialize>(&self, request: &T) -> RequestId {
        let mut canonical = Vec::with_capacity(256);
        match self.params.0.as_slice() {
            [(_name, subject)] => {
                canonical.extend_from_slice(subject.as_bytes());
                canonical.push(0);
            }
            several => {
                for (_name, value) in several {
                    // With their lengths, so that no two paths share bytes.
                    canonical.extend_from_slice(&(value.len() as u64).to_be_bytes());
                    canonical.extend_from_slice(value.as_bytes());
                }
            }
        }
        #[expect(clippy::expect_used, reason = "wire types hold texts, numbers and lists only")]
        serde_json::to_writer(&mut canonical, request).expect("a request is JSON");
        self.request_id_of(&canonical)
    }

    /// The same for a body that is canonical already.
    pub(crate) fn request_id_of(&self, canonical: &[u8]) -> RequestId {
        let mut asker = self.principal.asker().to_string();
        if planted::is(Bug::KeyOfAnotherApp) {
            asker.clear();
        }
        RequestId {
            scope: RequestId::scope_of(&asker, self.operation.id, &self.key.text),
            body: RequestId::body_of(canonical),
            origin: self.key.origin,
        }
    }

    /// A command under this call's authority.
    pub(crate) fn envelope(
        &self,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Envelope, Failure> {
        let actor = match &self.principal {
            Principal::App(app) => Actor::App { app: app.app, generation: app.generation },
            Principal::Operator(operator) => Actor::Operator(operator.operator),
            Principal::Face(face) => Actor::Face(*face),
            Principal::Anyone | Principal::Joiner { .. } => {
                return Err(Failure::internal("a command without an actor"));
            }
        };
        Ok(Envelope { actor, request, trace: self.trace, cause: None, command })
    }
}

/// Reads a body up to the bound; more is 413, too slow is 408.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bound: BodyBound,
) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::from(
            protocol::cloud::problem::Problem::new(413, "body_too_large", "The body is too long.")
                .detail(format!("at most {} bytes are read", bound.bytes)),
        )
    };
    if announced_bytes(headers).is_some_and(|length| length > bound.bytes as u64) {
        return Err(too_large());
    }
    let collected = Limited::new(body, bound.bytes).collect();
    match tokio::time::timeout(bound.time, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Failure::problem(
            StatusCode::BAD_REQUEST,
            "body_incomplete",
            "The body did not arrive whole.",
        )),
        Err(_) => Err(Failure::problem(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long to arrive.",
        )),
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use storage::seam::{RealClock, RealEntropy};
    use tower::ServiceExt;

    use super::*;
    use crate::reply::Reply;
    use crate::routes::{Protocol, RequestShape, Verb};

    #[test]
    fn a_key_is_the_callers_or_ours_and_never_a_guess() {
        type Row = (&'static [&'static str], Option<(&'static str, KeyOrigin)>);
        let table: [Row; 6] = [
            (&["order-7"], Some(("order-7", KeyOrigin::Caller))),
            (&["\"order-7\""], Some(("order-7", KeyOrigin::Caller))),
            (&[""], None),
            (&["two words"], None),
            (&["one", "two"], None),
            (&["caf\u{e9}"], None),
        ];
        for (given, want) in table {
            let mut headers = HeaderMap::new();
            for key in given {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key.as_bytes()).unwrap());
            }
            let key = Key::of_request(&headers, &RealClock::new(), &RealEntropy).ok();
            let want = want.map(|(text, origin)| Key { text: text.to_owned(), origin });
            assert_eq!(key, want, "{given:?}");
        }
        let ours = Key::of_request(&HeaderMap::new(), &RealClock::new(), &RealEntropy).unwrap();
        assert_eq!((ours.text.len(), ours.origin), (36, KeyOrigin::Gateway));
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_bound_and_not_beyond() {
        let too_large = Some(StatusCode::PAYLOAD_TOO_LARGE);
        for bound in [BodyBound::KNOWN, BodyBound::STRANGER, BodyBound::FACE, BodyBound::DEVICE] {
            let headers = HeaderMap::new();
            let at_bound = read_body(&headers, Body::from(vec![b' '; bound.bytes]), bound).await;
            assert_eq!(at_bound.map(|body| body.len()).ok(), Some(bound.bytes));
            let beyond = read_body(&headers, Body::from(vec![b' '; bound.bytes + 1]), bound).await;
            assert_eq!(beyond.err().map(|failure| failure.status()), too_large);
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("99999999"));
            let announced = read_body(&headers, Body::empty(), bound).await;
            assert_eq!(announced.err().map(|failure| failure.status()), too_large);
        }
    }

    #[tokio::test]
    async fn segments_have_names_and_are_decoded() {
        static ROW: Operation = Operation {
            id: "showPlace",
            method: Verb::Get,
            path: "/a/{first}/b/{second}",
            credential: Credential::Nobody,
            protocol: Protocol::Operations,
            summary: "Shows a place.",
            request: RequestShape::Nothing,
            answers: &[],
            failures: &[],
            handler: |_, _| Box::pin(async { Ok(Reply::no_content()) }),
        };
        let show =
            |found: RawPathParams| async move { format!("{:?}", Params::of(&ROW, &found).0) };
        let router = axum::Router::new().route(ROW.path, axum::routing::get(show));
        let path = "/a/ECU%20Development%2FSuite/b/x";
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        let want = r#"[("first", "ECU Development/Suite"), ("second", "x")]"#;
        assert_eq!(std::str::from_utf8(&body).unwrap(), want);
        assert_eq!(ROW.path_with(|name| format!("<{name}>")), "/a/<first>/b/<second>");
    }

    #[test]
    fn a_stranger_takes_room_for_what_may_come() {
        let table = [
            (BodyBound::STRANGER, None, 1),
            (BodyBound::FACE, None, 1),
            (BodyBound::DEVICE, None, 16),
            (BodyBound::DEVICE, Some("512"), 1),
            (BodyBound::DEVICE, Some("65537"), 2),
            (BodyBound::DEVICE, Some("99999999999999"), 16),
            (BodyBound::FACE, Some("0"), 1),
        ];
        for (bound, announced, want) in table {
            let mut headers = HeaderMap::new();
            if let Some(length) = announced {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            assert_eq!(bound.shares(&headers), want, "{announced:?}");
        }
    }
}

//! What a route is. The routes themselves are in `route_table`; what is not there does not exist.
//!
//! The router, the OpenAPI document and the route-by-credential tests are all made from it, so
//! that none of them can know an operation the others do not. Each row says what an operation is
//! called, where it is, who may ask, and in which words its errors come.

use std::sync::Arc;

use axum::routing::MethodFilter;
use futures_util::future::BoxFuture;
use http::Method;
use lease::command::Role;
use protocol::oauth::Scope;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::route_table::OPERATIONS;
use crate::shared::Shared;

/// One thing that can be asked.
#[derive(Debug)]
pub struct Operation {
    /// Its name: unique, stable, part of the scope of idempotency keys.
    pub id: &'static str,
    /// How it is asked.
    pub method: Verb,
    /// Where, with at most one variable segment in braces.
    pub path: &'static str,
    /// Who may ask.
    pub credential: Credential,
    /// Which part of the face it belongs to.
    pub protocol: Protocol,
    /// One sentence.
    pub summary: &'static str,
    pub(crate) request: RequestShape,
    pub(crate) answers: &'static [Answer],
    pub(crate) failures: &'static [u16],
    pub(crate) handler: Handler,
}

/// A method of HTTP that an operation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`, and with it `HEAD`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Anybody who can connect.
    Nobody,
    /// An application with its client id and secret.
    Client,
    /// An application with an access token that allows this scope.
    AccessToken(Scope),
    /// An operator with this role or a wider one.
    Operator(Role),
}

/// Part of the face; decides the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Calls of applications: denials and problems.
    Cloud,
    /// The token endpoint and its documents: RFC 6749 errors.
    OAuth,
    /// Calls of operators: problems.
    Admin,
    /// Probes, metrics, this document: text or problems.
    Operations,
}

pub(crate) type Handler = fn(Arc<Shared>, Call) -> BoxFuture<'static, Result<Reply, Failure>>;
/// Adds a type's schemas to the components and refers to it.
pub(crate) type SchemaOf = fn(&mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema>;

/// What a request brings beside its path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RequestShape {
    /// Nothing.
    Nothing,
    /// A query.
    Query(fn() -> Vec<utoipa::openapi::path::Parameter>),
    /// A form.
    Form(SchemaOf),
    /// A JSON body.
    Json(SchemaOf),
    /// A JSON body that may be left out.
    OptionalJson(SchemaOf),
}

/// A way to succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) description: &'static str,
    pub(crate) body: AnswerBody,
}

/// What a success holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnswerBody {
    /// Nothing.
    Nothing,
    /// JSON of this shape.
    Json(SchemaOf),
    /// Any JSON object.
    AnyJson,
    /// Text.
    Text,
}

impl Verb {
    /// The method of HTTP.
    pub fn http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
        }
    }

    pub(crate) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

impl Operation {
    /// Whether it changes something, and so has an idempotency key.
    pub fn is_keyed(&self) -> bool {
        self.method != Verb::Get && self.credential != Credential::Client
    }

    /// The name of the variable segment of the path, where there is one.
    pub fn path_parameter(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        rest.split_once('}').map(|(name, _)| name)
    }

    /// Whether this node must have applied its own log first. How the cluster stands is asked most
    /// urgently where it has not, and the answer is made of what each node says of itself.
    pub(crate) fn needs_recovery(&self) -> bool {
        self.id != "showCluster"
    }

    pub(crate) fn takes_body(&self) -> bool {
        !matches!(self.request, RequestShape::Nothing | RequestShape::Query(_))
    }
}

/// Every operation.
pub fn operations() -> &'static [Operation] {
    OPERATIONS
}

/// Whether a path is one that watchers of the node ask, also when it is overloaded.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// The methods of a path that exists, for `Allow`.
pub(crate) fn allowed_methods(path: &str) -> String {
    let mut allowed = Vec::new();
    let matching: Vec<&Operation> =
        OPERATIONS.iter().filter(|operation| path_matches(operation.path, path)).collect();
    // `/licenses/discover` also fits `/licenses/{lease_id}`; the router takes the fixed one.
    let is_fixed = matching.iter().any(|operation| operation.path == path);
    for operation in matching.iter().filter(|operation| !is_fixed || operation.path == path) {
        allowed.push(operation.method.http().to_string());
        if operation.method == Verb::Get {
            allowed.push(Method::HEAD.to_string());
        }
    }
    allowed.sort_unstable();
    allowed.join(", ")
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fits = pattern.split('/').all(|want| {
        segments
            .next()
            .is_some_and(|have| if want.starts_with('{') { !have.is_empty() } else { have == want })
    });
    fits && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_places_are_unique() {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for operation in operations() {
            assert!(ids.insert(operation.id), "{} twice", operation.id);
            let place = (operation.method.http().to_string(), operation.path);
            assert!(places.insert(place), "{} has another's place", operation.id);
        }
    }

    #[test]
    fn the_exceptions_exist() {
        let exempt = operations().iter().filter(|operation| is_probe(operation.path));
        assert_eq!(exempt.count(), 3);
        let at_once = operations().iter().filter(|operation| !operation.needs_recovery());
        assert_eq!(
            at_once.map(|operation| operation.path).collect::<Vec<_>>(),
            ["/admin/cluster/status"]
        );
    }

    #[test]
    fn rows_are_consistent() {
        for operation in operations() {
            let id = operation.id;
            assert!(operation.path.starts_with('/'), "{id}");
            assert!(operation.path.matches('{').count() <= 1, "{id}: one variable segment");
            assert!(operation.summary.ends_with('.'), "{id}");
            assert!(!operation.answers.is_empty(), "{id}");
            assert!(operation.answers.iter().all(|answer| (200..300).contains(&answer.status)));
            assert!(operation.failures.is_sorted(), "{id}");
            let needs_credential = operation.credential != Credential::Nobody;
            assert_eq!(operation.failures.contains(&401), needs_credential, "{id}");
            assert_eq!(operation.failures.contains(&413), operation.takes_body(), "{id}");
            if operation.path.starts_with("/admin/") {
                assert!(matches!(operation.credential, Credential::Operator(_)), "{id}");
            }
            if operation.path.starts_with("/api/") {
                assert!(matches!(operation.credential, Credential::AccessToken(_)), "{id}");
            }
            if operation.method != Verb::Get {
                assert!(needs_credential, "{id} changes something for anybody");
            }
        }
    }

    #[test]
    fn allow_names_what_a_path_takes() {
        let table = [
            ("/api/v1/licenses/discover", "GET, HEAD"),
            ("/api/v1/licenses/checkout", "POST"),
            ("/api/v1/licenses/lease-x", "GET, HEAD"),
            ("/api/v1/licenses/lease-x/return", "POST"),
            ("/admin/vendors", "GET, HEAD, POST"),
            ("/admin/apps/app-1", "DELETE"),
            ("/nowhere", ""),
        ];
        for (path, allowed) in table {
            assert_eq!(allowed_methods(path), allowed, "{path}");
        }
    }
}

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
use lease::ids::Face;
use protocol::oauth::Scope;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::call::Call;
use crate::context::Faces;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::route_table;
use crate::shared::Shared;

/// One thing that can be asked.
#[derive(Debug)]
pub struct Operation {
    /// Its name: unique, stable, part of the scope of idempotency keys.
    pub id: &'static str,
    /// How it is asked.
    pub method: Verb,
    /// Where; variable segments in braces, each with a name of its own.
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
    /// The same, by `X-API-Key`: an operator token, or a key that the device protocol's admin tools
    /// were given.
    ApiKey(Role),
    /// Whoever shows the face's own proof in the request: a license key, an activation id, a
    /// signature. The handler judges it.
    Face,
    /// A new node, with the join token that it was handed.
    JoinToken,
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
    /// Software bound to devices: `{"error","message"}`.
    Device,
    /// The device protocol's admin tools: the same.
    DeviceAdmin,
    /// Self-hosted clusters of another product: `{"error","message"}`, the first a code.
    Deployment,
    /// Evaluation and OEM software: `{"ok","detail"}`.
    Evaluation,
    /// The older borrow and return API: `{"detail"}`. There is none while it is switched off.
    Classic,
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
    /// The same, or rows of text where the caller asks for them.
    JsonOrCsv(SchemaOf),
    /// Any JSON object.
    AnyJson,
    /// Text.
    Text,
    /// Text of this media type.
    Media(&'static str),
    /// A file.
    Bytes,
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

impl Protocol {
    /// The ledger's name of the face, for those whose callers carry their own proof.
    pub fn face(self) -> Option<Face> {
        match self {
            Self::Device => Some(Face::Device),
            Self::Deployment => Some(Face::Deployment),
            Self::Evaluation => Some(Face::Evaluation),
            Self::Classic => Some(Face::Classic),
            Self::Cloud | Self::OAuth | Self::Admin | Self::DeviceAdmin | Self::Operations => None,
        }
    }
}

impl Operation {
    /// Whether it changes something, and so has an idempotency key. Callers of faces have no name
    /// of their own, so their keys could meet: what they ask is repeatable by itself.
    pub fn is_keyed(&self) -> bool {
        self.method != Verb::Get
            && !matches!(
                self.credential,
                Credential::Client | Credential::Face | Credential::JoinToken
            )
    }

    /// The names of the path's variable segments, in order.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.path.split('/').filter_map(variable)
    }

    /// The path with every variable segment replaced.
    pub fn path_with(&self, value: impl Fn(&str) -> String) -> String {
        let segments = self.path.split('/').map(|segment| match variable(segment) {
            Some(name) => value(name),
            None => segment.to_owned(),
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Whether this node must have applied its own log first. How the cluster stands is asked most
    /// urgently where it has not, and the answer is made of what each node says of itself.
    pub(crate) fn needs_recovery(&self) -> bool {
        !matches!(self.id, "showCluster" | "listAlarms")
    }

    /// Where else it is: with the slash that people type, and where the schema of packages says
    /// that it is.
    pub(crate) fn also_at(&self) -> Option<&'static str> {
        match self.id {
            "getDocs" => Some("/docs/"),
            "getPackageSchema" => Some("/v1/package.schema.json"),
            _ => None,
        }
    }

    /// Whether the caller chooses between a linearizable and a stale answer.
    pub(crate) fn has_consistency(&self) -> bool {
        self.method == Verb::Get && matches!(self.protocol, Protocol::Cloud | Protocol::Admin)
    }

    /// Whether callers are counted by their address: they show no credential before their body is
    /// read, and what watches the node is never turned away.
    pub(crate) fn counts_addresses(&self) -> bool {
        matches!(self.credential, Credential::Nobody | Credential::Client | Credential::Face)
            && !is_probe(self.path)
    }

    /// Whether it keeps, verifies or gives back what the caller holds, and takes nothing new: no
    /// other request may use up the rate of these.
    pub(crate) fn is_for_what_is_held(&self) -> bool {
        FOR_WHAT_IS_HELD.contains(&self.id)
    }

    pub(crate) fn takes_body(&self) -> bool {
        !matches!(self.request, RequestShape::Nothing | RequestShape::Query(_))
    }
}

/// Renewals, returns, verifications, deactivations, by the ids of their operations.
pub(crate) const FOR_WHAT_IS_HELD: &[&str] = &[
    "renewLease",
    "renewLeases",
    "returnLease",
    "returnBorrow",
    "validateOfflineToken",
    "heartbeatCluster",
    "deactivateCluster",
    "verifyDevice",
    "checkTrial",
    "queryTrial",
    "validateEvaluation",
    "validateEvaluationAlias",
    "classicReturn",
];

/// Every operation, of every part of the face.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    route_table::operations()
}

/// Every operation that a node with these faces has.
pub(crate) fn served(faces: &Faces) -> impl Iterator<Item = &'static Operation> + use<> {
    let has_classic = faces.classic.is_some();
    operations().filter(move |row| has_classic || row.protocol != Protocol::Classic)
}

/// Whether a path is one that watchers of the node ask, also when it is overloaded.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// The methods of a path that exists, for `Allow`.
pub(crate) fn allowed_methods(path: &str, faces: &Faces) -> String {
    let mut allowed = Vec::new();
    for operation in at_path(path, faces) {
        allowed.push(operation.method.http().to_string());
        if operation.method == Verb::Get {
            allowed.push(Method::HEAD.to_string());
        }
    }
    allowed.sort_unstable();
    allowed.join(", ")
}

/// In whose words to answer what reaches no operation of a path: those of what is there, else of
/// what is there around it. The words of the token endpoint are for calls that reach it.
pub(crate) fn protocol_at(path: &str, faces: &Faces) -> Protocol {
    match at_path(path, faces).first().map(|operation| operation.protocol) {
        Some(Protocol::OAuth) => return Protocol::Operations,
        Some(protocol) => return protocol,
        None => {}
    }
    let around = AROUND.iter().find(|(beginning, _)| path.starts_with(beginning));
    match around.map(|(_, protocol)| *protocol) {
        Some(Protocol::Classic) if faces.classic.is_none() => Protocol::Operations,
        Some(protocol) => protocol,
        None => Protocol::Operations,
    }
}

/// The operations of one place. `/licenses/discover` also fits `/licenses/{lease_id}`; like the
/// router, this takes the fixed segment over the variable one.
fn at_path(path: &str, faces: &Faces) -> Vec<&'static Operation> {
    let fits = |operation: &&Operation| path_matches(operation.path, path);
    let fitting: Vec<&Operation> = served(faces).filter(fits).collect();
    let shape = |operation: &Operation| -> Vec<bool> {
        operation.path.split('/').map(|segment| variable(segment).is_some()).collect()
    };
    let closest = fitting.iter().map(|operation| shape(operation)).min();
    fitting.into_iter().filter(|operation| Some(shape(operation)) == closest).collect()
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fits = pattern.split('/').all(|want| {
        segments.next().is_some_and(|have| {
            if variable(want).is_some() { !have.is_empty() } else { have == want }
        })
    });
    fits && segments.next().is_none()
}

/// The name in a variable segment.
fn variable(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// Whose words are spoken where nothing is; the first that fits.
const AROUND: [(&str, Protocol); 16] = [
    ("/api/v1/", Protocol::Cloud),
    ("/api/admin/", Protocol::DeviceAdmin),
    ("/api/clients", Protocol::DeviceAdmin),
    ("/api/licenses", Protocol::DeviceAdmin),
    ("/api/products", Protocol::DeviceAdmin),
    ("/api/subscri", Protocol::DeviceAdmin),
    ("/api/entitlements", Protocol::DeviceAdmin),
    ("/api/", Protocol::Device),
    ("/v1/license/", Protocol::Deployment),
    ("/v1/telemetry", Protocol::Deployment),
    ("/v1/activate", Protocol::Evaluation),
    ("/v1/validate", Protocol::Evaluation),
    ("/v1/v1/", Protocol::Evaluation),
    ("/licenses/", Protocol::Classic),
    ("/config/", Protocol::Classic),
    ("/realtime/", Protocol::Classic),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::context::ClassicFace;

    /// A node with everything switched on.
    fn everything() -> Faces {
        Faces { classic: Some(ClassicFace::default()), ..Faces::default() }
    }

    #[test]
    fn what_is_for_what_is_held_exists() {
        for id in FOR_WHAT_IS_HELD {
            assert!(operations().any(|operation| operation.id == *id), "{id}");
        }
    }

    #[test]
    fn names_and_places_are_unique() {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        let mut spellings = BTreeMap::new();
        for operation in operations() {
            assert!(ids.insert(operation.id), "{} twice", operation.id);
            let shape = operation.path_with(|_| "*".to_owned());
            let place = (operation.method.http().to_string(), shape.clone());
            assert!(places.insert(place), "{} has another's place", operation.id);
            let spelling = spellings.entry(shape).or_insert(operation.path);
            assert_eq!(*spelling, operation.path, "{}: one place, one spelling", operation.id);
            let names: BTreeSet<_> = operation.path_parameters().collect();
            assert_eq!(names.len(), operation.path_parameters().count(), "{}", operation.id);
        }
    }

    #[test]
    fn the_exceptions_exist() {
        let exempt = operations().filter(|operation| is_probe(operation.path));
        assert_eq!(exempt.count(), 3);
        let at_once = operations().filter(|operation| !operation.needs_recovery());
        assert_eq!(
            at_once.map(|operation| operation.path).collect::<Vec<_>>(),
            ["/admin/cluster/status", "/admin/alarms"]
        );
    }

    #[test]
    fn rows_are_consistent() {
        for operation in operations() {
            let id = operation.id;
            assert!(operation.path.starts_with('/'), "{id}");
            let braces = operation.path.matches(['{', '}']).count();
            assert_eq!(braces, 2 * operation.path_parameters().count(), "{id}: whole segments");
            assert!(operation.summary.ends_with('.'), "{id}");
            assert!(!operation.answers.is_empty(), "{id}");
            assert!(operation.answers.iter().all(|answer| (200..300).contains(&answer.status)));
            assert!(operation.failures.is_sorted(), "{id}");
            let needs_credential = operation.credential != Credential::Nobody;
            // A face may say otherwise that it does not believe what it was shown.
            if operation.credential != Credential::Face {
                assert_eq!(operation.failures.contains(&401), needs_credential, "{id}");
            }
            assert_eq!(operation.failures.contains(&413), operation.takes_body(), "{id}");
            check_credential(operation);
            if operation.method != Verb::Get {
                assert!(needs_credential, "{id} changes something for anybody");
            }
        }
    }

    /// Which part of the face takes which credential.
    fn check_credential(operation: &Operation) {
        let credential = operation.credential;
        let fits = match operation.protocol {
            Protocol::Cloud => matches!(credential, Credential::AccessToken(_)),
            Protocol::OAuth => matches!(credential, Credential::Client | Credential::Nobody),
            Protocol::Admin => {
                matches!(credential, Credential::Operator(_) | Credential::JoinToken)
            }
            Protocol::DeviceAdmin => matches!(credential, Credential::ApiKey(_)),
            Protocol::Device | Protocol::Deployment | Protocol::Evaluation | Protocol::Classic => {
                matches!(credential, Credential::Face | Credential::Nobody)
            }
            Protocol::Operations => credential == Credential::Nobody,
        };
        assert!(fits, "{}: {:?} of {:?}", operation.id, credential, operation.protocol);
        if operation.path.starts_with("/admin/") {
            assert_eq!(operation.protocol, Protocol::Admin, "{}", operation.id);
        }
        if operation.path.starts_with("/api/v1/") {
            assert_eq!(operation.protocol, Protocol::Cloud, "{}", operation.id);
        }
    }

    #[test]
    fn a_face_speaks_where_it_is_and_around_it() {
        let on = everything();
        let off = Faces::default();
        let table = [
            ("/api/v1/licenses/checkout", Protocol::Cloud, Protocol::Cloud),
            ("/api/v1/nothing", Protocol::Cloud, Protocol::Cloud),
            ("/oauth/token", Protocol::Operations, Protocol::Operations),
            ("/api/products/x/nothing", Protocol::DeviceAdmin, Protocol::DeviceAdmin),
            ("/api/nothing", Protocol::Device, Protocol::Device),
            ("/v1/license/nothing", Protocol::Deployment, Protocol::Deployment),
            ("/v1/activate/nothing", Protocol::Evaluation, Protocol::Evaluation),
            ("/licenses/x/nothing", Protocol::Classic, Protocol::Operations),
            ("/nothing", Protocol::Operations, Protocol::Operations),
        ];
        for (path, switched_on, switched_off) in table {
            assert_eq!(protocol_at(path, &on), switched_on, "{path}");
            assert_eq!(protocol_at(path, &off), switched_off, "{path}");
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
            assert_eq!(allowed_methods(path, &Faces::default()), allowed, "{path}");
        }
    }
}

//! The OpenAPI 3.1 document, made from the route table and the wire types.
//!
//! `client/openapi/openapi.json` is a copy that SDK authors read; a test keeps it equal.

mod codes;
mod complete;
mod example;
mod ordered;
mod prose;
mod requests;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use protocol::cloud::denial::Denied;
use protocol::cloud::problem::{self, Problem};
use protocol::oauth::Scope;
use protocol::oauth::token::TokenErrorBody;
use utoipa::ToSchema;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, ClientCredentials, Flow, Http, HttpAuthScheme, OAuth2, Scopes,
    SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    OpenApiVersion, Ref, RefOr, Required, Response, ResponseBuilder, ResponsesBuilder, Tag,
};

use crate::auth::role_name;
use crate::context::Faces;
use crate::face::{ClassicError, DeploymentError, DeviceError, EvaluationError};
use crate::routes::{
    self, AnswerBody, Credential, Operation, Protocol, RequestShape, SchemaOf, Verb, operations,
};
use ordered::Ordered;

/// The document as pretty-printed JSON with a newline at the end: every operation there is.
pub fn document() -> String {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| render(operations())).clone()
}

/// The document of a node with these faces.
pub(crate) fn served(faces: &Faces) -> String {
    if faces.classic.is_some() {
        return document();
    }
    static WITHOUT_CLASSIC: OnceLock<String> = OnceLock::new();
    WITHOUT_CLASSIC.get_or_init(|| render(routes::served(&Faces::default()))).clone()
}

fn render(operations: impl Iterator<Item = &'static Operation>) -> String {
    let operations: Vec<&Operation> = operations.collect();
    let base = build(operations.iter().copied());
    #[expect(clippy::expect_used, reason = "the document is made of texts and numbers")]
    let base = serde_json::to_value(&base).expect("the document is JSON");
    let whole = complete::complete(base, operations.into_iter());
    #[expect(clippy::expect_used, reason = "the document is made of texts and numbers")]
    let mut text = serde_json::to_string_pretty(&Ordered(&whole)).expect("the document is JSON");
    text.push('\n');
    text
}

type Schemas = Vec<(String, RefOr<Schema>)>;

fn build(operations: impl Iterator<Item = &'static Operation>) -> OpenApi {
    let mut schemas = Schemas::new();
    let mut paths = PathsBuilder::new();
    for operation in operations {
        let item = describe(operation, &mut schemas);
        paths = paths.path(
            operation.path,
            utoipa::openapi::path::PathItem::new(method(operation.method), item),
        );
    }
    add::<Denied>(&mut schemas);
    add::<Problem>(&mut schemas);
    add::<TokenErrorBody>(&mut schemas);
    add::<DeviceError>(&mut schemas);
    add::<DeploymentError>(&mut schemas);
    add::<EvaluationError>(&mut schemas);
    add::<ClassicError>(&mut schemas);
    let sorted: BTreeMap<String, RefOr<Schema>> = schemas.into_iter().collect();
    let mut components = ComponentsBuilder::new();
    for (name, schema) in sorted {
        components = components.schema(name, schema);
    }
    let components = components
        .security_scheme(ACCESS_TOKEN, access_token_scheme())
        .security_scheme(CLIENT, SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)))
        .security_scheme(OPERATOR_TOKEN, operator_token_scheme())
        .security_scheme(JOIN_TOKEN, join_token_scheme())
        .security_scheme(API_KEY, api_key_scheme())
        .build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(
            InfoBuilder::new()
                .title("Leasehold")
                .version(env!("CARGO_PKG_VERSION"))
                .license(Some(
                    LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
                ))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components))
        .tags(Some(TAGS.map(|(name, description)| {
            let mut tag = Tag::new(name);
            tag.description = Some(description.to_owned());
            tag
        })))
        .build()
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> utoipa::openapi::path::Operation {
    let mut builder = OperationBuilder::new()
        .operation_id(Some(operation.id))
        .summary(Some(operation.summary))
        .tag(tag(operation.protocol));
    for name in operation.path_parameters() {
        builder = builder.parameter(path_parameter(name));
    }
    if let RequestShape::Query(parameters) = operation.request {
        for parameter in parameters() {
            builder = builder.parameter(parameter);
        }
    }
    if operation.is_keyed() {
        builder = builder.parameter(header_parameter(
            "Idempotency-Key",
            "1 to 128 visible characters that make the call happen once; chosen by the server \
             when left out. The answer names the key in force.",
        ));
    }
    builder = builder.parameter(header_parameter(
        "X-Request-Id",
        "A UUID that follows the request into logs and audit; chosen by the server when left out.",
    ));
    if let Some(body) = request_body(operation, schemas) {
        builder = builder.request_body(Some(body));
    }
    if let Some(requirement) = security(operation.credential) {
        builder = builder.security(requirement);
    }
    builder.responses(responses(operation, schemas)).build()
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> utoipa::openapi::response::Responses {
    let mut responses = ResponsesBuilder::new();
    for answer in operation.answers {
        let response = ResponseBuilder::new().description(answer.description);
        let response = match answer.body {
            AnswerBody::Nothing => response,
            AnswerBody::Json(schema) => {
                response.content(JSON, ContentBuilder::new().schema(Some(schema(schemas))).build())
            }
            AnswerBody::JsonOrCsv(schema) => response
                .content(JSON, ContentBuilder::new().schema(Some(schema(schemas))).build())
                .content("text/csv", ContentBuilder::new().schema(Some(text_schema())).build()),
            AnswerBody::AnyJson => {
                response.content(JSON, ContentBuilder::new().schema(Some(Object::new())).build())
            }
            AnswerBody::Text => response
                .content("text/plain", ContentBuilder::new().schema(Some(text_schema())).build()),
            AnswerBody::Media(media_type) if media_type.ends_with("+json") => response
                .content(media_type, ContentBuilder::new().schema(Some(Object::new())).build()),
            AnswerBody::Media(media_type) => response
                .content(media_type, ContentBuilder::new().schema(Some(text_schema())).build()),
            AnswerBody::Bytes => {
                response.content("application/octet-stream", ContentBuilder::new().build())
            }
        };
        responses = responses.response(answer.status.to_string(), response.build());
    }
    for status in codes::statuses(operation) {
        responses = responses.response(status.to_string(), failure(operation.protocol, status));
    }
    responses.build()
}

/// What a failed call holds, by the part of the face it belongs to.
fn failure(protocol: Protocol, status: u16) -> Response {
    let content = |name: &str| {
        ContentBuilder::new()
            .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(name))))
            .build()
    };
    let response = ResponseBuilder::new().description(prose::meaning(status));
    match protocol {
        Protocol::Cloud => response
            .content(JSON, content("Denied"))
            .content(problem::CONTENT_TYPE, content("Problem")),
        Protocol::OAuth => response.content(JSON, content("TokenErrorBody")),
        Protocol::Admin => response.content(problem::CONTENT_TYPE, content("Problem")),
        Protocol::Device | Protocol::DeviceAdmin => response.content(JSON, content("DeviceError")),
        Protocol::Deployment => response.content(JSON, content("DeploymentError")),
        Protocol::Evaluation => response.content(JSON, content("EvaluationError")),
        Protocol::Classic => response.content(JSON, content("ClassicError")),
        Protocol::Operations => response
            .content("text/plain", ContentBuilder::new().schema(Some(text_schema())).build()),
    }
    .build()
}

fn request_body(operation: &Operation, schemas: &mut Schemas) -> Option<RequestBody> {
    let (media_type, schema, required): (&str, SchemaOf, Required) = match operation.request {
        RequestShape::Nothing | RequestShape::Query(_) => return None,
        RequestShape::Form(schema) => ("application/x-www-form-urlencoded", schema, Required::True),
        RequestShape::Json(schema) => (JSON, schema, Required::True),
        RequestShape::OptionalJson(schema) => (JSON, schema, Required::False),
    };
    let content = ContentBuilder::new().schema(Some(schema(schemas))).build();
    Some(RequestBodyBuilder::new().content(media_type, content).required(Some(required)).build())
}

fn path_parameter(name: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(text_schema()))
        .build()
}

fn header_parameter(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(text_schema()))
        .build()
}

fn text_schema() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build())
}

fn security(credential: Credential) -> Option<SecurityRequirement> {
    match credential {
        // A face finds its proof in the body.
        Credential::Nobody | Credential::Face => None,
        Credential::Client => Some(SecurityRequirement::new(CLIENT, NO_SCOPES)),
        Credential::AccessToken(scope) => {
            Some(SecurityRequirement::new(ACCESS_TOKEN, [scope.name()]))
        }
        // OpenAPI 3.1 lets a requirement of any scheme name roles.
        Credential::Operator(role) => {
            Some(SecurityRequirement::new(OPERATOR_TOKEN, [role_name(role)]))
        }
        Credential::ApiKey(role) => Some(SecurityRequirement::new(API_KEY, [role_name(role)])),
        Credential::JoinToken => Some(SecurityRequirement::new(JOIN_TOKEN, NO_SCOPES)),
    }
}

fn access_token_scheme() -> SecurityScheme {
    let scopes = Scopes::from_iter(Scope::ALL.map(|scope| (scope.name(), describe_scope(scope))));
    SecurityScheme::OAuth2(OAuth2::with_description(
        [Flow::ClientCredentials(ClientCredentials::new("/oauth/token", scopes))],
        "An access token of this cluster, for an hour.",
    ))
}

fn join_token_scheme() -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.bearer_format = Some("lhj1_ and base64url".to_owned());
    scheme.description = Some("What a new node was handed, to join once.".to_owned());
    SecurityScheme::Http(scheme)
}

fn operator_token_scheme() -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.bearer_format = Some("lh_op_ and 43 characters of base64url".to_owned());
    scheme.description = Some("An operator token; its role bounds what it may do.".to_owned());
    SecurityScheme::Http(scheme)
}

fn api_key_scheme() -> SecurityScheme {
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
        "X-API-Key",
        "An operator token, or a key of 48 upper-case hex digits that stands for one.",
    )))
}

fn describe_scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Checkout => "Take seats, and renew what was taken.",
        Scope::Return => "Give seats back.",
        Scope::Read => "Look at one's own leases and at what is offered.",
    }
}

fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn tag(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Cloud => "licenses",
        Protocol::OAuth => "oauth",
        Protocol::Admin => "admin",
        Protocol::Device => "device",
        Protocol::DeviceAdmin => "device-admin",
        Protocol::Deployment => "deployment",
        Protocol::Evaluation => "evaluation",
        Protocol::Classic => "classic",
        Protocol::Operations => "operations",
    }
}

const JSON: &str = "application/json";
const ACCESS_TOKEN: &str = "accessToken";
const CLIENT: &str = "clientCredentials";
const OPERATOR_TOKEN: &str = "operatorToken";
const JOIN_TOKEN: &str = "joinToken";
const API_KEY: &str = "apiKey";
const NO_SCOPES: [&str; 0] = [];
const TAGS: [(&str, &str); 9] = [
    ("licenses", "Calls of applications."),
    ("oauth", "Access tokens."),
    ("admin", "Calls of operators."),
    ("device", "Software bound to devices."),
    ("device-admin", "The admin tools of the device protocol, under an API key."),
    ("deployment", "Self-hosted clusters of another product that hold a license slot."),
    ("evaluation", "Evaluation and OEM software."),
    ("classic", "The older borrow and return API; off unless `protocols.classic` is set."),
    ("operations", "Probes, metrics, this document."),
];

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../client/openapi/openapi.json");

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == document(),
            "client/openapi/openapi.json is out of date; run: cargo xtask fix"
        );
    }

    /// What a document lists, and what it must.
    fn check(document: &str, operations: impl Iterator<Item = &'static Operation>) {
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let mut documented = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let parameters = operation["parameters"].as_array().unwrap().iter();
                let in_path = parameters
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned());
                let in_path: Vec<String> = in_path.collect();
                documented.push((id.to_owned(), method.to_uppercase(), path.clone(), in_path));
            }
        }
        let mut known: Vec<_> = operations
            .map(|operation| {
                let method = operation.method.http().to_string();
                let in_path = operation.path_parameters().map(str::to_owned).collect();
                (operation.id.to_owned(), method, operation.path.to_owned(), in_path)
            })
            .collect();
        documented.sort();
        known.sort();
        assert_eq!(documented, known);
    }

    #[test]
    fn the_document_holds_every_operation_and_no_other() {
        check(&document(), operations());
        let without_classic = operations().filter(|row| row.protocol != Protocol::Classic);
        check(&served(&Faces::default()), without_classic);
        let classic = Some(crate::context::ClassicFace::default());
        check(&served(&Faces { classic, ..Faces::default() }), operations());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = document();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is missing");
        }
    }
}

//! The `classic` face: the borrow and return API that older Python, Rust, C and C++ programs speak.
//!
//! | module | owns |
//! |---|---|
//! | [`borrow`] | taking a seat, giving it back, what is out, what it cost |
//! | [`tools`] | what a tool is in the ledger's terms, its seats and prices |
//! | [`budget`] | what overage of a tool may cost in a month |
//! | [`keys`] | API keys |
//! | [`admin`] | tenants, vendors and totals, for operators |
//! | [`stream`] | the status of all tools, again and again |
//! | [`metrics`] | the face's own metric names |
//! | [`refusal`] | from the ledger's refusals to the protocol's |
//!
//! A tool is a product: packages are found by the product's shown name or by its id, and several
//! packages of one tool are one tool to these clients. Two things differ from the first server on
//! purpose: whoever changes keys or limits shows an operator token, and no header of a browser
//! stands in for a signature. The wire's shapes and sentences are `protocol::classic`'s.

pub(crate) mod admin;
pub(crate) mod borrow;
pub(crate) mod budget;
pub(crate) mod keys;
pub(crate) mod metrics;
mod refusal;
pub(crate) mod stream;
pub(crate) mod tools;

use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use lease::command::Role;
use lease::ids::ApiKeyId;
use protocol::classic::refusal::Refusal;
use protocol::classic::signature::{self, SecurityFailure, SignatureHeaders};
use protocol::classic::validation::{self, ValidationErrors};
use protocol::classic::{api_key, wire};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::auth;
use crate::call::Call;
use crate::context::ClassicFace;
use crate::face::FaceFailure;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing;
use crate::reply::Reply;
use crate::routes::Credential;
use crate::shared::Shared;

/// `GET /version`
pub(crate) async fn version(_shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    Ok(Reply::ok(&wire::Version { version: env!("CARGO_PKG_VERSION").to_owned() }))
}

/// Whose borrows are asked for.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserQuery {
    /// Of this user only.
    #[serde(default)]
    user: Option<String>,
}

/// Whose charges are asked for.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ToolQuery {
    /// Of this tool only.
    #[serde(default)]
    tool: Option<String>,
}

/// The query of `GET /borrows`, for the OpenAPI document.
pub(crate) fn user_parameters() -> Vec<Parameter> {
    UserQuery::into_params(|| None)
}

/// The query of `GET /overage-charges`, for the OpenAPI document.
pub(crate) fn tool_parameters() -> Vec<Parameter> {
    ToolQuery::into_params(|| None)
}

/// A refusal in the protocol's words; to be counted by whoever decided it.
fn refused(refusal: &Refusal) -> FaceFailure {
    let status =
        StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let failure = FaceFailure::json(status, &refusal.body());
    match refusal {
        Refusal::MissingAuthorization => {
            failure.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"leasehold\""))
        }
        Refusal::TooManyRequests | Refusal::Unavailable => failure.retry_after_s(1),
        _ => failure,
    }
}

/// The 422 of missing and wrong fields.
fn invalid(errors: ValidationErrors) -> Failure {
    let status =
        StatusCode::from_u16(validation::HTTP_STATUS).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    FaceFailure::json(status, &errors).because("invalid_request").into()
}

/// How the face is set.
fn settings(shared: &Shared) -> Result<ClassicFace, Failure> {
    shared.config.faces.classic.ok_or_else(|| Failure::internal("a face that is switched off"))
}

/// The call under the authority of the operator whose token it brings (`Authorization: Bearer`).
/// The sentences are this face's, so the frame does not ask for the token itself.
async fn as_operator(shared: &Shared, call: &Call, role: Role) -> Result<Call, Failure> {
    let held = shared.serving_keys()?;
    let headers = &call.parts.headers;
    if !headers.contains_key(AUTHORIZATION) {
        let missing = refused(&Refusal::MissingAuthorization);
        return Err(missing.because("missing_authorization").into());
    }
    let credential = Credential::Operator(role);
    match auth::authenticate(shared, &held, credential, headers, None, call.deadline).await {
        Ok(principal) => Ok(Call {
            operation: call.operation,
            parts: call.parts.clone(),
            params: call.params.clone(),
            address: call.address,
            body: call.body.clone(),
            trace: call.trace,
            principal,
            key: call.key.clone(),
            deadline: call.deadline,
            consistency: call.consistency,
            staleness: Arc::clone(&call.staleness),
        }),
        Err(failure) if matches!(failure.status().as_u16(), 401 | 403) => {
            Err(refused(&Refusal::InvalidAdminKey).because("invalid_admin_key").into())
        }
        Err(obstacle) => Err(obstacle),
    }
}

/// Who may read what others borrowed: an operator, or whoever shows an API key in force, which
/// then sees its own. The first server told it to everybody.
async fn as_reader(shared: &Shared, call: &Call, keys: &Keys) -> Result<Option<ApiKeyId>, Failure> {
    if bearer(call).is_some_and(|text| api_key::parse(text).is_ok()) {
        return Ok(shown_key(shared, call, keys).await?.map(|shown| shown.key));
    }
    as_operator(shared, call, Role::Auditor).await.map(|_| None)
}

/// An API key that was shown and is in force.
struct ShownKey<'a> {
    key: ApiKeyId,
    text: &'a str,
}

/// The API key of `Authorization: Bearer`; `None`: none was shown.
async fn shown_key<'a>(
    shared: &Shared,
    call: &'a Call,
    keys: &Keys,
) -> Result<Option<ShownKey<'a>>, Failure> {
    let Some(text) = bearer(call) else { return Ok(None) };
    let unknown = || refused(&Refusal::InvalidApiKey).because("invalid_api_key").into();
    if api_key::parse(text).is_err() {
        return Err(unknown());
    }
    // Whoever can make a MAC that is in the ledger holds the key: the look-up tells nothing.
    let mac = licensing::api_key_mac(&keys.license_keys, text);
    let find = || shared.context.cluster.ledger().api_key_by_mac(&mac).map(|row| row.key);
    if let Some(key) = find() {
        return Ok(Some(ShownKey { key, text }));
    }
    // This node may be a moment behind the one that made the key.
    shared.catch_up(call.deadline).await?;
    match find() {
        Some(key) => Ok(Some(ShownKey { key, text })),
        None => Err(unknown()),
    }
}

fn bearer(call: &Call) -> Option<&str> {
    let (scheme, token) = call.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The signed headers as they came.
fn signature_headers(call: &Call) -> SignatureHeaders<'_> {
    SignatureHeaders {
        signature: call.header("x-signature"),
        timestamp: call.header("x-timestamp"),
        vendor: call.header("x-vendor-id"),
    }
}

/// Checks the signed headers by the cluster's civil clock.
fn check_signature(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    tool: &str,
    user: &str,
    api_key: Option<&str>,
) -> Result<(), SecurityFailure> {
    let headers = signature_headers(call);
    let secret = keys.classic_vendors.get(headers.vendor());
    let secret = secret.map(|secret| secret.expose().as_slice());
    let now_seconds = shared.context.cluster.displayed_civil_ms().div_euclid(1_000);
    signature::verify(&headers, secret, tool, user, api_key, now_seconds)
}

/// The refusal of headers that are not believed.
fn not_believed(failure: SecurityFailure) -> Failure {
    refused(&Refusal::Security(failure)).because("signature_not_believed").into()
}

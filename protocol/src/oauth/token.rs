//! The token endpoint: `POST /oauth/token` with a form and, if wanted, HTTP Basic.
//!
//! Credentials come in the form or in `Authorization: Basic`, never in both (RFC 6749, section
//! 2.3); a parameter that comes twice, or bytes that are not UTF-8, make the request invalid
//! (section 3.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;
use zeroize::{Zeroize, Zeroizing};

use super::{Scopes, UnknownScope};
use crate::cloud::problem::ProblemOutcome;
use crate::secret::{Disclosed, Secret};
use crate::wire::{MAX_TEXT_CHARS, is_id};

/// No token request is longer: two identifiers, a secret and three scopes.
pub const MAX_FORM_BYTES: usize = 8 * 1024;

/// A client that asks for a token.
pub struct TokenRequest {
    /// Who it says it is.
    pub client_id: String,
    /// How it proves it.
    pub client_secret: Secret<String>,
    /// What it asks for; `None`: everything its registration allows.
    pub scopes: Option<Scopes>,
    /// Whether the credentials came in the header: then a 401 must name a scheme.
    pub by_header: bool,
}

/// The form's fields, for the OpenAPI document; requests are read by [`TokenRequest::from_form`].
#[derive(ToSchema, Serialize)]
#[schema(description = "`POST /oauth/token`, application/x-www-form-urlencoded")]
pub struct TokenForm {
    /// Always `client_credentials`.
    #[schema(example = "client_credentials")]
    pub grant_type: String,
    /// The app's client id, unless it comes by HTTP Basic.
    #[schema(example = "davinci-bmw-client", max_length = 128)]
    pub client_id: Option<String>,
    /// The app's client secret, unless it comes by HTTP Basic.
    #[schema(format = Password)]
    pub client_secret: Option<Disclosed>,
    /// Words with one space between them; left out: everything the app's registration allows.
    #[schema(value_type = Option<String>, example = "license:checkout license:return")]
    pub scope: Option<String>,
}

/// A token.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    /// A JWT (RFC 9068), signed by the node that answered.
    pub access_token: Disclosed,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: String,
    /// Seconds it lives.
    #[schema(example = 3600)]
    pub expires_in: u64,
    /// What it allows.
    pub scope: Scopes,
}

impl TokenResponse {
    /// A bearer token of the usual lifetime.
    pub fn bearer(access_token: String, scope: Scopes) -> Self {
        Self {
            access_token: Disclosed::new(access_token),
            token_type: "Bearer".to_owned(),
            expires_in: super::ACCESS_TOKEN_SECONDS,
            scope,
        }
    }
}

/// Why no token was given; the codes of RFC 6749, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Missing, repeated or malformed parameters.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// Unknown client, wrong secret, or no credentials.
    #[error("the client is not known or its secret is wrong")]
    InvalidClient,
    /// A client that may not use this grant.
    #[error("the client may not ask for tokens")]
    UnauthorizedClient,
    /// Another grant than `client_credentials`.
    #[error("only client_credentials is supported")]
    UnsupportedGrantType,
    /// A scope that does not exist, or that the client was not registered for.
    #[error("the scope does not exist or is not the client's")]
    InvalidScope,
    /// A form longer than [`MAX_FORM_BYTES`].
    #[error("the form is too long")]
    TooLarge,
    /// A client that asks too often.
    #[error("this client asks too often")]
    TooManyRequests,
    /// The server is at fault.
    #[error("the server is at fault")]
    ServerError,
    /// No quorum: nobody can say whether the client is still registered.
    #[error("the cluster cannot answer now")]
    TemporarilyUnavailable,
}

impl TokenError {
    /// The wire code.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::TooLarge => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::ServerError => "server_error",
            Self::TooManyRequests | Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::TooLarge => 413,
            Self::TooManyRequests => 429,
            Self::ServerError => 500,
            Self::TemporarilyUnavailable => 503,
            _ => 400,
        }
    }

    /// The body.
    pub fn body(self) -> TokenErrorBody {
        // Giving a token writes nothing.
        let outcome = (self == Self::TemporarilyUnavailable).then_some(ProblemOutcome::NotExecuted);
        TokenErrorBody {
            error: self.code().to_owned(),
            error_description: self.to_string(),
            outcome,
        }
    }
}

/// The body of a refusal (RFC 6749, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenErrorBody {
    /// The code.
    #[schema(example = "invalid_client")]
    pub error: String,
    /// For people.
    #[schema(example = "the client is not known or its secret is wrong")]
    pub error_description: String,
    /// On 503: whether the request may have changed anything, as in every problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ProblemOutcome>,
}

/// Why a bearer token does not do, for `WWW-Authenticate` (RFC 6750, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerError {
    /// No token at all: no code is given.
    Missing,
    /// Expired, revoked, of another cluster, or not a token.
    InvalidToken,
    /// The token lacks a scope.
    InsufficientScope(super::Scope),
}

impl BearerError {
    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Missing | Self::InvalidToken => 401,
            Self::InsufficientScope(_) => 403,
        }
    }

    /// The value of `WWW-Authenticate`.
    pub fn challenge(self) -> String {
        match self {
            Self::Missing => "Bearer realm=\"leasehold\"".to_owned(),
            Self::InvalidToken => "Bearer realm=\"leasehold\", error=\"invalid_token\"".to_owned(),
            Self::InsufficientScope(scope) => format!(
                "Bearer realm=\"leasehold\", error=\"insufficient_scope\", scope=\"{}\"",
                scope.name()
            ),
        }
    }
}

impl TokenRequest {
    /// Reads a form body and the `Authorization` header, if there is one.
    pub fn from_form(body: &[u8], authorization: Option<&str>) -> Result<Self, TokenError> {
        if body.len() > MAX_FORM_BYTES {
            return Err(TokenError::InvalidRequest("the form is too long"));
        }
        let mut form = Form::read(body)?;
        match form.grant_type.take().as_deref().map(String::as_str) {
            None | Some("") => return Err(TokenError::InvalidRequest("grant_type is missing")),
            Some("client_credentials") => {}
            Some(_) => return Err(TokenError::UnsupportedGrantType),
        }
        let basic = authorization.map(read_basic).transpose()?;
        let by_header = basic.is_some();
        let (client_id, client_secret) = match (basic, form.client_id, form.client_secret) {
            (Some(_), _, Some(_)) => {
                return Err(TokenError::InvalidRequest(
                    "credentials in the form and in the header; want one of them",
                ));
            }
            (Some((id, _)), Some(named), None) if *id != *named => {
                return Err(TokenError::InvalidRequest("client_id differs from the header's"));
            }
            (Some(pair), _, None) => pair,
            (None, Some(id), Some(secret)) => (id, secret),
            (None, None, None) => return Err(TokenError::InvalidClient),
            (None, Some(_), None) => {
                return Err(TokenError::InvalidRequest("client_secret is missing"));
            }
            (None, None, Some(_)) => {
                return Err(TokenError::InvalidRequest("client_id is missing"));
            }
        };
        if !is_id(&client_id) || client_secret.len() > MAX_TEXT_CHARS {
            return Err(TokenError::InvalidClient);
        }
        let scopes = match form.scope.as_deref().map(|text| Scopes::parse(text)) {
            None => None,
            Some(Ok(scopes)) if scopes.is_empty() => None,
            Some(Ok(scopes)) => Some(scopes),
            Some(Err(UnknownScope(_))) => return Err(TokenError::InvalidScope),
        };
        Ok(Self {
            client_id: client_id.to_string(),
            client_secret: Secret::new(client_secret.to_string()),
            scopes,
            by_header,
        })
    }
}

type Field = Zeroizing<String>;

#[derive(Default)]
struct Form {
    grant_type: Option<Field>,
    client_id: Option<Field>,
    client_secret: Option<Field>,
    scope: Option<Field>,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded`; parameters that are not ours are ignored
    /// (RFC 6749, section 3.2), as are empty ones.
    fn read(body: &[u8]) -> Result<Self, TokenError> {
        let mut form = Self::default();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let name = decode(&pair[..split])?;
            let value = decode(pair.get(split + 1..).unwrap_or_default())?;
            let field = match name.as_str() {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                "scope" => &mut form.scope,
                _ => continue,
            };
            if field.is_some() {
                return Err(TokenError::InvalidRequest("a parameter comes twice"));
            }
            *field = Some(value).filter(|value| !value.is_empty());
        }
        Ok(form)
    }
}

/// Reads `Basic` credentials: form-encoded on their own, then joined and in base64 (section 2.3.1).
fn read_basic(header: &str) -> Result<(Field, Field), TokenError> {
    let (scheme, credentials) =
        header.trim().split_once(' ').ok_or(TokenError::InvalidRequest("Authorization"))?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(TokenError::InvalidRequest("the Authorization scheme is not Basic"));
    }
    let joined = STANDARD
        .decode(credentials.trim())
        .map(Zeroizing::new)
        .map_err(|_| TokenError::InvalidRequest("Basic credentials are not base64"))?;
    let split = joined
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(TokenError::InvalidRequest("Basic credentials have no colon"))?;
    Ok((decode(&joined[..split])?, decode(&joined[split + 1..])?))
}

fn decode(encoded: &[u8]) -> Result<Field, TokenError> {
    const BROKEN: TokenError = TokenError::InvalidRequest("the form encoding is broken");
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                    digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(BROKEN)
                };
                digit()? * 16 + digit()?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        BROKEN
    })
}

//! What stands in an access token, and where its keys and endpoints are found.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{ACCESS_TOKEN_SECONDS, Scope, Scopes};
use crate::keys::{PublicKey, PublicNumbers};

/// The `typ` of an access token's header (RFC 9068, section 2.1).
pub const TOKEN_TYPE: &str = "at+jwt";

/// The claims of an access token. A token says who may ask; `apply` checks `secret_generation`
/// again, so that a rotated secret ends every token at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who signed: the cluster's issuer URL or name.
    pub iss: String,
    /// The app's client id.
    pub sub: String,
    /// Who it is for: the cluster.
    pub aud: String,
    /// Issued, in Unix seconds.
    pub iat: u64,
    /// Ends, in Unix seconds.
    pub exp: u64,
    /// Unique, random.
    pub jti: String,
    /// The app's client id again (RFC 9068 wants it by this name).
    pub client_id: String,
    /// What it allows.
    pub scope: Scopes,
    /// The app.
    pub app_id: String,
    /// Under which generation of the app's secret it was given.
    pub secret_generation: u32,
    /// Which cluster gave it.
    pub cluster_id: String,
    /// In which epoch of the cluster.
    pub epoch: u32,
    /// What whoever shows the token must prove to hold; `None`: nothing beside the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// What a token is bound to (RFC 7800; RFC 8705, section 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// SHA-256 of a client certificate (DER), base64url.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

impl Confirmation {
    /// Of a certificate's SHA-256.
    pub fn of_certificate(sha256: &[u8; 32]) -> Self {
        Self { x5t_s256: URL_SAFE_NO_PAD.encode(sha256) }
    }

    /// The certificate's SHA-256; `None` where the text is not one.
    pub fn certificate(&self) -> Option<[u8; 32]> {
        URL_SAFE_NO_PAD.decode(&self.x5t_s256).ok()?.try_into().ok()
    }
}

/// A public key as JSON (RFC 7517, RFC 7518 section 6.3, RFC 8037 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jwk {
    /// `RSA` or `OKP`.
    #[schema(example = "RSA")]
    pub kty: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    pub usage: String,
    /// `RS256` or `EdDSA`.
    #[schema(example = "RS256")]
    pub alg: String,
    /// Thumbprint of the key (RFC 7638).
    pub kid: String,
    /// RSA: modulus, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA: exponent, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "AQAB")]
    pub e: Option<String>,
    /// OKP: always `Ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// OKP: the point, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
}

impl Jwk {
    /// The key as a member of a key set.
    pub fn of(key: &PublicKey) -> Self {
        let kid = key_id(key);
        let usage = "sig".to_owned();
        match key.numbers() {
            PublicNumbers::Rsa { n, e } => Self {
                kty: "RSA".to_owned(),
                usage,
                alg: "RS256".to_owned(),
                kid,
                n: Some(URL_SAFE_NO_PAD.encode(n)),
                e: Some(URL_SAFE_NO_PAD.encode(e)),
                crv: None,
                x: None,
            },
            PublicNumbers::Ed25519(point) => Self {
                kty: "OKP".to_owned(),
                usage,
                alg: "EdDSA".to_owned(),
                kid,
                n: None,
                e: None,
                crv: Some("Ed25519".to_owned()),
                x: Some(URL_SAFE_NO_PAD.encode(point)),
            },
        }
    }
}

/// The key's id: the SHA-256 thumbprint of RFC 7638, base64url.
pub fn key_id(key: &PublicKey) -> String {
    // Required members in order of name, no spaces; base64url needs no escapes.
    let members = match key.numbers() {
        PublicNumbers::Rsa { n, e } => format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(e),
            URL_SAFE_NO_PAD.encode(n)
        ),
        PublicNumbers::Ed25519(point) => {
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(point))
        }
    };
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// `/.well-known/jwks.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jwks {
    /// Every key under which a token of this cluster may verify.
    pub keys: Vec<Jwk>,
}

/// `/.well-known/oauth-authorization-server` (RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerMetadata {
    /// The issuer, as in every token.
    #[schema(example = "https://licenses.example.com")]
    pub issuer: String,
    /// Where tokens are asked for.
    #[schema(example = "https://licenses.example.com/oauth/token")]
    pub token_endpoint: String,
    /// Where the keys are.
    #[schema(example = "https://licenses.example.com/.well-known/jwks.json")]
    pub jwks_uri: String,
    /// Every scope.
    pub scopes_supported: Vec<String>,
    /// Empty: nothing here redirects a browser.
    pub response_types_supported: Vec<String>,
    /// `client_credentials`.
    pub grant_types_supported: Vec<String>,
    /// `client_secret_basic`, `client_secret_post`.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Always true: tokens can be bound to a client certificate (RFC 8705, section 3.3).
    pub tls_client_certificate_bound_access_tokens: bool,
}

impl ServerMetadata {
    /// The metadata of a server at `base_url` (no slash at the end), whose tokens name `issuer`.
    pub fn at(base_url: &str, issuer: &str) -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: format!("{base_url}/oauth/token"),
            jwks_uri: format!("{base_url}/.well-known/jwks.json"),
            scopes_supported: texts(&Scope::ALL.map(Scope::name)),
            response_types_supported: Vec::new(),
            grant_types_supported: texts(&["client_credentials"]),
            token_endpoint_auth_methods_supported: texts(&[
                "client_secret_basic",
                "client_secret_post",
            ]),
            tls_client_certificate_bound_access_tokens: true,
        }
    }
}

impl AccessClaims {
    /// Whether the token lives at `now_seconds` of civil time, with no leeway: this cluster's own
    /// clock made it. A token that lives longer than any we make was not made by us.
    pub fn is_alive(&self, now_seconds: u64) -> bool {
        now_seconds < self.exp && self.exp.saturating_sub(self.iat) <= ACCESS_TOKEN_SECONDS
    }
}

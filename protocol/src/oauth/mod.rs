//! OAuth 2.0 as the `cloud` protocol uses it: client credentials for access tokens.
//!
//! | part | source |
//! |---|---|
//! | token request, answer, errors ([`token`]) | RFC 6749, sections 2.3.1, 4.4, 5 |
//! | bearer challenges ([`token::BearerError`]) | RFC 6750, section 3 |
//! | claims ([`claims`]) | RFC 7519, RFC 9068, with claims of ours |
//! | key set ([`claims::Jwks`]) | RFC 7517, key ids by RFC 7638 |
//! | metadata ([`claims::ServerMetadata`]) | RFC 8414 |
//!
//! What it leaves to others: signing and verifying tokens, and looking up clients (`node`).

pub mod claims;
pub mod token;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Seconds that an access token lives, as the protocol document says.
pub const ACCESS_TOKEN_SECONDS: u64 = 3_600;

/// What an access token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `license:checkout`: take seats, and renew what was taken.
    Checkout,
    /// `license:return`: give seats back.
    Return,
    /// `license:read`: look at one's own leases and at offers. Every other scope includes it.
    Read,
}

impl Scope {
    /// Every scope, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Checkout, Self::Return, Self::Read];

    /// The wire word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkout => "license:checkout",
            Self::Return => "license:return",
            Self::Read => "license:read",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes; as text, words with one space between them (RFC 6749, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes {
    bits: u8,
}

/// A scope that does not exist, or a text that is no list of scopes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown scope {0:?}")]
pub struct UnknownScope(pub String);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self { bits: 0 };
    /// Every scope.
    pub const ALL: Self = Self { bits: 0b111 };

    /// The set of these scopes.
    pub fn of(scopes: &[Scope]) -> Self {
        Self { bits: scopes.iter().fold(0, |bits, scope| bits | scope.bit()) }
    }

    /// Reads words separated by spaces; repeats are fine, an empty text is the empty set.
    pub fn parse(text: &str) -> Result<Self, UnknownScope> {
        let mut scopes = Self::NONE;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let scope = Scope::ALL
                .into_iter()
                .find(|scope| scope.name() == word)
                .ok_or_else(|| UnknownScope(word.chars().take(64).collect()))?;
            scopes.bits |= scope.bit();
        }
        Ok(scopes)
    }

    /// Whether the set holds the scope itself.
    pub fn contains(self, scope: Scope) -> bool {
        self.bits & scope.bit() != 0
    }

    /// Whether a token of this set may do what needs `scope`: reading needs any scope at all.
    pub fn allows(self, scope: Scope) -> bool {
        self.contains(scope) || (scope == Scope::Read && !self.is_empty())
    }

    /// Whether every scope of the set is in `other`.
    pub fn is_subset_of(self, other: Self) -> bool {
        self.bits & !other.bits == 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// The scopes, in the order in which they are written.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The set as bits, for storage: bit 0 checkout, bit 1 return, bit 2 read.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The set of stored bits; `None` when a bit is set that this release does not know.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits & !Self::ALL.bits == 0).then_some(Self { bits })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " " })?;
            f.write_str(scope.name())?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for Scopes {
    fn schema() -> RefOr<Schema> {
        crate::wire::text_schema(
            "Scopes with one space between them: license:checkout, license:return, license:read.",
            "scopes",
            "license:checkout license:return",
        )
    }
}

impl ToSchema for Scopes {}

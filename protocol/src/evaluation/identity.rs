//! Who asks, without saying who it is: hashes of host names, and ids of activations.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Fewest hex digits of a host hash: what the published client sends.
pub const MIN_HASH_CHARS: usize = 16;
/// Most hex digits: a whole SHA-256.
pub const MAX_HASH_CHARS: usize = 64;

/// A hash of a host name: 16 to 64 lower-case hex digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostHash(String);

/// A text that is no hash of a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("want {MIN_HASH_CHARS} to {MAX_HASH_CHARS} hex digits of the host name's SHA-256")]
pub struct NotAHostHash;

impl HostHash {
    /// The hash of a host name as the published client sends it: its first 16 digits. A host
    /// without a name is `unknown`.
    pub fn of(hostname: &str) -> Self {
        let hostname = if hostname.is_empty() { "unknown" } else { hostname };
        let mut digits = HEXLOWER.encode(&Sha256::digest(hostname));
        digits.truncate(MIN_HASH_CHARS);
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits that every client sends: an activation is bound to these, so that a client that
    /// starts to send more of them stays the same host.
    pub fn binding(&self) -> &str {
        &self.0[..MIN_HASH_CHARS]
    }

    /// Whether both can be of one host: the shorter is the beginning of the longer.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for HostHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostHash {
    type Err = NotAHostHash;

    fn from_str(text: &str) -> Result<Self, NotAHostHash> {
        let fits = (MIN_HASH_CHARS..=MAX_HASH_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(NotAHostHash) }
    }
}

/// An activation's id: `act-` and 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(pub [u8; 16]);

/// A text that is no activation id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an activation id: want act- and 32 lower-case hex digits")]
pub struct NotAnActivationId;

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", HEXLOWER.encode(&self.0))
    }
}

impl FromStr for ActivationId {
    type Err = NotAnActivationId;

    fn from_str(text: &str) -> Result<Self, NotAnActivationId> {
        text.strip_prefix(PREFIX)
            .and_then(|digits| HEXLOWER.decode(digits.as_bytes()).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(NotAnActivationId)
    }
}

macro_rules! as_text {
    ($type:ident $description:literal $format:literal $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                crate::wire::text_schema($description, $format, $example)
            }
        }

        impl ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                concat!("Evaluation", stringify!($type)).into()
            }
        }
    };
}

as_text!(HostHash "16 to 64 hex digits of the host name's SHA-256." "host-hash" "8f1f0466fc41bb15");
as_text!(ActivationId "Name of an activation." "activation-id"
    "act-0f1e2d3c4b5a69788796a5b4c3d2e1f0");

const PREFIX: &str = "act-";

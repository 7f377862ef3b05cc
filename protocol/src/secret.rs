//! Holders of secret values: what cannot be printed, copied or stored cannot leak.
//!
//! [`Secret`] implements neither `Serialize`, `Debug`, `Display` nor `Clone` and wipes its value
//! when dropped, so that a secret in a log line, an error, a replicated command or a snapshot is a
//! compile error and not a review finding. Reading one in (`Deserialize`) is allowed, since that is
//! how configuration and requests arrive.
//!
//! [`Disclosed`] is the one exception: a secret on its way to whoever may have it (a new client
//! secret, an access token). It can be written to an answer and nothing else.
//!
//! ```compile_fail,E0277
//! let secret = protocol::secret::Secret::new(String::from("s"));
//! println!("{secret:?}"); // no Debug
//! ```
//! ```compile_fail,E0277
//! let secret = protocol::secret::Secret::new(String::from("s"));
//! println!("{secret}"); // no Display
//! ```
//! ```compile_fail,E0599
//! let secret = protocol::secret::Secret::new(String::from("s"));
//! let copy = secret.clone(); // no Clone
//! ```
//! ```compile_fail,E0277
//! let secret = protocol::secret::Secret::new(String::from("s"));
//! serde_json::to_string(&secret).unwrap(); // no Serialize
//! ```
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<protocol::secret::Disclosed>();
//! ```
//! ```compile_fail,E0277
//! fn cloned<T: Clone>() {}
//! cloned::<protocol::secret::Disclosed>();
//! ```
//! The same lines compile with a value that may be shown:
//! ```
//! let secret = String::from("s");
//! println!("{secret:?} {secret} {}", serde_json::to_string(&secret).unwrap());
//! let copy = secret.clone();
//! ```
//!
//! What it leaves to others: sealing secrets for storage (`node`), MAC keys ([`crate::mac`]),
//! signing keys ([`crate::keys`]).

use serde::{Deserialize, Deserializer, Serialize};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use zeroize::Zeroize;

/// A value that is wiped when dropped and that nothing can print, copy or write.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to look at in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether the bytes are equal, in a time that depends on the lengths only.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// A secret text that is written into one answer, to the one who may have it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Password)]
pub struct Disclosed(String);

impl Disclosed {
    /// Takes the text in.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Disclosed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

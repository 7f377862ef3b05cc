//! Reading request bodies and the `Idempotency-Key` header.

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::strict_json::join_field;
use crate::wire;

/// Longest idempotency key.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 128;

/// Why a body is not the request. Always the caller's fault: 400, or 413 when too long.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Not JSON at all.
    #[error("the body is not JSON: {reason}")]
    NotJson {
        /// What, where.
        reason: String,
    },
    /// A field of the wrong type, out of bounds, missing, or unknown.
    #[error("{}{reason}", FieldPrefix(field))]
    Field {
        /// Path of the field; empty when it is the whole body.
        field: String,
        /// What would do.
        reason: String,
    },
}

impl BodyError {
    /// The wire code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "malformed_json",
            Self::Field { .. } => "invalid_field",
        }
    }

    /// The field, where one is to blame.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } if !field.is_empty() => Some(field),
            _ => None,
        }
    }
}

/// Reads a JSON body, which must be an object; nothing may follow it. A good body is read once; a
/// bad one a second time, to find the field.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    match wire::object(&mut reader).and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) if error.is_data() => Err(locate::<T>(body, &error)),
        Err(error) => Err(BodyError::NotJson { reason: reason_of(&error) }),
    }
}

/// Finds the field of an error by reading once more with the path kept.
fn locate<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> BodyError {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let _refused_again = wire::object::<_, T>(tracked).is_err();
    let mut field = path_text(&track.path());
    let reason = reason_of(error);
    if let Some(name) = named_field(&reason) {
        join_field(&mut field, name);
    }
    BodyError::Field { field, reason }
}

/// Reads the value of an `Idempotency-Key` header: 1 to 128 visible ASCII characters, in quotes (as
/// the IETF draft wants) or without.
pub fn idempotency_key(header: &[u8]) -> Result<String, BodyError> {
    let wrong = || BodyError::Field {
        field: "Idempotency-Key".to_owned(),
        reason: format!("want 1 to {MAX_IDEMPOTENCY_KEY_CHARS} visible ASCII characters"),
    };
    let text = std::str::from_utf8(header).map_err(|_| wrong())?.trim_matches([' ', '\t']);
    let text = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text);
    let fits = (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    if fits { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// The field that serde names in its message, because the path ends at the object around it.
fn named_field(reason: &str) -> Option<&str> {
    ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|beginning| reason.strip_prefix(beginning))
        .and_then(|rest| rest.split('`').next())
}

/// The path without the names of a stranger in full length.
fn path_text(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            serde_path_to_error::Segment::Seq { index } => {
                text.push_str(&format!("[{index}]"));
            }
            serde_path_to_error::Segment::Map { key } => join_field(&mut text, key),
            serde_path_to_error::Segment::Enum { variant } => join_field(&mut text, variant),
            serde_path_to_error::Segment::Unknown => join_field(&mut text, "?"),
        }
    }
    text
}

/// serde's message without what a stranger wrote into it at length.
fn reason_of(error: &serde_json::Error) -> String {
    const MAX_REASON_CHARS: usize = 300;
    error
        .to_string()
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_REASON_CHARS)
        .collect()
}

struct FieldPrefix<'a>(&'a str);

impl std::fmt::Display for FieldPrefix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

//! JSON as Python's standard library writes it: the bytes that license files are signed over.
//!
//! `json.dumps` escapes everything outside printable ASCII as `\uXXXX` (pairs of surrogates above
//! U+FFFF), writes floats as `repr` does (the shortest digits that read back alike, `.0` kept, an
//! exponent of two digits below 1e-4 and from 1e16 on) and integers as they are. Numbers are read
//! from their source text with correct rounding: serde_json's own reading of a 17-digit number can
//! be off by one bit, and so would be the signature.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A value of a license file: everything but lists and objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without point and exponent.
    Integer(i64),
    /// A number with a point or an exponent; finite.
    Float(f64),
    /// A text.
    Text(String),
}

impl Scalar {
    /// Reads the source text of a value; `None` when it is a list, an object, or a number out of
    /// range.
    pub(crate) fn from_source(text: &str) -> Option<Self> {
        match text.as_bytes().first()? {
            b'n' => Some(Self::Null),
            b't' => Some(Self::Bool(true)),
            b'f' => Some(Self::Bool(false)),
            b'"' => serde_json::from_str(text).ok().map(Self::Text),
            b'-' | b'0'..=b'9' if text.contains(['.', 'e', 'E']) => {
                text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Float)
            }
            b'-' | b'0'..=b'9' => text.parse().ok().map(Self::Integer),
            _ => None,
        }
    }

    /// Appends the value as `json.dumps` writes it.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => {
                let _infallible = write!(out, "{value}");
            }
            Self::Float(value) => write_float(out, *value),
            Self::Text(value) => write_string(out, value),
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    /// Reads a value from serde_json, whose source text it needs.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_source(source.get()).ok_or_else(|| {
            serde::de::Error::custom("want null, true, false, a text or a number in range")
        })
    }
}

/// Appends a text in quotes, as `json.dumps` with `ensure_ascii` does.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Appends a finite number as `repr(float)` writes it.
pub fn write_float(out: &mut String, value: f64) {
    // Rust's debug form has the same digits and changes to an exponent at the same places; only
    // the exponent looks different.
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => out.push_str(&text),
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let _infallible = write!(out, "{digits}e{sign}{exponent:0>2}");
        }
    }
}

//! Values as JSON shows them: times, money, large numbers, and text with a bound.
//!
//! * [`UtcTime`] is RFC 3339 in UTC, without a fraction when it falls on a second.
//! * [`Money`] is a JSON number in major units with at least one decimal (`500.0`), as the protocol
//!   document shows it; inside it is a decimal.
//! * [`Id64`] is a 64-bit number as a string: JSON readers round numbers above 2^53.
//!
//! The readers of bounded text are used by the request types with `deserialize_with`, so that a
//! text too long is found while the field's name is still known.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::strict_json::nearest_double;

/// Longest identifier of a package, product, vendor, client, app, pool or feature.
pub const MAX_ID_CHARS: usize = 128;
/// Longest name, user, host, reason or version.
pub const MAX_TEXT_CHARS: usize = 256;

/// Whether a text is an identifier: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, the first a letter
/// or a digit, so that it may stand in a path of a URL.
pub fn is_id(text: &str) -> bool {
    text.len() <= MAX_ID_CHARS
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a text is 1 to `max_chars` characters without control characters.
pub fn is_text(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && text.chars().nth(max_chars).is_none() && !text.chars().any(char::is_control)
}

/// A point in civil time, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime {
    /// Unix milliseconds.
    pub unix_ms: i64,
}

/// A text that is no RFC 3339 date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an RFC 3339 date and time with an offset, as 2025-01-31T12:00:00Z")]
pub struct NotATime;

impl UtcTime {
    /// A point in Unix milliseconds; outside the years 1 to 9999 the nearest that can be written.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        let last_ms = Timestamp::MAX.as_second() * 1_000;
        Self { unix_ms: unix_ms.clamp(YEAR_ONE_MS, last_ms) }
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = Self::from_unix_ms(self.unix_ms);
        let time = Timestamp::from_millisecond(clamped.unix_ms).map_err(|_| fmt::Error)?;
        write!(f, "{time}")
    }
}

/// Reads the `date-time` of RFC 3339, section 5.6, in UTC, with `T` and `Z` in upper case and up to
/// nine digits of fraction.
pub(crate) fn utc_timestamp(text: &str) -> Result<Timestamp, NotATime> {
    let shape: Vec<u8> =
        text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    let rest = shape.strip_prefix(b"0000-00-00T00:00:00").ok_or(NotATime)?;
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| **byte == b'0').count();
            if !(1..=9).contains(&digits) {
                return Err(NotATime);
            }
            &fraction[digits..]
        }
        None => rest,
    };
    if !matches!(offset, b"Z" | b"+00:00" | b"-00:00") {
        return Err(NotATime);
    }
    text.parse().map_err(|_| NotATime)
}

impl FromStr for UtcTime {
    type Err = NotATime;

    /// Reads the `date-time` of RFC 3339, section 5.6, with `T` and `Z` in upper case; fractions
    /// below a millisecond are cut. The year 0 is refused.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time = utc_timestamp(text)?;
        let unix_ms = time.as_millisecond();
        // What could not be written again would be shown as another time.
        let written = Self::from_unix_ms(unix_ms);
        if written.unix_ms == unix_ms { Ok(written) } else { Err(NotATime) }
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for UtcTime {
    fn schema() -> RefOr<Schema> {
        text_schema("A point in time, RFC 3339 in UTC.", "date-time", "2025-11-04T18:00:00Z")
    }
}

impl ToSchema for UtcTime {}

/// The schema of a type that JSON shows as a text.
pub(crate) fn text_schema(description: &str, format: &str, example: &str) -> RefOr<Schema> {
    Object::builder()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom(format.to_owned())))
        .description(Some(description))
        .examples([serde_json::Value::from(example)])
        .into()
}

/// An amount in major units of a currency that stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, ToSchema)]
#[schema(value_type = f64, example = 500.0)]
pub struct Money(pub Decimal);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(nearest_double(self.0))
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Money;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount as a number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Money, E> {
                Ok(Money(Decimal::from(value)))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Money, E> {
                Ok(Money(Decimal::from(value)))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Money, E> {
                // The shortest text of the double is what the other side wrote.
                value
                    .to_string()
                    .parse()
                    .map(Money)
                    .map_err(|_| E::invalid_value(Unexpected::Float(value), &self))
            }
        }
        deserializer.deserialize_f64(Amount)
    }
}

/// A 64-bit number, written as a string of decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]{1,20}$", example = "4611686018427387904")]
pub struct Id64(pub u64);

impl Serialize for Id64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(D::Error::custom("want a 64-bit number as a string of digits"));
        }
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Reads an object into a struct. serde alone would take an array too, field by field in the order
/// of declaration, which no description of the API promises.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Fields<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields))
        }
    }
    deserializer.deserialize_map(Fields(PhantomData))
}

/// Reads an identifier.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_id(&text) {
        Ok(text)
    } else {
        Err(D::Error::custom(format_args!(
            "want 1 to {MAX_ID_CHARS} characters of A-Z a-z 0-9 . _ -, the first a letter or digit"
        )))
    }
}

/// Reads an identifier that may be absent or null.
pub(crate) fn optional_id<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    struct Id(String);
    impl<'de> Deserialize<'de> for Id {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            id(deserializer).map(Self)
        }
    }
    Ok(Option::<Id>::deserialize(deserializer)?.map(|Id(text)| text))
}

/// Reads a list of at most 64 identifiers, each once.
pub(crate) fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MAX_LIST_ITEMS || !texts.iter().all(|text| is_id(text)) {
        return Err(D::Error::custom(format_args!(
            "want at most {MAX_LIST_ITEMS} texts of 1 to {MAX_ID_CHARS} characters \
             A-Z a-z 0-9 . _ -"
        )));
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}

/// Reads a text of 1 to 256 characters without control characters.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_text(&text, MAX_TEXT_CHARS) {
        Ok(text)
    } else {
        Err(D::Error::custom(format_args!(
            "want 1 to {MAX_TEXT_CHARS} characters without control characters"
        )))
    }
}

/// Reads a text that may be absent, null or empty (both become absent).
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    match text {
        Some(text) if !is_text(&text, MAX_TEXT_CHARS) => Err(D::Error::custom(format_args!(
            "want at most {MAX_TEXT_CHARS} characters without control characters"
        ))),
        text => Ok(text),
    }
}

/// Reads a number of seats: 1 to 10,000,000.
pub(crate) fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let quantity = u32::deserialize(deserializer)?;
    if (1..=crate::package::MAX_QUANTITY).contains(&quantity) {
        Ok(quantity)
    } else {
        Err(D::Error::custom(format_args!("want 1 to {}", crate::package::MAX_QUANTITY)))
    }
}

/// No list in a request is longer, the bulk heartbeat excepted.
pub const MAX_LIST_ITEMS: usize = 64;
/// 0001-01-01T00:00:00Z: earlier years have a sign or a zero that RFC 3339 does not know.
const YEAR_ONE_MS: i64 = -62_135_596_800_000;

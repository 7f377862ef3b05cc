//! The strict JSON loader that every signed document passes before its signature is looked at.
//!
//! A signature over JSON is worth what the parser is worth: two readers that disagree about a
//! document disagree about what was signed. Ordinary parsers keep the last of two equal names,
//! round large numbers, and replace broken text. This one refuses:
//!
//! * more than [`MAX_BYTES`], nesting deeper than [`MAX_DEPTH`], bytes that are not UTF-8;
//! * two equal names in one object (compared after escapes are read);
//! * numbers outside ±(2^53−1), and `-0`; a fraction or an exponent, unless the schema says that
//!   the field is a decimal, and then more digits than a double keeps ([`MAX_DECIMAL_DIGITS`], of
//!   them [`MAX_FRACTION_DIGITS`] after the point), so that the canonical text is the
//!   text's own value;
//! * lone surrogates, unescaped control characters, a byte-order mark, anything after the value.
//!
//! What is left has exactly one meaning, and [`Value::canonical_bytes`] gives its RFC 8785 bytes:
//! those are what is verified, what typed values are built from, and what is stored.
//!
//! What it leaves to others: which fields a document has ([`crate::package`]). Requests that nobody
//! signed are read with serde ([`crate::cloud::body`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rust_decimal::Decimal;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use thiserror::Error;

/// No signed document is longer.
pub const MAX_BYTES: usize = 256 * 1024;
/// Objects and arrays inside each other; a bare value has depth 0.
pub const MAX_DEPTH: usize = 32;
/// 2^53−1: the largest integer that every JSON implementation reads alike (RFC 7493).
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;
/// A double keeps every decimal of 15 significant digits.
pub const MAX_DECIMAL_DIGITS: usize = 15;
/// Below 10^-6 the canonical form would need an exponent.
pub const MAX_FRACTION_DIGITS: usize = 6;

/// A JSON value with one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer within ±(2^53−1).
    Integer(i64),
    /// A number in a field that the schema calls a decimal; trailing zeros are removed.
    Decimal(Decimal),
    /// A text of Unicode scalar values.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object; names are unique.
    Object(BTreeMap<String, Value>),
}

/// Why bytes are no strict document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault} at byte {offset}{}", InField(path))]
pub struct StrictJsonError {
    /// What is wrong.
    pub fault: Fault,
    /// Byte offset of the fault, or of the value that has it.
    pub offset: usize,
    /// The field, as `entitlement.pricing.currency` or `leases[3].lease_id`; empty at the top.
    pub path: String,
}

/// What can be wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// More than [`MAX_BYTES`].
    #[error("the document is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Bytes that are not UTF-8.
    #[error("bytes that are not UTF-8")]
    NotUtf8,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Not JSON (RFC 8259).
    #[error("not JSON: expected {0}")]
    Syntax(&'static str),
    /// Something follows the value.
    #[error("something follows the document")]
    TrailingBytes,
    /// The same name twice in one object.
    #[error("the same name twice in one object")]
    DuplicateName,
    /// Half of a surrogate pair.
    #[error("half of a surrogate pair")]
    LoneSurrogate,
    /// A control character that is not escaped.
    #[error("a control character that is not escaped")]
    ControlCharacter,
    /// Outside ±(2^53−1).
    #[error("a number outside ±(2^53−1)")]
    NumberTooLarge,
    /// A fraction or an exponent where an integer belongs.
    #[error("a number with a fraction or an exponent where only integers are allowed")]
    NotInteger,
    /// A decimal that a double does not keep, or with an exponent.
    #[error(
        "a decimal with an exponent, more than {MAX_DECIMAL_DIGITS} digits, or more than \
         {MAX_FRACTION_DIGITS} after the point"
    )]
    DecimalForm,
    /// `-0`, which canonical JSON cannot tell from `0`.
    #[error("negative zero")]
    NegativeZero,
}

/// Reads a document. `decimal_paths` names the fields whose numbers are decimals, as
/// `entitlement.pricing.overage_per_use`; an array element is `[]` (`rates.[].amount`).
pub fn parse(bytes: &[u8], decimal_paths: &[&str]) -> Result<Value, StrictJsonError> {
    let whole = |fault, offset| StrictJsonError { fault, offset, path: String::new() };
    if bytes.len() > MAX_BYTES {
        return Err(whole(Fault::TooLong, MAX_BYTES));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| whole(Fault::NotUtf8, error.valid_up_to()))?;
    let mut parser = Parser { text, at: 0, path: Vec::new(), decimal_paths };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.fault(Fault::TrailingBytes));
    }
    Ok(value)
}

impl Value {
    /// The RFC 8785 bytes: one per meaning.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "names are unique strings, numbers are finite")]
        serde_json_canonicalizer::to_vec(self).expect("a strict value has a canonical form")
    }

    /// Indented JSON for people, names in order.
    pub fn to_pretty(&self) -> String {
        #[expect(clippy::expect_used, reason = "names are strings, numbers are finite")]
        serde_json::to_string_pretty(self).expect("a strict value is JSON")
    }

    /// What the value is, for messages: `a string`, `an object`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Decimal(_) => "a decimal",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Decimal(value) => serializer.serialize_f64(nearest_double(*value)),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(values) => {
                let mut array = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    array.serialize_element(value)?;
                }
                array.end()
            }
            Self::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
        }
    }
}

/// The double nearest to a decimal: through its text, because that conversion rounds correctly.
pub(crate) fn nearest_double(value: Decimal) -> f64 {
    #[expect(clippy::expect_used, reason = "a decimal prints digits, a point and a sign only")]
    value.to_string().parse().expect("a decimal's text is a number")
}

enum Segment {
    Name(String),
    Index(usize),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Segment>,
    decimal_paths: &'a [&'a str],
}

type Parsed<T> = Result<T, StrictJsonError>;

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Parsed<Value> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.fault(Fault::Syntax("a value"))),
        }
    }

    fn object(&mut self, depth: usize) -> Parsed<Value> {
        self.enter(depth)?;
        let mut fields = BTreeMap::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(fields));
        }
        loop {
            self.skip_space();
            let name_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fault(Fault::Syntax("a name in quotes")));
            }
            let name = self.string()?;
            self.path.push(Segment::Name(name.clone()));
            if fields.contains_key(&name) {
                return Err(self.fault_at(Fault::DuplicateName, name_at));
            }
            self.skip_space();
            if !self.take(b':') {
                return Err(self.fault(Fault::Syntax("':'")));
            }
            let value = self.value(depth + 1)?;
            self.path.pop();
            fields.insert(name, value);
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(fields));
            }
            if !self.take(b',') {
                return Err(self.fault(Fault::Syntax("',' or '}'")));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Value> {
        self.enter(depth)?;
        let mut values = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::Array(values));
        }
        loop {
            self.path.push(Segment::Index(values.len()));
            let value = self.value(depth + 1)?;
            self.path.pop();
            values.push(value);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(values));
            }
            if !self.take(b',') {
                return Err(self.fault(Fault::Syntax("',' or ']'")));
            }
        }
    }

    fn enter(&mut self, depth: usize) -> Parsed<()> {
        if depth >= MAX_DEPTH {
            return Err(self.fault(Fault::TooDeep));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &'static str, value: Value) -> Parsed<Value> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.fault(Fault::Syntax("true, false or null")));
        }
        self.at += word.len();
        Ok(value)
    }

    fn string(&mut self) -> Parsed<String> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let plain = self.text[self.at..]
                .bytes()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .count();
            value.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => value.push(self.escape()?),
                Some(_) => return Err(self.fault(Fault::ControlCharacter)),
                None => return Err(self.fault(Fault::Syntax("the end of a string"))),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let escaped = self.peek();
        self.at += 1;
        Ok(match escaped {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(self.fault_at(Fault::Syntax("an escape"), start)),
        })
    }

    fn unicode_escape(&mut self, start: usize) -> Parsed<char> {
        let high = self.hex4(start)?;
        let code = match high {
            0xd800..=0xdbff => {
                if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    return Err(self.fault_at(Fault::LoneSurrogate, start));
                }
                self.at += 2;
                let low = self.hex4(start)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.fault_at(Fault::LoneSurrogate, start));
                }
                0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.fault_at(Fault::LoneSurrogate, start))
    }

    fn hex4(&mut self, start: usize) -> Parsed<u32> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at..self.at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .ok_or_else(|| self.fault_at(Fault::Syntax("four hex digits"), start))?;
        let code = digits
            .iter()
            .fold(0, |code, digit| code * 16 + char::from(*digit).to_digit(16).unwrap_or_default());
        self.at += 4;
        Ok(code)
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        let negative = self.take(b'-');
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(self.fault_at(Fault::Syntax("a number"), start));
        }
        let mut fraction = None;
        if self.take(b'.') {
            fraction = Some(self.digits());
            if fraction == Some("") {
                return Err(self.fault(Fault::Syntax("digits after the point")));
            }
        }
        let mut exponent = false;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            exponent = true;
            self.at += 1;
            let _sign = self.take(b'+') || self.take(b'-');
            if self.digits().is_empty() {
                return Err(self.fault(Fault::Syntax("digits of the exponent")));
            }
        }
        let is_zero = whole == "0" && fraction.is_none_or(|f| f.bytes().all(|digit| digit == b'0'));
        if negative && is_zero {
            return Err(self.fault_at(Fault::NegativeZero, start));
        }
        let text = &self.text[start..self.at];
        if self.is_decimal() {
            self.decimal(text, whole, fraction.unwrap_or_default(), exponent, start)
        } else if exponent || fraction.is_some() {
            Err(self.fault_at(Fault::NotInteger, start))
        } else {
            text.parse::<i64>()
                .ok()
                .filter(|value| value.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs())
                .map(Value::Integer)
                .ok_or_else(|| self.fault_at(Fault::NumberTooLarge, start))
        }
    }

    fn decimal(
        &self,
        text: &str,
        whole: &str,
        fraction: &str,
        exponent: bool,
        start: usize,
    ) -> Parsed<Value> {
        let too_fine = fraction.len() > MAX_FRACTION_DIGITS
            || whole.len() + fraction.len() > MAX_DECIMAL_DIGITS;
        if exponent || too_fine {
            return Err(self.fault_at(Fault::DecimalForm, start));
        }
        text.parse::<Decimal>()
            .map(|value| Value::Decimal(value.normalize()))
            .map_err(|_| self.fault_at(Fault::DecimalForm, start))
    }

    fn is_decimal(&self) -> bool {
        self.decimal_paths.iter().any(|pattern| {
            let mut parts = pattern.split('.');
            self.path.iter().all(|segment| match (segment, parts.next()) {
                (Segment::Name(name), Some(part)) => name == part,
                (Segment::Index(_), part) => part == Some("[]"),
                (Segment::Name(_), None) => false,
            }) && parts.next().is_none()
        })
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn fault(&self, fault: Fault) -> StrictJsonError {
        self.fault_at(fault, self.at)
    }

    fn fault_at(&self, fault: Fault, offset: usize) -> StrictJsonError {
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                Segment::Name(name) => join_field(&mut path, name),
                Segment::Index(index) => {
                    let _infallible = write!(path, "[{index}]");
                }
            }
        }
        StrictJsonError { fault, offset, path }
    }
}

/// Appends a field name to a path; names of strangers are cut and escaped.
pub(crate) fn join_field(path: &mut String, name: &str) {
    const MAX_SHOWN: usize = 64;
    if !path.is_empty() {
        path.push('.');
    }
    path.extend(name.chars().take(MAX_SHOWN).flat_map(char::escape_debug));
    if name.chars().nth(MAX_SHOWN).is_some() {
        path.push('…');
    }
}

struct InField<'a>(&'a str);

impl std::fmt::Display for InField<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", field {}", self.0) }
    }
}

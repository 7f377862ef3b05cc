//! The 422 body of a request with missing or wrong fields, as FastAPI writes it.
//!
//! Clients take any 422 for a plain error; people read it. The shapes are pydantic's: one entry
//! per field, with where it is, what is wrong, and what came.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::wire::MAX_TEXT_CHARS;

/// Status of these answers.
pub const HTTP_STATUS: u16 = 422;

/// The body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicValidationErrors)]
pub struct ValidationErrors {
    /// One entry per field.
    pub detail: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicFieldError)]
pub struct FieldError {
    /// `missing`, `string_type`, `string_too_short`, `string_too_long`, `json_invalid`, …
    #[serde(rename = "type")]
    #[schema(example = "missing")]
    pub kind: String,
    /// `body` and the field.
    #[schema(value_type = Vec<Object>, example = json!(["body", "user"]))]
    pub loc: Vec<Value>,
    /// For people.
    #[schema(example = "Field required")]
    pub msg: String,
    /// What came.
    #[schema(value_type = Object)]
    pub input: Value,
    /// The bound that was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub ctx: Option<Value>,
}

/// The fields of an object body, read one after the other; every wrong one is remembered.
pub(super) struct Fields {
    body: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a body, which must be an object.
    pub(super) fn of(body: &[u8]) -> Result<Self, ValidationErrors> {
        let whole = |kind: &str, msg: &str, input: Value, loc: Vec<Value>| ValidationErrors {
            detail: vec![FieldError {
                kind: kind.to_owned(),
                loc,
                msg: msg.to_owned(),
                input,
                ctx: None,
            }],
        };
        if body.is_empty() {
            return Err(whole("missing", REQUIRED, Value::Null, vec![json!("body")]));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(body)) => Ok(Self { body, errors: Vec::new() }),
            Ok(other) => Err(whole(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
                other,
                vec![json!("body")],
            )),
            Err(error) => {
                // The column of the first line that is wrong: requests are one line.
                let at = vec![json!("body"), json!(error.column().saturating_sub(1))];
                let mut errors = whole("json_invalid", "JSON decode error", json!({}), at);
                for field in &mut errors.detail {
                    field.ctx = Some(json!({ "error": "Expecting value" }));
                }
                Err(errors)
            }
        }
    }

    /// Reads a text of 1 to 256 characters.
    pub(super) fn text(&mut self, name: &str) -> String {
        match self.body.get(name) {
            None => {
                let input = Value::Object(self.body.clone());
                self.wrong(name, "missing", REQUIRED.to_owned(), input, None);
            }
            Some(Value::String(text)) if text.is_empty() => {
                let msg = "String should have at least 1 character".to_owned();
                let bound = json!({ "min_length": 1 });
                self.wrong(name, "string_too_short", msg, json!(""), Some(bound));
            }
            Some(Value::String(text)) if text.chars().nth(MAX_TEXT_CHARS).is_some() => {
                let msg = format!("String should have at most {MAX_TEXT_CHARS} characters");
                let input = json!(text);
                let bound = json!({ "max_length": MAX_TEXT_CHARS });
                self.wrong(name, "string_too_long", msg, input, Some(bound));
            }
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                let msg = "String should have no control characters".to_owned();
                let input = json!(text);
                self.wrong(name, "string_pattern_mismatch", msg, input, None);
            }
            Some(Value::String(text)) => return text.clone(),
            Some(other) => {
                let (msg, input) = ("Input should be a valid string".to_owned(), other.clone());
                self.wrong(name, "string_type", msg, input, None);
            }
        }
        String::new()
    }

    /// Reads an amount of 0 or more that may be null or absent.
    pub(super) fn optional_amount(&mut self, name: &str) -> Option<crate::wire::Money> {
        let value = self.body.get(name).filter(|value| !value.is_null())?.clone();
        let amount = serde_json::from_value::<crate::wire::Money>(value.clone()).ok();
        match amount.filter(|amount| !amount.0.is_sign_negative()) {
            Some(amount) => Some(amount),
            None if value.is_number() => {
                let msg = "Input should be greater than or equal to 0".to_owned();
                self.wrong(name, "greater_than_equal", msg, value, Some(json!({ "ge": 0.0 })));
                None
            }
            None => {
                let msg = "Input should be a valid number".to_owned();
                self.wrong(name, "float_type", msg, value, None);
                None
            }
        }
    }

    /// What was read, unless something was wrong.
    pub(super) fn finish<T>(self, read: T) -> Result<T, ValidationErrors> {
        if self.errors.is_empty() {
            Ok(read)
        } else {
            Err(ValidationErrors { detail: self.errors })
        }
    }

    fn wrong(&mut self, name: &str, kind: &str, msg: String, input: Value, ctx: Option<Value>) {
        let loc = vec![json!("body"), json!(name)];
        self.errors.push(FieldError { kind: kind.to_owned(), loc, msg, input, ctx });
    }
}

const REQUIRED: &str = "Field required";

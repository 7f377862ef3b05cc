//! Reading a strict value field by field: every error names the field, no field is left over.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::Layout;
use super::error::PackageError;
use crate::strict_json::{Value, join_field};
use crate::wire::{MAX_ID_CHARS, MAX_TEXT_CHARS, is_id, is_text};

/// One object of a document, and which of its fields have been read.
pub(super) struct Fields<'a> {
    layout: Layout,
    path: String,
    object: &'a BTreeMap<String, Value>,
    read: BTreeSet<&'static str>,
    extensions: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(layout: Layout, object: &'a BTreeMap<String, Value>) -> Self {
        Self { layout, path: String::new(), object, read: BTreeSet::new(), extensions: true }
    }

    /// The path of a field of this object.
    pub(super) fn path_of(&self, name: &str) -> String {
        let mut path = self.path.clone();
        join_field(&mut path, name);
        path
    }

    /// Every field must have been read, or begin with `x_` where extensions are allowed.
    pub(super) fn finish(self) -> Result<(), PackageError> {
        let unknown = self.object.keys().find(|name| {
            !(self.read.contains(name.as_str()) || (self.extensions && name.starts_with("x_")))
        });
        match unknown {
            None => Ok(()),
            Some(name) => Err(PackageError::UnknownField {
                field: self.path_of(name),
                layout: self.layout.name(),
            }),
        }
    }

    pub(super) fn optional(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.insert(name);
        self.object.get(name)
    }

    fn required(&mut self, name: &'static str) -> Result<&'a Value, PackageError> {
        self.optional(name).ok_or_else(|| PackageError::Missing { field: self.path_of(name) })
    }

    pub(super) fn object(&mut self, name: &'static str) -> Result<Fields<'a>, PackageError> {
        let value = self.required(name)?;
        self.inner(name, value)
    }

    pub(super) fn optional_object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Fields<'a>>, PackageError> {
        self.optional(name).map(|value| self.inner(name, value)).transpose()
    }

    fn inner(&self, name: &'static str, value: &'a Value) -> Result<Fields<'a>, PackageError> {
        let Value::Object(object) = value else {
            return Err(self.wrong_type(name, "an object", value));
        };
        Ok(Fields {
            layout: self.layout,
            path: self.path_of(name),
            object,
            read: BTreeSet::new(),
            extensions: self.extensions,
        })
    }

    /// From here on `x_` is unknown as well: our own extension is known to the last field.
    pub(super) fn without_extensions(mut self) -> Self {
        self.extensions = false;
        self
    }

    pub(super) fn optional_string(
        &mut self,
        name: &'static str,
    ) -> Result<Option<&'a str>, PackageError> {
        match self.optional(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong_type(name, "a string", value)),
        }
    }

    pub(super) fn string(&mut self, name: &'static str) -> Result<&'a str, PackageError> {
        self.optional_string(name)?
            .ok_or_else(|| PackageError::Missing { field: self.path_of(name) })
    }

    pub(super) fn id(&mut self, name: &'static str) -> Result<String, PackageError> {
        let text = self.string(name)?;
        if !is_id(text) {
            return Err(self.out_of_bounds(name, id_bound()));
        }
        Ok(text.to_owned())
    }

    /// A name for people.
    pub(super) fn name(&mut self, name: &'static str) -> Result<String, PackageError> {
        let text = self.string(name)?;
        if !is_text(text, MAX_TEXT_CHARS) {
            let reason = format!("1 to {MAX_TEXT_CHARS} characters without control characters");
            return Err(self.out_of_bounds(name, reason));
        }
        Ok(text.to_owned())
    }

    pub(super) fn optional_ids(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Vec<String>, PackageError> {
        let values = match self.optional(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(value) => return Err(self.wrong_type(name, "an array of strings", value)),
        };
        if values.len() > most {
            return Err(self.out_of_bounds(name, format!("at most {most} items")));
        }
        let mut ids = BTreeSet::new();
        for value in values {
            let Value::String(text) = value else {
                return Err(self.wrong_type(name, "an array of strings", value));
            };
            if !is_id(text) {
                return Err(self.out_of_bounds(name, id_bound()));
            }
            if !ids.insert(text.clone()) {
                return Err(self.out_of_bounds(name, "each item once".to_owned()));
            }
        }
        Ok(ids.into_iter().collect())
    }

    pub(super) fn optional_integer(
        &mut self,
        name: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, PackageError> {
        let value = match self.optional(name) {
            None => return Ok(None),
            Some(Value::Integer(value)) => *value,
            Some(value) => return Err(self.wrong_type(name, "an integer", value)),
        };
        u64::try_from(value)
            .ok()
            .filter(|value| (least..=most).contains(value))
            .map(Some)
            .ok_or_else(|| self.out_of_bounds(name, format!("{least} to {most}")))
    }

    pub(super) fn quantity(
        &mut self,
        name: &'static str,
        least: u32,
        most: u32,
    ) -> Result<u32, PackageError> {
        self.optional_integer(name, least.into(), most.into())?
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| PackageError::Missing { field: self.path_of(name) })
    }

    /// A price: not negative, at most `most`.
    pub(super) fn price(&mut self, name: &'static str, most: u32) -> Result<Decimal, PackageError> {
        match self.required(name)? {
            Value::Decimal(value) if *value >= Decimal::ZERO && *value <= Decimal::from(most) => {
                Ok(*value)
            }
            Value::Decimal(_) => Err(self.out_of_bounds(name, format!("0 to {most}"))),
            value => Err(self.wrong_type(name, "a decimal number", value)),
        }
    }

    pub(super) fn optional_word(
        &mut self,
        name: &'static str,
        words: &[&str],
    ) -> Result<Option<&'a str>, PackageError> {
        match self.optional_string(name)? {
            Some(word) if !words.contains(&word) => {
                Err(self.out_of_bounds(name, format!("one of {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// `on` or `off`.
    pub(super) fn optional_switch(
        &mut self,
        name: &'static str,
    ) -> Result<Option<bool>, PackageError> {
        Ok(self.optional_word(name, &["on", "off"])?.map(|word| word == "on"))
    }

    pub(super) fn wrong_type(
        &self,
        name: &str,
        expected: &'static str,
        found: &Value,
    ) -> PackageError {
        PackageError::WrongType { field: self.path_of(name), expected, found: found.kind() }
    }

    pub(super) fn out_of_bounds(&self, name: &str, reason: String) -> PackageError {
        PackageError::OutOfBounds { field: self.path_of(name), reason }
    }
}

fn id_bound() -> String {
    format!("1 to {MAX_ID_CHARS} characters of A-Z a-z 0-9 . _ -, the first a letter or digit")
}

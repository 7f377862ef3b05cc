//! JSON in the order in which a person reads an OpenAPI document, whatever order the maps have.
//!
//! What is known comes first and in this order; other names follow by the alphabet. So one document
//! is always the same bytes, also where another crate's feature makes maps keep their insertions.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// A value whose objects are written in order.
pub(super) struct Ordered<'a>(pub(super) &'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(object) => {
                let mut members: Vec<(&String, &Value)> = object.iter().collect();
                members.sort_by_key(|(name, _)| (rank(name), *name));
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Ordered(item))?;
                }
                list.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

fn rank(name: &str) -> usize {
    FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len())
}

const FIRST: [&str; 21] = [
    "openapi",
    "info",
    "servers",
    "tags",
    "$ref",
    "title",
    "name",
    "in",
    "summary",
    "description",
    "operationId",
    "required",
    "deprecated",
    "type",
    "parameters",
    "requestBody",
    "responses",
    "security",
    "headers",
    "schema",
    "paths",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_look_for_comes_first() {
        let value = serde_json::json!({
            "paths": {"/b": 1, "/a": 2}, "zzz": 1, "info": {"version": 1, "title": 2},
            "openapi": "3.1.0",
        });
        let text = serde_json::to_string(&Ordered(&value)).unwrap();
        let want = r#"{"openapi":"3.1.0","info":{"title":2,"version":1},"paths":{"/a":2,"/b":1},"#;
        assert_eq!(text, format!("{want}\"zzz\":1}}"));
    }
}

//! Examples made from schemas: what a field says of itself, else a value as its name leads one to
//! expect, else the plainest of its type. A test holds every one against its schema.

use serde_json::{Map, Value, json};

/// Makes examples of the schemas of a document.
pub(super) struct Examples<'a> {
    /// `components.schemas`.
    pub(super) schemas: &'a Map<String, Value>,
}

/// How much of an object an example shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every field.
    Whole,
    /// What must be there, and what says of itself how it looks.
    Needed,
}

impl Examples<'_> {
    /// An example of a schema; `name` is the field's, or the type's.
    pub(super) fn of(&self, schema: &Value, name: &str, extent: Extent) -> Value {
        self.build(schema, name, extent, 0)
    }

    fn build(&self, schema: &Value, name: &str, extent: Extent, depth: usize) -> Value {
        let examples = schema.get("examples").and_then(Value::as_array);
        let said = schema.get("example").or_else(|| examples.and_then(|list| list.first()));
        if let Some(said) = said.filter(|said| !said.is_null()) {
            return said.clone();
        }
        if let Some(found) = self.referred(schema) {
            return self.build(found, name, extent, depth);
        }
        let first = schema.get("enum").and_then(Value::as_array).and_then(|list| list.first());
        if let Some(value) = schema.get("const").or(first) {
            return value.clone();
        }
        for several in ["oneOf", "anyOf"] {
            if let Some(choices) = schema.get(several).and_then(Value::as_array) {
                let real = choices.iter().find(|choice| choice["type"] != "null");
                return real.map_or(Value::Null, |one| self.build(one, name, extent, depth));
            }
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.joined(parts, name, extent, depth);
        }
        match kind(schema) {
            "object" => self.object(schema, extent, depth),
            "array" => self.array(schema, name, extent, depth),
            "string" => Value::String(text(name, schema)),
            "boolean" => Value::Bool(true),
            "integer" | "number" => number(schema),
            // Any JSON at all.
            _ => json!({}),
        }
    }

    fn referred(&self, schema: &Value) -> Option<&Value> {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/")?;
        self.schemas.get(name)
    }

    fn joined(&self, parts: &[Value], name: &str, extent: Extent, depth: usize) -> Value {
        let mut all = Map::new();
        for part in parts {
            match self.build(part, name, extent, depth) {
                Value::Object(members) => all.extend(members),
                plain => return plain,
            }
        }
        Value::Object(all)
    }

    fn object(&self, schema: &Value, extent: Extent, depth: usize) -> Value {
        let mut members = Map::new();
        let required = schema.get("required").and_then(Value::as_array);
        let is_required =
            |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        for (name, field) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let is_shown = match extent {
                _ if is_required(name) => true,
                Extent::Whole => depth < MAX_DEPTH,
                Extent::Needed => field.get("example").is_some(),
            };
            if is_shown {
                members.insert(name.clone(), self.build(field, name, extent, depth + 1));
            }
        }
        Value::Object(members)
    }

    fn array(&self, schema: &Value, name: &str, extent: Extent, depth: usize) -> Value {
        let singular = name.strip_suffix('s').unwrap_or(name);
        match schema.get("items") {
            Some(items) if depth < MAX_DEPTH => {
                json!([self.build(items, singular, extent, depth + 1)])
            }
            _ => json!([]),
        }
    }
}

/// The type that is not null.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "",
    }
}

fn number(schema: &Value) -> Value {
    schema.get("minimum").cloned().unwrap_or_else(|| json!(1))
}

fn text(name: &str, schema: &Value) -> String {
    if let Some(digits) = schema["pattern"].as_str().and_then(hex_digits) {
        return "3b8f0a7de1c94c1d".chars().cycle().take(digits).collect();
    }
    if let Some(text) = named(name) {
        return text.to_owned();
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => TIME.to_owned(),
        Some("password") => "Zm9yLXlvdXItZXllcy1vbmx5".to_owned(),
        _ if name.ends_with("_at") || name.ends_with("_until") => TIME.to_owned(),
        _ if name.ends_with("_url") => "https://licenses.example.com".to_owned(),
        _ => name.replace('_', "-"),
    }
}

/// How many hex digits a pattern wants that wants nothing else.
fn hex_digits(pattern: &str) -> Option<usize> {
    pattern.strip_prefix("^[0-9a-f]{")?.strip_suffix("}$")?.parse().ok()
}

/// How a text of this name looks, in every part of the face.
pub(super) fn named(name: &str) -> Option<&'static str> {
    Some(match name {
        "lease_id" => "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga",
        "renewal_token" => "rt1-AQABAQIDBAUGBwgJCgAAAAM68c7dLyk4fQcVZe0jwfrE",
        "package_id" => "vec-davinci-se-bmw-2025-001",
        "product_id" => "davinci-configurator-se",
        "product_name" => "DaVinci Configurator SE",
        "vendor_id" => "vector-de",
        "app_id" => "app-5f0c21d39ab47e10",
        "operator_id" => "operator-5f0c21d39ab47e10",
        "reference" => "8c1f0a5b2d9e4f77",
        "license_id" | "id" | "activation_id" | "client_id" | "user_id" | "plan_id"
        | "feature_id" | "scope_id" | "key_id" | "tenant_id" | "charge_id"
        | "subject_client_id" | "provider_client_id" => "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10",
        "email" => "alice@bmw.com",
        "user" | "username" => "alice@bmw.com",
        "hostname" | "host" => "dev-workstation-042",
        "name" | "company_name" => "BMW AG",
        "tool" => "ECU Development Suite",
        "pool" => "team-a",
        "feature" => "can_editor",
        "product" | "slug" | "product_slug" => "cad-suite",
        "plan" | "plan_slug" => "professional",
        "scope" | "scope_slug" => "project",
        "device_fingerprint" | "trial_device_fingerprint" => {
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        }
        "fingerprint" | "key_fingerprint" => {
            "SHA256:3b8f0a7de1c94c1d5f4f0a6f8f3a9d2c7b1e5a60918273645566778899aabbcc"
        }
        "public_key" | "public_key_pem" => {
            "-----BEGIN PUBLIC KEY-----\n\
             MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
             -----END PUBLIC KEY-----\n"
        }
        "offline_token" => {
            "eyJhbGciOiJFZERTQSIsInR5cCI6ImxoLW9mZmxpbmUrand0In0.\
             eyJzdWIiOiJsZWFzZS0xIn0.c2lnbmF0dXJl"
        }
        "cursor" | "next" => "vec-davinci-se-bmw-2025-001",
        "kid" => "node-1-3b8f0a7d",
        "currency" => "EUR",
        "region" => "eu-central",
        "zone" => "a",
        "ip_address" => "192.0.2.7",
        "org_id" => "bmw",
        "project_id" => "adas",
        _ => return None,
    })
}

/// Deep enough for every answer, and an end for a schema that refers to itself.
const MAX_DEPTH: usize = 6;
const TIME: &str = "2026-11-22T09:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &Value, extent: Extent, want: &Value) {
        let own: Value = json!({
            "Loop": {
                "type": "object",
                "properties": {"inner": {"$ref": "#/components/schemas/Loop"}},
            },
            "Word": {"type": "string", "enum": ["one", "two"]},
        });
        let Value::Object(schemas) = own else { unreachable!() };
        assert_eq!(&Examples { schemas: &schemas }.of(schema, "x", extent), want, "{schema}");
    }

    #[test]
    fn an_example_is_what_the_schema_leads_one_to_expect() {
        let object = json!({
            "type": "object",
            "required": ["email"],
            "properties": {
                "email": {"type": "string"},
                "count": {"type": "integer", "minimum": 3},
                "word": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Word"}]},
                "said": {"type": ["string", "null"], "example": "so"},
            },
        });
        let whole = json!({"email": "alice@bmw.com", "count": 3, "word": "one", "said": "so"});
        check(&object, Extent::Whole, &whole);
        check(&object, Extent::Needed, &json!({"email": "alice@bmw.com", "said": "so"}));
        let list = json!({"type": "array", "items": {"type": "boolean"}});
        check(&list, Extent::Whole, &json!([true]));
        check(&json!({}), Extent::Whole, &json!({}));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let looped = json!({"$ref": "#/components/schemas/Loop"});
        let Value::Object(schemas) = json!({
            "Loop": {
                "type": "object",
                "properties": {"inner": {"$ref": "#/components/schemas/Loop"}},
            },
        }) else {
            unreachable!()
        };
        let text = Examples { schemas: &schemas }.of(&looped, "x", Extent::Whole).to_string();
        assert_eq!(text.matches("inner").count(), MAX_DEPTH);
    }
}

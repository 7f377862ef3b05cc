//! Schemas as tables: one row a field, with its type, its bounds and what it means.

use std::fmt::Write;

use serde_json::Value;

use super::html::{code, escape, inline, slug};
use super::text;

/// The fields of an object, those that must be there first.
pub(super) fn table(schema: &Value) -> String {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
    let mut fields: Vec<(&String, &Value)> =
        schema["properties"].as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| !is_required(name));
    let mut table = String::from(
        "<div class=\"wide\"><table><thead><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>\
         </thead>\n<tbody>\n",
    );
    for (name, field) in fields {
        let needed = if is_required(name) { " <em>required</em>" } else { "" };
        let _ = writeln!(
            table,
            "<tr><td>{}{needed}</td><td>{}</td><td>{}</td></tr>",
            code(name),
            kind(field),
            inline(meaning(field))
        );
    }
    table.push_str("</tbody></table></div>\n");
    table
}

/// What a field says of itself, or what the one real choice of it says.
fn meaning(field: &Value) -> &str {
    let own = text(&field["description"]);
    if !own.is_empty() {
        return own;
    }
    let choices = field["oneOf"].as_array().into_iter().flatten();
    choices.map(|choice| text(&choice["description"])).find(|told| !told.is_empty()).unwrap_or("")
}

/// A type with its bounds, as HTML.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("<a href=\"#shape-{}\">{}</a>", slug(name), escape(name));
    }
    for (several, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(choices) = schema[several].as_array() {
            let kinds: Vec<String> = choices.iter().map(kind).collect();
            return kinds.join(word);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .map(|value| match value {
                Value::String(word) => code(word),
                other => code(&other.to_string()),
            })
            .collect();
        return values.join(", ");
    }
    let mut names: Vec<String> = match &schema["type"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().map(|name| text(name).to_owned()).collect(),
        _ => vec!["any JSON".to_owned()],
    };
    if let Some(name) = names.iter_mut().find(|name| *name == "array") {
        *name = format!("list of {}", kind(&schema["items"]));
    }
    let mut line = names.join(" or ");
    if let Some(format) = schema["format"].as_str().filter(|format| !MACHINE.contains(format)) {
        let _ = write!(line, " ({})", escape(format));
    }
    line.push_str(&bounds(schema));
    line
}

fn bounds(schema: &Value) -> String {
    let pairs = [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ];
    let mut line = String::new();
    for (least, most, unit) in pairs {
        let number = |name: &str| schema.get(name).map(ToString::to_string);
        let told = match (number(least), number(most)) {
            (Some(least), Some(most)) => format!("{least} to {most}{unit}"),
            (Some(least), None) => format!("at least {least}{unit}"),
            (None, Some(most)) => format!("at most {most}{unit}"),
            (None, None) => continue,
        };
        let _ = write!(line, ", {told}");
    }
    if let Some(default) = schema.get("default") {
        let _ = write!(line, ", else {}", code(&default.to_string()));
    }
    line
}

/// Formats that say how a number is held, which no reader needs.
const MACHINE: [&str; 3] = ["int32", "int64", "double"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_reads_as_a_person_says_it() {
        let table = [
            (
                json!({"type": "string", "minLength": 1, "maxLength": 9}),
                "string, 1 to 9 characters",
            ),
            (json!({"type": ["integer", "null"], "format": "int32"}), "integer or null"),
            (json!({"type": "array", "items": {"type": "string"}}), "list of string"),
            (json!({"$ref": "#/components/schemas/A"}), "<a href=\"#shape-A\">A</a>"),
            (json!({"enum": ["a", "b"]}), "<code>a</code>, <code>b</code>"),
            (
                json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/A"}]}),
                "null or <a href=\"#shape-A\">A</a>",
            ),
            (json!({}), "any JSON"),
        ];
        for (schema, want) in table {
            assert_eq!(kind(&schema), want, "{schema}");
        }
    }
}

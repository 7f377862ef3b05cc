//! The second half of the document: what the route table says of an operation in one word, in full.
//!
//! The first half ([`super`]) has every operation with its shapes. Here come descriptions, examples
//! of every request and answer, every code at every status, the headers of answers, and, once as
//! components, what many operations share: the idempotency key, paging, consistency, rates.

use serde_json::{Map, Value, json};

use super::codes::{self, Known, Media};
use super::example::{self, Examples, Extent};
use super::{method, prose, requests};
use crate::routes::{Credential, Operation};

/// Completes a document of these operations.
pub(super) fn complete(
    mut document: Value,
    operations: impl Iterator<Item = &'static Operation>,
) -> Value {
    let mut schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    join_flattened(&mut schemas);
    document["components"]["schemas"] = Value::Object(schemas.clone());
    let examples = Examples { schemas: &schemas };
    let mut shared = Map::new();
    for operation in operations {
        let verb = serde_json::to_value(method(operation.method)).unwrap_or_default();
        let verb = verb.as_str().unwrap_or_default().to_owned();
        let item = &mut document["paths"][operation.path][verb];
        describe(item, operation);
        name_parameters(item, operation);
        show_request(item, operation, &examples);
        show_answers(item, operation, &examples);
        show_failures(item, operation, &examples, &mut shared);
        if item.get("security").is_none() {
            item["security"] = json!([]);
        }
    }
    document["servers"] = json!([{ "url": "/", "description": "The node that serves this." }]);
    document["info"]["contact"] = json!({ "name": "The operator of this cluster" });
    document["info"]["description"] = json!(prose::DESCRIPTION);
    document["components"]["parameters"] = parameters();
    document["components"]["headers"] = headers();
    document["components"]["examples"] = Value::Object(shared);
    drop_unused(&mut document);
    document
}

/// Takes out the words of faces that this document has not.
fn drop_unused(document: &mut Value) {
    let text = document.to_string();
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| text.contains(&format!("\"#/components/schemas/{name}\"")));
    }
}

/// Makes one object of a type that holds another's fields beside its own. Said as `allOf`, a part
/// that knows no other fields would refuse the whole.
fn join_flattened(schemas: &mut Map<String, Value>) {
    let before = schemas.clone();
    let part_of = |part: &Value| match part["$ref"].as_str() {
        Some(reference) => before.get(reference.rsplit('/').next()?).cloned(),
        None => Some(part.clone()),
    };
    for schema in schemas.values_mut() {
        let Some(parts) = schema["allOf"].as_array() else { continue };
        let Some(parts) = parts.iter().map(part_of).collect::<Option<Vec<Value>>>() else {
            continue;
        };
        let is_object = |part: &Value| part["properties"].is_object();
        let is_closed = |part: &Value| part["additionalProperties"] == false;
        if !parts.iter().all(is_object) || !parts.iter().any(is_closed) {
            continue;
        }
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in parts {
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        let description = schema["description"].clone();
        *schema = json!({ "type": "object", "properties": properties });
        if description.is_string() {
            schema["description"] = description;
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
    }
}

fn describe(item: &mut Value, operation: &Operation) {
    item["description"] = json!(prose::description(operation, prose::is_paged(operation)));
}

/// Refers to the parameters that many share, and says what those of the path name.
fn name_parameters(item: &mut Value, operation: &Operation) {
    let mut list = item["parameters"].as_array().cloned().unwrap_or_default();
    for parameter in &mut list {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        let place = parameter["in"].as_str().unwrap_or_default().to_owned();
        let shared = SHARED_PARAMETERS.iter().find(|(_, known)| *known == name);
        if let (Some((component, _)), "header" | "query") = (shared, place.as_str()) {
            *parameter = json!({ "$ref": format!("#/components/parameters/{component}") });
        } else if place == "path" {
            parameter["description"] = json!(prose::path_parameter(&name));
            let value = example::named(&name).map_or_else(|| name.replace('_', "-"), str::to_owned);
            parameter["example"] = json!(value);
        }
    }
    if operation.has_consistency() {
        list.push(json!({ "$ref": "#/components/parameters/Consistency" }));
    }
    item["parameters"] = json!(list);
}

fn show_request(item: &mut Value, operation: &Operation, examples: &Examples<'_>) {
    let Some(content) = content_of(item, "/requestBody/content") else { return };
    for media in content.values_mut() {
        let example = requests::of(operation.id)
            .unwrap_or_else(|| examples.of(&media["schema"], operation.id, Extent::Needed));
        media["example"] = example;
    }
}

fn show_answers(item: &mut Value, operation: &Operation, examples: &Examples<'_>) {
    for answer in operation.answers {
        let response = &mut item["responses"][answer.status.to_string()];
        response["headers"] = headers_of(operation, answer.status);
        let Some(content) = content_of(response, "/content") else { continue };
        // Of an answer that may be any JSON, nothing can be shown.
        let json = content.get_mut("application/json");
        if let Some(media) = json.filter(|media| media["schema"] != json!({ "type": "object" })) {
            media["example"] = examples.of(&media["schema"], operation.id, Extent::Whole);
        }
    }
}

/// Lists every code of every status, each with its answer; problems are told once for all.
fn show_failures(
    item: &mut Value,
    operation: &Operation,
    examples: &Examples<'_>,
    shared: &mut Map<String, Value>,
) {
    let fields = request_fields(item, examples);
    for status in codes::statuses(operation) {
        let known = codes::codes(operation, status, &fields);
        let response = &mut item["responses"][status.to_string()];
        response["headers"] = headers_of(operation, status);
        let Some(content) = content_of(response, "/content") else { continue };
        for (media_type, media) in content.iter_mut() {
            let is_problem = media_type == protocol::cloud::problem::CONTENT_TYPE;
            let wanted = if is_problem { Media::Problem } else { Media::Json };
            let fitting: Vec<&Known> = known.iter().filter(|one| one.media == wanted).collect();
            let mut listed = Map::new();
            for one in &fitting {
                let value = json!({ "summary": one.sentence, "value": one.body });
                listed.insert(one.code.clone(), share(shared, one, status, value));
            }
            if !listed.is_empty() {
                media["examples"] = Value::Object(listed);
            } else if media_type == "application/json" {
                media["example"] = examples.of(&media["schema"], operation.id, Extent::Whole);
            }
        }
        // A kind of answer that no code of this status has is no answer of this call.
        if known.iter().any(|one| one.media == Media::Problem)
            && !known.iter().any(|one| one.media == Media::Json)
        {
            content.remove("application/json");
        } else if known.iter().any(|one| one.media == Media::Json)
            && !known.iter().any(|one| one.media == Media::Problem)
        {
            content.remove(protocol::cloud::problem::CONTENT_TYPE);
        }
    }
}

/// Media types of a request or an answer, where it has a body.
fn content_of<'a>(item: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    item.pointer_mut(pointer)?.as_object_mut()
}

/// Puts an example among the components, or refers to the same one there; one of the same code that
/// differs is told in place.
fn share(shared: &mut Map<String, Value>, known: &Known, status: u16, value: Value) -> Value {
    let kind = match known.media {
        Media::Problem => "problem",
        Media::Json => "refusal",
    };
    let name = format!("{kind}.{status}.{}", known.code);
    let told = shared.entry(name.clone()).or_insert_with(|| value.clone());
    if *told == value { json!({ "$ref": format!("#/components/examples/{name}") }) } else { value }
}

/// Names of the fields of a request.
fn request_fields(item: &Value, examples: &Examples<'_>) -> Vec<String> {
    let content = item["requestBody"]["content"].as_object().into_iter().flatten();
    let schemas = content.filter_map(|(_, media)| {
        let name = media["schema"]["$ref"].as_str()?.strip_prefix("#/components/schemas/")?;
        examples.schemas.get(name)
    });
    let fields = schemas.filter_map(|schema| schema["properties"].as_object());
    fields.flat_map(|properties| properties.keys().cloned()).collect()
}

/// The headers of an operation's answers with a status.
fn headers_of(operation: &Operation, status: u16) -> Value {
    let mut headers = Map::new();
    let mut add = |header: &str, component: &str| {
        let reference = json!({ "$ref": format!("#/components/headers/{component}") });
        headers.insert(header.to_owned(), reference);
    };
    add("X-Request-Id", "RequestId");
    if operation.is_keyed() && status < 400 {
        add("Idempotency-Key", "IdempotencyKey");
    }
    let is_app = matches!(operation.credential, Credential::AccessToken(_));
    if is_app || operation.counts_addresses() || matches!(status, 401 | 429) {
        add("RateLimit-Policy", "RateLimitPolicy");
        add("RateLimit", "RateLimit");
    }
    if matches!(status, 429 | 503) {
        add("Retry-After", "RetryAfter");
    }
    if status == 401 {
        add("WWW-Authenticate", "Challenge");
    }
    if operation.has_consistency() && status < 400 {
        add("Leasehold-Applied-Index", "AppliedIndex");
        add("Leasehold-Age-Ms", "AgeMs");
    }
    Value::Object(headers)
}

/// Component and name of the parameters that are told once.
const SHARED_PARAMETERS: [(&str, &str); 4] = [
    ("IdempotencyKey", "Idempotency-Key"),
    ("RequestId", "X-Request-Id"),
    ("Cursor", "cursor"),
    ("Limit", "limit"),
];

fn parameters() -> Value {
    json!({
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "1 to 128 visible characters that make the call happen once; chosen by \
                            the server when left out. The answer names the key in force. Kept for \
                            15 minutes.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" },
            "example": "order-4711",
        },
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "required": false,
            "description": "A UUID that follows the request into logs and audit; chosen by the \
                            server when left out.",
            "schema": { "type": "string" },
            "example": "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10",
        },
        "Cursor": {
            "name": "cursor",
            "in": "query",
            "required": false,
            "description": "Where the last page ended: `next` of its answer. Left out: the first \
                            page.",
            "schema": { "type": "string" },
        },
        "Limit": {
            "name": "limit",
            "in": "query",
            "required": false,
            "description": "Items of a page.",
            "schema": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 },
            "example": 100,
        },
        "Consistency": {
            "name": "consistency",
            "in": "query",
            "required": false,
            "description": "`linearizable` shows everything that was answered anywhere before. \
                            `stale` is answered from what this node has applied, without a quorum: \
                            the answer says up to which index, and how long ago the node heard \
                            from a leader.",
            "schema": {
                "type": "string",
                "enum": ["linearizable", "stale"],
                "default": "linearizable",
            },
        },
    })
}

/// A header that answers carry.
fn header(description: &str, schema: Value, example: Value) -> Value {
    json!({ "description": description, "schema": schema, "example": example })
}

fn headers() -> Value {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    json!({
        "RequestId": header(
            "The request's id, in logs and audit.",
            text(),
            json!("0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10"),
        ),
        "IdempotencyKey": header("The key in force.", text(), json!("order-4711")),
        "RateLimitPolicy": header(
            "The rate that holds for this caller: `q` requests at once, filled again in `w` \
             seconds (draft-ietf-httpapi-ratelimit-headers). Absent where nothing bounds it.",
            text(),
            json!("\"app\";q=20000;w=1"),
        ),
        "RateLimit": header(
            "What is left: `r` requests at once, full again in `t` seconds.",
            text(),
            json!("\"app\";r=19999;t=1"),
        ),
        "RetryAfter": header(
            "Seconds until asking again makes sense.",
            json!({ "type": "integer", "minimum": 1 }),
            json!(1),
        ),
        "Challenge": header(
            "The credential that would do (RFC 9110, section 11.6.1).",
            text(),
            json!("Bearer realm=\"leasehold\""),
        ),
        "AppliedIndex": header(
            "Of a stale answer: the log index up to which this node has applied.",
            count(),
            json!(4711),
        ),
        "AgeMs": header(
            "Of a stale answer: milliseconds since this node heard from a leader or, leading, from \
             a quorum.",
            count(),
            json!(12),
        ),
    })
}

//! The OpenAPI document against the server that it describes: examples that fit their schemas and
//! that the server understands, statuses that are listed, a page that reads.

use std::collections::{BTreeMap, BTreeSet};

use gateway::routes::{Credential, Operation, Verb, operations};
use http::Method;
use serde_json::{Value, json};

use crate::world::World;

fn document() -> Value {
    serde_json::from_str(&gateway::openapi::document()).expect("JSON")
}

/// Every operation's part of the document.
fn each(document: &Value) -> impl Iterator<Item = (&'static Operation, &Value)> {
    operations().map(move |operation| {
        let verb = operation.method.http().to_string().to_lowercase();
        (operation, &document["paths"][operation.path][verb])
    })
}

/// What a reference refers to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).expect("a reference leads somewhere"),
        None => value,
    }
}

/// Schemas of the document, each built once.
struct Schemas<'a> {
    document: &'a Value,
    built: BTreeMap<String, jsonschema::Validator>,
}

impl Schemas<'_> {
    fn check(&mut self, schema: &Value, example: &Value, place: &str) {
        let validator = self.built.entry(schema.to_string()).or_insert_with(|| {
            let mut whole = schema.clone();
            if let Some(whole) = whole.as_object_mut() {
                whole.insert("components".to_owned(), self.document["components"].clone());
            }
            jsonschema::draft202012::new(&whole).expect("a schema")
        });
        if let Err(error) = validator.validate(example) {
            panic!("{place}: {error} at {}: {example}", error.instance_path());
        }
    }
}

#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let mut schemas = Schemas { document: &document, built: BTreeMap::new() };
    let mut seen = 0;
    for (operation, item) in each(&document) {
        let mut bodies = vec![("request".to_owned(), &item["requestBody"])];
        for (status, response) in item["responses"].as_object().expect("responses") {
            bodies.push((status.clone(), response));
        }
        for (place, body) in bodies {
            for (media_type, media) in body["content"].as_object().into_iter().flatten() {
                let place = format!("{} {place} {media_type}", operation.id);
                let is_json = media_type.ends_with("json") || media_type.ends_with("urlencoded");
                if !is_json || media_type == "application/schema+json" {
                    continue;
                }
                let mut examples: Vec<&Value> = media.get("example").into_iter().collect();
                for (_, named) in media["examples"].as_object().into_iter().flatten() {
                    examples.push(&resolved(&document, named)["value"]);
                }
                let is_open = media["schema"] == json!({ "type": "object" });
                assert!(!examples.is_empty() || is_open, "{place}: no example");
                for example in examples {
                    schemas.check(&media["schema"], example, &place);
                    seen += 1;
                }
            }
        }
        for parameter in item["parameters"].as_array().expect("parameters") {
            let parameter = resolved(&document, parameter);
            if let Some(example) = parameter.get("example") {
                let place = format!("{} {}", operation.id, parameter["name"]);
                schemas.check(&parameter["schema"], example, &place);
            }
        }
    }
    assert!(seen > 1_000, "{seen} examples");
}

#[test]
fn every_operation_is_told_in_full() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (operation, item) in each(&document) {
        let id = operation.id;
        for member in ["description", "summary", "operationId"] {
            assert!(item[member].as_str().is_some_and(|text| !text.is_empty()), "{id}: {member}");
        }
        assert!(ids.insert(item["operationId"].to_string()), "{id} twice");
        assert!(item["security"].is_array(), "{id}: who may ask");
        for (status, response) in item["responses"].as_object().expect("responses") {
            assert!(response["description"].is_string(), "{id} {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
        }
        for parameter in item["parameters"].as_array().expect("parameters") {
            let parameter = resolved(&document, parameter);
            assert!(parameter["description"].is_string(), "{id}: {}", parameter["name"]);
        }
    }
    for member in ["license", "contact", "version", "title", "description"] {
        assert!(!document["info"][member].is_null(), "{member}");
    }
}

/// The credential that lets an example in.
fn admitted(world: &World, operation: &Operation, token: &str) -> Option<(&'static str, String)> {
    match operation.credential {
        Credential::Operator(_) => Some(("authorization", format!("Bearer {}", world.admin))),
        Credential::ApiKey(_) => Some(("x-api-key", world.admin.clone())),
        Credential::AccessToken(_) => Some(("authorization", format!("Bearer {token}"))),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_understands_every_request_that_the_document_shows() {
    let (world, app) = World::ready(&[]).await;
    let document = document();
    let mut wrong = Vec::new();
    for (operation, item) in each(&document) {
        let Some(content) = item["requestBody"]["content"].as_object() else { continue };
        let Some(example) = content.get("application/json").map(|media| &media["example"]) else {
            continue;
        };
        let Some((header, value)) = admitted(&world, operation, &app.token) else { continue };
        let path = operation.path_with(|name| {
            let parameters = item["parameters"].as_array().expect("parameters");
            let found = parameters.iter().find(|parameter| parameter["name"] == name);
            found.and_then(|it| it["example"].as_str()).expect("an example").to_owned()
        });
        let request = world.ask(operation.method.http(), &path).header(header, &value);
        let answer = request.json(example).send().await;
        let status = answer.status.as_u16();
        // A package must be signed, which no example is.
        if status == 400 && operation.id != "importPackage" {
            wrong.push(format!("{}: {}", operation.id, answer.text));
        }
        if item["responses"][status.to_string()].is_null() {
            wrong.push(format!("{}: {status} is not listed: {}", operation.id, answer.text));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_answers_as_the_document_says_also_when_stale() {
    let (world, app) = World::ready(&[]).await;
    let document = document();
    let mut schemas = Schemas { document: &document, built: BTreeMap::new() };
    let mut wrong = Vec::new();
    for (operation, item) in each(&document) {
        let has_choice = item["parameters"]
            .as_array()
            .expect("parameters")
            .iter()
            .any(|it| it["$ref"] == "#/components/parameters/Consistency");
        let is_json = item["responses"]["200"]["content"]["application/json"].is_object();
        if operation.method != Verb::Get || !has_choice || !is_json {
            continue;
        }
        let Some((header, value)) = admitted(&world, operation, &app.token) else { continue };
        let path = operation.path_with(|name| match name {
            "package_id" => crate::world::PACKAGE.to_owned(),
            "app_id" => app.app_id.clone(),
            _ => "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10".to_owned(),
        });
        for stale in [false, true] {
            let query = if stale { "?consistency=stale" } else { "" };
            let asked = format!("{path}{query}");
            let answer = world.ask(Method::GET, &asked).header(header, &value).send().await;
            let status = answer.status.as_u16();
            let listed = &item["responses"][status.to_string()];
            if listed.is_null() {
                wrong.push(format!("{asked}: {status} is not listed: {}", answer.text));
            }
            if let (200, Some(media)) = (status, listed["content"].get("application/json")) {
                schemas.check(&media["schema"], &answer.json(), &asked);
            }
            let index = answer.header("leasehold-applied-index");
            let age = answer.header("leasehold-age-ms");
            if stale && operation.path.starts_with("/admin/packages") && status == 200 {
                let index: u64 = index.expect("an index").parse().expect("a number");
                assert!(index > 0 && age.is_some_and(|age| age.parse::<u64>().is_ok()), "{asked}");
            }
            if !stale {
                assert_eq!((index, age), (None, None), "{asked}");
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_served_under_a_strict_policy() {
    let world = World::unsealed().await;
    for path in ["/docs", "/docs/"] {
        let page = world.get(path).send().await;
        assert_eq!(page.status.as_u16(), 200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert!(page.text.contains("id=\"checkoutLicense\""));
    }
    let style = world.get("/docs/style.css").send().await;
    assert_eq!(
        (style.status.as_u16(), style.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
    for path in ["/schemas/package.schema.json", "/v1/package.schema.json"] {
        let schema = world.get(path).send().await.expect(200);
        let id = schema["$id"].as_str().expect("an id");
        assert!(id.ends_with("/v1/package.schema.json"), "{path}: {id}");
    }
}

#[test]
fn the_committed_schema_of_packages_is_the_served_one() {
    let committed =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../client/openapi/package.schema.json");
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(
        committed == protocol::package::json_schema(),
        "client/openapi/package.schema.json is out of date; run: cargo xtask fix"
    );
}

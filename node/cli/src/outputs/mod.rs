//! The contract of `--output json`: which document each verb prints, as JSON Schema, made from the
//! wire types and from the shapes that verbs put together ([`shapes`]).
//!
//! `client/openapi/cli-output.json` is what scripts read. It is written by the test that compares
//! it (`cargo xtask fix`), and every report and error that a scripted test comes to is held against
//! it, with no field more than it has ([`check`]). Others may know fewer fields than a newer
//! release prints, so the schemas themselves leave objects open.
//!
//! ```text
//! verbs   verb           → what is on standard output, one document
//! lines   verb, option   → what each line of a stream is
//! error   what is on standard error when a verb fails
//! ```
//!
//! What it leaves to others: that the tree of the whole program has no verb beside these (`node`).

mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use clap::ArgMatches;
use protocol::cloud::admin::{
    ActivationView, AddMemberResponse, AddOperatorResponse, AlarmList, AppList, AppPolicyView,
    AuditEventView, BorrowRulesView, CertificateStatus, ClassicVendorList, ClassicVendorView,
    ClientView, DrainResponse, EraseSubjectResponse, EvaluationKeys, ImportResponse,
    IssuedLicenseResponse, KeyStatus, LeaseView, LicenseView, MemberList, OperatorView,
    PackageList, PackageView, PoolView, RegisterAppResponse, ReleaseResponse,
    RemoveActivationResponse, RotateCertificatesResponse, RotateKeyResponse, RotateSecretResponse,
    SnapshotResponse, SubjectDetail, TransferLeaderResponse, TransferSeatsResponse, VendorList,
    VendorView, WriteOffResponse,
};
use protocol::cloud::lease::{BorrowResponse, CheckoutResponse, HeartbeatResponse, ReturnResponse};
use protocol::oauth::token::TokenResponse;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::error::Result;
use crate::report::Report;
use crate::verbs::top::Picture;
use crate::verbs::watching::Status;

/// Holds what a verb came to against its schema.
#[track_caller]
pub(crate) fn check(verb: &str, outcome: &Result<Report>) {
    match outcome {
        Ok(report) => hold(&reference_of(verb), &report.json, verb),
        Err(error) => hold(&committed()["error"], &error.to_json(), verb),
    }
}

/// The words of a verb, aliases resolved.
pub(crate) fn verb_of(mut matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    while let Some((word, below)) = matches.subcommand() {
        words.push(word);
        matches = below;
    }
    words.join(" ")
}

fn reference_of(verb: &str) -> Value {
    let reference = &committed()["verbs"][verb];
    assert!(reference.is_object(), "`{verb}` has no schema in {PATH}: cargo xtask fix");
    reference.clone()
}

#[track_caller]
fn hold(reference: &Value, document: &Value, what: &str) {
    static CLOSED: OnceLock<Value> = OnceLock::new();
    let defs = CLOSED.get_or_init(|| closed(&committed()["$defs"]));
    let schema = json!({ "$ref": reference["$ref"], "$defs": defs });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    if let Err(error) = validator.validate(document) {
        panic!("{what}: {error} at {}: {document:#}", error.instance_path());
    }
}

/// The definitions with every object closed: no field that is not named. What is a part of another
/// (`allOf`) stays open, and so does what is passed on as the server said it.
fn closed(defs: &Value) -> Value {
    let mut parts = BTreeSet::new();
    find_parts(defs, &mut parts);
    let mut defs = defs.clone();
    for (name, definition) in defs.as_object_mut().unwrap() {
        if !parts.contains(name) && !PASSED_ON.contains(&name.as_str()) {
            close(definition);
        }
    }
    defs
}

fn find_parts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for part in fields.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                let name = part["$ref"].as_str().and_then(|it| it.strip_prefix("#/$defs/"));
                parts.extend(name.map(str::to_owned));
            }
            fields.values().for_each(|value| find_parts(value, parts));
        }
        Value::Array(items) => items.iter().for_each(|value| find_parts(value, parts)),
        _ => {}
    }
}

fn close(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.contains_key("allOf") => {
            fields.insert("unevaluatedProperties".to_owned(), json!(false));
        }
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn committed() -> &'static Value {
    static COMMITTED: OnceLock<Value> = OnceLock::new();
    COMMITTED.get_or_init(|| serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap())
}

/// The document as this release has it.
fn document() -> Value {
    let mut schemas = Schemas::new();
    let verbs: Map<String, Value> =
        VERBS.iter().map(|(verb, of)| ((*verb).to_owned(), of(&mut schemas))).collect();
    let error = of::<shapes::ErrorDocument>(&mut schemas);
    let event = of::<AuditEventView>(&mut schemas);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What leasehold prints with --output json",
        "description": "`verbs` names what each verb prints on standard output: one document, the \
            same whether the exit code is 0, 10 or 11. `lines` names what each line of a stream \
            is. `error` is on standard error when a verb fails; standard output is empty then. A \
            newer release may add fields.",
        "verbs": verbs,
        "lines": { "audit tail --follow": event },
        "error": error,
        "$defs": schemas.into_iter().collect::<Map<_, _>>(),
    })
}

type Schemas = BTreeMap<String, Value>;
type Of = fn(&mut Schemas) -> Value;

/// Adds the schema of a type with all that it refers to, and gives the reference to it.
fn of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        let text = serde_json::to_string(&schema).unwrap();
        let text = text.replace("#/components/schemas/", "#/$defs/");
        let mut schema: Value = serde_json::from_str(&text).unwrap();
        if name == T::name() {
            let fields = schema.as_object_mut().unwrap();
            // Open objects may fit more than one choice.
            if let Some(choices) = fields.remove("oneOf") {
                fields.insert("anyOf".to_owned(), choices);
            }
        }
        open(&mut schema);
        let former = schemas.insert(name.clone(), schema.clone());
        assert!(former.is_none_or(|former| former == schema), "two schemas are named {name}");
    }
    json!({ "$ref": format!("#/$defs/{}", T::name()) })
}

/// Lets objects have more fields, also those of types that refuse them in a request.
fn open(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "additionalProperties" || *value != false);
            fields.values_mut().for_each(open);
        }
        Value::Array(items) => items.iter_mut().for_each(open),
        _ => {}
    }
}

/// Every verb that prints a document. A verb with two names has two lines.
const VERBS: &[(&str, Of)] = &[
    ("activation list", of::<shapes::Activations>),
    ("activation reinstate", of::<ActivationView>),
    ("activation revoke", of::<ActivationView>),
    ("alarm clear", of::<shapes::ClearedAlarms>),
    ("alarm list", of::<AlarmList>),
    ("app list", of::<AppList>),
    ("app register", of::<RegisterAppResponse>),
    ("app remove", of::<shapes::RemovedApp>),
    ("app rotate-secret", of::<RotateSecretResponse>),
    ("app set", of::<AppPolicyView>),
    ("app show", of::<AppPolicyView>),
    ("audit export", of::<shapes::AuditSegment>),
    ("audit prune", of::<shapes::PrunedLog>),
    ("audit tail", of::<shapes::AuditEvents>),
    ("audit verify", of::<shapes::AuditVerdict>),
    ("bundle gather", of::<shapes::GatheredBundle>),
    ("certs rotate", of::<RotateCertificatesResponse>),
    ("certs status", of::<CertificateStatus>),
    ("checkout", of::<CheckoutResponse>),
    ("classic add-vendor", of::<ClassicVendorView>),
    ("classic vendors", of::<ClassicVendorList>),
    ("client add", of::<ClientView>),
    ("client ban", of::<ClientView>),
    ("client list", of::<shapes::Clients>),
    ("client unban", of::<ClientView>),
    ("cluster health", of::<shapes::ClusterHealth>),
    ("cluster init", of::<shapes::FoundedCluster>),
    ("cluster join", of::<shapes::Joining>),
    ("cluster recover", of::<shapes::RecoveredCluster>),
    ("cluster roll", of::<shapes::RolledNodes>),
    ("cluster status", of::<Status>),
    ("cluster transfer-leader", of::<TransferLeaderResponse>),
    ("device list", of::<shapes::Devices>),
    ("device remove", of::<RemoveActivationResponse>),
    ("doctor", of::<shapes::Doctor>),
    ("endpoint health", of::<shapes::ClusterHealth>),
    ("endpoint status", of::<Status>),
    ("evaluation keys", of::<EvaluationKeys>),
    ("evaluation rotate-key", of::<EvaluationKeys>),
    ("heartbeat", of::<HeartbeatResponse>),
    ("import", of::<ImportResponse>),
    ("keys rotate", of::<RotateKeyResponse>),
    ("keys status", of::<KeyStatus>),
    ("lease borrow", of::<BorrowResponse>),
    ("lease list", of::<shapes::Leases>),
    ("lease release", of::<ReleaseResponse>),
    ("lease return-borrow", of::<HeartbeatResponse>),
    ("lease show", of::<LeaseView>),
    ("lease write-off", of::<WriteOffResponse>),
    ("license cancel", of::<LicenseView>),
    ("license issue", of::<IssuedLicenseResponse>),
    ("license list", of::<shapes::Licenses>),
    ("license reinstate", of::<LicenseView>),
    ("license resume", of::<LicenseView>),
    ("license revoke", of::<LicenseView>),
    ("license rotate", of::<IssuedLicenseResponse>),
    ("license show", of::<LicenseView>),
    ("license suspend", of::<LicenseView>),
    ("member add", of::<AddMemberResponse>),
    ("member list", of::<MemberList>),
    ("member promote", of::<shapes::PromotedMember>),
    ("member remove", of::<shapes::RemovedMember>),
    ("member replace", of::<shapes::Replacement>),
    ("node drain", of::<DrainResponse>),
    ("operator add", of::<AddOperatorResponse>),
    ("operator list", of::<shapes::Operators>),
    ("operator remove", of::<shapes::RemovedOperator>),
    ("operator whoami", of::<OperatorView>),
    ("package borrow-rules set", of::<BorrowRulesView>),
    ("package borrow-rules show", of::<BorrowRulesView>),
    ("package import", of::<ImportResponse>),
    ("package keygen", of::<shapes::NewKeyPair>),
    ("package list", of::<PackageList>),
    ("package offline", of::<shapes::OfflineLeases>),
    ("package release-reserved", of::<PackageView>),
    ("package resume", of::<PackageView>),
    ("package revoke", of::<PackageView>),
    ("package show", of::<PackageView>),
    ("package sign", of::<shapes::Signing>),
    ("package suspend", of::<PackageView>),
    ("package verify", of::<shapes::GenuinePackage>),
    ("pool create", of::<PoolView>),
    ("pool list", of::<shapes::Pools>),
    ("pool remove", of::<shapes::RemovedPool>),
    ("pool reserve", of::<PoolView>),
    ("pool resize", of::<PoolView>),
    ("pool show", of::<PoolView>),
    ("pool transfer", of::<TransferSeatsResponse>),
    ("register-app", of::<RegisterAppResponse>),
    ("return", of::<ReturnResponse>),
    ("snapshot list", of::<shapes::SnapshotFiles>),
    ("snapshot now", of::<SnapshotResponse>),
    ("snapshot restore", of::<shapes::RestoredCluster>),
    ("snapshot save", of::<shapes::SavedSnapshot>),
    ("snapshot status", of::<shapes::SnapshotContents>),
    ("snapshot verify", of::<shapes::SnapshotContents>),
    ("subject erase", of::<EraseSubjectResponse>),
    ("subject show", of::<SubjectDetail>),
    ("token", of::<TokenResponse>),
    ("token inspect", of::<shapes::InspectedToken>),
    ("token verify", of::<shapes::VerifiedToken>),
    ("top", of::<Picture>),
    ("usage costs", of::<shapes::CostReport>),
    ("usage refusals", of::<shapes::RefusalReport>),
    ("usage show", of::<shapes::UsageReport>),
    ("usage unused", of::<shapes::UnusedReport>),
    ("vendor trust add", of::<VendorView>),
    ("vendor trust list", of::<VendorList>),
];
/// What is printed whole as a server or a file has it, also what this release does not read.
const PASSED_ON: &[&str] = &["StatusDocument", "StatusNode", "StatusDetail", "PackageDocument"];
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../client/openapi/cli-output.json");

#[test]
fn the_committed_schemas_are_what_this_code_prints() {
    let document = document();
    if std::env::var_os("WRITE_CLI_OUTPUT").is_some() {
        std::fs::write(PATH, format!("{document:#}\n")).unwrap();
        return;
    }
    assert!(*committed() == document, "client/openapi/cli-output.json is old: cargo xtask fix");
    for (verb, reference) in document["verbs"].as_object().unwrap() {
        let schema = json!({ "$ref": reference["$ref"], "$defs": document["$defs"] });
        assert!(jsonschema::meta::is_valid(&schema), "{verb}");
        assert!(jsonschema::draft202012::new(&schema).is_ok(), "{verb} refers to nothing");
    }
}

#[test]
fn a_document_with_a_field_too_many_or_too_few_is_found() {
    let reference = reference_of("pool remove");
    let whole = json!({ "package_id": "p-1", "pool": "team", "removed": true });
    hold(&reference, &whole, "pool remove");
    for (field, value) in
        [("removed", None), ("removed", Some(json!("yes"))), ("x", Some(json!(1)))]
    {
        let mut other = whole.clone();
        let fields = other.as_object_mut().unwrap();
        match value {
            Some(value) => fields.insert(field.to_owned(), value),
            None => fields.remove(field),
        };
        let held = std::panic::catch_unwind(|| hold(&reference, &other, "pool remove"));
        assert!(held.is_err(), "{other}");
    }
}

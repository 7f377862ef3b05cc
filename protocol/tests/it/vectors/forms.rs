//! Our vectors have the forms of the recorded data: the same members in the same order, each text
//! encoded alike. Skips aloud where the recorded data is absent.

use std::io::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The form of a JSON document: what is left when its contents are taken out.
#[derive(Debug, Clone, PartialEq)]
enum Form {
    Null,
    Flag,
    Integer,
    Real,
    /// A text of such an encoding, of this many characters where the encoding fixes them.
    Text(&'static str, usize),
    /// The form of all items; none for an empty list.
    List(Option<Box<Form>>),
    Object(Vec<(String, Form)>),
}

/// How a text is encoded.
fn encoding(text: &str) -> Form {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let base64 = data_encoding::BASE64.decode(text.as_bytes());
    let groups: Vec<&str> = text.split('-').collect();
    if text.len() >= 24 && text.len().is_multiple_of(2) && text.bytes().all(is_hex) {
        // Nonces, digests and signatures have their lengths; what is sealed has any.
        let chars = if text.len() <= 128 || text.len() == 512 { text.len() } else { 0 };
        Form::Text("lower-case hex", chars)
    } else if text.starts_with("-----BEGIN ") {
        Form::Text("PEM, with its line ends", text.lines().count())
    } else if groups.len() == 8 && groups.iter().all(|group| group.len() == 5) {
        Form::Text("eight groups of five", 0)
    } else if text.ends_with('Z') && text.get(10..11) == Some("T") {
        Form::Text("RFC 3339 in UTC", 0)
    } else if text.len() >= 16 && base64.is_ok() {
        Form::Text("base64 with padding", 0)
    } else if text.is_empty() {
        Form::Text("empty", 0)
    } else {
        Form::Text("text", 0)
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Form;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Form, E> {
                Ok(Form::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Form, E> {
                Ok(Form::Flag)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Form, E> {
                Ok(Form::Integer)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Form, E> {
                Ok(Form::Integer)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Form, E> {
                Ok(Form::Real)
            }

            fn visit_str<E>(self, text: &str) -> Result<Form, E> {
                Ok(encoding(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Form, A::Error> {
                let mut first = None;
                while let Some(form) = items.next_element::<Form>()? {
                    let known = first.get_or_insert_with(|| form.clone());
                    assert_eq!(*known, form, "items of one list");
                }
                Ok(Form::List(first.map(Box::new)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Form, A::Error> {
                let mut forms = Vec::new();
                while let Some(member) = members.next_entry()? {
                    forms.push(member);
                }
                Ok(Form::Object(forms))
            }
        }
        deserializer.deserialize_any(Of)
    }
}

fn form(json: &str) -> Form {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn recorded(name: &str) -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    let text = std::fs::read_to_string(&path);
    Some(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// A text of one of our files.
fn ours(file: &str, pointer: &str) -> String {
    let file: Value = serde_json::from_str(&super::committed(file)).unwrap();
    file.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}")).to_owned()
}

#[test]
fn device_bodies_and_files_have_the_recorded_forms() {
    for (file, pointer, name) in [
        ("device_activation.json", "/request", "activation_request.json"),
        ("device_activation.json", "/answers/0/body", "activation_response.json"),
        ("device_activation.json", "/answers/1/body", "verify_response_plain.json"),
        ("device_envelope.json", "/request_plain", "verify_request_plain.json"),
        ("device_envelope.json", "/request_envelope", "verify_request_envelope.json"),
        ("device_envelope.json", "/answer_plain", "verify_response_plain.json"),
        ("device_envelope.json", "/answer_envelope", "verify_response_envelope.json"),
        ("device_stored_license.json", "/license_file", "license.dat"),
        ("device_stored_license.json", "/checksum_file", "license.dat.chk"),
    ] {
        let Some(theirs) = recorded(&format!("device/client-run/{name}")) else { return };
        let ours = ours(file, pointer);
        assert_eq!(form(&ours), form(&theirs), "{file}{pointer} {name}");
    }
    let pem = ours("device_activation.json", "/server_public_key_pem");
    let theirs = recorded("device/client-run/server_public_key.pem").unwrap();
    assert_eq!(encoding(&pem), encoding(&theirs));
}

#[test]
fn headers_and_fingerprints_have_the_recorded_forms() {
    for (file, name) in [
        ("device_activation.json", "activation_request_headers.json"),
        ("device_envelope.json", "verify_request_headers.json"),
    ] {
        let Some(theirs) = recorded(&format!("device/client-run/{name}")) else { return };
        let theirs: Vec<(String, String)> = serde_json::from_str(&theirs).unwrap();
        let ours: Value = serde_json::from_str(&super::committed(file)).unwrap();
        let ours = ours["request_headers"].as_object().unwrap();
        let sent = theirs
            .iter()
            .filter(|(name, _)| name.starts_with("X-License-") || name.starts_with("X-Device-"));
        assert_eq!(sent.clone().count(), ours.len(), "{file}");
        for (name, value) in sent {
            let our_value = ours[name].as_str().unwrap();
            assert_eq!(our_value.len(), value.len(), "{name}");
            assert_eq!(encoding(our_value), encoding(value), "{name}");
        }
    }
    let theirs = recorded("device/client-run/device_fingerprint_inputs.json").unwrap();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let names = |line: &str| -> Vec<String> {
        line.split('|').map(|part| part.split(':').next().unwrap().to_owned()).collect()
    };
    let our_line = ours("device_fingerprint.json", "/machines/0/line");
    assert_eq!(names(&our_line), names(theirs["string"].as_str().unwrap()));
    let our_fingerprint = ours("device_fingerprint.json", "/machines/0/fingerprint");
    assert_eq!(encoding(&our_fingerprint), encoding(theirs["fingerprint"].as_str().unwrap()));
}

/// The recorded payload with entitlements, and ours: the members of a license, and of the parts of
/// entitlements that both have.
#[test]
fn the_license_inside_has_the_recorded_form() {
    let Some(theirs) = recorded("device/payloads/license_data_entitlements.json") else { return };
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let ours: Value = serde_json::from_str(&ours("device_payload.json", "/license_json")).unwrap();
    for pointer in [
        "",
        "/devices/0",
        "/entitlements",
        "/entitlements/features/export",
        "/entitlements/features/export/scopes/create",
        "/entitlements/features/export/scopes/delete",
    ] {
        let members = |license: &Value| -> Vec<(String, Form)> {
            let members = license.pointer(pointer).unwrap().as_object().unwrap();
            members
                .iter()
                .filter(|(name, _)| *name != "features" && *name != "scopes")
                // Ids are the server's: any text.
                .filter(|(name, _)| !name.ends_with("id"))
                .map(|(name, value)| (name.clone(), form(&value.to_string())))
                .filter(|(name, _)| name != "entitlements")
                .collect()
        };
        assert_eq!(members(&ours), members(&theirs), "{pointer}");
        let names = |license: &Value| -> Vec<String> {
            license.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&ours), names(&theirs), "{pointer}");
    }
}

#[test]
fn evaluation_files_have_the_recorded_forms() {
    for (at, name) in [(0, "license.json"), (1, "license_key_v2.json"), (5, "license_offline.json")]
    {
        let Some(theirs) = recorded(&format!("evaluation/{name}")) else { return };
        let ours = ours("evaluation_license.json", &format!("/signed/{at}/file"));
        assert_eq!(form(&ours), form(&theirs), "{name}");
        let layout = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
        };
        assert_eq!(layout(&ours), layout(theirs.trim_end()), "{name}");
    }
    let theirs = recorded("evaluation/license.canonical.txt").unwrap();
    let ours = ours("evaluation_license.json", "/signed/0/canonical");
    assert_eq!(form(&ours), form(&theirs));
    assert!(!ours.contains(": ") && !ours.contains('\n'));
}

#[test]
fn signed_borrows_have_the_recorded_forms() {
    let Some(theirs) = recorded("classic/exchanges.json") else { return };
    let theirs: Vec<Value> = serde_json::from_str(&theirs).unwrap();
    let file: Value = serde_json::from_str(&super::committed("classic_signature.json")).unwrap();
    let ours = &file["verify"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut compared = 0;
    for exchange in &theirs {
        let headers = &exchange["request"]["headers"];
        // Those of the real clients; others were typed by hand.
        let is_client = headers["User-Agent"].as_str().is_some_and(|who| !who.contains("curl"));
        if !is_client || headers["X-Signature"].is_null() {
            continue;
        }
        compared += 1;
        let signature = text(&headers["X-Signature"]);
        assert_eq!(encoding(&text(&ours["x_signature"])), encoding(&signature));
        assert_eq!(text(&ours["x_timestamp"]).len(), text(&headers["X-Timestamp"]).len());
        if let Some(bearer) = headers["Authorization"].as_str() {
            let key = bearer.strip_prefix("Bearer ").unwrap();
            let ours = text(&ours["api_key"]);
            let split = |key: &str| {
                key.rsplit_once("_pk_")
                    .map(|(front, secret)| (front.split('_').count(), secret.len()))
            };
            assert_eq!(split(&ours), split(key));
            assert!(split(key).is_some());
        }
    }
    assert!(compared > 5, "{compared} signed requests were recorded");
}

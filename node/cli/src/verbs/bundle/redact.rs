//! What leaves the house: a configuration by an allow-list, texts without tokens and people.
//!
//! A configuration shows the keys that are listed here, and of every other that it is there. Texts
//! that nobody wrote for a supporter (the tail of a log, the detail of an alarm) lose every word
//! that looks like a credential, and every person or host that the cluster's own audit log names.
//!
//! A word looks like a credential when it begins like one of ours, is a JSON Web Token, has a run
//! of 20 letters and digits mixed, is longer than 24 with large and small letters and digits, is
//! an e-mail address, or is a license key: five letters or digits, a hyphen, three times or more.
//! That takes a fingerprint now and then, which a supporter can do without.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Stands where something was.
pub(crate) const REMOVED: &str = "[removed]";

/// Removes what must not leave.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Names of people and hosts, the longest first.
    names: Vec<String>,
}

impl Redactor {
    /// Knows these names; one of fewer than three letters would take half of every text.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<String> =
            names.into_iter().filter(|name| name.chars().count() >= 3).collect();
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        Self { names }
    }

    /// A text of any length without what must not leave.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        let mut in_pem = false;
        for line in text.lines() {
            if line.contains("-----BEGIN ") {
                in_pem = true;
            }
            if in_pem {
                cleaned.push_str(REMOVED);
            } else {
                self.line(line, &mut cleaned);
            }
            in_pem &= !line.contains("-----END ");
            cleaned.push('\n');
        }
        if !text.ends_with('\n') {
            cleaned.pop();
        }
        cleaned
    }

    fn line(&self, line: &str, cleaned: &mut String) {
        let mut line = line.to_owned();
        for name in &self.names {
            if line.contains(name.as_str()) {
                line = line.replace(name.as_str(), REMOVED);
            }
        }
        let mut word = String::new();
        for c in line.chars() {
            if is_part_of_word(c) {
                word.push(c);
            } else {
                finish(&mut word, cleaned);
                cleaned.push(c);
            }
        }
        finish(&mut word, cleaned);
    }

    /// A configuration with the keys of the allow-list; `None`: it is no TOML.
    pub(crate) fn config(&self, text: &str) -> Option<String> {
        let table: Table = text.parse().ok()?;
        let cleaned = self.table(&table, "");
        toml::to_string(&cleaned).ok()
    }

    fn table(&self, table: &Table, path: &str) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let value = match value {
                    Value::Table(inner) if TABLES.contains(&path.as_str()) => {
                        Value::Table(self.table(inner, &path))
                    }
                    value if KEYS.contains(&path.as_str()) => self.value(value),
                    _ => Value::String(REMOVED.to_owned()),
                };
                (self.text(key), value)
            })
            .collect()
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => Value::Array(values.iter().map(|it| self.value(it)).collect()),
            Value::Table(_) => Value::String(REMOVED.to_owned()),
            plain => plain.clone(),
        }
    }

    /// A JSON document whose texts are cleaned.
    pub(crate) fn json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value as Json;
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(values) => values.iter().map(|value| self.json(value)).collect(),
            Json::Object(object) => {
                object.iter().map(|(key, value)| (key.clone(), self.json(value))).collect()
            }
            plain => plain.clone(),
        }
    }
}

fn finish(word: &mut String, cleaned: &mut String) {
    if is_credential(word) {
        cleaned.push_str(REMOVED);
    } else {
        cleaned.push_str(word);
    }
    word.clear();
}

/// What a credential is written with. A path or a URL is several words.
fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '=' | '@' | '.' | '~')
}

fn is_credential(word: &str) -> bool {
    let begins = PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    begins || word.contains('@') || has_long_run(word) || is_mixed(word) || is_license_key(word)
}

/// Hex or base32 without a break.
fn has_long_run(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        run.len() >= 20
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// Base64.
fn is_mixed(word: &str) -> bool {
    let has = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
    word.len() >= 24
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_digit)
}

fn is_license_key(word: &str) -> bool {
    let is_group = |group: &str| {
        group.len() == 5 && group.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    word.split('-').count() >= 3 && word.split('-').all(is_group)
}

const PREFIXES: &[&str] = &["lh_", "lhj1_", "lhk_", "rt1-", "lease-", "eyJ"];
/// Tables of node.toml that are looked into.
const TABLES: &[&str] =
    &["tls", "keys", "log", "protocols", "limits", "alarms", "checkpoints", "snapshots"];
/// Keys that are shown. Those of files are places, not what is in them.
const KEYS: &[&str] = &[
    "cluster_id",
    "node_id",
    "data_dir",
    "listen",
    "peer_listen",
    "peer_address",
    "gateway_url",
    "region",
    "zone",
    "preset",
    "tls.ca_cert",
    "tls.gateway_cert",
    "tls.gateway_key",
    "tls.peer_cert",
    "tls.peer_key",
    "keys.kek",
    "keys.token_signing",
    "log.format",
    "log.level",
    "protocols.classic",
    "protocols.classic_ttl_seconds",
    "protocols.classic_strict_return",
    "protocols.device_compat_200",
    "protocols.trusted_proxies",
    "limits.app_requests_per_second",
    "limits.app_burst",
    "limits.address_requests_per_second",
    "limits.address_burst",
    "alarms.min_free",
    "checkpoints.every_seconds",
    "checkpoints.keep_log_entries",
    "snapshots.directory",
    "snapshots.every",
    "snapshots.keep",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_people_are_removed_and_the_rest_stays() {
        let redactor = Redactor::new(["alice@bmw.com".to_owned(), "dev-042".to_owned()]);
        for (text, want) in [
            ("node 2 raises NOSPACE", "node 2 raises NOSPACE"),
            ("https://127.0.0.1:7401/admin/apps", "https://127.0.0.1:7401/admin/apps"),
            ("2026-11-22T14:03:31.123456Z  INFO", "2026-11-22T14:03:31.123456Z  INFO"),
            (
                "request_id=0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10",
                "request_id=0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10",
            ),
            ("vec-davinci-se-bmw-2025-001", "vec-davinci-se-bmw-2025-001"),
            ("cluster lh-e9684a7b4801fab2", "cluster lh-e9684a7b4801fab2"),
            (
                "/var/lib/leasehold/log/segment-0000000001.log",
                "/var/lib/leasehold/log/segment-0000000001.log",
            ),
            ("token lh_op_0123 x", "token [removed] x"),
            ("Bearer eyJhbGciOi.eyJz.c2ln", "Bearer [removed]"),
            ("\"lhj1_abc\"", "\"[removed]\""),
            ("rt1-abc,", "[removed],"),
            ("lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga", "[removed]"),
            ("sha 0123456789abcdef0123456789abcdef", "sha [removed]"),
            ("s=Zk-8_Jq2Lw-0aXcVb_9mNn-QwErTyUi", "[removed]"),
            ("key ABCDE-FGH12-KLMNO-PQRST", "key [removed]"),
            ("bob@example.org did it", "[removed] did it"),
            ("alice@bmw.com on dev-042", "[removed] on [removed]"),
            (
                "a\n-----BEGIN PRIVATE KEY-----\nMC4\n-----END PRIVATE KEY-----\nb",
                "a\n[removed]\n[removed]\n[removed]\nb",
            ),
        ] {
            assert_eq!(redactor.text(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_configuration_shows_what_is_listed_and_no_more() {
        let text = r#"
cluster_id = "lh-1"
node_id = 3
admin_token = "lh_op_secret"
[keys]
kek = "keys/kek.pem"
passphrase = "hunter2"
[bootstrap]
client_id = "bmw-de-001"
[[bootstrap.members]]
id = 1
"#;
        let shown = Redactor::default().config(text).unwrap();
        for kept in ["lh-1", "node_id = 3", "keys/kek.pem", "passphrase = \"[removed]\""] {
            assert!(shown.contains(kept), "{kept} is missing in\n{shown}");
        }
        for gone in ["lh_op_", "hunter2", "bmw-de-001"] {
            assert!(!shown.contains(gone), "{gone} is in\n{shown}");
        }
        assert_eq!(Redactor::default().config("= no"), None);
    }
}

//! The sample package of the protocol document, made valid for the days it is needed.

use std::collections::BTreeMap;

use crate::strict_json::Value;
use crate::wire::UtcTime;

/// The unsigned sample, `vec-davinci-se-bmw-2025-001`, in the journey layout: 5 committed seats and
/// 15 of overage of `davinci-configurator-se` for `bmw-de-001` (`bmw.com`). Indented JSON; policy
/// fields as `("lease_ttl_seconds", 2)` may be added for tests.
pub fn sample_document(start_ms: i64, end_ms: i64, policy_seconds: &[(&str, u32)]) -> String {
    let text = |text: &str| Value::String(text.to_owned());
    let time = |ms| text(&UtcTime::from_unix_ms(ms).to_string());
    let mut document = object([
        ("package_id", text("vec-davinci-se-bmw-2025-001")),
        ("vendor", text("Vector Informatik GmbH")),
        ("vendor_id", text("vector-de")),
        ("license_server_url", text("https://licenses.vector.com")),
    ]);
    let parts = [
        (
            "product",
            object([
                ("name", text("DaVinci Configurator SE")),
                ("version", text(">=8.0.0")),
                ("product_id", text("davinci-configurator-se")),
            ]),
        ),
        (
            "client",
            object([
                ("name", text("BMW AG")),
                ("client_id", text("bmw-de-001")),
                ("org_domain", text("bmw.com")),
            ]),
        ),
        (
            "entitlement",
            object([
                ("total_licenses", Value::Integer(20)),
                ("commit_qty", Value::Integer(5)),
                ("max_overage", Value::Integer(15)),
                (
                    "pricing",
                    Value::Object(object([
                        ("commit_fee_monthly", Value::Decimal(5_000.into())),
                        ("overage_per_use", Value::Decimal(500.into())),
                        ("currency", text("EUR")),
                    ])),
                ),
            ]),
        ),
        ("validity", object([("start", time(start_ms)), ("end", time(end_ms))])),
    ];
    for (name, part) in parts {
        document.insert(name.to_owned(), Value::Object(part));
    }
    if !policy_seconds.is_empty() {
        let policy = policy_seconds
            .iter()
            .map(|(name, seconds)| ((*name).to_owned(), Value::Integer((*seconds).into())))
            .collect();
        let own = object([("policy", Value::Object(policy))]);
        document.insert("x_leasehold".to_owned(), Value::Object(own));
    }
    Value::Object(document).to_pretty()
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

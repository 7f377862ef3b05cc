//! Requests that a schema alone cannot show well: where fields belong together, or a value must be
//! of a form.

use serde_json::{Value, json};

/// A request of an operation.
pub(super) fn of(id: &str) -> Option<Value> {
    Some(match id {
        "issueToken" => json!({
            "grant_type": "client_credentials",
            "client_id": "davinci-configurator-se-5f0c21d39ab47e10",
            "client_secret": "lh_cs_c2hvd24tb25jZS13aGVuLWl0LXdhcy1yZWdpc3RlcmVk",
            "scope": "license:checkout license:return",
        }),
        "registerApp" => json!({
            "name": "DaVinci Configurator SE",
            "product_id": "davinci-configurator-se",
            "vendor_id": "vector-de",
        }),
        "rotateCertificates" => json!({ "ca": true }),
        "rotateKey" => json!({ "what": "client-secret-pepper" }),
        "setAppPolicy" => json!({
            "certificate_bound": true,
            "certificates": ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
            "requests_per_second": 50,
            "burst": 100,
            "token_algorithm": "RS256",
        }),
        _ => return None,
    })
}

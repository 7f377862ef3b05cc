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
        "issueLicense" => json!({
            "protocol": "device",
            "package_id": "vec-davinci-se-bmw-2025-001",
            "email": "alice@bmw.com",
            "duration_days": 365,
        }),
        "pruneAuditLog" => json!({
            "upto_seq": "12",
            "hash": "3b8f0a7de1c94c1d3b8f0a7de1c94c1d3b8f0a7de1c94c1d3b8f0a7de1c94c1d",
        }),
        "addDeviceProduct" => json!({ "name": "CAD Suite", "slug": "cad-suite" }),
        "addDevicePlan" => json!({
            "name": "Professional",
            "slug": "professional",
            "package_id": "vec-davinci-se-bmw-2025-001",
            "max_devices": 2,
            "duration_days": 365,
        }),
        "addDeviceFeature" => json!({ "name": "Export", "slug": "export" }),
        "addDeviceScope" => json!({
            "name": "Projects",
            "slug": "project",
            "permission": "allow",
            "limit": 10,
        }),
        "includeDevicePlanFeature" => json!({ "feature_id": EXAMPLE_ID, "enabled": true }),
        "subscribeDeviceClient" => json!({
            "client_id": EXAMPLE_ID,
            "product_id": EXAMPLE_ID,
            "plan_id": EXAMPLE_ID,
        }),
        "addDeviceUser" => json!({
            "username": "alice",
            "password": "correct horse battery staple",
        }),
        "addDeviceApiKey" => json!({ "user_id": EXAMPLE_ID }),
        _ => return None,
    })
}

const EXAMPLE_ID: &str = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10";

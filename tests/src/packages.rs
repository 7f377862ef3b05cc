//! Packages for scenarios, signed with the sample vendor's key by the product's own command line.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Api;
use crate::cluster::{DevFile, leasehold};

/// The package that `dev` imports: 20 seats, 5 of them commit.
pub const SAMPLE_PACKAGE: &str = "vec-davinci-se-bmw-2025-001";

/// A package of the sample vendor for the sample client: `seats` commit seats, no overage, and a
/// policy of the vendor's.
pub fn template(dev: &DevFile, package_id: &str, product: &str, seats: u32) -> Result<Value> {
    let mut package: Value = serde_json::from_slice(&std::fs::read(&dev.package)?)?;
    let fields = package.as_object_mut().context("the sample package is no object")?;
    fields.remove("vendor_signature");
    fields.remove("signature");
    package["package_id"] = json!(package_id);
    package["product"]["product_id"] = json!(product);
    package["entitlement"]["total_licenses"] = json!(seats);
    package["entitlement"]["commit_qty"] = json!(seats);
    package["entitlement"]["max_overage"] = json!(0);
    Ok(package)
}

/// Sets the vendor's policy in a package that is not signed yet.
pub fn with_policy(mut package: Value, policy: Value) -> Value {
    package["x_leasehold"] = json!({ "policy": policy });
    package
}

/// Signs a package with the sample vendor's key.
pub fn sign(dev: &DevFile, scratch: &Path, package: &Value) -> Result<Value> {
    let name = package["package_id"].as_str().context("no package_id")?;
    let dir = tempfile::tempdir_in(scratch)?;
    let unsigned = dir.path().join(format!("{name}.unsigned.json"));
    let signed = dir.path().join(format!("{name}.json"));
    std::fs::write(&unsigned, serde_json::to_vec_pretty(package)?)?;
    let paths = [&unsigned, &dev.vendor.private_key, &signed].map(|path| path.to_str());
    let [Some(unsigned), Some(key), Some(out)] = paths else {
        anyhow::bail!("a path is not UTF-8");
    };
    let words = ["package", "sign", "--package", unsigned, "--key", key, "--out", out];
    let output = leasehold(&words)?;
    ensure!(output.status.success(), "package sign: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&std::fs::read(&signed)?)?)
}

/// An application registered for a product.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its id.
    pub app_id: String,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: String,
}

/// Imports a signed package and registers an application for its product.
pub async fn import_and_register(api: &Api, package: &Value) -> Result<Registered> {
    let node = api.dev.nodes.first().context("no nodes")?.id;
    let body = json!({ "package": package });
    let imported = api.admin(node, Method::POST, "/admin/licenses/import", Some(body)).await?;
    imported.expect(201)?;
    let body = json!({
        "name": "a scenario's application",
        "product_id": package["product"]["product_id"],
        "vendor": package["vendor_id"],
    });
    let app = api.admin(node, Method::POST, "/admin/apps", Some(body)).await?.expect(201)?;
    Ok(Registered {
        app_id: app.text("app_id")?.to_owned(),
        client_id: app.text("client_id")?.to_owned(),
        client_secret: app.text("client_secret")?.to_owned(),
    })
}

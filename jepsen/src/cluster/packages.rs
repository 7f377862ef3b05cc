//! Packages for a run, signed by the product's own command line with a vendor key made for it, and
//! an application for each.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use protocol::package::sample_document;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Cluster, Operator};
use crate::clock;
use crate::history::PackageTerms;

/// A package that a run imports.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is sold; the name is that of the package and of its product.
    pub terms: PackageTerms,
    /// The vendor's policy beside the lifetime of leases, as its fields are written.
    pub policy: Value,
}

/// A package that is imported, and who may take seats of it.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What is sold.
    pub terms: PackageTerms,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: String,
}

/// Signs, imports and registers.
#[derive(Debug)]
pub struct Vendor {
    dir: PathBuf,
    operator: Operator,
}

impl Vendor {
    /// Makes a vendor and has the cluster trust it.
    ///
    /// # Errors
    /// When the product refuses.
    pub async fn trusted(cluster: &Cluster) -> Result<Self> {
        let dir = cluster.plan().run_dir.join("vendor");
        fs::create_dir_all(&dir)?;
        let vendor = Self { dir, operator: cluster.operator() };
        let (private, public) = (vendor.file("private.pem"), vendor.file("public.pem"));
        let words = ["package", "keygen", "--algorithm", "ed25519", "--private-key", &private];
        vendor.operator.run(&[&words[..], &["--public-key", &public]].concat()).await?;
        let words = ["vendor", "trust", "add", "--vendor", VENDOR, "--public-key", &public];
        vendor.operator.run(&words).await?;
        Ok(vendor)
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Imports a package, makes its pools, and registers an application for it.
    ///
    /// # Errors
    /// When the product refuses.
    pub async fn sell(&self, cluster: &Cluster, wanted: &Wanted) -> Result<Imported> {
        let signed = self.signed(wanted).await?;
        let observer = cluster.observer()?;
        let body = json!({ "package": signed });
        observer.order(Method::POST, "/admin/licenses/import", Some(&body)).await?;
        let name = &wanted.terms.name;
        for (pool, seats) in &wanted.terms.pools {
            let body = json!({ "package_id": name, "pool": pool, "seats": seats });
            observer.order(Method::POST, "/admin/pools", Some(&body)).await?;
        }
        let body = json!({ "name": "the fault rig", "product_id": name, "vendor_id": VENDOR });
        let app = observer.order(Method::POST, "/admin/apps", Some(&body)).await?;
        Ok(Imported {
            terms: wanted.terms.clone(),
            client_id: app.text("client_id")?.to_owned(),
            client_secret: app.text("client_secret")?.to_owned(),
        })
    }

    async fn signed(&self, wanted: &Wanted) -> Result<Value> {
        let name = &wanted.terms.name;
        let unsigned = self.file(&format!("{name}.unsigned.json"));
        let signed = self.file(&format!("{name}.json"));
        fs::write(&unsigned, serde_json::to_vec_pretty(&document(wanted)?)?)?;
        let key = self.file("private.pem");
        let words = ["package", "sign", "--package", &unsigned, "--key", &key, "--out", &signed];
        self.operator.run(&words).await?;
        serde_json::from_slice(&fs::read(&signed)?).context("a signed package that is no JSON")
    }
}

fn document(wanted: &Wanted) -> Result<Value> {
    let now_ms = clock::wall_ms();
    // A clock that a fault sets by hours must not end a package.
    let text = sample_document(now_ms - 30 * DAY_MS, now_ms + 365 * DAY_MS, &[]);
    let mut package: Value = serde_json::from_str(&text)?;
    let terms = &wanted.terms;
    package["package_id"] = json!(terms.name);
    package["vendor_id"] = json!(VENDOR);
    package["product"]["product_id"] = json!(terms.name);
    package["entitlement"]["total_licenses"] = json!(terms.total());
    package["entitlement"]["commit_qty"] = json!(terms.commit);
    package["entitlement"]["max_overage"] = json!(terms.overage);
    let mut policy = wanted.policy.clone();
    policy["lease_ttl_seconds"] = json!(terms.ttl_ms / 1_000);
    package["x_leasehold"] = json!({ "policy": policy });
    Ok(package)
}

const VENDOR: &str = "vector-de";
const DAY_MS: i64 = 86_400_000;

//! `token inspect | verify`: looking at an offline token, and believing it.
//!
//! `inspect` decodes what a token says of itself and proves nothing, which it says first. `verify`
//! is what an application does: a key of the cluster, the right product and holder, and the time.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::offline::{
    Expect, Holder, HolderKind, KeySet, MAX_TOKEN_BYTES, OfflineClaims, inspect, verify,
};
use protocol::wire::UtcTime;
use serde_json::json;

use super::{document, words};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::files;
use crate::report::{Part, Report, duration, or_dash};
use crate::session::Session;
use crate::world;

/// Offline tokens
#[derive(Debug, Clone, Subcommand)]
pub enum OfflineTokenVerb {
    /// Show what an offline token says of itself; proves nothing (needs no server)
    #[command(after_help = "\
Example:
  leasehold token inspect - < offline.jwt")]
    Inspect(InspectArgs),
    /// Verify an offline token: its key, its time, and whom it is for
    #[command(after_help = "\
Examples:
  leasehold token verify - --server https://licenses.example.com < offline.jwt
  leasehold token verify - --keys offline-keys.json --hostname dev-1 < offline.jwt

Exit code 8: not genuine. Exit code 6: genuine, and ended or for another product or holder.")]
    Verify(VerifyTokenArgs),
}

/// Options of `token inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The token; `-` reads it from standard input
    offline_token: String,
}

/// Options of `token verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyTokenArgs {
    /// The token; `-` reads it from standard input
    offline_token: String,
    /// A file with the cluster's key set, as /.well-known/leasehold-offline-keys.json has it; a
    /// server is asked when left out
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The product that it must be for
    #[arg(long, visible_alias = "product-id", value_name = "ID")]
    product: Option<String>,
    /// The host that it must be for
    #[arg(long, value_name = "NAME", group = "holder")]
    hostname: Option<String>,
    /// The device that it must be for
    #[arg(long, value_name = "HEX", group = "holder")]
    fingerprint: Option<String>,
    /// The cluster of machines that it must be for
    #[arg(long, value_name = "ID", group = "holder")]
    cluster_id: Option<String>,
}

impl VerifyTokenArgs {
    /// Whether a server has to be asked for the keys.
    pub(crate) fn needs_server(&self) -> bool {
        self.keys.is_none()
    }

    fn holder(&self) -> Option<Holder> {
        let names = [
            (HolderKind::Host, &self.hostname),
            (HolderKind::Fingerprint, &self.fingerprint),
            (HolderKind::Cluster, &self.cluster_id),
        ];
        names.into_iter().find_map(|(kind, name)| Some(Holder::of(kind, name.as_deref()?)))
    }
}

fn text_of(token: &str) -> Result<String> {
    match token {
        "-" => files::read_stdin(MAX_TOKEN_BYTES as u64),
        token => Ok(token.to_owned()),
    }
}

/// Decodes a token without believing it.
pub(crate) fn show(args: &InspectArgs) -> Result<Report> {
    let inspected = inspect(&text_of(&args.offline_token)?).map_err(CliError::Token)?;
    let claims = &inspected.claims;
    let mut facts = vec![("key id", inspected.key_id.clone())];
    facts.extend(described(claims));
    let json = json!({
        "verified": false,
        "key_id": inspected.key_id,
        "claims": document(claims)?,
    });
    let warning = "NOT VERIFIED: this is only what the token says of itself.".to_owned();
    let advice = "`leasehold token verify` tells whether to believe it.".to_owned();
    let parts = vec![Part::Line(warning), Part::Facts(facts), Part::Line(advice)];
    Ok(Report::done(json, parts, vec![claims.lease_id.clone()]))
}

/// Verifies a token under the keys of a file.
pub(crate) fn verify_with_file(args: &VerifyTokenArgs) -> Result<Report> {
    let path = args
        .keys
        .as_deref()
        .ok_or_else(|| CliError::Usage("which keys? give --keys or --server".to_owned()))?;
    let bytes = files::read(path, MAX_KEY_SET_BYTES)?;
    judge(args, &bytes, &path.display().to_string())
}

/// Verifies a token under the keys that a server publishes.
pub(crate) async fn verify_with_server(
    args: &VerifyTokenArgs,
    session: &Session<'_>,
) -> Result<Report> {
    let request = Request::get(&[".well-known", "leasehold-offline-keys.json"]);
    let answer = session.client.send(&request).await?;
    judge(args, answer.body(), "the server")
}

fn judge(args: &VerifyTokenArgs, key_set: &[u8], from: &str) -> Result<Report> {
    let keys = KeySet::from_json(key_set)
        .map_err(|source| CliError::KeySet { from: from.to_owned(), source })?;
    let holder = args.holder();
    let expect = Expect {
        product: args.product.as_deref(),
        holder: holder.as_ref(),
        ..Expect::at(world::wall_ms())
    };
    let text = text_of(&args.offline_token)?;
    let claims = verify(&text, &keys, &expect).map_err(CliError::Token)?;
    let json = json!({ "verified": true, "claims": document(&claims)? });
    let mut parts =
        vec![Part::Line("genuine and in force".to_owned()), Part::Facts(described(&claims))];
    if holder.is_none() {
        let note = "Whom it is for was not compared: give --hostname, --fingerprint or \
                    --cluster-id.";
        parts.push(Part::Line(note.to_owned()));
    }
    Ok(Report::done(json, parts, vec![claims.lease_id.clone()]))
}

fn described(claims: &OfflineClaims) -> Vec<(&'static str, String)> {
    let time_ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    let left_ms = time_ms(claims.exp).saturating_sub(world::wall_ms());
    let left = match u64::try_from(left_ms) {
        Ok(left_ms @ 1..) => format!("in {}", duration(left_ms)),
        _ => format!("{} ago", duration(left_ms.unsigned_abs())),
    };
    let time = |seconds| UtcTime::from_unix_ms(time_ms(seconds)).to_string();
    let how = if claims.borrowed { "borrowed" } else { "renewed with a token" };
    let mut facts = vec![
        ("cluster", format!("{} (epoch {})", claims.iss, claims.epoch)),
        ("protocol", words(&claims.protocol)),
        ("license", claims.license_id.clone()),
        ("product", claims.product.clone()),
        ("lease", format!("{} ({how})", claims.lease_id)),
        ("seats", claims.quantity.to_string()),
        ("features", or_dash(Some(&claims.features.join(", ")))),
        ("issued", time(claims.iat)),
        ("ends", format!("{} ({left})", time(claims.exp))),
        ("clock margin", duration(u64::from(claims.skew_seconds) * 1_000)),
        ("version", claims.token_version.to_string()),
        ("fence", claims.fence.to_string()),
        ("for", words(&claims.holder.kind)),
        ("  hash", claims.holder.hash.clone()),
    ];
    if let Some(cluster_id) = &claims.cluster_id {
        facts.push(("cluster id", cluster_id.clone()));
    }
    if let Some(nodes) = claims.max_nodes {
        let nodes = if nodes == 0 { "any number".to_owned() } else { nodes.to_string() };
        facts.push(("nodes", nodes));
    }
    facts
}

/// A key is some 200 bytes, and there are at most 64.
const MAX_KEY_SET_BYTES: u64 = 64 * 1_024;

#[cfg(test)]
mod tests {
    use protocol::cloud::lease::LeaseType;
    use protocol::fence::Fence;
    use protocol::keys::PrivateKey;
    use protocol::offline::{Protocol, sign};
    use protocol::secret::Secret;

    use super::*;
    use crate::report;
    use crate::scripted::{Exchange, play};

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::ed25519(&Secret::new([seed; 32]))
    }

    fn claims(from_s: i64, until_s: i64) -> OfflineClaims {
        let now_s = world::wall_ms() / 1_000;
        let seconds = |offset: i64| u64::try_from(now_s + offset).unwrap();
        OfflineClaims {
            iss: "cluster-1".to_owned(),
            jti: "t-1".to_owned(),
            license_id: "p-1".to_owned(),
            product: "studio".to_owned(),
            protocol: Protocol::Cloud,
            lease_id: "lease-1".to_owned(),
            holder: Holder::of(HolderKind::Host, "dev-1"),
            user_hash: None,
            features: vec!["export".to_owned()],
            quantity: 1,
            class: Some(LeaseType::Commit),
            max_nodes: None,
            cluster_id: None,
            fence: Fence { epoch: 1, index: 42, position: 0, incarnation: 9 },
            epoch: 1,
            token_version: 1,
            iat: seconds(from_s),
            exp: seconds(until_s),
            borrowed: true,
            skew_seconds: 600,
        }
    }

    fn key_set(key: &PrivateKey) -> serde_json::Value {
        let set = KeySet::of(key.public_key().unwrap()).unwrap();
        serde_json::to_value(set.to_jwks()).unwrap()
    }

    /// What verifying a token with these options comes to: `Ok`, or an error's code and exit code.
    fn check(token: &str, more: &[&str], expected: Result<(), (&str, u8)>) {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys.json");
        std::fs::write(&keys, key_set(&key(1)).to_string()).unwrap();
        let line = ["token", "verify", token, "--keys", keys.to_str().unwrap()];
        let got = play(&[&line[..], more].concat(), &[]);
        let code = |error: &CliError| error.to_json()["error"]["code"].as_str().map(str::to_owned);
        match (&got, expected) {
            (Ok(report), Ok(())) => assert_eq!(report.json["verified"], true, "{more:?}"),
            (Err(error), Err((expected, exit))) => {
                assert_eq!(code(error).as_deref(), Some(expected), "{more:?}: {error}");
                assert_eq!(error.exit().code(), exit, "{more:?}: {error}");
            }
            _ => panic!("{more:?}: {got:?}"),
        }
    }

    #[test]
    fn a_genuine_token_in_force_is_believed_and_no_other() {
        let token = sign(&key(1), &claims(-60, 3_600)).unwrap();
        check(&token, &[], Ok(()));
        check(&token, &["--product", "studio", "--hostname", "dev-1"], Ok(()));
        check(&token, &["--product", "other"], Err(("wrong_product", 6)));
        check(&token, &["--hostname", "dev-2"], Err(("wrong_holder", 6)));
        check(&token, &["--fingerprint", "dev-1"], Err(("wrong_holder", 6)));
        let ended = sign(&key(1), &claims(-3_600, -60)).unwrap();
        check(&ended, &[], Err(("expired", 6)));
        let early = sign(&key(1), &claims(3_600, 7_200)).unwrap();
        check(&early, &[], Err(("not_yet_valid", 6)));
        let foreign = sign(&key(2), &claims(-60, 3_600)).unwrap();
        check(&foreign, &[], Err(("unknown_key", 8)));
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let other = sign(&key(1), &claims(-60, 3_601)).unwrap();
        let (other, _) = other.rsplit_once('.').unwrap();
        check(&format!("{other}.{signature}"), &[], Err(("bad_signature", 8)));
        check(rest, &[], Err(("malformed", 8)));
    }

    #[test]
    fn the_keys_of_a_server_do_as_well() {
        let token = sign(&key(1), &claims(-60, 3_600)).unwrap();
        let keys = || "GET /.well-known/leasehold-offline-keys.json";
        let good = [Exchange::get(keys(), key_set(&key(1)))];
        let report = play(&["token", "verify", &token], &good).ok().unwrap();
        let text = report::shown(&report);
        assert!(text.starts_with("genuine and in force\ncluster       cluster-1"), "{text}");
        assert!(text.contains("Whom it is for was not compared"), "{text}");
        let other = [Exchange::get(keys(), key_set(&key(2)))];
        let error = play(&["token", "verify", &token], &other).err().unwrap();
        assert_eq!(error.exit().code(), 8);
        let none = [Exchange::get(keys(), json!({"keys": 7}))];
        let error = play(&["token", "verify", &token], &none).err().unwrap();
        assert!(error.line().starts_with("the server has no usable keys"), "{}", error.line());
    }

    #[test]
    fn inspecting_believes_nothing_and_says_so_first() {
        let token = sign(&key(2), &claims(-7_200, -3_600)).unwrap();
        let args = InspectArgs { offline_token: token };
        let report = show(&args).ok().unwrap();
        assert_eq!(report.json["verified"], false);
        assert_eq!(report.json["claims"]["license_id"], "p-1");
        let text = report::shown(&report);
        assert!(text.starts_with("NOT VERIFIED: "), "{text}");
        assert!(text.contains("(1h 0m ago)"), "{text}");
        assert!(text.contains("lease         lease-1 (borrowed)"), "{text}");
        let error = show(&InspectArgs { offline_token: "x".to_owned() }).err().unwrap();
        assert_eq!(error.exit().code(), 8);
    }
}

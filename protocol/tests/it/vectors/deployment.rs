//! `deployment_access_token.json`: the access token of an activated cluster of machines.

use protocol::deployment::token::{self, DeploymentClaims, Expect, TOKEN_TYPE};
use protocol::offline::TOKEN_TYPE as OFFLINE_TYPE;

use super::document::{Node, hex, list, object};
use super::offline::{SEED, forged, header, key, key_set, key_set_text};

const ISSUED: u64 = 1_800_000_000;
const ISSUER: &str = "5f0c1d2e3b4a59687786a5b4c3d2e1f0";
const CLUSTER: &str = "bzzz-cluster-1b9d6bcd-walnut";

fn claims() -> DeploymentClaims {
    DeploymentClaims {
        iss: ISSUER.to_owned(),
        license_id: "lic-0001".to_owned(),
        cluster_id: CLUSTER.to_owned(),
        token_version: 7,
        epoch: 1,
        iat: ISSUED,
        exp: ISSUED + token::TOKEN_SECONDS,
    }
}

pub(super) fn make() -> Node {
    let json = serde_json::to_string(&claims()).unwrap();
    let token = token::sign(&key(SEED), &claims()).unwrap();
    let as_offline = forged(&header("EdDSA", OFFLINE_TYPE), &json);
    let end_ms = (ISSUED + token::TOKEN_SECONDS) as i64 * 1_000;
    let exact = Expect { now_ms: end_ms - 1, issuer: ISSUER, epoch: 1, cluster_id: CLUSTER };
    let cases = [
        ("the last millisecond", &token, exact, "ok"),
        ("the end itself", &token, Expect { now_ms: end_ms, ..exact }, "expired"),
        ("another server", &token, Expect { issuer: "other", ..exact }, "wrong_issuer"),
        ("another epoch", &token, Expect { epoch: 2, ..exact }, "wrong_epoch"),
        ("another cluster", &token, Expect { cluster_id: "other", ..exact }, "wrong_cluster"),
        ("an offline token in its place", &as_offline, exact, "wrong_type"),
    ]
    .map(|(name, token, expect, verdict)| {
        let found = token::verify(token, &key_set(), &expect);
        assert_eq!(found.as_ref().map_or_else(|error| error.code(), |_| "ok"), verdict, "{name}");
        object! {
            name: name,
            token: token.as_str(),
            now_ms: expect.now_ms,
            issuer: expect.issuer,
            epoch: expect.epoch,
            cluster_id: expect.cluster_id,
            verdict: verdict,
        }
    });
    super::file(
        "Access tokens of the deployment protocol. Opaque to programs, which send them back; a \
         server reads them by its own clock, without leeway.",
        &["BZZZ licensing, Token Versioning and Offline Tokens", "RFC 7515", "RFC 8037"],
        vec![
            ("signing_seed_hex", hex(&SEED).into()),
            ("key_set", key_set_text().into()),
            ("type", TOKEN_TYPE.into()),
            ("claims", json.into()),
            ("token", token.as_str().into()),
            ("verify", list(cases)),
        ],
    )
}

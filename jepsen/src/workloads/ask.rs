//! One act as a request, and an answer as one of the three ends of an act.
//!
//! What is certain is `ok` or `fail`; all else is `info`:
//!
//! | what came back | end |
//! |---|---|
//! | 2xx | ok |
//! | 4xx, 507: a refusal | fail |
//! | 503 that says `not_executed`, 429 | fail |
//! | no connection: no byte of the request has left | fail |
//! | 503 that does not say so, any other 5xx | info |
//! | a timeout, a connection that broke | info |
//!
//! A keyed act that failed in the log is decided there, so its refusal is an answer; one that is
//! `not_executed` never reached it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::http::{self, Http, Reply};
use crate::history::{Act, Answer, PackageTerms};
use crate::record::End;

/// What a request shows beside itself.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// Access token of the package's application.
    pub access: &'a str,
    /// Operator token.
    pub operator: &'a str,
    /// Renewal token, for what needs one and does not say it in its act.
    pub renewal: &'a str,
}

/// The request of an act, for a node's gateway.
///
/// # Errors
/// When the act is no client's.
pub fn request(
    http: &Http,
    gateway: SocketAddr,
    act: &Act,
    with: Credentials<'_>,
) -> Result<RequestBuilder> {
    let app = |method, path: &str| http.request(method, gateway, path).bearer_auth(with.access);
    let admin = |method, path: &str| http.request(method, gateway, path).bearer_auth(with.operator);
    let lease_path = |lease: &str, what: &str| format!("/api/v1/licenses/{lease}{what}");
    let consistency = |stale: bool| if stale { "?consistency=stale" } else { "" };
    let request = match act {
        Act::Checkout { package, key, holder, seats, pool, .. } => {
            let mut body = json!({
                "product_id": package,
                "user": holder,
                "hostname": format!("host-of-{holder}"),
                "quantity": seats,
                "metadata": { "version": "8.2.1", "session_id": key },
            });
            if let Some(pool) = pool {
                body["pool"] = json!(pool);
            }
            app(Method::POST, "/api/v1/licenses/checkout").header(KEY, key).json(&body)
        }
        Act::Heartbeat { lease, sequence_token, .. } => {
            let body = json!({ "renewal_token": sequence_token, "still_active": true });
            app(Method::PUT, &lease_path(lease, "/heartbeat")).json(&body)
        }
        Act::Return { lease, key, .. } => {
            let body = json!({ "lease_id": lease });
            app(Method::POST, &lease_path(lease, "/return")).header(KEY, key).json(&body)
        }
        Act::Borrow { lease, key, duration_ms, .. } => {
            let seconds = duration_ms / 1_000;
            let body = json!({ "renewal_token": with.renewal, "duration_seconds": seconds });
            app(Method::POST, &lease_path(lease, "/borrow")).header(KEY, key).json(&body)
        }
        Act::ReturnBorrow { lease, key, .. } => {
            let body = json!({ "renewal_token": with.renewal });
            app(Method::POST, &lease_path(lease, "/return-borrow")).header(KEY, key).json(&body)
        }
        Act::Transfer { package, from, to, seats, key } => {
            let body = json!({
                "package_id": package, "from_pool": from, "to_pool": to, "quantity": seats,
            });
            admin(Method::POST, "/admin/licenses/transfer").header(KEY, key).json(&body)
        }
        Act::ReadPackage { package, stale } => {
            admin(Method::GET, &format!("/admin/packages/{package}{}", consistency(*stale)))
        }
        Act::ReadLease { lease, stale, .. } => {
            app(Method::GET, &lease_path(lease, consistency(*stale)))
        }
        Act::ReadPools { package, stale } => {
            let stale = if *stale { "&consistency=stale" } else { "" };
            admin(Method::GET, &format!("/admin/pools?package_id={package}{stale}"))
        }
        Act::Fault(_) => anyhow::bail!("a fault is no client's act"),
    };
    Ok(request)
}

/// How an act ended, from what came back.
pub fn end_of(act: &Act, reply: &Reply, terms: &PackageTerms) -> End {
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::NotSent(_) => {
            return End::Fail(Answer::Refused { code: "not_sent".to_owned(), status: 0 });
        }
        Reply::Unknown(why) => return End::Info(why.clone()),
    };
    if (200..300).contains(&answer.status) {
        return match read(act, answer, terms) {
            Ok(answer) => End::Ok(answer),
            Err(error) => End::Info(format!("an answer that cannot be read: {error:#}")),
        };
    }
    let text = |field: &str| answer.body[field].as_str();
    let code = text("reason").or(text("code")).unwrap_or("unnamed").to_owned();
    let is_certain = match answer.status {
        507 | 429 => true,
        500.. => text("outcome") == Some("not_executed"),
        _ => true,
    };
    if is_certain {
        let ended = ["lease_ended", "already_ended"].contains(&code.as_str());
        if matches!(act, Act::ReadLease { .. }) && ended {
            // To read that it is gone is to have read it.
            return End::Ok(Answer::Lease { live: false, expires_in_ms: None });
        }
        End::Fail(Answer::Refused { code, status: answer.status })
    } else {
        End::Info(format!("{} {code}", answer.status))
    }
}

fn read(act: &Act, answer: &http::Answer, terms: &PackageTerms) -> Result<Answer> {
    let body = &answer.body;
    let number = |field: &str| body[field].as_u64().with_context(|| format!("no {field}"));
    let index = answer.applied_index.unwrap_or(0);
    Ok(match act {
        Act::Checkout { .. } => granted(answer)?,
        Act::Heartbeat { .. } | Act::ReturnBorrow { .. } => Answer::Renewed {
            expires_in_ms: number("expires_in_ms")?,
            renewal_token: answer.text("renewal_token")?.to_owned(),
            offline_until_ms: body["offline_token"].as_str().and_then(ends_ms),
        },
        Act::Return { .. } => Answer::Returned,
        Act::Borrow { .. } => Answer::Borrowed {
            until_in_ms: number("expires_in_ms")?,
            offline_ends_ms: ends_ms(answer.text("offline_token")?).context("no end in a token")?,
        },
        Act::Transfer { .. } => Answer::Transferred,
        Act::ReadPackage { .. } => {
            let seats = &body["seats"];
            let count = |field: &str| -> Result<u32> {
                let count = seats[field].as_u64().with_context(|| format!("no seats.{field}"))?;
                Ok(u32::try_from(count)?)
            };
            Answer::Package {
                in_use: count("commit_in_use")? + count("overage_in_use")?,
                total: count("total")?,
                index,
                leases: None,
            }
        }
        Act::ReadLease { .. } => Answer::Lease {
            live: body["state"] == "active",
            expires_in_ms: Some(number("expires_in_ms")?),
        },
        Act::ReadPools { .. } => Answer::Pools { shares: shares(body, terms)?, index },
        Act::Fault(_) => anyhow::bail!("a fault is not answered"),
    })
}

fn granted(answer: &http::Answer) -> Result<Answer> {
    let text = |field: &str| Ok::<_, anyhow::Error>(answer.text(field)?.to_owned());
    let (lease, fence, class) = (text("lease_id")?, text("fence")?, text("lease_type")?);
    let expires_in_ms = answer.body["expires_in_ms"].as_u64().context("no expires_in_ms")?;
    // What must be the same in every answer to one key: the time left and the newest renewal token
    // are those of the lease as it is when the question is repeated.
    let hashed = Sha256::digest(format!("{lease}\n{fence}\n{class}"));
    Ok(Answer::Granted {
        renewal_token: text("renewal_token")?,
        body_hash: data_encoding::HEXLOWER.encode(&hashed[..16]),
        repeated: false,
        expires_in_ms,
        lease,
        fence,
        class,
    })
}

/// Named pools, in the order in which they were bought.
fn shares(body: &Value, terms: &PackageTerms) -> Result<Vec<(String, u32, u32)>> {
    let pools = body["pools"].as_array().context("no pools")?;
    let share = |(name, _): &(String, u32)| -> Result<(String, u32, u32)> {
        let pool = pools.iter().find(|pool| pool["pool"] == name.as_str());
        let pool = pool.with_context(|| format!("no pool {name}"))?;
        let count = |field: &str| -> Result<u32> {
            Ok(u32::try_from(pool[field].as_u64().with_context(|| format!("no {field}"))?)?)
        };
        Ok((name.clone(), count("seats")?, count("in_use")?))
    };
    terms.pools.iter().map(share).collect()
}

/// When an offline token ends, in Unix milliseconds: the claim `exp` of its middle part.
fn ends_ms(token: &str) -> Option<i64> {
    let claims = token.split('.').nth(1)?;
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["exp"].as_i64().map(|seconds| seconds * 1_000)
}

const KEY: &str = "Idempotency-Key";

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &Value) -> Reply {
        Reply::Answer(http::Answer {
            status,
            applied_index: None,
            body: body.clone(),
            bytes: Vec::new(),
        })
    }

    fn terms() -> PackageTerms {
        PackageTerms {
            name: "p".to_owned(),
            commit: 2,
            overage: 1,
            ttl_ms: 1,
            pools: Vec::new(),
            rotation: true,
            offline_skew_ms: 0,
        }
    }

    fn name(end: &End) -> &'static str {
        match end {
            End::Ok(_) => "ok",
            End::Fail(_) => "fail",
            End::Info(_) => "info",
        }
    }

    #[test]
    fn what_is_not_certain_is_info() {
        let act = Act::Return { package: "p".into(), lease: "l".into(), key: "k".into() };
        let table = [
            (reply(200, &json!({ "status": "returned" })), "ok"),
            (reply(409, &json!({ "status": "denied", "reason": "already_ended" })), "fail"),
            (reply(401, &json!({ "code": "invalid_token" })), "fail"),
            (reply(429, &json!({ "reason": "idempotency_table_full" })), "fail"),
            (reply(507, &json!({ "reason": "no_space" })), "fail"),
            (reply(503, &json!({ "code": "no_quorum", "outcome": "not_executed" })), "fail"),
            (reply(503, &json!({ "code": "no_quorum", "outcome": "unknown" })), "info"),
            (reply(503, &json!({ "code": "no_quorum" })), "info"),
            (reply(500, &json!({ "code": "internal" })), "info"),
            (reply(502, &Value::Null), "info"),
            (Reply::NotSent("refused".to_owned()), "fail"),
            (Reply::Unknown("reset".to_owned()), "info"),
        ];
        for (reply, want) in table {
            assert_eq!(name(&end_of(&act, &reply, &terms())), want, "{reply:?}");
        }
    }

    #[test]
    fn a_lease_that_is_gone_was_read() {
        let read = Act::ReadLease { package: "p".into(), lease: "l".into(), stale: false };
        let gone = reply(410, &json!({ "reason": "lease_ended" }));
        let want = End::Ok(Answer::Lease { live: false, expires_in_ms: None });
        assert_eq!(end_of(&read, &gone, &terms()), want);
        let beat =
            Act::Heartbeat { package: "p".into(), lease: "l".into(), sequence_token: "t".into() };
        assert_eq!(name(&end_of(&beat, &gone, &terms())), "fail");
    }

    #[test]
    fn seats_of_both_classes_are_counted() {
        let read = Act::ReadPackage { package: "p".into(), stale: false };
        let seats = json!({ "total": 3, "commit_in_use": 2, "overage_in_use": 1 });
        let end = end_of(&read, &reply(200, &json!({ "seats": seats })), &terms());
        let want = Answer::Package { in_use: 3, total: 3, index: 0, leases: None };
        assert_eq!(end, End::Ok(want));
    }

    #[test]
    fn the_end_of_an_offline_token_is_in_its_claims() {
        let claims = data_encoding::BASE64URL_NOPAD.encode(br#"{"exp":1700000000}"#);
        assert_eq!(ends_ms(&format!("h.{claims}.s")), Some(1_700_000_000_000));
        assert_eq!(ends_ms("nothing"), None);
    }
}

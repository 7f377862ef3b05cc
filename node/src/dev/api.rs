//! Calls to the cluster's gateways, as an operator and as an application make them.
//!
//! Any node will do: a call that a node cannot answer now (503, no connection) is made again at the
//! next, under the same idempotency key, until it is answered or its time is over. The certificate
//! authority is the development CA and nothing else.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::seam::{Clock, Entropy};
use tokio::task::JoinSet;

use super::place::Place;
use super::screen::Screen;
use super::{DevError, Result, count, failed};
use crate::config;
use crate::pki;

/// A client of one cluster.
pub(crate) struct Api {
    http: reqwest::Client,
    /// Gateways' URLs in order of node id.
    nodes: Vec<String>,
    admin_token: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum As<'a> {
    /// The first operator.
    Admin,
    /// An application with this access token.
    App(&'a str),
    /// Nobody in particular: the body carries the credentials.
    Nobody,
}

/// What is sent.
pub(crate) enum Body<'a> {
    Json(serde_json::Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// How the cluster is, as far as it can be learned now.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) leader: Option<u64>,
    pub(crate) nodes_up: u64,
    pub(crate) seats: Option<Seats>,
}

/// Seats and leases of every package together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seats {
    pub(crate) total: u64,
    pub(crate) out: u64,
    pub(crate) leases: u64,
}

impl Api {
    pub(crate) fn new(
        place: &Place,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let ca = place.ca_cert();
        let certificate = CertificateDer::from_pem_file(&ca)
            .map_err(|_| failed(format!("{}: holds no certificate", ca.display())))?;
        let roots = pki::roots(&[certificate]).map_err(|error| failed(config::chain(&error)))?;
        let tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ATTEMPT_WITHIN)
            .build()
            .map_err(|error| failed(config::chain(&error)))?;
        Ok(Self {
            http,
            nodes: (1..=place.state.nodes).map(|id| place.state.gateway_url(id)).collect(),
            admin_token: place.state.admin_token.clone(),
            clock,
            entropy,
        })
    }

    /// Polls until every node says that it is ready.
    pub(crate) async fn wait_until_ready(&self, screen: &Screen) -> Result<()> {
        let nodes = u64::try_from(self.nodes.len()).unwrap_or(u64::MAX);
        let what = format!("waiting for {} to form a cluster", count(nodes, "node"));
        screen.step(&what);
        loop {
            let mut ready = 0;
            for answer in self.ask_all("/readyz").await {
                ready += u64::from(answer.is_ok_and(|(status, _)| status == StatusCode::OK));
            }
            if ready == nodes {
                return Ok(());
            }
            screen.progress(&format!("{what}: {ready} ready"));
            tokio::time::sleep(POLL).await;
        }
    }

    /// One line about the first node that is not ready.
    pub(crate) async fn not_ready(&self, place: &Place, within: Duration) -> String {
        let answers = self.ask_all("/readyz?verbose").await;
        for (id, answer) in (1..).zip(answers) {
            let reason = match answer {
                Ok((StatusCode::OK, _)) => continue,
                Ok((_, body)) => body.lines().map(str::trim).collect::<Vec<_>>().join(" "),
                Err(reason) => reason,
            };
            let (seconds, log) = (within.as_secs(), place.log(id));
            return format!(
                "node {id} did not get ready within {seconds} seconds: {reason} (log: {})",
                log.display()
            );
        }
        "the nodes did not get ready in time".to_owned()
    }

    /// The same GET to every node at once, in order of id; the error is a phrase.
    async fn ask_all(&self, path: &str) -> Vec<std::result::Result<(StatusCode, String), String>> {
        let mut asked = JoinSet::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let request = self.http.get(format!("{node}{path}")).timeout(PROBE_WITHIN);
            asked.spawn(async move {
                let answer = async {
                    let response = request.send().await?;
                    let status = response.status();
                    Ok::<_, reqwest::Error>((status, response.text().await?))
                };
                (at, answer.await.map_err(|error| config::chain(&error.without_url())))
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Makes a call and reads its answer, which must be one of `expected`.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        who: As<'_>,
        method: Method,
        path: &str,
        body: Body<'_>,
        expected: &[StatusCode],
    ) -> Result<T> {
        let key = self.new_key();
        let started_ns = self.clock.monotonic_ns();
        let mut nodes = self.nodes.iter().cycle();
        loop {
            let Some(node) = nodes.next() else { return Err(failed("the cluster has no nodes")) };
            let request = self.request(who, &method, &format!("{node}{path}"), &body, &key);
            let problem = match self.attempt(request).await {
                Ok((status, text)) if expected.contains(&status) => {
                    return serde_json::from_str(&text).map_err(|error| {
                        failed(format!("{method} {path}: the answer is not understood: {error}"))
                    });
                }
                Ok((status, text)) => {
                    let problem = format!("{status}: {}", reason_in(&text));
                    if status.is_client_error() {
                        return Err(DevError::Refused(format!("{method} {path}: {problem}")));
                    }
                    if status != StatusCode::SERVICE_UNAVAILABLE {
                        return Err(failed(format!("{method} {path}: {problem}")));
                    }
                    problem
                }
                Err(reason) => reason,
            };
            let spent = self.clock.monotonic_ns().saturating_sub(started_ns);
            if Duration::from_nanos(spent) > CALL_WITHIN {
                return Err(failed(format!("{method} {path}: {problem}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn request(
        &self,
        who: As<'_>,
        method: &Method,
        url: &str,
        body: &Body<'_>,
        key: &str,
    ) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method.clone(), url);
        if *method != Method::GET {
            request = request.header("idempotency-key", key);
        }
        request = match who {
            As::Admin => request.bearer_auth(&self.admin_token),
            As::App(token) => request.bearer_auth(token),
            As::Nobody => request,
        };
        match body {
            Body::Json(json) => request.json(json),
            Body::Form(fields) => request.form(fields),
        }
    }

    async fn attempt(
        &self,
        request: reqwest::RequestBuilder,
    ) -> std::result::Result<(StatusCode, String), String> {
        let phrase = |error: reqwest::Error| config::chain(&error.without_url());
        let response = request.send().await.map_err(phrase)?;
        let status = response.status();
        Ok((status, response.text().await.map_err(phrase)?))
    }

    /// How the cluster is; whatever cannot be had within about a second is left out.
    pub(crate) async fn health(&self) -> Health {
        for node in &self.nodes {
            let ask = |path| self.http.get(format!("{node}{path}")).timeout(PROBE_WITHIN);
            let status = ask("/admin/cluster/status").bearer_auth(&self.admin_token);
            let Some(status) = read(status).await else { continue };
            let Ok(status) = serde_json::from_str::<StatusView>(&status) else { continue };
            let up = status.nodes.iter().filter(|node| node.role != "unreachable").count();
            let metrics = read(ask("/metrics")).await;
            return Health {
                leader: status.leader,
                nodes_up: u64::try_from(up).unwrap_or(u64::MAX),
                seats: metrics.as_deref().map(Seats::of),
            };
        }
        Health::default()
    }

    /// 128 random bits: names one request, however often it is made.
    fn new_key(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        format!("dev-{}", data_encoding::HEXLOWER.encode(&bytes))
    }
}

/// What `dev` reads of `GET /admin/cluster/status`.
#[derive(serde::Deserialize)]
struct StatusView {
    leader: Option<u64>,
    nodes: Vec<NodeView>,
}

#[derive(serde::Deserialize)]
struct NodeView {
    role: String,
}

async fn read(request: reqwest::RequestBuilder) -> Option<String> {
    request.send().await.ok()?.error_for_status().ok()?.text().await.ok()
}

impl Seats {
    /// Sums of samples in Prometheus' text format: `name{labels} value`.
    fn of(metrics: &str) -> Self {
        let sum = |name: &str| {
            metrics
                .lines()
                .filter_map(|line| {
                    let rest = line.strip_prefix(name)?;
                    let value = rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next())??;
                    value.parse::<u64>().ok()
                })
                .sum()
        };
        Self {
            total: sum("leasehold_package_seats"),
            out: sum("leasehold_package_seats_in_use"),
            leases: sum("leasehold_leases"),
        }
    }
}

/// What an error's body says, in one line: RFC 9457's detail, OAuth's description, a denial's
/// message, or the text itself.
fn reason_in(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Reasons {
        detail: Option<String>,
        error_description: Option<String>,
        message: Option<String>,
        title: Option<String>,
        reason: Option<String>,
    }
    let reason = serde_json::from_str::<Reasons>(body).ok().and_then(|reasons| {
        let Reasons { detail, error_description, message, title, reason } = reasons;
        detail.or(error_description).or(message).or(title).or(reason)
    });
    let text = reason.unwrap_or_else(|| body.to_owned());
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A value as JSON; the types are ours and always can be written.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Body<'static>> {
    serde_json::to_value(value)
        .map(Body::Json)
        .map_err(|error| failed(format!("a request could not be written: {error}")))
}

/// Between two polls.
const POLL: Duration = Duration::from_millis(50);
/// For one attempt of a call.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);
/// For a look at a node.
const PROBE_WITHIN: Duration = Duration::from_millis(1500);
/// For a call, over all attempts.
const CALL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::{Seats, reason_in};

    #[test]
    fn seats_are_summed_over_packages() {
        let text = "# TYPE leasehold_leases gauge\nleasehold_leases 3\n\
            leasehold_package_seats{package=\"a\"} 20\nleasehold_package_seats{package=\"b\"} 5\n\
            leasehold_package_seats_in_use{package=\"a\",class=\"commit\"} 2\n\
            leasehold_package_seats_in_use{package=\"a\",class=\"overage\"} 1\n";
        assert_eq!(Seats::of(text), Seats { total: 25, out: 3, leases: 3 });
    }

    #[test]
    fn the_reason_is_found_in_every_kind_of_error() {
        for (body, reason) in [
            (r#"{"title":"Bad","detail":"the seat is taken"}"#, "the seat is taken"),
            (r#"{"error":"invalid_client","error_description":"no such"}"#, "no such"),
            (r#"{"status":"denied","reason":"max_overage_exceeded"}"#, "max_overage_exceeded"),
            ("plain\ntext", "plaintext"),
        ] {
            assert_eq!(reason_in(body), reason);
        }
    }
}

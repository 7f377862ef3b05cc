//! One attempt at one server, and what it says about the call.
//!
//! The budget is waited out through the environment's clock. A connection that was never made
//! carried nothing; everything else may have.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::{Body, Call};
use crate::environment::Environment;
use crate::error::{Error, Outcome};

/// What came of an attempt.
pub(crate) enum Heard {
    /// An answer that every server would give.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// When to ask again, where it says so.
        retry_after: Option<Duration>,
        /// The headers.
        headers: HeaderMap,
    },
    /// No answer from this server now.
    Fault(Fault),
}

/// Why a server gave no answer.
pub(crate) struct Fault {
    /// For people.
    pub(crate) reason: String,
    /// Whether the request may have had an effect.
    pub(crate) outcome: Outcome,
    /// Whether anything was sent.
    pub(crate) was_sent: bool,
    /// When it wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// Whether every other server would say the same.
    pub(crate) is_everyones: bool,
}

/// A problem body (RFC 9457), or a denial, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) code: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) detail: Option<String>,
    outcome: Option<String>,
}

/// Asks one server once. Errors are those that no server can help with.
pub(crate) async fn attempt(
    http: &reqwest::Client,
    environment: &dyn Environment,
    endpoint: &Url,
    call: &Call,
    budget: Duration,
) -> Result<Heard, Error> {
    let url = url_of(endpoint, &call.path)?;
    let mut builder = http.request(call.method.clone(), url).headers(call.headers.clone());
    builder = match &call.body {
        Body::Empty => builder,
        Body::Json(bytes) => builder.header(CONTENT_TYPE, "application/json").body(bytes.clone()),
        Body::Form(fields) => builder.form(fields),
    };
    let heard = tokio::select! {
        biased;
        heard = async { read(builder.send().await?).await } => heard,
        () = environment.limit(budget) => {
            return Ok(Heard::Fault(Fault::in_doubt("no answer in time".to_owned())));
        }
    };
    match heard {
        Ok((status, headers, Some(body))) => Ok(sort(status, headers, body, environment)),
        Ok((status, _, None)) => Err(Error::Protocol {
            endpoint: super::shown(endpoint),
            reason: format!("HTTP {status} with more than {MAX_ANSWER_BYTES} bytes"),
        }),
        Err(error) if error.is_builder() => Err(Error::configuration(reason(&error))),
        Err(error) if error.is_connect() => {
            Ok(Heard::Fault(Fault { was_sent: false, ..Fault::not_executed(reason(&error)) }))
        }
        Err(error) => Ok(Heard::Fault(Fault::in_doubt(reason(&error)))),
    }
}

impl Fault {
    fn in_doubt(reason: String) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::not_executed(reason) }
    }

    fn not_executed(reason: String) -> Self {
        Self {
            reason,
            outcome: Outcome::NotExecuted,
            was_sent: true,
            retry_after: None,
            is_everyones: false,
        }
    }
}

type Parts = (u16, HeaderMap, Option<Vec<u8>>);

/// Reads an answer to its end; no body when it has none.
async fn read(mut response: Response) -> reqwest::Result<Parts> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok((status, headers, None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, headers, Some(body)))
}

/// Tells an answer from "ask again", and from "ask another".
fn sort(status: u16, headers: HeaderMap, body: Vec<u8>, environment: &dyn Environment) -> Heard {
    let retry_after = retry_after(&headers, environment);
    if !matches!(status, 408 | 429 | 500 | 502..=504) {
        return Heard::Answer { status, body, retry_after, headers };
    }
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    let outcome = match (problem.outcome.as_deref(), status) {
        (Some("not_executed"), _) | (None, 429) => Outcome::NotExecuted,
        _ => Outcome::Unknown,
    };
    let words = problem.code.or(problem.title).unwrap_or_else(|| "no reason given".to_owned());
    Heard::Fault(Fault {
        reason: format!("HTTP {status}: {words}"),
        outcome,
        was_sent: true,
        retry_after,
        is_everyones: status == 429,
    })
}

/// `Retry-After` (RFC 9110, section 10.2.3) as seconds, or as a date: then against the server's own
/// clock where it tells it, so that ours need not be right.
fn retry_after(headers: &HeaderMap, environment: &dyn Environment) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let value = text(RETRY_AFTER)?;
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at_ms = date_ms(value)?;
    let now_ms = text(DATE).and_then(date_ms).unwrap_or_else(|| environment.wall_ms());
    Some(Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0)))
}

/// An HTTP date in Unix milliseconds.
fn date_ms(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_millisecond())
}

/// The server's URL with more segments; each is escaped, so that an id cannot lead elsewhere.
fn url_of(endpoint: &Url, path: &[String]) -> Result<Url, Error> {
    let mut url = endpoint.clone();
    {
        let Ok(mut segments) = url.path_segments_mut() else {
            return Err(Error::configuration(format!("{endpoint} cannot have a path")));
        };
        segments.pop_if_empty();
        for segment in path {
            // The parser would drop these in silence and ask for something else.
            if matches!(segment.as_str(), "" | "." | "..") {
                return Err(Error::configuration(format!("{segment:?} is not an id")));
            }
            segments.push(segment);
        }
    }
    Ok(url)
}

/// Why there was no answer, in the words of the innermost error.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no connection in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Largest answer; everything a server sends an application is far below.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::environment::SystemEnvironment;

    fn check_wait(headers: &[(&'static str, &'static str)], seconds: Option<u64>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let wait = retry_after(&map, &SystemEnvironment::new());
        assert_eq!(wait, seconds.map(Duration::from_secs), "{headers:?}");
    }

    #[test]
    fn a_wait_is_read_in_both_forms() {
        check_wait(&[], None);
        check_wait(&[("retry-after", "7")], Some(7));
        check_wait(&[("retry-after", " 7 ")], Some(7));
        check_wait(&[("retry-after", "soon")], None);
        check_wait(&[("retry-after", "-1")], None);
        let date = ("date", "Sun, 06 Nov 1994 08:49:30 GMT");
        check_wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date], Some(7));
        check_wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), date], Some(0));
    }

    fn check_sort(status: u16, body: &str, fault: Option<(Outcome, bool)>) {
        let heard =
            sort(status, HeaderMap::new(), body.as_bytes().to_vec(), &SystemEnvironment::new());
        let got = match heard {
            Heard::Answer { .. } => None,
            Heard::Fault(fault) => Some((fault.outcome, fault.is_everyones)),
        };
        assert_eq!(got, fault, "{status} {body}");
    }

    #[test]
    fn an_answer_is_told_from_ask_again() {
        for status in [200, 201, 204, 307, 400, 401, 403, 404, 409, 410, 422, 501] {
            check_sort(status, "{}", None);
        }
        let told = r#"{"outcome":"not_executed"}"#;
        check_sort(503, told, Some((Outcome::NotExecuted, false)));
        check_sort(503, r#"{"outcome":"unknown"}"#, Some((Outcome::Unknown, false)));
        check_sort(503, "<html>", Some((Outcome::Unknown, false)));
        check_sort(502, "", Some((Outcome::Unknown, false)));
        check_sort(500, "{}", Some((Outcome::Unknown, false)));
        check_sort(429, "{}", Some((Outcome::NotExecuted, true)));
    }

    fn check_url(endpoint: &str, path: &[&str], want: Option<&str>) {
        let endpoint = Url::parse(endpoint).unwrap();
        let path: Vec<String> = path.iter().map(|segment| (*segment).to_owned()).collect();
        let url = url_of(&endpoint, &path).ok();
        assert_eq!(url.as_ref().map(Url::as_str), want);
    }

    #[test]
    fn an_id_cannot_lead_elsewhere() {
        let endpoint = "https://a:1";
        check_url(endpoint, &["api", "v1"], Some("https://a:1/api/v1"));
        check_url(endpoint, &["api", "a/b?c#d"], Some("https://a:1/api/a%2Fb%3Fc%23d"));
        check_url("https://a/base/", &["api"], Some("https://a/base/api"));
        check_url(endpoint, &["api", "..", "x"], None);
        check_url(endpoint, &["api", ""], None);
    }
}

//! Decisions against a request: reason, when to ask again, what would have been granted.
//!
//! Reasons are read as text, because a server may be newer than the program: an unknown one is
//! still a decision.

use std::fmt;
use std::time::{Duration, SystemTime};

use protocol::cloud::denial::{DenialReason, Remedy};
use protocol::wire::UtcTime;
use serde::Deserialize;

/// A reason, as its wire code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(String);

impl Reason {
    /// The wire code, as `max_overage_exceeded`.
    pub fn code(&self) -> &str {
        &self.0
    }

    /// The reason, if this release knows it.
    pub fn known(&self) -> Option<DenialReason> {
        DenialReason::from_code(&self.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DenialReason> for Reason {
    fn from(reason: DenialReason) -> Self {
        Self(reason.code().to_owned())
    }
}

/// The server decided against the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub detail: String,
    /// When asking again makes sense, counted from the answer, where anybody can say.
    pub retry_after: Option<Duration>,
    /// When a seat may come free, by the server's clock.
    pub available_at: Option<SystemTime>,
    /// What would have been granted, where something would.
    pub would_be_satisfied_by: Option<Remedy>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.reason)
    }
}

/// The body of a denial, as far as it is understood.
#[derive(Deserialize)]
struct Body {
    status: String,
    reason: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    available_at: Option<UtcTime>,
    #[serde(default)]
    would_be_satisfied_by: Option<Remedy>,
}

impl Denied {
    /// Reads a denial; `None` when the body is something else.
    pub(crate) fn read(body: &[u8], retry_after: Option<Duration>) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        if body.status != "denied" {
            return None;
        }
        let available_at = body.available_at.map(|time| system_time(time.unix_ms));
        Some(Self {
            detail: if body.detail.is_empty() { body.reason.clone() } else { body.detail },
            reason: Reason(body.reason),
            retry_after,
            available_at,
            would_be_satisfied_by: body.would_be_satisfied_by,
        })
    }
}

/// Unix milliseconds as a time of the standard library; times before 1970 are that year's begin.
pub(crate) fn system_time(unix_ms: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_of_a_newer_server_is_still_a_denial() {
        let body = br#"{"status":"denied","reason":"moon_phase","new_member":1}"#;
        let denied = Denied::read(body, None).unwrap();
        assert_eq!((denied.reason.code(), denied.reason.known()), ("moon_phase", None));
        assert_eq!(denied.to_string(), "moon_phase (moon_phase)");
    }

    #[test]
    fn other_bodies_are_no_denials() {
        for body in ["", "[]", "{}", r#"{"status":"success","reason":"x"}"#, r#"{"status":403}"#] {
            assert_eq!(Denied::read(body.as_bytes(), None), None, "{body}");
        }
    }
}

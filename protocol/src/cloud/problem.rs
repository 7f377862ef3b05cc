//! Problem bodies (RFC 9457, `application/problem+json`) for every error that no protocol gives a
//! body of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Whether a failed write may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemOutcome {
    /// It did not, and will not.
    NotExecuted,
    /// Nobody knows yet: ask again with the same idempotency key.
    Unknown,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Reference that names the kind of problem: `/problems/` and the code.
    #[serde(rename = "type")]
    #[schema(example = "/problems/no_quorum")]
    pub kind: String,
    /// One sentence about the kind.
    #[schema(example = "No quorum of the cluster can be reached.")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 503)]
    pub status: u16,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request id under which it was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The kind, for programs.
    #[schema(example = "no_quorum")]
    pub code: String,
    /// The field to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// On 503: whether the write may have happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ProblemOutcome>,
    /// Further members of this kind.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub extensions: BTreeMap<String, serde_json::Value>,
}

impl Problem {
    /// A problem of this kind, with nothing more to say.
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        Self {
            kind: format!("/problems/{code}"),
            title: title.to_owned(),
            status,
            detail: None,
            instance: None,
            code: code.to_owned(),
            field: None,
            outcome: None,
            extensions: BTreeMap::new(),
        }
    }

    /// Says what happened this time.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names the field to blame.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says whether the write may have happened.
    pub fn outcome(mut self, outcome: ProblemOutcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Adds a member; the names above cannot be taken.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        assert!(!OWN_MEMBERS.contains(&name), "{name} is a member of every problem");
        self.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "texts and numbers are always JSON")]
        serde_json::to_vec(self).expect("a problem is JSON")
    }
}

impl From<&super::body::BodyError> for Problem {
    fn from(error: &super::body::BodyError) -> Self {
        let problem = Self::new(400, error.code(), "The request's body is not valid.")
            .detail(error.to_string());
        match error.field() {
            Some(field) => problem.field(field),
            None => problem,
        }
    }
}

impl From<&crate::package::PackageError> for Problem {
    fn from(error: &crate::package::PackageError) -> Self {
        let detail = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let status = error.category().http_status();
        let problem =
            Self::new(status, error.code(), "The license package is not accepted.").detail(detail);
        match error.field() {
            Some(field) => problem.field(field),
            None => problem,
        }
    }
}

impl From<&super::admin::ImportError> for Problem {
    fn from(error: &super::admin::ImportError) -> Self {
        match error {
            super::admin::ImportError::Package(error) => Self::from(error),
            super::admin::ImportError::Key(error) => Self::from(error).field("vendor_public_key"),
        }
    }
}

impl From<&crate::keys::KeyError> for Problem {
    fn from(error: &crate::keys::KeyError) -> Self {
        Self::new(400, error.code(), "The key is not accepted.").detail(error.to_string())
    }
}

const OWN_MEMBERS: [&str; 8] =
    ["type", "title", "status", "detail", "instance", "code", "field", "outcome"];

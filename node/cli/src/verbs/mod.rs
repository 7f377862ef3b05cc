//! The verbs, one module for each noun.

pub(crate) mod app;
pub(crate) mod application;
pub(crate) mod cluster;
pub(crate) mod lease;
pub(crate) mod package;
pub(crate) mod vendor;
pub(crate) mod workshop;

use clap::Args;
use protocol::cloud::admin::ReasonRequest;
use protocol::wire;
use serde::Serialize;
use serde_json::Value;

use crate::error::{CliError, Result};

/// Why something is done.
#[derive(Debug, Clone, Default, Args)]
pub struct ReasonOptions {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl ReasonOptions {
    fn body(&self) -> ReasonRequest {
        ReasonRequest { reason: self.reason.clone() }
    }
}

/// An answer as the document that scripts read: what this release knows of it.
fn document<T: Serialize>(answer: &T) -> Result<Value> {
    serde_json::to_value(answer)
        .map_err(|error| CliError::Failed(format!("the answer cannot be written: {error}")))
}

/// Refuses what cannot be an id, before it gets into a path.
fn require_id<'a>(what: &str, id: &'a str) -> Result<&'a str> {
    if wire::is_id(id) {
        Ok(id)
    } else {
        Err(CliError::Usage(format!("{id:?} is no {what}: want letters, digits and . _ -")))
    }
}

/// A wire word as people read it.
fn words<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => "-".to_owned(),
    }
}

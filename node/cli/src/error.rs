//! Why a verb did not do what it was asked, for people and for scripts.
//!
//! People get one line, `error: …`, that says what to do about it. With `--output json` the same is
//! one JSON document on standard error, `{"error":{"code","message","exit_code",…}}`.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use protocol::audit_segment::SegmentError;
use protocol::keys::KeyError;
use protocol::offline::{KeySetError, OfflineError};
use protocol::package::{PackageError, SignError};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::answer::Refusal;
use crate::exit::Exit;
use crate::local::Trouble;

/// Why a verb failed.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The command line or a configuration cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
    /// A file that holds no usable key.
    #[error("{} holds no usable key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key could not be made or written as text.
    #[error("the key could not be made")]
    KeyMaking(#[source] KeyError),
    /// A package that is malformed or proves nothing.
    #[error("{} is not to be believed", path.display())]
    Package {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PackageError,
    },
    /// A part of the audit log that is not whole, or proves nothing.
    #[error("{} is not to be believed", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// A document that was not signed.
    #[error("{} was not signed", path.display())]
    Sign {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// None of the servers was reached, so nothing was done.
    #[error("no server reached: {}", list(tried))]
    NotReachable {
        /// Each server with the reason, in the order tried.
        tried: Vec<(String, String)>,
    },
    /// A request went out and no answer came back.
    #[error("no answer: {}", list(tried))]
    NoAnswer {
        /// Each server with the reason, in the order tried.
        tried: Vec<(String, String)>,
        /// The key under which the request may be repeated, of a mutation.
        idempotency_key: Option<String>,
    },
    /// The server said no.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// Every node that is up says that it does not serve.
    #[error("no node can say how the cluster is: {}", .0.message)]
    NotServing(Box<Refusal>),
    /// What was asked for is not among what the server has.
    #[error("{0}")]
    NotFound(String),
    /// The server's answer is not one that this release knows.
    #[error("{server} answered {status} with a body that is not understood")]
    Answer {
        /// Who answered.
        server: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An offline token that proves nothing, or not here and now.
    #[error("the token is not to be believed")]
    Token(#[source] OfflineError),
    /// Keys under which no token can be verified.
    #[error("{from} has no usable keys")]
    KeySet {
        /// The file or server.
        from: String,
        /// What is wrong with them.
        source: KeySetError,
    },
    /// Of a verb that the program does on this machine.
    #[error("{}", .0.message)]
    Local(Trouble),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// The outcome of a fallible step.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::File { .. } => Exit::Usage,
            Self::Key { .. } | Self::Package { .. } | Self::Sign { .. } => Exit::Unverifiable,
            Self::NotReachable { .. } | Self::NoAnswer { .. } => Exit::NotReachable,
            Self::Segment { .. } => Exit::Unverifiable,
            Self::KeySet { .. } | Self::Token(OfflineError::Jws(_)) => Exit::Unverifiable,
            // Genuine, and not for this place or time.
            Self::Token(_) => Exit::Refused,
            Self::Refused(refusal) => refusal.exit(),
            Self::NotServing(_) => Exit::Unhealthy,
            Self::NotFound(_) => Exit::NotFound,
            Self::Local(trouble) => trouble.exit,
            Self::KeyMaking(_) | Self::Answer { .. } | Self::Failed(_) => Exit::Failed,
        }
    }

    /// The machine-readable reason.
    fn code(&self) -> &str {
        match self {
            Self::Usage(_) => "usage",
            Self::File { .. } => "file",
            Self::Key { .. } => "key_unusable",
            Self::Package { source, .. } => source.code(),
            Self::Segment { .. } => "audit_segment_unverifiable",
            Self::Sign { source: SignError::Package(source), .. } => source.code(),
            Self::Sign { .. } | Self::KeyMaking(_) => "key_operation",
            Self::NotReachable { .. } => "not_reachable",
            Self::NoAnswer { .. } => "no_answer",
            Self::Refused(refusal) | Self::NotServing(refusal) => &refusal.code,
            Self::NotFound(_) => "not_found",
            Self::Answer { .. } => "answer_not_understood",
            Self::Token(source) => source.code(),
            Self::KeySet { .. } => "key_set_unusable",
            Self::Local(trouble) => trouble.code,
            Self::Failed(_) => "failed",
        }
    }

    /// The whole story in one line: the error and its sources.
    fn story(&self) -> String {
        let mut story = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            story.push_str(": ");
            story.push_str(&error.to_string());
            source = error.source();
        }
        story
    }

    /// What the user might do, where the error does not say it already.
    fn advice(&self) -> Option<String> {
        match self {
            Self::NotReachable { .. } => Some(
                "is a node running there? --server, LEASEHOLD_SERVER or a context file name others"
                    .to_owned(),
            ),
            Self::NoAnswer { idempotency_key: Some(key), .. } => Some(format!(
                "whether it was done is not known; repeating with --idempotency-key {key} is safe"
            )),
            Self::Refused(refusal) => refusal.advice(),
            Self::Answer { .. } => Some("is it a server of another release?".to_owned()),
            _ => None,
        }
    }

    /// What people read after `error: `.
    pub(crate) fn line(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{} ({advice})", self.story()),
            None => self.story(),
        }
    }

    /// What scripts read.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".to_owned(), json!(self.code()));
        error.insert("message".to_owned(), json!(self.story()));
        error.insert("exit_code".to_owned(), json!(self.exit().code()));
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                error.insert(name.to_owned(), value);
            }
        };
        put("advice", self.advice().map(Value::from));
        match self {
            Self::Package { source, .. }
            | Self::Sign { source: SignError::Package(source), .. } => {
                put("field", source.field().map(Value::from));
            }
            Self::NotReachable { tried } => put("tried", Some(tried_json(tried))),
            Self::NoAnswer { tried, idempotency_key } => {
                put("tried", Some(tried_json(tried)));
                put("outcome", Some(json!("unknown")));
                put("idempotency_key", idempotency_key.clone().map(Value::from));
            }
            Self::Refused(refusal) | Self::NotServing(refusal) => {
                put("status", Some(json!(refusal.status)));
                put("field", refusal.field.clone().map(Value::from));
                put("outcome", refusal.outcome.clone().map(Value::from));
                put("available_at", refusal.available_at.clone().map(Value::from));
                put("would_be_satisfied_by", refusal.would_be_satisfied_by.clone());
                put("app_id", refusal.app_id.clone().map(Value::from));
                put("request_id", refusal.request_id.clone().map(Value::from));
                put("idempotency_key", refusal.idempotency_key.clone().map(Value::from));
            }
            _ => {}
        }
        json!({ "error": error })
    }
}

fn list(tried: &[(String, String)]) -> String {
    let parts: Vec<String> =
        tried.iter().map(|(server, reason)| format!("{server} ({reason})")).collect();
    parts.join(", ")
}

fn tried_json(tried: &[(String, String)]) -> Value {
    tried.iter().map(|(server, reason)| json!({ "server": server, "reason": reason })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: CliError, exit: u8, code: &str, line_has: &str) {
        assert_eq!(error.exit().code(), exit, "{error:?}");
        let line = error.line();
        assert!(line.contains(line_has), "{line:?} lacks {line_has:?}");
        assert!(!line.contains('\n'), "{line:?} is more than one line");
        let json = error.to_json();
        assert_eq!(json["error"]["code"], code);
        assert_eq!(json["error"]["exit_code"], exit);
        assert!(json["error"]["message"].is_string());
    }

    fn tried() -> Vec<(String, String)> {
        vec![("https://127.0.0.1:7401".to_owned(), "connection refused".to_owned())]
    }

    #[test]
    fn every_error_has_its_exit_code_and_one_line() {
        check(CliError::Usage("say --server".to_owned()), 2, "usage", "say --server");
        check(CliError::NotFound("no device".to_owned()), 5, "not_found", "no device");
        let missing = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let file = |source| CliError::File { action: "read", path: "a.pem".into(), source };
        check(file(missing), 2, "file", "cannot read a.pem: no such file");
        check(
            CliError::Key { path: "a.pem".into(), source: KeyError::Weak },
            8,
            "key_unusable",
            "small order",
        );
        check(
            CliError::Package {
                path: "p.json".into(),
                source: PackageError::Unsigned { field: "signature" },
            },
            8,
            "package_unsigned",
            "p.json is not to be believed: the package is not signed",
        );
        check(CliError::NotReachable { tried: tried() }, 3, "not_reachable", "7401 (connection");
        check(
            CliError::NoAnswer { tried: tried(), idempotency_key: Some("k-1".to_owned()) },
            3,
            "no_answer",
            "--idempotency-key k-1",
        );
        let refusal =
            || Box::new(Refusal::read(503, br#"{"code":"sealed","detail":"No keys."}"#, None));
        check(CliError::Refused(refusal()), 7, "sealed", "No keys");
        check(CliError::NotServing(refusal()), 10, "sealed", "no node can say");
        check(CliError::Failed("disk full".to_owned()), 1, "failed", "disk full");
    }
}

//! An answer that is too long to be held: read piece by piece, from the first server that gives it.
//!
//! Servers are asked in turn as for any request; once one has begun, there is no other: a stream
//! that is cut is a failure. The time that the user allows is that of one wait, not of the whole.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_DISPOSITION;
use reqwest::{Response, Url};

use super::{Attempt, Client, Request, reason, shown, sort};
use crate::answer::Refusal;
use crate::error::{CliError, Result};
use crate::local::Offered;
use crate::session::Session;

/// An answer being read.
pub(crate) struct Stream {
    pub(crate) offered: Offered,
    response: Response,
    server: String,
    wait: Duration,
}

impl Stream {
    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let cut = |reason: String| CliError::NoAnswer {
            tried: vec![(self.server.clone(), format!("the stream was cut: {reason}"))],
            idempotency_key: None,
        };
        match tokio::time::timeout(self.wait, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(cut(reason(&error))),
            Err(_) => Err(cut("nothing came in time".to_owned())),
        }
    }
}

impl Session<'_> {
    /// Begins to read what an operator asks for.
    pub(crate) async fn stream(&self, path: &[&str]) -> Result<Stream> {
        let request = Request::get(path).bearer(self.settings.operator_token()?);
        self.client.stream(&request).await
    }
}

enum Begun {
    Stream(Stream),
    Busy(Box<Refusal>),
    Unreachable(String),
}

impl Client {
    /// Begins to read the answer of the first server that gives one.
    pub(crate) async fn stream(&self, request: &Request<'_>) -> Result<Stream> {
        let mut tried = Vec::new();
        let mut busy = None;
        for server in &self.servers {
            match self.begin(server, request).await? {
                Begun::Stream(stream) => return Ok(stream),
                Begun::Busy(refusal) => busy = Some(refusal),
                Begun::Unreachable(reason) => tried.push((shown(server), reason)),
            }
        }
        match busy {
            Some(refusal) => Err(CliError::Refused(refusal)),
            None => Err(CliError::NotReachable { tried }),
        }
    }

    async fn begin(&self, server: &Url, request: &Request<'_>) -> Result<Begun> {
        let wait = Duration::from_millis(self.timeout_ms);
        let sending = self.prepare(server, request)?.send();
        let response = match tokio::time::timeout(wait, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Begun::Unreachable(reason(&error))),
            Err(_) => return Ok(Begun::Unreachable("no answer in time".to_owned())),
        };
        if response.status().is_success() {
            let name = response.headers().get(CONTENT_DISPOSITION);
            let file_name = name.and_then(|value| file_name(value.to_str().ok()?));
            let offered = Offered { file_name };
            return Ok(Begun::Stream(Stream { offered, response, server: shown(server), wait }));
        }
        let read = tokio::time::timeout(wait, super::read(Ok(response))).await;
        match read {
            Ok(Ok((status, headers, body))) => match sort(status, &headers, body, server)? {
                Attempt::Busy { refusal, .. } => Ok(Begun::Busy(refusal)),
                Attempt::Answer(_) => Ok(Begun::Unreachable("an answer without a stream".into())),
                Attempt::Unreachable { reason, .. } => Ok(Begun::Unreachable(reason)),
            },
            Ok(Err(error)) => Ok(Begun::Unreachable(reason(&error))),
            Err(_) => Ok(Begun::Unreachable("no answer in time".to_owned())),
        }
    }
}

/// The name in `attachment; filename="…"`, if it is a plain one: a server must not choose where a
/// file goes.
fn file_name(disposition: &str) -> Option<String> {
    let (_, rest) = disposition.split_once("filename=\"")?;
    let (name, _) = rest.split_once('"')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_safe = !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain);
    is_safe.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_a_file_and_no_place() {
        for (disposition, want) in [
            (
                "attachment; filename=\"leasehold-lh-1-2-3.snapshot\"",
                Some("leasehold-lh-1-2-3.snapshot"),
            ),
            ("attachment; filename=\"../etc/passwd\"", None),
            ("attachment; filename=\".bashrc\"", None),
            ("attachment; filename=\"\"", None),
            ("attachment", None),
        ] {
            assert_eq!(file_name(disposition).as_deref(), want, "{disposition}");
        }
    }
}

//! Access tokens: asked for once for many waiters, refreshed before they end.
//!
//! A token's life is counted from when it was asked for, on the monotonic clock. After four fifths
//! of it a new one is asked for; as long as none comes, the old one is used to its end. A token
//! that a server refuses is thrown away once, however many calls were refused with it.

use std::sync::Arc;
use std::time::Duration;

use protocol::oauth::Scope;
use protocol::oauth::token::TokenErrorBody;
use protocol::secret::{Disclosed, Secret};
use reqwest::Method;
use serde::Deserialize;

use crate::environment::{Deadline, Environment, nanoseconds};
use crate::error::{Error, Outcome, Unavailable};
use crate::transport::{Call, Reply, Transport};

/// The credentials of an application, and the token they were last good for.
pub(crate) struct AccessTokens {
    client_id: String,
    client_secret: Secret<String>,
    /// The lock is held while a token is asked for: whoever comes meanwhile waits for that one.
    current: tokio::sync::Mutex<Option<Arc<AccessToken>>>,
}

/// A token that was given.
pub(crate) struct AccessToken {
    text: Secret<String>,
    refresh_at_ns: u64,
    ends_at_ns: u64,
}

/// The answer of the token endpoint, as far as it is used; scopes may be newer than the program.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret<String>,
    expires_in: u64,
}

impl AccessTokens {
    /// Takes the credentials.
    pub(crate) fn new(client_id: String, client_secret: Secret<String>) -> Self {
        Self { client_id, client_secret, current: tokio::sync::Mutex::new(None) }
    }

    /// Who asks.
    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret by which it proves that.
    pub(crate) fn client_secret(&self) -> &Secret<String> {
        &self.client_secret
    }

    /// Sends a call with a token. When the token is refused, a new one is asked for, once.
    pub(crate) async fn send(
        &self,
        transport: &Transport,
        environment: &dyn Environment,
        mut call: Call,
        deadline: Deadline,
    ) -> Result<Reply, Error> {
        let token = self.token(transport, environment, deadline).await?;
        call.set_bearer(token.text.expose())?;
        let refused = transport.send(&call, deadline).await?;
        if refused.status != 401 {
            return Ok(refused);
        }
        self.spoil(&token).await;
        let token = self.token(transport, environment, deadline).await?;
        call.set_bearer(token.text.expose())?;
        let reply = transport.send(&call, deadline).await?;
        if reply.status == 401 {
            return Err(Error::Unauthorized { reason: refusal(&reply) });
        }
        // An attempt before the refusal may have been the one that counts.
        Ok(Reply { sent: reply.sent.earlier(refused.sent), ..reply })
    }

    /// A token that is still good, as far as anybody here knows.
    async fn token(
        &self,
        transport: &Transport,
        environment: &dyn Environment,
        deadline: Deadline,
    ) -> Result<Arc<AccessToken>, Error> {
        let mut current = tokio::select! {
            biased;
            current = self.current.lock() => current,
            () = environment.limit(deadline.left(environment)) => return Err(waited_in_vain()),
        };
        let now_ns = environment.monotonic_ns();
        let usable = current.take().filter(|token| now_ns < token.ends_at_ns);
        if let Some(token) = &usable
            && now_ns < token.refresh_at_ns
        {
            return Ok(Arc::clone(current.insert(Arc::clone(token))));
        }
        match (self.ask(transport, deadline).await, usable) {
            (Ok(token), _) => Ok(Arc::clone(current.insert(Arc::new(token)))),
            (Err(error), Some(token)) if error.is_transient() => {
                Ok(Arc::clone(current.insert(token)))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Throws the token away, unless that was done already.
    async fn spoil(&self, spoilt: &Arc<AccessToken>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|token| Arc::ptr_eq(token, spoilt)) {
            *current = None;
        }
    }

    async fn ask(&self, transport: &Transport, deadline: Deadline) -> Result<AccessToken, Error> {
        let text = |text: &str| Disclosed::new(text.to_owned());
        let call = Call::new(Method::POST, &["oauth", "token"]).form(vec![
            ("grant_type", text("client_credentials")),
            ("client_id", text(&self.client_id)),
            ("client_secret", text(self.client_secret.expose())),
            ("scope", Disclosed::new(SCOPES.map(Scope::name).join(" "))),
        ]);
        let reply = match transport.send(&call, deadline).await {
            // Giving a token changes nothing.
            Err(Error::Unavailable(trouble)) => {
                let outcome = Outcome::NotExecuted;
                return Err(Error::Unavailable(Unavailable { outcome, ..trouble }));
            }
            other => other?,
        };
        match reply.status {
            200 => {
                let TokenAnswer { access_token, expires_in } = reply.json()?;
                let life_ns = nanoseconds(Duration::from_secs(expires_in));
                Ok(AccessToken {
                    text: access_token,
                    refresh_at_ns: reply.sent.ns.saturating_add(life_ns / 5 * 4),
                    ends_at_ns: reply.sent.ns.saturating_add(life_ns),
                })
            }
            400 | 401 | 403 => Err(Error::Unauthorized { reason: refusal(&reply) }),
            _ => Err(reply.unexpected()),
        }
    }
}

/// Why the credentials were refused, in the server's words.
fn refusal(reply: &Reply) -> String {
    if let Ok(TokenErrorBody { error, error_description, .. }) = reply.json() {
        return format!("{error_description} ({error})");
    }
    if let Some(denied) = crate::denied::Denied::read(&reply.body, None) {
        return denied.to_string();
    }
    reply.unexpected().to_string()
}

fn waited_in_vain() -> Error {
    Error::Unavailable(Unavailable {
        outcome: Outcome::NotExecuted,
        retry_after: None,
        attempts: Vec::new(),
    })
}

/// What a client of this kind does; everything else is refused to its tokens.
const SCOPES: [Scope; 2] = [Scope::Checkout, Scope::Return];

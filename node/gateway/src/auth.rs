//! Who asks: access tokens of applications and tokens of operators.
//!
//! A credential is looked up in the ledger as this node has applied it. Where that says no, the
//! node may simply be behind, so it catches up with the leader once and looks again before it
//! answers 401. Commands carry the credential's generation and `apply` checks it again.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use lease::Ledger;
use lease::command::Role;
use lease::operate::{AppPolicy, Peppered, Repepper};
use protocol::join_token::JoinToken;
use protocol::oauth::token::BearerError;

use crate::call::{AppPrincipal, OperatorPrincipal, Principal};
use crate::credentials::{is_api_key, is_operator_token, join_token_macs, operator_token_macs};
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::routes::Credential;
use crate::server::ClientCertificate;
use crate::shared::Shared;
use crate::tokens::{self, TokenHash, Verified};

/// Lets a request in, or says why not.
pub(crate) async fn authenticate(
    shared: &Shared,
    keys: &Keys,
    credential: Credential,
    headers: &HeaderMap,
    certificate: Option<ClientCertificate>,
    deadline: Deadline,
) -> Result<Principal, Failure> {
    match credential {
        Credential::Nobody | Credential::Client | Credential::Face => Ok(Principal::Anyone),
        Credential::AccessToken(scope) => {
            let app = access_token(shared, bearer(headers)?, certificate, deadline).await?;
            if app.scopes.allows(scope) {
                Ok(Principal::App(app))
            } else {
                Err(Failure::insufficient_scope(scope))
            }
        }
        Credential::Operator(needed) => {
            let token = bearer(headers)?;
            if !is_operator_token(token) {
                return Err(Failure::unauthenticated(BearerError::InvalidToken));
            }
            operator(shared, keys, token, needed, deadline).await
        }
        Credential::JoinToken => joiner(shared, keys, bearer(headers)?, deadline).await,
        Credential::ApiKey(needed) => {
            let key = api_key(headers)?;
            if !is_operator_token(key) && !is_api_key(key) {
                return Err(Failure::unauthenticated(BearerError::InvalidToken));
            }
            operator(shared, keys, key, needed, deadline).await
        }
    }
}

/// Lets an operator in whose role reaches.
async fn operator(
    shared: &Shared,
    keys: &Keys,
    token: &str,
    needed: Role,
    deadline: Deadline,
) -> Result<Principal, Failure> {
    let operator = operator_token(shared, keys, token, deadline).await?;
    if operator.role >= needed {
        Ok(Principal::Operator(operator))
    } else {
        Err(Failure::role_too_narrow(role_name(needed)))
    }
}

/// Lets a new node in that was invited; whether its token is still good is decided when it is used.
async fn joiner(
    shared: &Shared,
    keys: &Keys,
    text: &str,
    deadline: Deadline,
) -> Result<Principal, Failure> {
    let invalid = || Failure::unauthenticated(BearerError::InvalidToken);
    let token = JoinToken::decode(text).map_err(|_| invalid())?;
    let look_up = |keys: &Keys| {
        let ledger = shared.context.cluster.ledger();
        let ticket = ledger.ticket(token.node)?;
        let macs = join_token_macs(&keys.operator_pepper, token.secret.expose());
        let token_mac = macs.into_iter().find(|mac| *mac == ticket.token_mac)?;
        Some(Principal::Joiner { node: token.node, token_mac })
    };
    if let Some(principal) = look_up(keys) {
        return Ok(principal);
    }
    shared.catch_up(deadline).await?;
    // It may have been invited under a pepper that came a moment ago.
    look_up(&*shared.current_keys(deadline).await?).ok_or_else(invalid)
}

/// Whether what let a request in is still good in a ledger that has caught up since.
pub(crate) fn is_current(ledger: &Ledger, principal: &Principal, now_civil_ms: i64) -> bool {
    match principal {
        Principal::Anyone | Principal::Face(_) | Principal::Joiner { .. } => true,
        Principal::App(principal) => {
            ledger.app(principal.app).is_some_and(|app| app.generation == principal.generation)
        }
        Principal::Operator(principal) => ledger
            .operator(principal.operator)
            .is_some_and(|operator| operator.expires_at_ms.is_none_or(|end| now_civil_ms < end)),
    }
}

/// The role's name in answers and in the OpenAPI document.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Auditor => "auditor",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1); other places are not looked at.
fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Failure::unauthenticated(BearerError::Missing));
    };
    let text = value.to_str().map_err(|_| Failure::unauthenticated(BearerError::InvalidToken))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => Ok(token.trim()),
        _ => Err(Failure::unauthenticated(BearerError::Missing)),
    }
}

/// The one `X-API-Key`.
fn api_key(headers: &HeaderMap) -> Result<&str, Failure> {
    let mut values = headers.get_all(API_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Failure::unauthenticated(BearerError::Missing));
    };
    let text = value.to_str().map_err(|_| Failure::unauthenticated(BearerError::InvalidToken))?;
    Ok(text.trim())
}

async fn access_token(
    shared: &Shared,
    token: &str,
    certificate: Option<ClientCertificate>,
    deadline: Deadline,
) -> Result<AppPrincipal, Failure> {
    let hash = tokens::hash_of(token);
    let mut caught_up = false;
    loop {
        match look_up_app(shared, token, &hash, certificate) {
            Ok(app) => return Ok(app),
            Err(Miss::MayBeBehind) if !caught_up => {
                shared.catch_up(deadline).await?;
                caught_up = true;
            }
            Err(_) => {
                shared.tokens.remove(&hash);
                return Err(Failure::unauthenticated(BearerError::InvalidToken));
            }
        }
    }
}

enum Miss {
    /// A ledger that is further on may know better.
    MayBeBehind,
    /// No ledger will.
    Final,
}

fn look_up_app(
    shared: &Shared,
    token: &str,
    hash: &TokenHash,
    certificate: Option<ClientCertificate>,
) -> Result<AppPrincipal, Miss> {
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let now_s = tokens::civil_seconds(now_ms);
    let cached = shared.tokens.get(hash, now_s);
    let ledger = shared.context.cluster.ledger();
    let verified = match cached {
        Some(verified) => verified,
        None => {
            let verified =
                tokens::verify(&ledger, token, now_ms).map_err(|refusal| match refusal {
                    tokens::TokenRefusal::UnknownKey => Miss::MayBeBehind,
                    tokens::TokenRefusal::Invalid => Miss::Final,
                })?;
            let verified = Arc::new(verified);
            shared.tokens.put(*hash, Arc::clone(&verified), now_s);
            verified
        }
    };
    if !tokens::still_verifies(&ledger, &verified.kid, now_ms) {
        return Err(Miss::Final);
    }
    // RFC 8705, section 3: whoever shows the token shows the certificate that it is bound to.
    let shown = certificate.map(|certificate| certificate.sha256);
    if verified.certificate.is_some() && verified.certificate != shown {
        return Err(Miss::Final);
    }
    principal_of(&ledger, &verified)
}

fn principal_of(ledger: &Ledger, verified: &Verified) -> Result<AppPrincipal, Miss> {
    if ledger.cluster().is_none_or(|cluster| cluster.epoch != verified.epoch) {
        return Err(Miss::Final);
    }
    let app = ledger.app(verified.app).ok_or(Miss::MayBeBehind)?;
    if app.generation < verified.generation {
        return Err(Miss::MayBeBehind);
    }
    if app.generation > verified.generation {
        return Err(Miss::Final);
    }
    if let Some(policy) = ledger.app_policy(verified.app).filter(|it| it.certificate_bound)
        && !verified.certificate.is_some_and(|bound| may_show(policy, &bound))
    {
        return Err(Miss::Final);
    }
    Ok(AppPrincipal {
        app: verified.app,
        generation: verified.generation,
        product: app.product.clone(),
        scopes: verified.scopes,
    })
}

/// Whether an app may show a certificate: one of its list, or any where it has none.
pub(crate) fn may_show(policy: &AppPolicy, certificate: &[u8; 32]) -> bool {
    policy.certificates.is_empty() || policy.certificates.contains(certificate)
}

async fn operator_token(
    shared: &Shared,
    keys: &Keys,
    token: &str,
    deadline: Deadline,
) -> Result<OperatorPrincipal, Failure> {
    let invalid = || Failure::unauthenticated(BearerError::InvalidToken);
    let find = |keys: &Keys| {
        let macs = operator_token_macs(&keys.operator_pepper, token);
        let (operator, mac) =
            macs.iter().find_map(|mac| Some((look_up_operator(shared, mac)?, *mac)))?;
        Some((operator, mac, *macs.first()?))
    };
    let (operator, mac, newest) = match find(keys) {
        Some(found) => found,
        None => {
            shared.catch_up(deadline).await?;
            // Its stored form may have moved to a pepper that came a moment ago.
            find(&*shared.current_keys(deadline).await?).ok_or_else(invalid)?
        }
    };
    if mac != newest {
        let row = Peppered::Operator(operator.operator);
        shared.repepper(Repepper { row, before: mac, after: newest }, deadline).await;
    }
    Ok(operator)
}

/// Looks a token up by its MAC. Whoever can make a MAC that is in the ledger holds the token: there
/// is nothing to learn from how long the look-up takes.
fn look_up_operator(shared: &Shared, mac: &[u8; 32]) -> Option<OperatorPrincipal> {
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let ledger = shared.context.cluster.ledger();
    let operator = ledger.operator_by_mac(mac)?;
    let alive = operator.expires_at_ms.is_none_or(|end| now_ms < end);
    alive.then_some(OperatorPrincipal { operator: operator.operator, role: operator.role })
}

/// Where the device protocol's admin tools send their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;

    #[test]
    fn only_one_bearer_header_is_a_credential() {
        let table: [(&[&str], Option<&str>); 8] = [
            (&["Bearer abc"], Some("abc")),
            (&["bearer abc"], Some("abc")),
            (&["Bearer  abc "], Some("abc")),
            (&[], None),
            (&["Bearer"], None),
            (&["Basic abc"], None),
            (&["Bearer a", "Bearer b"], None),
            (&["abc"], None),
        ];
        for (given, want) in table {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            match (bearer(&headers), want) {
                (Ok(token), Some(want)) => assert_eq!(token, want),
                (Err(failure), None) => assert_eq!(failure.status(), StatusCode::UNAUTHORIZED),
                (got, _) => panic!("{given:?}: {:?}", got.is_ok()),
            }
        }
    }
}

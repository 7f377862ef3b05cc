//! The token endpoint and its two documents.
//!
//! A client is looked up linearizably: a secret that was rotated anywhere does not get a token
//! here. The secret is compared as a MAC in constant time, and an unknown client costs the same
//! comparison.

use lease::App;
use lease::command::SigningAlgorithm;
use lease::operate::{AppPolicy, Peppered, Repepper};
use protocol::keys::PublicKey;
use protocol::oauth::claims::{AccessClaims, Confirmation, Jwk, Jwks, ServerMetadata};
use protocol::oauth::token::{TokenError, TokenRequest, TokenResponse};
use protocol::oauth::{ACCESS_TOKEN_SECONDS, Scopes};

use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, StatusCode};

use crate::auth;
use crate::call::Call;
use crate::credentials::{client_secret_mac, is_client_secret};
use crate::failure::Failure;
use crate::reply::Reply;
use crate::server::ClientCertificate;
use crate::shared::Shared;
use crate::tokens::{app_id_text, civil_seconds, still_verifies};

/// `POST /oauth/token`
pub(crate) async fn issue_token(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let authorization = match call.parts.headers.get(AUTHORIZATION) {
        Some(value) => Some(
            value.to_str().map_err(|_| TokenError::InvalidRequest("the header is not ASCII"))?,
        ),
        None => None,
    };
    let request = TokenRequest::from_form(&call.body, authorization)?;
    shared.serving_keys()?;
    shared.catch_up(call.deadline).await?;
    // Its stored form may have moved to a pepper that came a moment ago.
    let keys = shared.current_keys(call.deadline).await?;
    let (peppers, secret) = (&keys.client_secret_pepper, request.client_secret.expose());
    let (claims, algorithm, row) = {
        let ledger = shared.context.cluster.ledger();
        let app = ledger.app_by_client_id(&request.client_id);
        let stored = app.map_or([0; 32], |app| app.secret_mac);
        let is_right = is_client_secret(peppers, &stored, secret);
        let app = app.filter(|_| is_right).ok_or(TokenError::InvalidClient)?;
        // Every app is registered for every scope.
        let scopes = request.scopes.unwrap_or(Scopes::ALL);
        let policy = ledger.app_policy(app.app);
        let algorithm = policy.map_or(SigningAlgorithm::Rs256, |policy| policy.token_algorithm);
        let mut claims = claims(shared, &ledger, app, algorithm, scopes)?;
        if let Some(policy) = policy.filter(|policy| policy.certificate_bound) {
            claims.cnf = Some(confirmation(call, policy)?);
        }
        (claims, algorithm, (app.app, stored))
    };
    if peppers.is_old(&row.1) {
        let after = client_secret_mac(peppers, secret);
        let change = Repepper { row: Peppered::App(row.0), before: row.1, after };
        shared.repepper(change, call.deadline).await;
    }
    let scope = claims.scope;
    let access_token = sign(shared, call, algorithm, claims).await?;
    let response = TokenResponse {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: ACCESS_TOKEN_SECONDS,
        scope,
    };
    Ok(Reply::ok(&response))
}

/// `GET /.well-known/jwks.json`
pub(crate) async fn key_set(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    // The keys of half a log would not verify what other nodes sign.
    shared.serving_keys()?;
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let ledger = shared.context.cluster.ledger();
    // Keys came through the gate on their way in; one that does not any more is left out.
    let keys = ledger
        .signing_keys()
        .filter(|key| still_verifies(&ledger, &key.kid, now_ms))
        .filter_map(|key| PublicKey::from_spki_der(&key.public_der).ok())
        .map(|key| Jwk::of(&key))
        .collect::<Vec<_>>();
    let has_keys = !keys.is_empty();
    let reply = Reply::ok(&Jwks { keys });
    // An empty set is one that is about to change.
    if !has_keys {
        return Ok(reply);
    }
    Ok(reply.header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60")))
}

/// `GET /.well-known/oauth-authorization-server`
pub(crate) async fn server_metadata(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let base_url = &shared.config.public_url;
    let issuer = {
        let ledger = shared.context.cluster.ledger();
        issuer(shared, &ledger)
    };
    Ok(Reply::json(StatusCode::OK, &ServerMetadata::at(base_url, &issuer)))
}

/// Whoever verifies a token compares its issuer with the member row of the node whose key it is;
/// so the issuer is read from there, too.
fn issuer(shared: &Shared, ledger: &lease::Ledger) -> String {
    ledger
        .member(shared.config.node)
        .map_or_else(|| shared.config.public_url.clone(), |member| member.gateway_url.to_string())
}

fn claims(
    shared: &Shared,
    ledger: &lease::Ledger,
    app: &App,
    algorithm: SigningAlgorithm,
    scope: Scopes,
) -> Result<AccessClaims, Failure> {
    let cluster = ledger.cluster().ok_or_else(|| Failure::internal("no cluster, yet an app"))?;
    if ledger.signing_key(&shared.context.signer.kid_of(algorithm)).is_none() {
        return Err(TokenError::TemporarilyUnavailable.into());
    }
    let iat = civil_seconds(shared.context.cluster.displayed_civil_ms());
    let mut jti = [0; 16];
    shared.context.entropy.fill(&mut jti);
    Ok(AccessClaims {
        iss: issuer(shared, ledger),
        sub: app.client_id.to_string(),
        aud: cluster.cluster_id.to_string(),
        iat,
        exp: iat.saturating_add(ACCESS_TOKEN_SECONDS),
        jti: format!("{:032x}", u128::from_le_bytes(jti)),
        client_id: app.client_id.to_string(),
        scope,
        app_id: app_id_text(app.app),
        secret_generation: app.generation,
        cluster_id: cluster.cluster_id.to_string(),
        epoch: cluster.epoch,
        cnf: None,
    })
}

/// What the token of an app that must show a certificate is bound to: the one it showed.
fn confirmation(call: &Call, policy: &AppPolicy) -> Result<Confirmation, Failure> {
    let shown = call.parts.extensions.get::<ClientCertificate>();
    let shown = shown
        .ok_or(TokenError::InvalidRequest("this application must show its client certificate"))?;
    if !auth::may_show(policy, &shown.sha256) {
        return Err(TokenError::InvalidClient.into());
    }
    Ok(Confirmation::of_certificate(&shown.sha256))
}

/// Signs on a thread that nothing else waits for, few at a time.
async fn sign(
    shared: &Shared,
    call: &Call,
    algorithm: SigningAlgorithm,
    claims: AccessClaims,
) -> Result<protocol::secret::Disclosed, Failure> {
    let left = shared.left(call.deadline);
    let Ok(Ok(_permit)) = tokio::time::timeout(left, shared.signing.acquire()).await else {
        return Err(TokenError::TemporarilyUnavailable.into());
    };
    let signer = std::sync::Arc::clone(&shared.context.signer);
    match shared.context.cluster.workers().run(move || signer.sign(algorithm, &claims)).await {
        Ok(Ok(token)) => Ok(token),
        Ok(Err(_)) | Err(_) => Err(Failure::internal("a token could not be signed")),
    }
}

//! Applications: register, list, rotate the secret, remove.
//!
//! A secret is shown once, and only when the one in force is the one this very call carried: a
//! repeat of the call on another node draws another secret, finds that the first one is in force,
//! and says so instead of showing one that does not work.

use http::StatusCode;
use lease::command::{Command, RegisterApp, RotateAppSecret};
use lease::ids::AppId;
use lease::outcome::{AppOutcome, Outcome, RefusalCode};
use protocol::cloud::admin::{
    AppList, RegisterAppRequest, RegisterAppResponse, RotateSecretResponse, TokenAlgorithm,
};
use protocol::cloud::problem::Problem;
use protocol::oauth::Scopes;
use protocol::secret::Disclosed;

use super::paged;
use crate::call::Call;
use crate::credentials::{client_secret_mac, new_client_secret};
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::{MAX_DRAWS, Shared};
use crate::tokens::{app_id_text, parse_app_id};
use crate::view;

/// `GET /admin/apps`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let page = paged::asked(call)?;
    let ledger = shared.read(call).await?;
    let (apps, next) = paged::by_name(ledger.apps(), &page, |app| app_id_text(app.app));
    Ok(Reply::ok(&AppList { apps: apps.into_iter().map(view::app).collect(), next }))
}

/// `POST /admin/apps`
pub(crate) async fn register(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: RegisterAppRequest = call.json()?;
    if request.scopes != Scopes::ALL {
        return Err(Failure::field("scopes", "every app has every scope; leave it out"));
    }
    if request.token_algorithm != TokenAlgorithm::Rs256 {
        return Err(Failure::field("token_algorithm", "access tokens are signed RS256"));
    }
    let request_id = call.request_id(&request);
    let secret = new_client_secret(&*shared.context.entropy);
    let secret_mac = client_secret_mac(&keys.client_secret_pepper, secret.expose());
    let mut draws = 0;
    let outcome = loop {
        let mut random = [0; 16];
        shared.context.entropy.fill(&mut random);
        let random = u128::from_le_bytes(random);
        let command = Command::RegisterApp(RegisterApp {
            app: AppId(low_half(random)),
            client_id: client_id(&request.product_id, low_half(random >> 64)).into(),
            name: request.name.as_str().into(),
            product: request.product_id.as_str().into(),
            vendor: request.vendor_id.as_str().into(),
            secret_mac,
        });
        let outcome = shared.submit(call, Some(request_id), command).await?;
        let is_taken = matches!(
            &outcome,
            Outcome::Refused(refusal) if refusal.code == RefusalCode::AppIdTaken
        );
        draws += 1;
        if !is_taken || draws == MAX_DRAWS {
            break outcome;
        }
    };
    let app = app_outcome(outcome)?;
    let response = RegisterAppResponse {
        app_id: app_id_text(app.app),
        client_id: app.client_id.to_string(),
        client_secret: shown_once(&app, secret)?,
        license_server_url: shared.config.public_url.clone(),
        token_endpoint: "/oauth/token".to_owned(),
    };
    Ok(Reply::json(StatusCode::CREATED, &response))
}

/// `POST /admin/apps/{app_id}/rotate-secret`
pub(crate) async fn rotate_secret(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let app = app_in_path(call)?;
    let secret = new_client_secret(&*shared.context.entropy);
    let secret_mac = client_secret_mac(&keys.client_secret_pepper, secret.expose());
    let request_id = call.request_id(&());
    let command = Command::RotateAppSecret(RotateAppSecret { app, secret_mac });
    let app = app_outcome(shared.submit(call, Some(request_id), command).await?)?;
    Ok(Reply::ok(&RotateSecretResponse {
        app_id: app_id_text(app.app),
        client_id: app.client_id.to_string(),
        client_secret: shown_once(&app, secret)?,
        secret_generation: app.generation,
    }))
}

/// `DELETE /admin/apps/{app_id}`
pub(crate) async fn remove(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let app = app_in_path(call)?;
    let request_id = call.request_id(&());
    match shared.submit(call, Some(request_id), Command::RemoveApp { app }).await? {
        Outcome::Done | Outcome::Unchanged => Ok(Reply::no_content()),
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a removal had the outcome of another command")),
    }
}

fn app_in_path(call: &Call) -> Result<AppId, Failure> {
    parse_app_id(call.subject()?).ok_or_else(|| {
        Failure::problem(StatusCode::NOT_FOUND, "unknown_app", "No such application.")
    })
}

fn app_outcome(outcome: Outcome) -> Result<AppOutcome, Failure> {
    match outcome {
        Outcome::App(app) => Ok(app),
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("an app's call had the outcome of another command")),
    }
}

/// The secret, if it is the one in force.
fn shown_once(app: &AppOutcome, secret: Disclosed) -> Result<Disclosed, Failure> {
    if app.secret_matches {
        return Ok(secret);
    }
    let problem = Problem::new(409, "secret_shown_before", "This was done before.")
        .detail("an earlier request with this key set the secret and showed it; rotate it")
        .with("app_id", app_id_text(app.app));
    Err(problem.into())
}

/// E.g. `davinci-configurator-se-5f0c…`: the product so that people recognise it, cut so that the
/// whole is an identifier; the rest random.
fn client_id(product: &str, random: u64) -> String {
    let product: String = product.chars().take(64).collect();
    format!("{product}-{random:016x}")
}

fn low_half(random: u128) -> u64 {
    (random & u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use protocol::wire::is_id;

    use super::*;

    #[test]
    fn client_ids_are_identifiers_whatever_the_product_is_called() {
        for product in ["p", "davinci-configurator-se", &"x".repeat(128)] {
            let id = client_id(product, u64::MAX);
            assert!(is_id(&id), "{id}");
        }
    }

    #[test]
    fn a_secret_that_is_not_in_force_is_not_shown() {
        let app = |secret_matches| AppOutcome {
            app: AppId(1),
            client_id: "c".into(),
            generation: 1,
            secret_matches,
        };
        assert!(shown_once(&app(true), Disclosed::new("s".to_owned())).is_ok());
        let refused = shown_once(&app(false), Disclosed::new("s".to_owned()));
        assert_eq!(refused.err().map(|failure| failure.status().as_u16()), Some(409));
    }
}

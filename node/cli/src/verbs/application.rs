//! `checkout`, `heartbeat`, `return` and `token`: what an application does, by hand or in a script.

use clap::Args;
use protocol::cloud::lease::{
    CheckoutMetadata, CheckoutRequest, CheckoutResponse, HeartbeatRequest, HeartbeatResponse,
    ReturnRequest, ReturnResponse, UsageMetadata,
};
use protocol::oauth::Scopes;
use protocol::wire::{MAX_TEXT_CHARS, is_text};
use reqwest::Method;
use serde_json::json;

use super::offline_token::OfflineTokenVerb;
use super::{document, require_id, words};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::options::{AppOptions, MutationOptions};
use crate::report::{Part, Report, duration};
use crate::session::Session;
use crate::settings::AppCredentials;
use crate::world;

/// Options of `checkout`.
#[derive(Debug, Clone, Args)]
pub struct CheckoutArgs {
    /// The product; that of the context file's [app] when left out
    #[arg(long, visible_alias = "product", value_name = "ID")]
    product_id: Option<String>,
    /// Who will use it; the logged-in user when left out
    #[arg(long)]
    user: Option<String>,
    /// Where it will run; this machine when left out
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// The program's version, compared with what the package covers
    #[arg(long = "product-version", value_name = "VERSION")]
    product_version: Option<String>,
    /// The program's own name for the session
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
    /// A feature that must be included; repeat it to name more
    #[arg(long = "feature", value_name = "ID")]
    features: Vec<String>,
    /// How many seats
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    quantity: u32,
    /// The pool to take them from
    #[arg(long, value_name = "ID")]
    pool: Option<String>,
    #[command(flatten)]
    app: AppOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `heartbeat`.
#[derive(Debug, Clone, Args)]
pub struct HeartbeatArgs {
    /// The lease, from `checkout`
    lease_id: String,
    /// The token from `checkout` or the last `heartbeat`; each is for one use
    #[arg(long, value_name = "TOKEN")]
    renewal_token: String,
    #[command(flatten)]
    app: AppOptions,
}

/// Options of `return`.
#[derive(Debug, Clone, Args)]
pub struct ReturnArgs {
    /// The lease, from `checkout`
    lease_id: String,
    /// How long the session lasted, in seconds
    #[arg(long, value_name = "SECONDS")]
    session_duration_seconds: Option<u64>,
    /// A feature that was used; repeat it to name more
    #[arg(long = "feature-used", value_name = "ID")]
    features_used: Vec<String>,
    /// How many files were processed
    #[arg(long, value_name = "COUNT")]
    files_processed: Option<u64>,
    #[command(flatten)]
    app: AppOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `token`, which without a verb gives an access token.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<OfflineTokenVerb>,
    /// What the token is for; repeat it to name more. Everything allowed when left out
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    #[command(flatten)]
    app: AppOptions,
}

pub(crate) async fn checkout(args: CheckoutArgs, session: &Session<'_>) -> Result<Report> {
    let body = checkout_body(&args, session.settings.default_product(), session.var)?;
    let token = session.app_token(&args.app).await?;
    let key = args.mutation.idempotency_key.as_deref();
    let request = Request::change(Method::POST, &["api", "v1", "licenses", "checkout"], key)?
        .bearer(token.expose())
        .json(&body)?;
    let seat: CheckoutResponse = session.client.send(&request).await?.json()?;
    let mut facts = vec![
        ("lease", seat.lease_id.clone()),
        ("type", words(&seat.lease_type)),
        ("package", seat.package_id.clone()),
        ("seats", seat.quantity.to_string()),
    ];
    if let Some(cost) = &seat.cost {
        let currency = seat.currency.as_deref().unwrap_or_default();
        facts.push(("cost", format!("{} {currency}", cost.0).trim_end().to_owned()));
    }
    facts.push(("ends", format!("{} (in {})", seat.expires_at, duration(seat.expires_in_ms))));
    facts.push(("renew", format!("every {}", duration(seat.heartbeat_interval_ms))));
    facts.push(("renewal token", seat.renewal_token.clone()));
    let ids = vec![seat.lease_id.clone()];
    Ok(Report::done(document(&seat)?, vec![Part::Facts(facts)], ids))
}

/// The request, checked as far as it can be without a server.
fn checkout_body(
    args: &CheckoutArgs,
    default_product: Option<&str>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<CheckoutRequest> {
    let product_id = args.product_id.as_deref().or(default_product).ok_or_else(|| {
        CliError::Usage(
            "which product? give --product-id, or product_id in [app] of the \
                         context file"
                .to_owned(),
        )
    })?;
    require_id("product id", product_id)?;
    for feature in &args.features {
        require_id("feature", feature)?;
    }
    if let Some(pool) = &args.pool {
        require_id("pool", pool)?;
    }
    let user = args.user.clone().unwrap_or_else(|| world::user(var));
    let hostname = args.hostname.clone().unwrap_or_else(world::hostname);
    let optional = [
        ("--product-version", args.product_version.as_ref()),
        ("--session-id", args.session_id.as_ref()),
    ];
    let texts = [("--user", Some(&user)), ("--hostname", Some(&hostname))].into_iter();
    for (name, text) in texts.chain(optional) {
        if text.is_some_and(|text| !is_text(text, MAX_TEXT_CHARS)) {
            return Err(CliError::Usage(format!(
                "{name} wants 1 to {MAX_TEXT_CHARS} characters without line ends"
            )));
        }
    }
    Ok(CheckoutRequest {
        product_id: product_id.to_owned(),
        user,
        hostname,
        metadata: CheckoutMetadata {
            version: args.product_version.clone(),
            session_id: args.session_id.clone(),
        },
        features: args.features.clone(),
        quantity: args.quantity,
        pool: args.pool.clone(),
    })
}

pub(crate) async fn heartbeat(args: HeartbeatArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    let token = session.app_token(&args.app).await?;
    let body = HeartbeatRequest { renewal_token: args.renewal_token, still_active: true };
    // The renewal token makes a repeat harmless; the key lets the client say so.
    let path = ["api", "v1", "licenses", lease_id, "heartbeat"];
    let request = Request::change(Method::PUT, &path, None)?.bearer(token.expose()).json(&body)?;
    let renewed: HeartbeatResponse = session.client.send(&request).await?.json()?;
    let facts = vec![
        ("lease", lease_id.to_owned()),
        ("ends", format!("{} (in {})", renewed.expires_at, duration(renewed.expires_in_ms))),
        ("renew", format!("every {}", duration(renewed.heartbeat_interval_ms))),
        ("renewal token", renewed.renewal_token.clone()),
    ];
    let ids = vec![renewed.renewal_token.clone()];
    let mut parts = vec![Part::Facts(facts)];
    if let Some(offline_token) = &renewed.offline_token {
        parts.push(Part::Line("offline token".to_owned()));
        parts.push(Part::Line(offline_token.clone()));
    }
    Ok(Report::done(document(&renewed)?, parts, ids))
}

pub(crate) async fn give_back(args: ReturnArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?.to_owned();
    for feature in &args.features_used {
        require_id("feature", feature)?;
    }
    let token = session.app_token(&args.app).await?;
    let body = ReturnRequest {
        lease_id: lease_id.clone(),
        usage_metadata: UsageMetadata {
            session_duration_seconds: args.session_duration_seconds,
            features_used: args.features_used,
            files_processed: args.files_processed,
        },
    };
    let path = ["api", "v1", "licenses", &lease_id, "return"];
    let request = Request::change(Method::POST, &path, args.mutation.idempotency_key.as_deref())?
        .bearer(token.expose())
        .json(&body)?;
    let returned: ReturnResponse = session.client.send(&request).await?.json()?;
    let facts = vec![
        ("lease", lease_id.clone()),
        ("out for", returned.lease_duration.clone()),
        ("cost", returned.total_cost.0.to_string()),
    ];
    Ok(Report::done(document(&returned)?, vec![Part::Facts(facts)], vec![lease_id]))
}

pub(crate) async fn token(args: TokenArgs, session: &Session<'_>) -> Result<Report> {
    let scope = match args.scope.as_slice() {
        [] => None,
        scopes => Some(
            Scopes::parse(&scopes.join(" "))
                .map_err(|error| CliError::Usage(error.to_string()))?
                .to_string(),
        ),
    };
    match session.settings.app_credentials(&args.app, session.var)? {
        AppCredentials::AccessToken(_) => Err(CliError::Usage(
            "a token gives no other token: give --client-id and --client-secret-file".to_owned(),
        )),
        AppCredentials::Client { client_id, client_secret } => {
            let token = session.access_token(client_id, client_secret, scope).await?;
            let text = token.access_token.expose().to_owned();
            let json = json!({
                "access_token": text,
                "token_type": token.token_type,
                "expires_in": token.expires_in,
                "scope": token.scope,
            });
            Ok(Report::done(json, vec![Part::Line(text.clone())], vec![text]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(product_id: Option<&str>) -> CheckoutArgs {
        CheckoutArgs {
            product_id: product_id.map(str::to_owned),
            user: None,
            hostname: None,
            product_version: Some("8.2.1".to_owned()),
            session_id: None,
            features: Vec::new(),
            quantity: 1,
            pool: None,
            app: AppOptions::default(),
            mutation: MutationOptions::default(),
        }
    }

    fn alice(name: &str) -> Option<String> {
        (name == "LOGNAME").then(|| "alice".to_owned())
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_context_file_and_the_machine() {
        let body = checkout_body(&args(None), Some("p-1"), &alice).ok().unwrap();
        assert_eq!((body.product_id.as_str(), body.user.as_str()), ("p-1", "alice"));
        assert!(!body.hostname.is_empty());
        let body = checkout_body(&args(Some("p-1")), None, &|_| None).ok().unwrap();
        assert!(body.user.starts_with("uid-"), "{}", body.user);
        let body = checkout_body(&args(Some("p-2")), Some("p-1"), &alice).ok().unwrap();
        assert_eq!(body.product_id, "p-2");
        assert_eq!(body.metadata.version.as_deref(), Some("8.2.1"));
    }

    fn check_refused(args: CheckoutArgs, message_has: &str) {
        let error = checkout_body(&args, None, &|_| None).err().unwrap();
        assert_eq!(error.exit().code(), 2);
        assert!(error.line().contains(message_has), "{error}");
    }

    #[test]
    fn what_cannot_be_right_is_refused_before_anything_is_sent() {
        check_refused(args(None), "which product");
        check_refused(args(Some("a b")), "no product id");
        let user = |user: &str| CheckoutArgs { user: Some(user.to_owned()), ..args(Some("p-1")) };
        check_refused(user("a\nb"), "--user wants");
        check_refused(user(&"x".repeat(257)), "--user wants");
        let pool = CheckoutArgs { pool: Some("../x".to_owned()), ..user("a") };
        check_refused(pool, "no pool");
        let feature = CheckoutArgs { features: vec![String::new()], ..user("a") };
        check_refused(feature, "no feature");
    }
}

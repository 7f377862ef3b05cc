//! `app register | list | rotate-secret | remove`, and the document's `register-app`.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    AppList, RegisterAppRequest, RegisterAppResponse, RotateSecretResponse, TokenAlgorithm,
};
use protocol::oauth::Scopes;
use protocol::wire::MAX_TEXT_CHARS;
use reqwest::Method;
use serde_json::json;

use super::app_policy::{self, SetAppArgs, ShowAppArgs};
use super::{document, pages, require_id};
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// Applications
#[derive(Debug, Clone, Subcommand)]
pub enum AppVerb {
    /// Register an application and show its credentials, once
    #[command(after_help = "\
Example:
  leasehold app register --name \"DaVinci Configurator SE\" \\
      --product-id davinci-configurator-se --vendor vector-de")]
    Register(RegisterArgs),
    /// List the applications
    #[command(after_help = "\
Example:
  leasehold app list")]
    List,
    /// Give an application a new secret; its old secret and tokens end at once
    #[command(after_help = "\
Example:
  leasehold app rotate-secret app-3c9d5e7f01a2b4c6")]
    RotateSecret(AppArgs),
    /// Remove an application; its secret and tokens end at once
    #[command(after_help = "\
Example:
  leasehold app remove app-3c9d5e7f01a2b4c6")]
    Remove(AppArgs),
    /// Show how an application is let in, beside its secret
    #[command(after_help = "\
Example:
  leasehold app show app-3c9d5e7f01a2b4c6")]
    Show(ShowAppArgs),
    /// Change how an application is let in: certificates, rates, what signs its tokens
    #[command(after_help = "\
Examples:
  leasehold app set app-00000000000000a1 --mtls on --certificate client.pem
  leasehold app set app-00000000000000a1 --rate 50 --burst 100
  leasehold app set app-00000000000000a1 --token-algorithm EdDSA")]
    Set(SetAppArgs),
}

/// Options of `app register`.
#[derive(Debug, Clone, Args)]
pub struct RegisterArgs {
    /// The application's name, for people
    #[arg(long)]
    name: String,
    /// The product that it checks out
    #[arg(long, visible_alias = "product", value_name = "ID")]
    product_id: String,
    /// Who makes the product
    #[arg(long, visible_alias = "vendor-id", value_name = "ID")]
    vendor: String,
    /// Make credentials; they are made in any case, the flag is the document's
    #[arg(long)]
    generate_credentials: bool,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Which application.
#[derive(Debug, Clone, Args)]
pub struct AppArgs {
    /// The application, as `app list` shows it
    app_id: String,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: AppVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        AppVerb::Register(args) => register(args, session).await,
        AppVerb::List => list(session).await,
        AppVerb::RotateSecret(args) => rotate_secret(args, session).await,
        AppVerb::Remove(args) => remove(args, session).await,
        AppVerb::Show(args) => app_policy::show(args, session).await,
        AppVerb::Set(args) => app_policy::set(args, session).await,
    }
}

async fn register(args: RegisterArgs, session: &Session<'_>) -> Result<Report> {
    let app = send_registration(args, session).await?;
    let facts = vec![
        ("app", app.app_id.clone()),
        ("client id", app.client_id.clone()),
        ("client secret", app.client_secret.expose().to_owned()),
        ("server", app.license_server_url.clone()),
        ("token endpoint", app.token_endpoint.clone()),
    ];
    let note = "The secret is shown this once; keep it where the application finds it.";
    let parts = vec![Part::Facts(facts), Part::Line(note.to_owned())];
    let ids = vec![app.app_id.clone()];
    Ok(Report::done(document(&app)?, parts, ids))
}

/// The document's spelling, whose output is the document's JSON.
pub(crate) async fn register_app(args: RegisterArgs, session: &Session<'_>) -> Result<Report> {
    let app = send_registration(args, session).await?;
    let ids = vec![app.app_id.clone()];
    let json = document(&app)?;
    let parts = vec![Part::Document(format!("{json:#}"))];
    Ok(Report::done(json, parts, ids))
}

async fn send_registration(
    args: RegisterArgs,
    session: &Session<'_>,
) -> Result<RegisterAppResponse> {
    let body = registration(&args)?;
    session.post(&["admin", "apps"], &body, &args.mutation).await?.json()
}

fn registration(args: &RegisterArgs) -> Result<RegisterAppRequest> {
    if !protocol::wire::is_text(&args.name, MAX_TEXT_CHARS) {
        return Err(CliError::Usage(format!("--name wants 1 to {MAX_TEXT_CHARS} characters")));
    }
    Ok(RegisterAppRequest {
        name: args.name.clone(),
        product_id: require_id("product id", &args.product_id)?.to_owned(),
        vendor_id: require_id("vendor id", &args.vendor)?.to_owned(),
        scopes: Scopes::ALL,
        token_algorithm: TokenAlgorithm::Rs256,
    })
}

async fn list(session: &Session<'_>) -> Result<Report> {
    let (apps, _) =
        pages(session, &["admin", "apps"], &[], None, |page: AppList| (page.apps, page.next))
            .await?;
    let list = AppList { apps, next: None };
    let mut grid = Grid::new(&[
        Column::whole("APP"),
        Column::whole("CLIENT ID"),
        Column::text("PRODUCT"),
        Column::text("NAME"),
    ]);
    for app in &list.apps {
        grid.row(vec![
            app.app_id.clone(),
            app.client_id.clone(),
            app.product_id.clone(),
            app.name.clone(),
        ]);
    }
    let ids = list.apps.iter().map(|app| app.app_id.clone()).collect();
    let parts = vec![Part::Grid(grid, "no application is registered")];
    Ok(Report::done(document(&list)?, parts, ids))
}

async fn rotate_secret(args: AppArgs, session: &Session<'_>) -> Result<Report> {
    let app_id = require_id("application", &args.app_id)?;
    let path = ["admin", "apps", app_id, "rotate-secret"];
    let answer = session.change(Method::POST, &path, None::<&()>, &args.mutation).await?;
    let app: RotateSecretResponse = answer.json()?;
    let facts = vec![
        ("app", app.app_id.clone()),
        ("client id", app.client_id.clone()),
        ("client secret", app.client_secret.expose().to_owned()),
    ];
    let note = "The secret is shown this once. The old one and its tokens are void.";
    let parts = vec![Part::Facts(facts), Part::Line(note.to_owned())];
    let ids = vec![app.app_id.clone()];
    Ok(Report::done(document(&app)?, parts, ids))
}

async fn remove(args: AppArgs, session: &Session<'_>) -> Result<Report> {
    let app_id = require_id("application", &args.app_id)?;
    session.change(Method::DELETE, &["admin", "apps", app_id], None::<&()>, &args.mutation).await?;
    let json = json!({ "app_id": app_id, "status": "removed" });
    let line = format!("{app_id} is removed; its secret and tokens are void");
    Ok(Report::done(json, vec![Part::Line(line)], vec![app_id.to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, product_id: &str) -> RegisterArgs {
        RegisterArgs {
            name: name.to_owned(),
            product_id: product_id.to_owned(),
            vendor: "vector-de".to_owned(),
            generate_credentials: true,
            mutation: MutationOptions::default(),
        }
    }

    fn check_refused(args: RegisterArgs, message_has: &str) {
        let error = registration(&args).err().unwrap();
        assert_eq!(error.exit().code(), 2);
        assert!(error.line().contains(message_has), "{error}");
    }

    #[test]
    fn a_registration_is_checked_before_it_is_sent() {
        let body = registration(&args("A", "p-1")).ok().unwrap();
        assert_eq!((body.product_id.as_str(), body.vendor_id.as_str()), ("p-1", "vector-de"));
        check_refused(args("A", "../x"), "no product id");
        check_refused(args("", "p-1"), "--name");
        check_refused(args("a\nb", "p-1"), "--name");
    }
}

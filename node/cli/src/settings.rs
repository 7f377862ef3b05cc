//! Decides between flag, environment and context file, value by value: flag, then environment,
//! then context file.
//!
//! A context file speaks for its own servers only: when the servers come from elsewhere and the
//! file does not name all of them, its token, application and authority are left alone. Otherwise a
//! token could reach a machine that it was never meant for.

use std::path::PathBuf;

use reqwest::Url;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::files;
use crate::options::{AppOptions, GlobalOptions};

/// Where to connect, and as whom.
pub(crate) struct Settings {
    /// Gateways, in the order given, each once.
    pub(crate) servers: Vec<Url>,
    /// PEM file of the authority; the system's authorities when there is none.
    pub(crate) ca_cert: Option<PathBuf>,
    /// Bearer token.
    token: Option<Token>,
    /// The context file, where it speaks for these servers.
    context: Option<Context>,
    /// Longest wait over all attempts.
    pub(crate) timeout_ms: u64,
}

#[derive(Clone)]
struct Token {
    text: String,
    from_context: bool,
}

/// How a verb of applications proves itself.
#[derive(PartialEq, Eq)]
pub(crate) enum AppCredentials {
    /// By asking for an access token first.
    Client {
        /// OAuth client id.
        client_id: String,
        /// OAuth client secret.
        client_secret: String,
    },
    /// By an access token that the user brought.
    AccessToken(String),
}

/// Decides. `var` gives the value of an environment variable.
pub(crate) fn resolve(
    options: &GlobalOptions,
    var: &dyn Fn(&str) -> Option<String>,
    context: Option<Context>,
) -> Result<Settings> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    let by_environment = || {
        let list = var("LEASEHOLD_SERVER").unwrap_or_default();
        list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
    };
    let mut named: Vec<String> = options.server.clone();
    if named.is_empty() {
        named = by_environment();
    }
    if named.is_empty() {
        named = context.as_ref().map(|context| context.servers.clone()).unwrap_or_default();
    }
    let mut servers: Vec<Url> = Vec::new();
    for text in &named {
        let url = server_url(text)?;
        if !servers.contains(&url) {
            servers.push(url);
        }
    }
    if servers.is_empty() {
        return Err(CliError::Usage(NO_SERVER.to_owned()));
    }
    let context = context.filter(|context| speaks_for(context, &servers));
    let from_context = context.as_ref().and_then(|context| context.token.clone());
    let token = options
        .token
        .as_ref()
        .map(|token| token.0.clone())
        .or_else(|| var("LEASEHOLD_TOKEN"))
        .map(|text| Token { text, from_context: false })
        .or(from_context.map(|text| Token { text, from_context: true }));
    let ca_cert = options
        .ca_cert
        .clone()
        .or_else(|| var("LEASEHOLD_CA_CERT").map(PathBuf::from))
        .or_else(|| context.as_ref().and_then(|context| context.ca_cert.clone()));
    Ok(Settings { servers, ca_cert, token, context, timeout_ms: options.timeout.ms })
}

/// A gateway's URL: `https://host[:port][/path]`, without a slash at the end of the path.
pub(crate) fn server_url(text: &str) -> Result<Url> {
    let bad = |why: &str| Err(CliError::Usage(format!("{text:?} is not a server: {why}")));
    let Ok(mut url) = Url::parse(text) else {
        return bad("want https://host:port");
    };
    if url.scheme() == "http" {
        return bad("tokens travel over https only, on this machine too; want https://host:port");
    }
    if url.scheme() != "https" || url.host_str().is_none_or(str::is_empty) {
        return bad("want https://host:port");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("a URL is no place for credentials; use --token");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return bad("want no ? and no #");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// A file without servers speaks for any; one with servers for those.
fn speaks_for(context: &Context, servers: &[Url]) -> bool {
    let own: Vec<Url> = context.servers.iter().filter_map(|text| server_url(text).ok()).collect();
    context.servers.is_empty() || servers.iter().all(|server| own.contains(server))
}

impl Settings {
    /// The operator's token.
    pub(crate) fn operator_token(&self) -> Result<&str> {
        match &self.token {
            Some(token) => Ok(&token.text),
            None => Err(CliError::Usage(NO_TOKEN.to_owned())),
        }
    }

    /// What `checkout` asks for when it is not told.
    pub(crate) fn default_product(&self) -> Option<&str> {
        self.context.as_ref()?.app.as_ref()?.product_id.as_deref()
    }

    /// Who a verb of applications acts as: client credentials by flag or environment, then a token
    /// by flag or environment that is no operator's, then the context file's application.
    pub(crate) fn app_credentials(
        &self,
        options: &AppOptions,
        var: &dyn Fn(&str) -> Option<String>,
    ) -> Result<AppCredentials> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let client_id = options.client_id.clone().or_else(|| var("LEASEHOLD_CLIENT_ID"));
        let client_secret = match (&options.client_secret, &options.client_secret_file) {
            (Some(secret), _) => Some(secret.0.clone()),
            (None, Some(path)) => Some(files::read_secret(path)?),
            (None, None) => var("LEASEHOLD_CLIENT_SECRET"),
        };
        let app = self.context.as_ref().and_then(|context| context.app.as_ref());
        match (client_id, client_secret) {
            (Some(client_id), Some(client_secret)) => {
                return Ok(AppCredentials::Client { client_id, client_secret });
            }
            (Some(client_id), None) if app.is_none_or(|app| app.client_id != client_id) => {
                return Err(CliError::Usage(format!(
                    "{client_id} needs its secret: {GIVE_SECRET}"
                )));
            }
            (None, Some(client_secret)) => {
                let Some(app) = app else {
                    return Err(CliError::Usage(
                        "a client secret needs --client-id or LEASEHOLD_CLIENT_ID".to_owned(),
                    ));
                };
                return Ok(AppCredentials::Client {
                    client_id: app.client_id.clone(),
                    client_secret,
                });
            }
            (Some(_) | None, None) => {}
        }
        let brought = self
            .token
            .as_ref()
            .filter(|token| !token.from_context && !token.text.starts_with(OPERATOR_TOKEN_PREFIX));
        match (brought, app) {
            (Some(token), _) => Ok(AppCredentials::AccessToken(token.text.clone())),
            (None, Some(app)) => Ok(AppCredentials::Client {
                client_id: app.client_id.clone(),
                client_secret: app.client_secret.clone(),
            }),
            (None, None) => Err(CliError::Usage(NO_APP.to_owned())),
        }
    }
}

const OPERATOR_TOKEN_PREFIX: &str = "lh_op_";
const NO_SERVER: &str = "no server named: give --server https://host:port, set LEASEHOLD_SERVER, \
                         or write a context file (`leasehold dev` makes ./leasehold-dev with one)";
const NO_TOKEN: &str = "no operator token for this server: give --token, set LEASEHOLD_TOKEN, or \
                        name the server in a context file that has a token";
const NO_APP: &str = "no application to act as: give --client-id and --client-secret-file, set \
                      LEASEHOLD_CLIENT_ID and LEASEHOLD_CLIENT_SECRET, or put [app] into the \
                      context file";
const GIVE_SECRET: &str = "give --client-secret-file or set LEASEHOLD_CLIENT_SECRET";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ContextApp;
    use crate::options::{Hidden, OutputFormat, Wait};

    fn options() -> GlobalOptions {
        GlobalOptions {
            server: Vec::new(),
            ca_cert: None,
            token: None,
            context: None,
            timeout: Wait { ms: 10_000 },
            output: OutputFormat::Table,
            quiet: false,
        }
    }

    fn context() -> Context {
        Context {
            servers: vec!["https://c:1".to_owned(), "https://c:2/".to_owned()],
            ca_cert: Some("context.pem".into()),
            token: Some("lh_op_context".to_owned()),
            app: toml::from_str::<ContextApp>(
                "client_id = \"c-app\"\nclient_secret = \"c-secret\"\nproduct_id = \"p\"",
            )
            .ok(),
            ..Context::default()
        }
    }

    fn no_var(_: &str) -> Option<String> {
        None
    }

    fn all_vars(name: &str) -> Option<String> {
        match name {
            "LEASEHOLD_SERVER" => Some("https://e:1, https://e:2,".to_owned()),
            "LEASEHOLD_CA_CERT" => Some("environment.pem".to_owned()),
            "LEASEHOLD_TOKEN" => Some("lh_op_environment".to_owned()),
            "LEASEHOLD_CLIENT_ID" => Some("e-app".to_owned()),
            "LEASEHOLD_CLIENT_SECRET" => Some("e-secret".to_owned()),
            _ => None,
        }
    }

    /// Servers, authority and token that are chosen.
    fn chosen(
        options: &GlobalOptions,
        var: &dyn Fn(&str) -> Option<String>,
        context: Option<Context>,
    ) -> (Vec<String>, Option<String>, Option<String>) {
        let settings = resolve(options, var, context).ok().unwrap();
        (
            settings.servers.iter().map(|url| url.to_string()).collect(),
            settings.ca_cert.map(|path| path.display().to_string()),
            settings.token.map(|token| token.text),
        )
    }

    fn check(
        options: &GlobalOptions,
        var: &dyn Fn(&str) -> Option<String>,
        context: Option<Context>,
        servers: &[&str],
        ca_cert: Option<&str>,
        token: Option<&str>,
    ) {
        let expected = (
            servers.iter().map(|&url| url.to_owned()).collect(),
            ca_cert.map(str::to_owned),
            token.map(str::to_owned),
        );
        assert_eq!(chosen(options, var, context), expected);
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_the_context_file() {
        let mut flags = options();
        let context_servers = ["https://c:1/", "https://c:2/"];
        let of_context = (Some("context.pem"), Some("lh_op_context"));
        check(&flags, &no_var, Some(context()), &context_servers, of_context.0, of_context.1);
        let of_environment = (Some("environment.pem"), Some("lh_op_environment"));
        let servers = ["https://e:1/", "https://e:2/"];
        check(&flags, &all_vars, Some(context()), &servers, of_environment.0, of_environment.1);
        flags.server = vec!["https://f:1".to_owned(), "https://f:1/".to_owned()];
        flags.ca_cert = Some("flag.pem".into());
        flags.token = Some(Hidden("lh_op_flag".to_owned()));
        let of_flags = (Some("flag.pem"), Some("lh_op_flag"));
        check(&flags, &all_vars, Some(context()), &["https://f:1/"], of_flags.0, of_flags.1);
        flags.token = None;
        let mixed = (Some("flag.pem"), Some("lh_op_environment"));
        check(&flags, &all_vars, Some(context()), &["https://f:1/"], mixed.0, mixed.1);
    }

    #[test]
    fn a_context_file_speaks_for_its_own_servers_only() {
        let mut flags = options();
        flags.server = vec!["https://c:2".to_owned()];
        let (ca_cert, token) = (Some("context.pem"), Some("lh_op_context"));
        check(&flags, &no_var, Some(context()), &["https://c:2/"], ca_cert, token);
        flags.server = vec!["https://evil:1".to_owned()];
        check(&flags, &no_var, Some(context()), &["https://evil:1/"], None, None);
        flags.server.push("https://c:2".to_owned());
        let servers = ["https://evil:1/", "https://c:2/"];
        check(&flags, &no_var, Some(context()), &servers, None, None);
        let anywhere = Context { servers: Vec::new(), ..context() };
        check(&flags, &no_var, Some(anywhere), &servers, ca_cert, token);
    }

    #[test]
    fn an_empty_variable_is_an_absent_one() {
        let empty = |_: &str| Some(String::new());
        let context_servers = ["https://c:1/", "https://c:2/"];
        let (ca_cert, token) = (Some("context.pem"), Some("lh_op_context"));
        check(&options(), &empty, Some(context()), &context_servers, ca_cert, token);
    }

    #[test]
    fn without_a_server_or_a_token_the_line_says_how_to_give_one() {
        let error = resolve(&options(), &no_var, None).err().unwrap();
        assert_eq!(error.exit().code(), 2);
        assert!(error.line().contains("--server"));
        let mut flags = options();
        flags.server = vec!["https://f:1".to_owned()];
        let settings = resolve(&flags, &no_var, None).ok().unwrap();
        let error = settings.operator_token().err().unwrap();
        assert!(error.exit().code() == 2 && error.line().contains("--token"));
    }

    #[test]
    fn only_https_without_credentials_is_a_server() {
        for (text, normal) in [
            ("https://127.0.0.1:7401", "https://127.0.0.1:7401/"),
            ("https://Licenses.Example.com/", "https://licenses.example.com/"),
            ("https://example.com/base/", "https://example.com/base"),
            ("https://[::1]:7401", "https://[::1]:7401/"),
        ] {
            let url = server_url(text).ok().unwrap();
            assert_eq!(url.as_str(), normal);
        }
        for (text, why) in [
            ("http://127.0.0.1:7401", "https only"),
            ("127.0.0.1:7401", "want https://"),
            ("localhost:7401", "want https://"),
            ("https://", "want https://"),
            ("https://a:b@host", "no place for credentials"),
            ("https://host/?a=1", "no ?"),
            ("ftp://host", "want https://"),
        ] {
            let error = server_url(text).err().unwrap();
            assert!(error.exit().code() == 2 && error.line().contains(why), "{text}: {error}");
        }
    }

    fn check_app(
        app: &AppOptions,
        token: Option<&str>,
        var: &dyn Fn(&str) -> Option<String>,
        context: Option<Context>,
        expected: Result<AppCredentials, &str>,
    ) {
        let mut flags = options();
        flags.server = vec!["https://c:1".to_owned()];
        flags.token = token.map(|token| Hidden(token.to_owned()));
        let settings = resolve(&flags, &no_var, context).ok().unwrap();
        match (settings.app_credentials(app, var), expected) {
            (Ok(got), Ok(expected)) => assert!(got == expected, "other credentials"),
            (Err(error), Err(part)) => assert!(error.line().contains(part), "{error}"),
            (got, _) => panic!("is_ok: {}", got.is_ok()),
        }
    }

    fn client(client_id: &str, client_secret: &str) -> Result<AppCredentials, &'static str> {
        Ok(AppCredentials::Client {
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
        })
    }

    #[test]
    fn an_application_is_chosen_by_the_same_order() {
        let none = AppOptions::default();
        let flags = AppOptions {
            client_id: Some("f-app".to_owned()),
            client_secret: Some(Hidden("f-secret".to_owned())),
            client_secret_file: None,
        };
        let id_only = |id: &str| AppOptions { client_id: Some(id.to_owned()), ..none.clone() };
        check_app(&flags, None, &all_vars, Some(context()), client("f-app", "f-secret"));
        check_app(&none, None, &all_vars, Some(context()), client("e-app", "e-secret"));
        check_app(&none, None, &no_var, Some(context()), client("c-app", "c-secret"));
        check_app(&id_only("c-app"), None, &no_var, Some(context()), client("c-app", "c-secret"));
        let missing = Err("other needs its secret");
        check_app(&id_only("other"), None, &no_var, Some(context()), missing);
        check_app(&none, None, &no_var, None, Err("no application to act as"));
        let brought = || Ok(AppCredentials::AccessToken("eyJ".to_owned()));
        check_app(&none, Some("eyJ"), &no_var, Some(context()), brought());
        check_app(&none, Some("eyJ"), &no_var, None, brought());
        check_app(&none, Some("eyJ"), &all_vars, None, client("e-app", "e-secret"));
        check_app(&none, Some("lh_op_x"), &no_var, None, Err("no application to act as"));
        check_app(&none, Some("lh_op_x"), &no_var, Some(context()), client("c-app", "c-secret"));
    }
}

//! What a verb needs to talk to the cluster: settings, a client, and who it acts as.

use protocol::oauth::token::TokenResponse;
use protocol::secret::Disclosed;
use reqwest::Method;

use crate::client::{Answer, Client, Request};
use crate::context;
use crate::error::Result;
use crate::options::{AppOptions, GlobalOptions, MutationOptions};
use crate::settings::{self, AppCredentials, Settings};

/// A verb's way to the cluster.
pub(crate) struct Session<'a> {
    /// Values of environment variables.
    pub(crate) var: &'a dyn Fn(&str) -> Option<String>,
    /// Where to connect, and as whom.
    pub(crate) settings: Settings,
    /// The way there.
    pub(crate) client: Client,
}

impl<'a> Session<'a> {
    /// Reads the configuration; nothing is sent yet.
    pub(crate) fn open(
        options: &GlobalOptions,
        var: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let context = context::load(options.context.as_deref(), var)?;
        let settings = settings::resolve(options, var, context)?;
        let client = Client::new(&settings)?;
        Ok(Self { var, settings, client })
    }

    /// Asks as an operator.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Answer> {
        let request = Request::get(path).bearer(self.settings.operator_token()?);
        self.client.send(&request).await
    }

    /// Changes something as an operator, with a JSON body.
    pub(crate) async fn post<T: serde::Serialize>(
        &self,
        path: &[&str],
        body: &T,
        mutation: &MutationOptions,
    ) -> Result<Answer> {
        self.change(Method::POST, path, Some(body), mutation).await
    }

    /// Changes something as an operator.
    pub(crate) async fn change<T: serde::Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&T>,
        mutation: &MutationOptions,
    ) -> Result<Answer> {
        let token = self.settings.operator_token()?;
        let mut request =
            Request::change(method, path, mutation.idempotency_key.as_deref())?.bearer(token);
        if let Some(body) = body {
            request = request.json(body)?;
        }
        self.client.send(&request).await
    }

    /// Gets an access token for an application, as OAuth's client credentials grant has it.
    pub(crate) async fn access_token(
        &self,
        client_id: String,
        client_secret: String,
        scope: Option<String>,
    ) -> Result<TokenResponse> {
        let mut fields = vec![
            ("grant_type", Disclosed::new("client_credentials".to_owned())),
            ("client_id", Disclosed::new(client_id)),
            ("client_secret", Disclosed::new(client_secret)),
        ];
        fields.extend(scope.map(|scope| ("scope", Disclosed::new(scope))));
        self.client.send(&Request::form(&["oauth", "token"], fields)).await?.json()
    }

    /// An access token, the user's own or a new one.
    pub(crate) async fn app_token(&self, app: &AppOptions) -> Result<Disclosed> {
        match self.settings.app_credentials(app, self.var)? {
            AppCredentials::AccessToken(token) => Ok(Disclosed::new(token)),
            AppCredentials::Client { client_id, client_secret } => {
                Ok(self.access_token(client_id, client_secret, None).await?.access_token)
            }
        }
    }
}

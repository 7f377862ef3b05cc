//! Every operation of the route table with every kind of credential.
//!
//! The rows are the gateway's one route table; the columns are made here: none, nonsense, expired,
//! foreign, confused algorithm, revoked, of the other kind, of a narrower scope or role.
//! Credentials are judged before anything else, so a made-up path parameter and no body are enough.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gateway::routes::{Credential, Operation, operations};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lease::command::Role;
use leasehold_tests::api::{Answer, Api};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::{import_and_register, sign, template};
use reqwest::Method;
use serde_json::{Value, json};

/// A credential that must not be let in, or not everywhere.
struct Wrong {
    what: &'static str,
    token: Option<String>,
    /// What it gets where an access token, and where an operator's token is asked for.
    as_app: Option<u16>,
    as_operator: Option<u16>,
    /// The role that it has, which opens whatever asks for no wider one.
    role: Option<Role>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_every_credential_that_is_not_its_own() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let columns = wrong_credentials(&cluster, &api).await?;
    let mut cells = 0;
    for operation in operations() {
        for (column, node) in columns.iter().zip([1, 2, 3].into_iter().cycle()) {
            cells += usize::from(check(&api, node, operation, column).await?);
        }
    }
    let open = operations().filter(|row| row.credential == Credential::Nobody);
    for operation in open {
        let answer = ask(&api, 2, operation, None).await?;
        ensure!(![401, 403].contains(&answer.status), "{}: {answer:?}", operation.id);
    }
    ensure!(cells > 150, "only {cells} cells: the matrix has shrunk");
    Ok(())
}

async fn check(api: &Api, node: u64, operation: &Operation, column: &Wrong) -> Result<bool> {
    let expected = match operation.credential {
        // A face's proof is in the body, and judged by what it stands for.
        Credential::Nobody | Credential::Face => return Ok(false),
        Credential::Client | Credential::JoinToken => Some(401),
        Credential::AccessToken(scope) => {
            let narrow = column.what == "too narrow a scope";
            // The narrow token allows returning and reading; those are not refused.
            let allowed = ["Return", "Read"].contains(&format!("{scope:?}").as_str());
            column.as_app.filter(|_| !(narrow && allowed))
        }
        Credential::Operator(role) | Credential::ApiKey(role) => {
            let allowed = column.role.is_some_and(|own| own >= role);
            column.as_operator.filter(|_| !allowed)
        }
    };
    let (id, what) = (operation.id, column.what);
    let Some(expected) = expected else {
        // A token that opens nothing at all would prove nothing by being refused.
        if operation.id == "showOwnOperator" && column.role.is_some() {
            ask(api, node, operation, column.token.as_deref()).await?.expect(200)?;
        }
        return Ok(false);
    };
    let answer = ask(api, node, operation, column.token.as_deref()).await?;
    if operation.credential == Credential::Client {
        // The token endpoint takes no bearer token at all.
        ensure!([400, 401].contains(&answer.status), "{id} with {what}: {answer:?}");
        return Ok(true);
    }
    ensure!(answer.status == expected, "{id} with {what}: not {expected}: {answer:?}");
    if expected == 401 {
        ensure!(answer.header("www-authenticate").is_some(), "{id} with {what}: {answer:?}");
    }
    Ok(true)
}

async fn ask(api: &Api, node: u64, row: &Operation, token: Option<&str>) -> Result<Answer> {
    let path = row.path_with(|_name| "made-up".to_owned());
    let mut request =
        api.request(node, Method::from_bytes(row.method.http().as_str().as_bytes())?, &path)?;
    request = match (token, row.credential) {
        (Some(token), Credential::ApiKey(_)) => request.header("X-API-Key", token),
        (Some(token), _) => request.bearer_auth(token),
        (None, _) => request,
    };
    api.answer(request).await
}

async fn wrong_credentials(cluster: &Cluster, api: &Api) -> Result<Vec<Wrong>> {
    let genuine = api.token(1).await?;
    let claims = claims_of(&genuine)?;
    let key = signing_key(cluster, 1)?;
    let mut expired = claims.clone();
    let issued = claims["iat"].as_u64().context("no iat")?;
    expired["iat"] = json!(issued - 7_300);
    expired["exp"] = json!(issued - 3_700);
    let mut elsewhere = claims.clone();
    elsewhere["cluster_id"] = json!("lh-another");
    elsewhere["aud"] = json!("lh-another");
    let header = jsonwebtoken::decode_header(&genuine)?;
    let stranger = stranger_key(cluster)?;
    let confused = Header { alg: Algorithm::HS256, ..header.clone() };
    let jwks = api.answer(api.request(1, Method::GET, "/.well-known/jwks.json")?).await?;
    let public = EncodingKey::from_secret(jwks.body.to_string().as_bytes());
    let unsigned = unsigned_form(&genuine)?;
    let of_app = |what, token: String| Wrong {
        what,
        token: Some(token),
        as_app: Some(401),
        as_operator: Some(401),
        role: None,
    };
    // Signing by hand what the node would have signed proves that the refusals below are about
    // the claims, not about how the forgery was made.
    let resigned = jsonwebtoken::encode(&header, &claims, &key)?;
    let request = api.request(2, Method::GET, "/api/v1/licenses/discover?product=x")?;
    let answer = api.answer(request.bearer_auth(&resigned)).await?;
    ensure!(answer.status == 200, "a token signed with the node's own key: {answer:?}");
    let narrow = narrow_token(cluster, api).await?;
    let removed = added_operator(api, "admin").await?;
    let path = format!("/admin/operators/{}", removed.0);
    ensure!(api.admin(2, Method::DELETE, &path, None).await?.status == 204);
    let of_role = async |what, role, name| {
        let (_, token) = added_operator(api, name).await?;
        let (as_app, as_operator) = (Some(401), Some(403));
        anyhow::Ok(Wrong { what, token: Some(token), as_app, as_operator, role: Some(role) })
    };
    let nothing = Wrong { token: None, ..of_app("nothing", String::new()) };
    Ok(vec![
        nothing,
        of_role("an auditor's token", Role::Auditor, "auditor").await?,
        of_role("a token of the role operator", Role::Operator, "operator").await?,
        of_app("a removed operator's token", removed.1),
        of_app("nonsense", "nonsense".into()),
        of_app("an expired token", jsonwebtoken::encode(&header, &expired, &key)?),
        of_app("another cluster's token", jsonwebtoken::encode(&header, &elsewhere, &key)?),
        of_app("a stranger's signature", jsonwebtoken::encode(&header, &claims, &stranger)?),
        of_app("a confused algorithm", jsonwebtoken::encode(&confused, &claims, &public)?),
        of_app("no signature", unsigned),
        of_app("a rotated secret's token", rotated_token(cluster, api).await?),
        of_app("a removed app's token", removed_token(cluster, api).await?),
        of_app("an unknown operator", format!("lh_op_{}", "A".repeat(43))),
        Wrong {
            what: "an operator's token",
            token: Some(cluster.dev.admin_token.clone()),
            as_app: Some(401),
            as_operator: None,
            role: None,
        },
        Wrong {
            what: "an application's token",
            token: Some(genuine.clone()),
            as_app: None,
            as_operator: Some(401),
            role: None,
        },
        Wrong {
            what: "too narrow a scope",
            token: Some(narrow),
            as_app: Some(403),
            as_operator: Some(401),
            role: None,
        },
    ])
}

fn claims_of(token: &str) -> Result<Value> {
    let body = token.split('.').nth(1).context("no claims")?;
    let bytes = data_encoding::BASE64URL_NOPAD.decode(body.as_bytes())?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn unsigned_form(token: &str) -> Result<String> {
    let header =
        json!({ "alg": "none", "typ": "at+jwt", "kid": jsonwebtoken::decode_header(token)?.kid });
    let header = data_encoding::BASE64URL_NOPAD.encode(header.to_string().as_bytes());
    let body = token.split('.').nth(1).context("no claims")?;
    Ok(format!("{header}.{body}."))
}

/// The node's own token-signing key: only a test that runs as the node's user can read it.
fn signing_key(cluster: &Cluster, id: u64) -> Result<EncodingKey> {
    let node = cluster.dev.nodes.iter().find(|node| node.id == id).context("no such node")?;
    let config: toml::Table = fs::read_to_string(&node.config)?.parse()?;
    let path = find_key(&toml::Value::Table(config)).context("no signing key in node.toml")?;
    let base = node.config.parent().unwrap_or(Path::new("."));
    Ok(EncodingKey::from_rsa_pem(&fs::read(base.join(path))?)?)
}

fn find_key(value: &toml::Value) -> Option<PathBuf> {
    value.as_table()?.iter().find_map(|(name, value)| match value {
        toml::Value::String(path) if name.contains("signing") => Some(PathBuf::from(path)),
        other => find_key(other),
    })
}

fn stranger_key(cluster: &Cluster) -> Result<EncodingKey> {
    let path = cluster.scratch().join("stranger.pem");
    let private = path.to_str().context("path")?;
    let public = format!("{private}.pub");
    let paths = ["--private-key", private, "--public-key", &public];
    let words = [&["package", "keygen", "--algorithm", "rsa"], &paths[..]].concat();
    let made = leasehold_tests::cluster::leasehold(&words)?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(EncodingKey::from_rsa_pem(&fs::read(&path)?)?)
}

async fn registered(
    cluster: &Cluster,
    api: &Api,
    name: &str,
) -> Result<leasehold_tests::packages::Registered> {
    let package = template(&cluster.dev, name, name, 3)?;
    import_and_register(api, &sign(&cluster.dev, cluster.scratch(), &package)?).await
}

async fn rotated_token(cluster: &Cluster, api: &Api) -> Result<String> {
    let app = registered(cluster, api, "rotated").await?;
    let token = api.token_of(2, &app.client_id, &app.client_secret).await?;
    let path = format!("/admin/apps/{}/rotate-secret", app.app_id);
    api.admin(3, Method::POST, &path, Some(json!({}))).await?.expect(200)?;
    Ok(token)
}

async fn removed_token(cluster: &Cluster, api: &Api) -> Result<String> {
    let app = registered(cluster, api, "removed").await?;
    let token = api.token_of(3, &app.client_id, &app.client_secret).await?;
    let path = format!("/admin/apps/{}", app.app_id);
    let removed = api.admin(1, Method::DELETE, &path, None).await?;
    ensure!(removed.status < 300, "{removed:?}");
    Ok(token)
}

/// Id and text of a new operator token.
async fn added_operator(api: &Api, role: &str) -> Result<(String, String)> {
    let body = json!({ "name": format!("the {role} of a test"), "role": role });
    let added = api.admin(1, Method::POST, "/admin/operators", Some(body)).await?.expect(201)?;
    let id = added.body["operator"]["operator_id"].as_str().context("no id")?.to_owned();
    Ok((id, added.text("token")?.to_owned()))
}

async fn narrow_token(cluster: &Cluster, api: &Api) -> Result<String> {
    let app = &cluster.dev.app;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", app.client_id.as_str()),
        ("client_secret", app.client_secret.as_str()),
        ("scope", "license:return"),
    ];
    let request = api.request(1, Method::POST, "/oauth/token")?.form(&form);
    let answer = api.answer(request).await?.expect(200)?;
    Ok(answer.text("access_token")?.to_owned())
}

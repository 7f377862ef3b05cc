//! What `dev` does once the cluster is up, and how it tells it.
//!
//! A vendor key is made and pinned, the sample package of the protocol document signed and
//! imported, an application registered; then one seat is checked out, renewed and returned. A
//! second start finds the key, the package and the application again, and does the last part once
//! more.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use http::{Method, StatusCode};
use protocol::cloud::admin::{ImportForm, ImportResponse, RegisterAppResponse, VendorView};
use protocol::cloud::lease::{CheckoutResponse, HeartbeatResponse, LeaseType, ReturnResponse};
use protocol::keys::{PrivateKey, RsaSize};
use protocol::package::{sample_document, sign_document};
use serde::Deserialize;
use serde_json::json;
use storage::seam::{Clock, RealDisk, replace_file};

use super::api::{Api, As, Body, json};
use super::place::{AppState, Place};
use super::screen::Screen;
use super::{DevError, Result, failed};
use crate::config::{self, io_reason};

/// The vendor of the sample package.
pub(crate) const VENDOR_ID: &str = "vector-de";

/// What was done, for the telling.
pub(crate) enum Story {
    /// All of it.
    Done(Box<Done>),
    /// A later start found the cluster as its user had left it, and it said no: seats that are all
    /// out, a suspended package, a secret that was changed. That is no reason not to run it.
    NotRepeated(String),
}

/// The answers to every call.
pub(crate) struct Done {
    vendor: VendorView,
    package: ImportResponse,
    checkout: CheckoutResponse,
    heartbeat: HeartbeatResponse,
    returned: ReturnResponse,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Story {
    /// Does it all; on a cluster where that was done before, as far as it will go.
    pub(crate) async fn make(
        place: &mut Place,
        api: &Api,
        screen: &Screen,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let again = place.state.app.is_some();
        match Done::make(place, api, screen, clock).await {
            Ok(done) => Ok(Self::Done(Box::new(done))),
            Err(DevError::Refused(why)) if again => Ok(Self::NotRepeated(why)),
            Err(error) => Err(error),
        }
    }

    /// The text for a person, at most 80 columns where names allow it.
    pub(crate) fn told(&self, place: &Place, pids: &[u32]) -> String {
        let state = &place.state;
        let mut text = format!("\nLeasehold is up: cluster {}\n\n", state.cluster_id);
        for (id, pid) in (1..=state.nodes).zip(pids) {
            text += &format!("  node {id}   {}   pid {pid}\n", state.gateway_url(id));
        }
        text += &match self {
            Self::Done(done) => done.told(),
            Self::NotRepeated(why) => {
                format!(
                    "\nNo seat was taken on this start, since the cluster said no:\n  {why}\n\n"
                )
            }
        };
        text += "Do it by hand; paste this into a shell:\n\n";
        text += &tour(place);
        let program = program();
        let dir = place.shown();
        text += &format!(
            "\nOr with the command line, which reads {dir}/context.toml:\n\n\
             \x20 {program} {context}cluster status\n\
             \x20 {program} {context}lease list\n\n\
             For scripts: {dir}/dev.json. Logs: {dir}/node-*/node.log\n\
             Ctrl-C stops; the same command resumes; --clean begins anew.\n",
            context = context_option(place),
        );
        text
    }
}

impl Done {
    async fn make(
        place: &mut Place,
        api: &Api,
        screen: &Screen,
        clock: &dyn Clock,
    ) -> Result<Self> {
        screen.step("pinning the vendor's key and importing its package");
        let key = vendor_key(place).await?;
        let vendor = pin(api, &key).await?;
        let package = import(place, api, &key, clock).await?;
        screen.step("registering an application");
        let app = register(place, api).await?;
        screen.step("checking a seat out, renewing and returning it");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", app.client_id.as_str()),
            ("client_secret", app.client_secret.as_str()),
            ("scope", SCOPE),
        ];
        let ok = &[StatusCode::OK];
        let token: Token =
            api.call(As::Nobody, Method::POST, "/oauth/token", Body::Form(&form), ok).await?;
        let app_call = As::App(&token.access_token);
        let body = Body::Json(json!({
            "product_id": PRODUCT_ID,
            "user": "alice@bmw.com",
            "hostname": "dev-workstation-042",
            "metadata": { "version": "8.2.1", "session_id": "sess-xyz789" },
        }));
        let path = "/api/v1/licenses/checkout";
        let checkout: CheckoutResponse = api.call(app_call, Method::POST, path, body, ok).await?;
        let path = format!("/api/v1/licenses/{}/heartbeat", checkout.lease_id);
        let renew = json!({ "renewal_token": checkout.renewal_token, "still_active": true });
        let heartbeat: HeartbeatResponse =
            api.call(app_call, Method::PUT, &path, Body::Json(renew), ok).await?;
        let path = format!("/api/v1/licenses/{}/return", checkout.lease_id);
        let give_back = json!({
            "lease_id": checkout.lease_id,
            "usage_metadata": {
                "session_duration_seconds": 3600,
                "features_used": ["can_editor", "arxml_validator"],
                "files_processed": 42,
            },
        });
        let returned: ReturnResponse =
            api.call(app_call, Method::POST, &path, Body::Json(give_back), ok).await?;
        Ok(Self { vendor, package, checkout, heartbeat, returned })
    }

    fn told(&self) -> String {
        let kind = match self.checkout.lease_type {
            LeaseType::Commit => "commit",
            LeaseType::Overage => "overage",
        };
        format!(
            "\nDone over its HTTPS API:\n\
             \x20 vendor     {} pinned, key {}\n\
             \x20 package    {}\n\
             \x20            {} seats of {}, until {}\n\
             \x20 checkout   {kind} seat for alice@bmw.com, expires {}\n\
             \x20            {}\n\
             \x20 heartbeat  renewed, expires {}\n\
             \x20 return     after {}, cost {:.2}\n\n",
            self.vendor.vendor_id,
            short(&self.vendor.fingerprint),
            self.package.package_id,
            self.package.total,
            self.package.product_id,
            day(&self.package.valid_until.to_string()),
            self.checkout.expires_at,
            self.checkout.lease_id,
            self.heartbeat.expires_at,
            self.returned.lease_duration,
            self.returned.total_cost.0,
        )
    }
}

/// The shell lines: a token, a checkout, a heartbeat, a return. POSIX sh, curl and sed. The
/// answers are compact JSON, so that a sed that knows one field's name is enough.
fn tour(place: &Place) -> String {
    let Some(app) = &place.state.app else { return String::new() };
    let url = place.state.gateway_url(1);
    let other = place.state.gateway_url(place.state.nodes.min(2));
    let ca = shell_quoted(&place.ca_cert().display().to_string());
    let pick = |field: &str| format!("sed -n 's/.*\"{field}\":\"\\([^\"]*\\)\".*/\\1/p'");
    let (client_id, secret) = (&app.client_id, &app.client_secret);
    let headers = "  -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\";
    let trust = format!("  --cacert {ca} \\");
    let lines = [
        format!("TOKEN=$(curl {url}/oauth/token \\"),
        trust.clone(),
        "  -d grant_type=client_credentials \\".to_owned(),
        format!("  -d client_id={client_id} \\"),
        format!("  -d client_secret={secret} \\"),
        format!("  -d 'scope={SCOPE}' \\"),
        format!("  -sS | {})", pick("access_token")),
        String::new(),
        format!("LEASE=$(curl -sS {url}/api/v1/licenses/checkout \\"),
        trust.clone(),
        headers.to_owned(),
        format!("  -d '{{\"product_id\":\"{PRODUCT_ID}\",\"user\":\"bob@bmw.com\","),
        "\"hostname\":\"dev-workstation-043\",\"metadata\":{\"version\":\"8.2.1\"}}')".to_owned(),
        "echo \"$LEASE\"".to_owned(),
        format!("LEASE_ID=$(echo \"$LEASE\" | {})", pick("lease_id")),
        format!("RENEWAL=$(echo \"$LEASE\" | {})", pick("renewal_token")),
        String::new(),
        format!("curl -sS -X PUT {other}/api/v1/licenses/$LEASE_ID/heartbeat \\"),
        trust.clone(),
        headers.to_owned(),
        "  -d \"{\\\"renewal_token\\\":\\\"$RENEWAL\\\",\\\"still_active\\\":true}\"; echo"
            .to_owned(),
        String::new(),
        format!("curl -sS {url}/api/v1/licenses/$LEASE_ID/return \\"),
        trust,
        headers.to_owned(),
        "  -d \"{\\\"lease_id\\\":\\\"$LEASE_ID\\\"}\"; echo".to_owned(),
    ];
    lines.join("\n") + "\n"
}

/// The vendor's key of an earlier start, or a new one.
async fn vendor_key(place: &Place) -> Result<PrivateKey> {
    let path = place.vendor_private_key();
    match fs::read_to_string(&path) {
        Ok(text) => PrivateKey::from_pkcs8_pem(&text)
            .map_err(|error| failed(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = tokio::task::spawn_blocking(|| PrivateKey::generate_rsa(RsaSize::Bits3072))
                .await
                .map_err(|error| failed(format!("making the vendor's key failed: {error}")))?
                .map_err(|error| failed(config::chain(&error)))?;
            let private = key.to_pkcs8_pem().map_err(|error| failed(config::chain(&error)))?;
            let public = key.public_key().map_err(|error| failed(config::chain(&error)))?;
            write(&place.vendor_public_key(), &public.to_pem())?;
            write(&path, private.expose())?;
            Ok(key)
        }
        Err(error) => Err(failed(format!("{}: {}", path.display(), io_reason(&error)))),
    }
}

async fn pin(api: &Api, key: &PrivateKey) -> Result<VendorView> {
    let public = key.public_key().map_err(|error| failed(config::chain(&error)))?;
    let body = json!({
        "vendor_id": VENDOR_ID,
        "name": "Vector Informatik GmbH",
        "public_key": public.to_pem(),
    });
    let expected = &[StatusCode::CREATED, StatusCode::OK];
    api.call(As::Admin, Method::POST, "/admin/vendors", Body::Json(body), expected).await
}

/// Signs the sample, valid for a year from today, unless an earlier start has; imports it.
async fn import(
    place: &mut Place,
    api: &Api,
    key: &PrivateKey,
    clock: &dyn Clock,
) -> Result<ImportResponse> {
    if place.state.package.is_empty() {
        let today = jiff::Timestamp::from_millisecond(clock.wall_ms())
            .map(|now| now.to_zoned(jiff::tz::TimeZone::UTC).date())
            .map_err(|_| failed("the machine's clock shows no usable date"))?;
        let midnight_ms = |date: jiff::civil::Date| {
            date.to_zoned(jiff::tz::TimeZone::UTC).map(|day| day.timestamp().as_millisecond())
        };
        let dates = today
            .checked_add(jiff::Span::new().years(1))
            .and_then(|end| Ok((midnight_ms(today)?, midnight_ms(end)? - 1000)));
        let (start_ms, end_ms) =
            dates.map_err(|_| failed("the machine's clock shows no usable date"))?;
        let document = sample_document(start_ms, end_ms, BORROWING);
        let signed = sign_document(document.as_bytes(), key)
            .map_err(|error| failed(config::chain(&error)))?;
        PACKAGE_ID.clone_into(&mut place.state.package);
        write(&place.package_file(), &signed)?;
        place.save_state()?;
    }
    let path = place.package_file();
    let document = fs::read_to_string(&path)
        .map_err(|error| failed(format!("{}: {}", path.display(), io_reason(&error))))?;
    let form = ImportForm { package: document.into(), vendor_public_key: None };
    let expected = &[StatusCode::CREATED, StatusCode::OK];
    api.call(As::Admin, Method::POST, "/admin/licenses/import", json(&form)?, expected).await
}

/// The application of an earlier start, or a new one, kept at once: its secret is shown only now.
async fn register(place: &mut Place, api: &Api) -> Result<AppState> {
    if let Some(app) = &place.state.app {
        return Ok(app.clone());
    }
    let body = json!({
        "name": "DaVinci Configurator SE",
        "product_id": PRODUCT_ID,
        "vendor_id": VENDOR_ID,
    });
    let expected = &[StatusCode::CREATED, StatusCode::OK];
    let ask =
        || api.call(As::Admin, Method::POST, "/admin/apps", Body::Json(body.clone()), expected);
    let app: RegisterAppResponse = match ask().await {
        // The answer with the secret was lost, and it is given once only: register another one.
        Err(DevError::Refused(_)) => ask().await?,
        answered => answered?,
    };
    let app = AppState {
        app_id: app.app_id.clone(),
        client_id: app.client_id.clone(),
        client_secret: app.client_secret.expose().to_owned(),
        product_id: PRODUCT_ID.to_owned(),
    };
    place.state.app = Some(app.clone());
    place.save_state()?;
    Ok(app)
}

fn write(path: &Path, text: &str) -> Result<()> {
    replace_file(&RealDisk, path, text.as_bytes())
        .map_err(|error| failed(format!("{}: {}", path.display(), io_reason(&error))))
}

/// How the user called this program.
pub(crate) fn program() -> String {
    std::env::args().next().map_or_else(|| "leasehold".to_owned(), |name| shell_quoted(&name))
}

/// The command line finds the context file of the default directory by itself.
fn context_option(place: &Place) -> String {
    if Path::new("leasehold-dev").canonicalize().is_ok_and(|default| default == place.dir) {
        return String::new();
    }
    format!("--context {} ", shell_quoted(&format!("{}/context.toml", place.shown())))
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(23).chain("…".chars()).collect()
}

fn day(time: &str) -> &str {
    time.split('T').next().unwrap_or(time)
}

const PACKAGE_ID: &str = "vec-davinci-se-bmw-2025-001";
const PRODUCT_ID: &str = "davinci-configurator-se";
const SCOPE: &str = "license:checkout license:return";
/// What the sample allows of borrowing: up to a week, and five seats stay for those online.
const BORROWING: &[(&str, u32)] = &[("borrow_max_seconds", 604_800), ("borrow_online_reserve", 5)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        for (text, quoted) in [
            ("/srv/dev/ca.pem", "/srv/dev/ca.pem"),
            ("/srv/my dev", "'/srv/my dev'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quoted(text), quoted);
        }
    }
}

//! License keys: issue, list, show, change, rotate.
//!
//! A key is made here, shown once in the answer that made it, and known from then on by its MAC. A
//! repeat of the call under one idempotency key draws another key, finds that it is not the one in
//! force, and says so instead of showing one that does not work.

use http::StatusCode;
use lease::command::Command;
use lease::ids::{ClientId, LicenseId};
use lease::license::{
    ChangeLicense, IssueLicense, KeyRow, LicenseChange, LicenseRow, LicenseTerms,
};
use protocol::cloud::admin::{
    IssueLicenseRequest, IssuedLicenseResponse, LicenseList, LicenseProtocol, LicenseQuery,
    ReasonRequest,
};
use protocol::cloud::problem::Problem;
use protocol::secret::Disclosed;
use storage::seam::Entropy;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;
use zeroize::Zeroizing;

use super::{clients, cursor, done, in_path, not_found, page, plan, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{license_key_mac, parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::Shared;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    LicenseQuery::into_params(|| None)
}

/// `POST /admin/licenses`
pub(crate) async fn issue(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: IssueLicenseRequest = call.json()?;
    request.check()?;
    let request_id = call.request_id(&request);
    let client = match (&request.client_id, &request.email) {
        (Some(text), _) => Some(ClientId(
            parse_uuid(text).ok_or_else(|| Failure::field("client_id", "not a client id"))?,
        )),
        (None, Some(email)) => Some(clients::find_or_add(shared, call, email).await?),
        (None, None) => None,
    };
    let product = {
        let ledger = shared.read(call).await?;
        let package =
            ledger.package(&request.package_id).ok_or_else(crate::view::unknown_package)?;
        package.terms.product.clone()
    };
    let key = NewKey::draw(&*shared.context.entropy, request.protocol, client, &request.email);
    // The call's key names the license, so that a repeat finds the one that was issued.
    let license =
        LicenseId(uuid::Builder::from_random_bytes(request_id.scope).into_uuid().as_u128());
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let valid_from_ms = request.valid_from.map_or(now_ms, |from| from.unix_ms);
    let days_ms = request.duration_days.map(|days| i64::from(days) * 86_400_000);
    let valid_until_ms = request
        .valid_until
        .map(|until| until.unix_ms)
        .or(days_ms.map(|days_ms| valid_from_ms.saturating_add(days_ms)));
    let key_row = key.row(&keys);
    let mac = key_row.mac;
    let command = Command::IssueLicense(Box::new(IssueLicense {
        terms: LicenseTerms {
            license,
            face: view::face(request.protocol),
            package: request.package_id.as_str().into(),
            client,
            organisation: request.organization.as_deref().unwrap_or_default().into(),
            plan: plan::to_ledger(request.plan, request.protocol, &product),
            valid_from_ms,
            valid_until_ms,
            open: request.open,
        },
        key: key_row,
    }));
    done(shared, call, request_id, command).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.license(license).ok_or_else(unknown_license)?;
    if row.key.mac != mac {
        return Err(shown_before(license));
    }
    let body =
        IssuedLicenseResponse { license: view::license(&ledger, row), license_key: key.shown };
    Ok(Reply::json(StatusCode::CREATED, &body))
}

/// `GET /admin/licenses`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: LicenseQuery = call.query()?;
    let after = cursor(query.cursor.as_deref())?.map(LicenseId);
    let client = match query.client_id.as_deref().map(parse_uuid) {
        Some(None) => return Err(Failure::field("client_id", "not a client id")),
        client => client.flatten().map(ClientId),
    };
    let ledger = shared.read(call).await?;
    let fits = |row: &LicenseRow| {
        query.protocol.is_none_or(|protocol| row.terms.face == view::face(protocol))
            && query.package_id.as_deref().is_none_or(|package| *package == *row.terms.package)
            && client.is_none_or(|client| row.terms.client == Some(client))
            && query.state.is_none_or(|state| view::license_state(&ledger, row) == state)
    };
    let (licenses, next) = page(
        ledger.licenses(after),
        query.limit,
        |row| uuid_text(row.terms.license.0),
        |row| fits(row).then(|| view::license(&ledger, row)),
    );
    Ok(Reply::ok(&LicenseList { licenses, next }))
}

/// `GET /admin/licenses/{license_id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let license = in_license_path(call)?;
    let ledger = shared.read(call).await?;
    let row = ledger.license(license).ok_or_else(unknown_license)?;
    Ok(Reply::ok(&view::license(&ledger, row)))
}

/// `POST /admin/licenses/{license_id}/suspend`
pub(crate) async fn suspend(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Suspend).await
}

/// `POST /admin/licenses/{license_id}/resume`
pub(crate) async fn resume(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Resume).await
}

/// `POST /admin/licenses/{license_id}/cancel`
pub(crate) async fn cancel(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Cancel).await
}

/// `POST /admin/licenses/{license_id}/revoke`
pub(crate) async fn revoke(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Revoke).await
}

/// `POST /admin/licenses/{license_id}/reinstate`
pub(crate) async fn reinstate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Reinstate).await
}

/// `POST /admin/licenses/{license_id}/rotate`
pub(crate) async fn rotate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ReasonRequest = call.json_or_default()?;
    let license = in_license_path(call)?;
    let (protocol, client) = {
        let ledger = shared.read(call).await?;
        let row = ledger.license(license).ok_or_else(unknown_license)?;
        (view::license(&ledger, row).protocol, row.terms.client)
    };
    let key = NewKey::draw(&*shared.context.entropy, protocol, client, &None);
    let row = key.row(&keys);
    let mac = row.mac;
    let command = command(license, LicenseChange::RotateKey(row), &request);
    done(shared, call, call.request_id(&request), command).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.license(license).ok_or_else(unknown_license)?;
    if row.key.mac != mac {
        return Err(shown_before(license));
    }
    let body =
        IssuedLicenseResponse { license: view::license(&ledger, row), license_key: key.shown };
    Ok(Reply::ok(&body))
}

async fn change(shared: &Shared, call: &Call, change: LicenseChange) -> Result<Reply, Failure> {
    let request: ReasonRequest = call.json_or_default()?;
    let license = in_license_path(call)?;
    let command = command(license, change, &request);
    done(shared, call, call.request_id(&request), command).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.license(license).ok_or_else(unknown_license)?;
    Ok(Reply::ok(&view::license(&ledger, row)))
}

fn command(license: LicenseId, change: LicenseChange, request: &ReasonRequest) -> Command {
    let reason = request.reason.as_deref().unwrap_or_default().into();
    Command::ChangeLicense(Box::new(ChangeLicense { license, change, reason }))
}

fn in_license_path(call: &Call) -> Result<LicenseId, Failure> {
    Ok(LicenseId(in_path(call, "unknown_license", "No such license.")?))
}

fn unknown_license() -> Failure {
    not_found("unknown_license", "No such license.")
}

fn shown_before(LicenseId(license): LicenseId) -> Failure {
    Problem::new(409, "secret_shown_before", "This was done before.")
        .detail("an earlier request with this key made the license key and showed it; rotate it")
        .with("license_id", uuid_text(license))
        .into()
}

/// A key that was just made.
struct NewKey {
    /// As it is shown.
    shown: Disclosed,
    /// As it is looked up.
    canonical: Zeroizing<String>,
    /// Its last four characters.
    hint: String,
}

impl NewKey {
    /// The forms are the protocols': 40 characters in groups for `device`, opaque for the others.
    fn draw(
        entropy: &dyn Entropy,
        protocol: LicenseProtocol,
        client: Option<ClientId>,
        email: &Option<String>,
    ) -> Self {
        if protocol == LicenseProtocol::Device {
            let mut random = Zeroizing::new([0; protocol::device::key::ENTROPY_BYTES]);
            entropy.fill(&mut *random);
            let client = client.map(|ClientId(client)| uuid_text(client)).unwrap_or_default();
            let email = email.as_deref().unwrap_or_default();
            let key = protocol::device::key::LicenseKey::generate(&random, &client, email);
            return Self {
                shown: Disclosed::new(key.hyphenated().expose().clone()),
                canonical: Zeroizing::new(key.expose().to_owned()),
                hint: key.last_characters(),
            };
        }
        let mut random = Zeroizing::new([0; 16]);
        entropy.fill(&mut *random);
        let key = protocol::deployment::license_key::LicenseKey::generate(&random);
        let text = key.expose();
        Self {
            shown: Disclosed::new(text.to_owned()),
            canonical: Zeroizing::new(text.to_owned()),
            hint: text[text.len() - 4..].to_owned(),
        }
    }

    fn row(&self, keys: &Keys) -> KeyRow {
        KeyRow {
            mac: license_key_mac(&keys.license_keys, &self.canonical),
            hint: self.hint.as_str().into(),
        }
    }
}

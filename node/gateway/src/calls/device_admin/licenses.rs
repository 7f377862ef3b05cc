//! Licenses: list, issue, revoke, reinstate, what is activated under them; and subscriptions, which
//! are licenses that were issued by plan.

use std::collections::BTreeMap;

use http::StatusCode;
use lease::Ledger;
use lease::command::Command;
use lease::ids::{ClientId, Face, LicenseId, Name};
use lease::license::{
    ActivationRow, ActivationState, ChangeLicense, IdentityRow, IssueLicense, KeyRow,
    LicenseChange, LicenseRow, LicenseState, LicenseTerms, Plan,
};
use protocol::device::admin::license::{
    ActivationRecord, AuthorizedUser, CreateLicenseRequest, LicenseView, SubscribeRequest,
    SubscribeResponse, SubscriptionQuery, SubscriptionStatus, SubscriptionView, masked_key,
};
use protocol::device::admin::{self, AdminFault, Kind, ReasonRequest};
use protocol::device::key::{ENTROPY_BYTES, LicenseKey};
use protocol::device::schedule;
use protocol::device::time::LicenseTime;
use protocol::device::wire::ACTIVATED;
use protocol::secret::Disclosed;
use serde::Serialize;
use zeroize::Zeroizing;

use super::plan::{Sold, bare, catalog_of, find_product, kept, package_for};
use super::{MAX_LISTED, changed, clients, fault, field, in_path, shown_before};
use crate::call::Call;
use crate::calls::device::license::{
    self, check_mode, devices, ends_at_ms, entitlements, interval_seconds, is_revoked, ledger_mode,
    plan_id, product_id, revoked_at, time_or_zero,
};
use crate::failure::Failure;
use crate::licensing::{license_key_mac, parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /api/licenses`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let licenses = of_face(&ledger).take(MAX_LISTED).map(|row| view(&ledger, row, None));
    Ok(Reply::ok(&licenses.collect::<Vec<_>>()))
}

/// `POST /api/licenses`
pub(crate) async fn issue(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: CreateLicenseRequest = admin::read(&call.body).map_err(fault)?;
    let client = client_of(&request.client_id)?;
    let mode = request.mode().unwrap_or_default();
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let sold = Sold {
        max_devices: number(request.max_devices),
        check: ledger_mode(mode),
        check_interval_s: u32::try_from(schedule::effective_interval_seconds(Some(
            request.check_interval_seconds,
        )))
        .unwrap_or(u32::MAX),
        trial: false,
    };
    let (plan, package) = {
        let ledger = shared.read(call).await?;
        chosen(&ledger, &request, &sold)?
    };
    let days = Some(number(request.duration_days));
    let order = Order { client, plan, package, days };
    issued(shared, call, &request, order, |ledger, row, key| view(ledger, row, Some(key))).await
}

/// `POST /api/licenses/{license_id}/revoke`
pub(crate) async fn revoke(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Revoke).await
}

/// `POST /api/licenses/{license_id}/reinstate`
pub(crate) async fn reinstate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, LicenseChange::Reinstate).await
}

/// `GET /api/licenses/{license_id}/activations`
pub(crate) async fn activations(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let license = LicenseId(in_path(call, "license_id", Kind::License)?);
    let ledger = shared.read(call).await?;
    let row = known(&ledger, license)?;
    let rows = ledger.activations_of(license).take(MAX_LISTED);
    Ok(Reply::ok(&rows.map(|activation| record(row, activation)).collect::<Vec<_>>()))
}

/// `POST /api/subscribe`
pub(crate) async fn subscribe(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: SubscribeRequest = admin::read(&call.body).map_err(fault)?;
    let client = client_of(&request.client_id)?;
    let order = {
        let ledger = shared.read(call).await?;
        let not_found = |kind| move || fault(AdminFault::NotFound(kind));
        let product =
            find_product(&ledger, &request.product_id).ok_or_else(not_found(Kind::Product))?;
        let catalog = catalog_of(product)?;
        let plan = catalog.plan(&request.plan_id).map_err(fault)?;
        if !plan.is_active {
            return Err(field("plan is not active"));
        }
        let sold = Sold {
            max_devices: request.max_devices.unwrap_or(plan.max_devices),
            check: ledger_mode(plan.check_mode),
            check_interval_s: 0,
            trial: false,
        };
        let package = package_for(&ledger, &request.package_id, Some((&catalog, plan)));
        let days = (plan.duration_days > 0).then_some(plan.duration_days);
        let package = package.ok_or_else(no_package)?;
        Order { client, plan: kept(&catalog, plan, &sold), package, days }
    };
    issued(shared, call, &request, order, |ledger, row, key| SubscribeResponse {
        subscription: subscription(ledger, row),
        license: view(ledger, row, Some(key)),
    })
    .await
}

/// The query of `GET /api/subscriptions`.
pub(crate) fn parameters() -> Vec<utoipa::openapi::path::Parameter> {
    use utoipa::IntoParams;
    SubscriptionQuery::into_params(|| None)
}

/// `GET /api/subscriptions`
pub(crate) async fn subscriptions(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: SubscriptionQuery = call.query()?;
    let only = match query.client_id.as_str() {
        "" => None,
        text => Some(client_of(text)?),
    };
    let ledger = shared.read(call).await?;
    let by_plan = of_face(&ledger)
        .filter(|row| row.terms.plan.id != 0)
        .filter(|row| only.is_none() || row.terms.client == only);
    let views = by_plan.take(MAX_LISTED).map(|row| subscription(&ledger, row));
    Ok(Reply::ok(&views.collect::<Vec<_>>()))
}

/// What is to be issued.
struct Order {
    client: ClientId,
    plan: Plan,
    package: Name,
    /// `None`: as long as the package.
    days: Option<u32>,
}

async fn issued<R: Serialize, V: Serialize>(
    shared: &Shared,
    call: &Call,
    request: &R,
    order: Order,
    show: impl Fn(&Ledger, &LicenseRow, &LicenseKey) -> V,
) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let entropy = &*shared.context.entropy;
    let (email, now_ms) = {
        let ledger = shared.context.cluster.ledger();
        let client = ledger.client(order.client);
        let client = client.ok_or_else(|| fault(AdminFault::NotFound(Kind::Client)))?;
        (clients::address(&ledger, client), ledger.clock().civil_ms)
    };
    let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
    entropy.fill(&mut *random);
    let key = LicenseKey::generate(&random, &uuid_text(order.client.0), &email);
    let request_id = call.request_id(request);
    // The call's key names the license, so that a repeat finds the one that was issued.
    let license =
        LicenseId(uuid::Builder::from_random_bytes(request_id.scope).into_uuid().as_u128());
    let mac = license_key_mac(&keys.license_keys, key.expose());
    let from_ms = shared.context.cluster.displayed_civil_ms();
    let until_ms = order.days.map(|days| from_ms.saturating_add(i64::from(days) * DAY_MS));
    let issue = IssueLicense {
        terms: LicenseTerms {
            license,
            face: Face::Device,
            package: order.package,
            client: Some(order.client),
            organisation: "".into(),
            plan: order.plan,
            // The ledger's own clock, so that the license is valid at once everywhere.
            valid_from_ms: now_ms,
            valid_until_ms: until_ms,
            open: false,
        },
        key: KeyRow { mac, hint: key.last_characters().into() },
    };
    let command = Command::IssueLicense(Box::new(issue));
    changed(shared, call, request_id, command, Kind::License).await?;
    let ledger = shared.context.cluster.ledger();
    let row = known(&ledger, license)?;
    if row.key.mac != mac {
        // A repeat drew another key, which nobody may be shown: it does not work.
        return Err(shown_before(&format!("the key of license {}", uuid_text(license.0))));
    }
    Ok(Reply::json(StatusCode::CREATED, &show(&ledger, row, &key)))
}

/// Plan and package of a request. A license with a plan's name alone gets that plan of whichever
/// product has one, as in the protocol's first server.
fn chosen(
    ledger: &Ledger,
    request: &CreateLicenseRequest,
    sold: &Sold,
) -> Result<(Plan, Name), Failure> {
    let asked = if request.plan_id.is_empty() { &request.plan_slug } else { &request.plan_id };
    let mut found = None;
    if request.product_id.is_empty() {
        for row in ledger.products() {
            let catalog = catalog_of(row)?;
            if let Ok(plan) = catalog.plan(asked).cloned() {
                found = Some((catalog, plan));
                break;
            }
        }
        if found.is_none() && !request.plan_id.is_empty() {
            return Err(fault(AdminFault::NotFound(Kind::Plan)));
        }
    } else {
        let row = find_product(ledger, &request.product_id)
            .ok_or_else(|| fault(AdminFault::NotFound(Kind::Product)))?;
        let catalog = catalog_of(row)?;
        let plan = catalog.plan(asked).map_err(fault)?.clone();
        found = Some((catalog, plan));
    }
    let named = found.as_ref().map(|(catalog, plan)| (catalog, plan));
    let package = package_for(ledger, &request.package_id, named).ok_or_else(no_package)?;
    Ok(match &found {
        Some((catalog, plan)) => (kept(catalog, plan, sold), package),
        None => (bare(&request.plan_slug, sold), package),
    })
}

async fn change(shared: &Shared, call: &Call, change: LicenseChange) -> Result<Reply, Failure> {
    let request = ReasonRequest::read(&call.body).map_err(fault)?;
    let license = LicenseId(in_path(call, "license_id", Kind::License)?);
    known(&*shared.read(call).await?, license)?;
    let reason = request.reason.as_str().into();
    let command = Command::ChangeLicense(Box::new(ChangeLicense { license, change, reason }));
    changed(shared, call, call.request_id(&request), command, Kind::License).await?;
    let ledger = shared.context.cluster.ledger();
    Ok(Reply::ok(&view(&ledger, known(&ledger, license)?, None)))
}

/// Licenses of this face; those of others are not this API's.
fn of_face(ledger: &Ledger) -> impl Iterator<Item = &LicenseRow> {
    ledger.licenses(None).filter(|row| row.terms.face == Face::Device)
}

fn known(ledger: &Ledger, license: LicenseId) -> Result<&LicenseRow, Failure> {
    let row = ledger.license(license).filter(|row| row.terms.face == Face::Device);
    row.ok_or_else(|| fault(AdminFault::NotFound(Kind::License)))
}

fn client_of(text: &str) -> Result<ClientId, Failure> {
    parse_uuid(text).map(ClientId).ok_or_else(|| fault(AdminFault::NotFound(Kind::Client)))
}

fn no_package() -> Failure {
    field("package_id: no package in force is for this product; name one")
}

fn view(ledger: &Ledger, row: &LicenseRow, key: Option<&LicenseKey>) -> LicenseView {
    let LicenseTerms { license, client, plan, package, .. } = &row.terms;
    let owner = client.and_then(|client| ledger.client(client));
    let devices = devices(ledger, *license);
    let device_count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    let last_check = devices.iter().map(|device| device.last_seen_at).max();
    let mode = check_mode(plan.check);
    let interval_seconds = interval_seconds(plan);
    let due = |at: LicenseTime| schedule::next_check_ms(mode, interval_seconds, at.unix_ms());
    let next_check = devices.iter().filter_map(|device| due(device.last_seen_at)).min();
    let trial = license::trial(ledger, row);
    LicenseView {
        id: uuid_text(license.0),
        client_id: client.map(|client| uuid_text(client.0)).unwrap_or_default(),
        email: owner.map(|owner| clients::address(ledger, owner)).unwrap_or_default(),
        product_id: product_id(plan),
        plan_slug: plan.slug.to_string(),
        plan_id: plan_id(plan),
        license_key: match key {
            Some(key) => Disclosed::new(key.hyphenated().expose().clone()),
            None => masked_key(&row.key.hint),
        },
        is_revoked: is_revoked(row),
        revoked_at: revoked_at(row),
        revoke_reason: if is_revoked(row) { row.reason.to_string() } else { String::new() },
        is_activated: row.last_activated_at_ms.is_some(),
        issued_at: LicenseTime::from_unix_ms(row.issued_at_ms),
        last_activated_at: time_or_zero(row.last_activated_at_ms),
        expires_at: LicenseTime::from_unix_ms(ends_at_ms(ledger, row)),
        current_activations: device_count,
        max_devices: plan.max_activations,
        device_count,
        devices: devices.into_iter().map(|it| (it.fingerprint.clone(), it)).collect(),
        authorized_users: authorized_users(ledger, row),
        check_mode: mode,
        check_interval_seconds: interval_seconds,
        next_check_at: time_or_zero(next_check),
        last_check_at: last_check.unwrap_or_default(),
        entitlements: entitlements(plan),
        is_trial: plan.trial,
        trial_started_at: time_or_zero(trial.map(|trial| trial.started_at_ms)),
        trial_device_fingerprint: trial.map(|trial| trial.holder.to_string()),
        package_id: Some(package.to_string()),
        is_suspended: row.state == LicenseState::Suspended,
    }
}

fn authorized_users(ledger: &Ledger, row: &LicenseRow) -> BTreeMap<String, AuthorizedUser> {
    let owner = row.terms.client.map(|client| uuid_text(client.0)).unwrap_or_default();
    let user = |identity: &IdentityRow| {
        let email = ledger.subject(identity.contact).map(|(_, name)| name.to_owned())?;
        let user = AuthorizedUser {
            email: email.clone(),
            client_id: uuid_text(identity.subject_client.0),
            provider_client_id: owner.clone(),
            granted_at: LicenseTime::from_unix_ms(identity.granted_at_ms),
        };
        Some((email, user))
    };
    ledger.identities_of(row.terms.license).filter_map(user).collect()
}

/// One row for each activation as the ledger has it. Neither addresses nor programs are kept.
fn record(license: &LicenseRow, row: &ActivationRow) -> ActivationRecord {
    let client = row.subject_client.or(license.terms.client);
    let message = match row.state {
        ActivationState::Active => ACTIVATED,
        ActivationState::Released => "Device released",
        ActivationState::Revoked => "Device revoked",
    };
    ActivationRecord {
        id: uuid_text(row.activation.0),
        license_id: uuid_text(row.license.0),
        client_id: client.map(|client| uuid_text(client.0)).unwrap_or_default(),
        device_fingerprint: row.holder.to_string(),
        ip_address: String::new(),
        user_agent: String::new(),
        success: row.state == ActivationState::Active,
        message: message.to_owned(),
        timestamp: LicenseTime::from_unix_ms(row.activated_at_ms),
    }
}

fn subscription(ledger: &Ledger, row: &LicenseRow) -> SubscriptionView {
    let LicenseTerms { license, client, plan, .. } = &row.terms;
    let now_ms = ledger.clock().civil_ms;
    let ends_ms = ends_at_ms(ledger, row);
    let status = match row.state {
        LicenseState::Revoked | LicenseState::Cancelled => SubscriptionStatus::Cancelled,
        _ if now_ms > ends_ms => SubscriptionStatus::Expired,
        _ if now_ms < row.terms.valid_from_ms => SubscriptionStatus::Pending,
        LicenseState::Active | LicenseState::Suspended => SubscriptionStatus::Active,
    };
    let issued_at = LicenseTime::from_unix_ms(row.issued_at_ms);
    SubscriptionView {
        id: uuid_text(license.0),
        client_id: client.map(|client| uuid_text(client.0)).unwrap_or_default(),
        product_id: product_id(plan).unwrap_or_default(),
        plan_id: plan_id(plan).unwrap_or_default(),
        license_id: uuid_text(license.0),
        status,
        start_date: LicenseTime::from_unix_ms(row.terms.valid_from_ms),
        end_date: LicenseTime::from_unix_ms(ends_ms),
        billing_cycle: billing_cycle(ledger, plan).unwrap_or_default(),
        created_at: issued_at,
        updated_at: LicenseTime::from_unix_ms(row.changed_at_ms),
    }
}

/// What the catalog says of the plan now; the license keeps none.
fn billing_cycle(ledger: &Ledger, plan: &Plan) -> Option<String> {
    let product = plan.product_id.and_then(|product| ledger.product(product))?;
    let catalog = catalog_of(product).ok()?;
    catalog.plan(&uuid_text(plan.id)).ok().map(|plan| plan.billing_cycle.clone())
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

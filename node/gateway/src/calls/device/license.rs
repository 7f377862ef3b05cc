//! A license as the `device` protocol shows it, made of the ledger's rows.
//!
//! Every part of a view that devices and administrators share is here: entitlements from the plan
//! that the license keeps, devices in force, check modes, times.

use std::collections::BTreeMap;

use lease::Ledger;
use lease::ids::LicenseId;
use lease::license::{
    Activated, ActivationRow, ActivationState, CheckMode as LedgerMode, LicenseRow, LicenseState,
    Permission as LedgerPermission, Plan, PlanFeature, PlanScope, TrialRow,
};
use protocol::device::key::LicenseKey;
use protocol::device::payload::{
    Device, Entitlements, FeatureGrant, LicenseData, Permission, Relationship, ScopeGrant,
};
use protocol::device::schedule::{self, CheckMode};
use protocol::device::time::LicenseTime;
use protocol::secret::Disclosed;

use crate::licensing::uuid_text;

/// Who asks for a license, and with what.
pub(super) struct Asker<'a> {
    /// Their address, in lower case.
    pub(super) email: &'a str,
    /// Their device.
    pub(super) fingerprint: &'a str,
    /// The key they showed.
    pub(super) key: &'a LicenseKey,
}

/// The payload for a device; `None` when the license is not there.
pub(super) fn data(
    ledger: &Ledger,
    activated: &Activated,
    asker: &Asker<'_>,
) -> Option<LicenseData> {
    let row = ledger.license(activated.license)?;
    let plan = &row.terms.plan;
    let owner = row.terms.client.and_then(|client| ledger.client(client));
    let owner_id = owner.map(|owner| uuid_text(owner.client.0)).unwrap_or_default();
    let is_owner = owner.is_some_and(|owner| {
        ledger.subject(owner.email).is_some_and(|(_, name)| name == asker.email)
    });
    let delegate = ledger.identity(activated.license, asker.email).filter(|_| !is_owner);
    let subject = delegate.map(|row| uuid_text(row.subject_client.0));
    let devices = devices(ledger, activated.license);
    let device_count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    let mode = check_mode(plan.check);
    let interval_seconds = interval_seconds(plan);
    let now_ms = activated.civil_ms;
    let trial = trial_of(ledger, row, asker.fingerprint);
    let time = LicenseTime::from_unix_ms;
    let next = schedule::next_check_ms(mode, interval_seconds, now_ms);
    Some(LicenseData {
        check_interval_seconds: interval_seconds,
        check_mode: mode,
        client_id: owner_id.clone(),
        current_activations: device_count,
        device_count,
        devices,
        email: asker.email.to_owned(),
        entitlements: entitlements(plan),
        expires_at: time(activated.valid_until_ms),
        granted_by: subject.as_ref().map(|_| owner_id.clone()),
        id: uuid_text(row.terms.license.0),
        is_revoked: is_revoked(row),
        is_trial: plan.trial,
        issued_at: time(row.issued_at_ms),
        last_activated_at: time_or_zero(row.last_activated_at_ms),
        last_check_at: (mode != CheckMode::None).then(|| time(now_ms)),
        license_key: Disclosed::new(asker.key.hyphenated().expose().clone()),
        max_devices: plan.max_activations,
        next_check_at: next.map(time),
        plan_id: plan_id(plan),
        plan_slug: plan.slug.to_string(),
        product_id: product_id(plan),
        relationship: match subject {
            Some(_) => Relationship::Delegated,
            None => Relationship::Direct,
        },
        revoke_reason: if is_revoked(row) { row.reason.to_string() } else { String::new() },
        revoked_at: revoked_at(row),
        subject_client_id: subject.unwrap_or(owner_id),
        trial_device_fingerprint: trial.map(|trial| trial.holder.to_string()),
        trial_expires_at: trial.map(|trial| time(trial.ends_at_ms)),
        trial_started_at: trial.map(|trial| time(trial.started_at_ms)),
    })
}

/// Devices in force, in order of activation.
pub(crate) fn devices(ledger: &Ledger, license: LicenseId) -> Vec<Device> {
    ledger.activations_of(license).filter(|row| is_in_force(row)).map(device).collect()
}

fn device(row: &ActivationRow) -> Device {
    Device {
        fingerprint: row.holder.to_string(),
        activated_at: LicenseTime::from_unix_ms(row.activated_at_ms),
        last_seen_at: LicenseTime::from_unix_ms(row.last_seen_at_ms),
    }
}

fn is_in_force(row: &ActivationRow) -> bool {
    row.state == ActivationState::Active
}

/// The trial that a license is, found by the device it was begun on; `None` for other licenses.
fn trial_of<'a>(ledger: &'a Ledger, row: &LicenseRow, fingerprint: &str) -> Option<&'a TrialRow> {
    let license = row.terms.license;
    let own = ledger.trial(fingerprint).filter(|trial| trial.license == license);
    let of_any = || {
        let holders = ledger.activations_of(license).filter_map(|row| ledger.trial(&row.holder));
        holders.into_iter().find(|trial| trial.license == license)
    };
    if row.terms.plan.trial { own.or_else(of_any) } else { None }
}

/// The trial that a license is, whatever device it was begun on.
pub(crate) fn trial<'a>(ledger: &'a Ledger, row: &LicenseRow) -> Option<&'a TrialRow> {
    trial_of(ledger, row, "")
}

/// When a license ends: with its validity or with its package's, whichever is first.
pub(crate) fn ends_at_ms(ledger: &Ledger, row: &LicenseRow) -> i64 {
    ledger.license_validity(&row.terms).1
}

/// Whether it was revoked or cancelled, as devices are told it.
pub(crate) fn is_revoked(row: &LicenseRow) -> bool {
    matches!(row.state, LicenseState::Revoked | LicenseState::Cancelled)
}

/// When that was; the zero time while it is not.
pub(crate) fn revoked_at(row: &LicenseRow) -> LicenseTime {
    time_or_zero(is_revoked(row).then_some(row.changed_at_ms))
}

/// A time that may never have come.
pub(crate) fn time_or_zero(unix_ms: Option<i64>) -> LicenseTime {
    unix_ms.map_or(LicenseTime::ZERO, LicenseTime::from_unix_ms)
}

/// The plan's id in the catalog.
pub(crate) fn plan_id(plan: &Plan) -> Option<String> {
    (plan.id != 0).then(|| uuid_text(plan.id))
}

/// The product's id in the catalog; its name where it is not from there.
pub(crate) fn product_id(plan: &Plan) -> Option<String> {
    let by_name = || (!plan.product.is_empty()).then(|| plan.product.to_string());
    plan.product_id.map(|product| uuid_text(product.0)).or_else(by_name)
}

/// The interval of a plan that has one.
pub(crate) fn interval_seconds(plan: &Plan) -> Option<u64> {
    (plan.check == LedgerMode::Custom)
        .then(|| schedule::effective_interval_seconds(Some(plan.check_interval_s.into())))
}

/// What a plan includes; `None` for one of no product and without features.
pub(crate) fn entitlements(plan: &Plan) -> Option<Entitlements> {
    let is_bare = plan.product.is_empty() && plan.product_id.is_none() && plan.features.is_empty();
    (!is_bare).then(|| Entitlements {
        product_id: product_id(plan).unwrap_or_default(),
        product_slug: plan.product.to_string(),
        plan_id: plan_id(plan).unwrap_or_default(),
        plan_slug: plan.slug.to_string(),
        features: plan.features.iter().map(feature_grant).collect(),
    })
}

fn feature_grant(feature: &PlanFeature) -> (String, FeatureGrant) {
    let grant = FeatureGrant {
        feature_id: id_or_slug(feature.id, &feature.slug),
        feature_slug: feature.slug.to_string(),
        category: feature.category.to_string(),
        enabled: feature.enabled,
        scopes: feature.scopes.iter().map(scope_grant).collect(),
    };
    (feature.slug.to_string(), grant)
}

fn scope_grant(scope: &PlanScope) -> (String, ScopeGrant) {
    // Written by us; what is no JSON is shown to nobody.
    let metadata: BTreeMap<String, String> =
        serde_json::from_str(&scope.metadata).unwrap_or_default();
    let grant = ScopeGrant {
        scope_id: id_or_slug(scope.id, &scope.slug),
        scope_slug: scope.slug.to_string(),
        permission: match scope.permission {
            LedgerPermission::Allow => Permission::Allow,
            LedgerPermission::Deny => Permission::Deny,
            LedgerPermission::Limit => Permission::Limit,
        },
        limit: scope.limit,
        metadata,
    };
    (scope.slug.to_string(), grant)
}

fn id_or_slug(id: u128, slug: &str) -> String {
    if id == 0 { slug.to_owned() } else { uuid_text(id) }
}

/// A check mode as the wire has it.
pub(crate) fn check_mode(mode: LedgerMode) -> CheckMode {
    match mode {
        LedgerMode::None => CheckMode::None,
        LedgerMode::EachExecution => CheckMode::EachExecution,
        LedgerMode::Monthly => CheckMode::Monthly,
        LedgerMode::Yearly => CheckMode::Yearly,
        LedgerMode::Custom => CheckMode::Custom,
    }
}

/// A check mode as the ledger has it.
pub(crate) fn ledger_mode(mode: CheckMode) -> LedgerMode {
    match mode {
        CheckMode::None => LedgerMode::None,
        CheckMode::EachExecution => LedgerMode::EachExecution,
        CheckMode::Monthly => LedgerMode::Monthly,
        CheckMode::Yearly => LedgerMode::Yearly,
        CheckMode::Custom => LedgerMode::Custom,
    }
}

//! Licenses, clients and activations as operators see them.

use lease::Ledger;
use lease::ids::{ClientId, Face, SubjectRef};
use lease::license::{
    ActivationRow, ActivationState as LedgerActivationState, ClientRow, LicenseRow,
    LicenseState as LedgerLicenseState,
};
use protocol::cloud::admin::{
    ActivationState, ActivationView, ClientState, ClientView, LicenseProtocol, LicenseState,
    LicenseView,
};
use protocol::wire::UtcTime;

use super::plan;
use crate::keys::Keys;
use crate::licensing::uuid_text;
use crate::view;

pub(super) fn face(protocol: LicenseProtocol) -> Face {
    match protocol {
        LicenseProtocol::Device => Face::Device,
        LicenseProtocol::Deployment => Face::Deployment,
        LicenseProtocol::Evaluation => Face::Evaluation,
    }
}

fn protocol(face: Face) -> LicenseProtocol {
    match face {
        // The classic face has no license keys.
        Face::Device | Face::Classic => LicenseProtocol::Device,
        Face::Deployment => LicenseProtocol::Deployment,
        Face::Evaluation => LicenseProtocol::Evaluation,
    }
}

pub(super) fn license_state(ledger: &Ledger, license: &LicenseRow) -> LicenseState {
    let (first, last) = ledger.license_validity(&license.terms);
    let civil_ms = ledger.clock().civil_ms;
    match license.state {
        LedgerLicenseState::Suspended => LicenseState::Suspended,
        LedgerLicenseState::Revoked => LicenseState::Revoked,
        LedgerLicenseState::Cancelled => LicenseState::Cancelled,
        LedgerLicenseState::Active if civil_ms < first => LicenseState::NotYetValid,
        LedgerLicenseState::Active if civil_ms > last => LicenseState::Expired,
        LedgerLicenseState::Active => LicenseState::Active,
    }
}

pub(super) fn license(ledger: &Ledger, license: &LicenseRow) -> LicenseView {
    let terms = &license.terms;
    let (first, last) = ledger.license_validity(&license.terms);
    let held = ledger.activations_of(terms.license).filter_map(|row| row.lease);
    let seats = held.filter_map(|lease| Some(ledger.lease(&lease)?.quantity)).sum();
    let email = match terms.client {
        Some(client) => ledger.client(client).and_then(|row| name(ledger, row.email)),
        None => name(ledger, license.contact),
    };
    LicenseView {
        license_id: uuid_text(terms.license.0),
        protocol: protocol(terms.face),
        state: license_state(ledger, license),
        package_id: terms.package.to_string(),
        plan: plan::to_wire(&terms.plan),
        client_id: terms.client.map(|ClientId(client)| uuid_text(client)),
        email,
        organization: text(&terms.organisation),
        key_hint: license.key.hint.to_string(),
        token_version: license.token_version,
        valid_from: UtcTime::from_unix_ms(first),
        valid_until: UtcTime::from_unix_ms(last),
        open: terms.open,
        issued_at: UtcTime::from_unix_ms(license.issued_at_ms),
        changed_at: UtcTime::from_unix_ms(license.changed_at_ms),
        reason: text(&license.reason),
        last_activated_at: license.last_activated_at_ms.map(UtcTime::from_unix_ms),
        terms_accepted_at: license.terms_accepted_at_ms.map(UtcTime::from_unix_ms),
        activations: ledger.active_activations(terms.license),
        seats,
    }
}

pub(super) fn client(ledger: &Ledger, client: &ClientRow) -> ClientView {
    let licenses = ledger.licenses_of_client(client.client).count();
    ClientView {
        client_id: uuid_text(client.client.0),
        email: name(ledger, client.email),
        state: client_state(client),
        created_at: UtcTime::from_unix_ms(client.created_at_ms),
        updated_at: UtcTime::from_unix_ms(client.updated_at_ms),
        banned_at: client.banned_at_ms.map(UtcTime::from_unix_ms),
        ban_reason: text(&client.ban_reason),
        licenses: u32::try_from(licenses).unwrap_or(u32::MAX),
    }
}

pub(super) fn client_state(client: &ClientRow) -> ClientState {
    match client.banned_at_ms {
        Some(_) => ClientState::Banned,
        None => ClientState::Active,
    }
}

/// Its last valid millisecond: its own, its license's or its package's.
pub(super) fn activation_ends_ms(
    ledger: &Ledger,
    activation: &ActivationRow,
    license: &LicenseRow,
) -> i64 {
    let (_, last) = ledger.license_validity(&license.terms);
    activation.valid_until_ms.map_or(last, |own| own.min(last))
}

pub(super) fn activation_state(
    ledger: &Ledger,
    activation: &ActivationRow,
    license: &LicenseRow,
) -> ActivationState {
    let is_over = ledger.clock().civil_ms > activation_ends_ms(ledger, activation, license);
    let holds = activation.lease.is_some_and(|lease| ledger.lease(&lease).is_some());
    match activation.state {
        LedgerActivationState::Revoked => ActivationState::Revoked,
        _ if is_over => ActivationState::Expired,
        LedgerActivationState::Active if holds => ActivationState::Active,
        LedgerActivationState::Active | LedgerActivationState::Released => {
            ActivationState::Released
        }
    }
}

/// `None` when its license is gone, which does not happen.
pub(super) fn activation(
    keys: &Keys,
    ledger: &Ledger,
    row: &ActivationRow,
) -> Option<ActivationView> {
    let license = ledger.license(row.license)?;
    let face = license.terms.face;
    let seat = row.lease.and_then(|lease| ledger.lease(&lease));
    let hold = row.lease.and_then(|lease| ledger.hold(lease));
    Some(ActivationView {
        activation_id: uuid_text(row.activation.0),
        protocol: protocol(face),
        state: activation_state(ledger, row, license),
        license_id: uuid_text(row.license.0),
        package_id: license.terms.package.to_string(),
        holder: row.holder.to_string(),
        lease_id: seat.as_ref().map(|seat| view::lease_id_text(keys, seat.lease)),
        lease_type: seat.as_ref().map(|seat| view::lease_type(seat.class)),
        seats: seat.as_ref().map_or(0, |seat| seat.quantity),
        offline_until: hold.map(|hold| UtcTime::from_unix_ms(hold.ends_ms)),
        email: name(ledger, row.contact),
        client_id: row.subject_client.map(|ClientId(client)| uuid_text(client)),
        activated_at: UtcTime::from_unix_ms(row.activated_at_ms),
        last_seen_at: UtcTime::from_unix_ms(row.last_seen_at_ms),
        expires_at: UtcTime::from_unix_ms(activation_ends_ms(ledger, row, license)),
        org_id: text(&row.org),
        project_id: text(&row.project),
        version: text(&row.version),
        nodes: (face == Face::Deployment).then_some(row.nodes),
        metadata: serde_json::from_str(&row.metadata).ok(),
    })
}

/// The name behind a reference, while it is kept.
pub(super) fn name(ledger: &Ledger, subject: SubjectRef) -> Option<String> {
    ledger.subject(subject).map(|(_, name)| name.to_owned())
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

//! The particulars of audit events as JSON: names in snake case, ids as everywhere in the API.

use data_encoding::HEXLOWER;
use lease::audit::AuditDetail;
use lease::ids::{Fence, NodeId};
use protocol::wire::{Money, UtcTime};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::auth::role_name;
use crate::licensing::uuid_text;
use crate::tokens::app_id_text;
use crate::view::Epoch;

/// What an event says beside what all events say. Members without a value are left out.
pub(super) fn detail(epoch: &Epoch, detail: &AuditDetail) -> Map<String, Value> {
    let value = of_cluster(epoch, detail).unwrap_or_else(|| of_seats(epoch, detail));
    match value {
        Value::Object(members) => {
            members.into_iter().filter(|(_, value)| !value.is_null()).collect()
        }
        _ => Map::new(),
    }
}

/// Nodes, keys, operators, and what else belongs to the cluster as a whole.
fn of_cluster(epoch: &Epoch, detail: &AuditDetail) -> Option<Value> {
    use AuditDetail as Detail;
    Some(match detail {
        Detail::None => Value::Null,
        Detail::Cluster { cluster_id, epoch, incarnation } => {
            json!({ "cluster_id": cluster_id, "epoch": epoch, "incarnation": hex64(*incarnation) })
        }
        Detail::Node { node, directory_incarnation } => {
            json!({ "node": node, "directory_incarnation": hex64(*directory_incarnation) })
        }
        Detail::SigningKey { kid, node } => json!({ "kid": kid, "node": node }),
        Detail::Secret { name, version } => json!({ "name": name, "version": version }),
        Detail::DataKey { node, version } => json!({ "node": node, "version": version }),
        Detail::Operator { operator, role } => {
            json!({ "operator_id": operator_text(operator.0), "role": role_name(*role) })
        }
        Detail::Vendor { vendor, fingerprint } => {
            json!({ "vendor_id": vendor, "fingerprint": HEXLOWER.encode(fingerprint) })
        }
        Detail::User(user) => json!({ "user_id": uuid_text(user.0) }),
        Detail::KeyWindow { name, current, minimum } => {
            json!({ "name": name, "current": current, "minimum": minimum })
        }
        Detail::ApiKey { key } => json!({ "api_key_id": hex64(key.0) }),
        Detail::Ticket { node, replaces } => json!({ "node": node, "replaces": replaces }),
        Detail::NodeRemoved { node, revoke_tokens, reason } => {
            json!({ "node": node, "revoke_tokens": revoke_tokens, "reason": text(reason) })
        }
        Detail::Epoch { epoch, incarnation, reason } => json!({
            "epoch": epoch,
            "incarnation": hex64(*incarnation),
            "reason": word(reason),
        }),
        Detail::Alarm { node, kind } => alarm(*node, kind.name()),
        Detail::Erasure { subject, reason } => {
            json!({ "reference": hex64(subject.0), "reason": text(reason) })
        }
        Detail::AuditFloor { seq } => json!({ "floor": seq.to_string() }),
        Detail::TrustAnchor { fingerprint, state } => json!({
            "fingerprint": HEXLOWER.encode(fingerprint),
            "state": state.as_ref().map_or_else(|| "removed".to_owned(), word),
        }),
        Detail::Reclaim { fence, known, quantity } => {
            json!({ "fence": fence_of(epoch, *fence), "known": known, "quantity": quantity })
        }
        Detail::Reserved { seats, reason } => json!({ "seats": seats, "reason": text(reason) }),
        _ => return None,
    })
}

/// Packages, seats, licenses and what is activated under them.
fn of_seats(epoch: &Epoch, detail: &AuditDetail) -> Value {
    use AuditDetail as Detail;
    match detail {
        Detail::Package { vendor, product, total, document } => json!({
            "vendor_id": vendor,
            "product_id": product,
            "total": total,
            "document_sha256": HEXLOWER.encode(document),
        }),
        Detail::Reason(reason) => json!({ "reason": text(reason) }),
        Detail::App { app, generation } => {
            json!({ "app_id": app_id_text(*app), "secret_generation": generation })
        }
        Detail::Grant { fence, class, quantity, pool, cost } => json!({
            "fence": fence_of(epoch, *fence),
            "class": word(class),
            "quantity": quantity,
            "pool": pool,
            "cost": cost.map(|cost| Money(cost.0)),
        }),
        Detail::End { class, quantity, duration_ms } => {
            json!({ "class": word(class), "quantity": quantity, "duration_ms": duration_ms })
        }
        Detail::Release { class, quantity, reason } => {
            json!({ "class": word(class), "quantity": quantity, "reason": text(reason) })
        }
        Detail::Transfer { from, to, quantity } => {
            json!({ "from": from, "to": to, "quantity": quantity })
        }
        Detail::Replay { shown, current } => json!({ "shown": shown, "current": current }),
        Detail::Refusal { code } => json!({ "code": word(code) }),
        Detail::Borrow { ends_ms, quantity } => {
            json!({ "borrowed_until": UtcTime::from_unix_ms(*ends_ms), "quantity": quantity })
        }
        Detail::BorrowRules { max_ms, seats_max, online_reserve } => {
            json!({ "max_ms": max_ms, "seats_max": seats_max, "online_reserve": online_reserve })
        }
        Detail::Budget { max_spend } => json!({ "max_spend": max_spend.map(|it| Money(it.0)) }),
        Detail::Pool { pool, seats, reserved_for } => {
            json!({ "pool": pool, "seats": seats, "reserved_for": reserved_for })
        }
        other => of_licenses(other),
    }
}

fn of_licenses(detail: &AuditDetail) -> Value {
    use AuditDetail as Detail;
    match detail {
        Detail::License { license, face, client } => json!({
            "license_id": uuid_text(license.0),
            "protocol": face.name(),
            "client_id": client.map(|client| uuid_text(client.0)),
        }),
        Detail::LicenseChange { license, state, token_version, reason } => json!({
            "license_id": uuid_text(license.0),
            "state": word(state),
            "token_version": token_version,
            "reason": text(reason),
        }),
        Detail::OfLicense(license) => json!({ "license_id": uuid_text(license.0) }),
        Detail::Activation { license, activation } => json!({
            "license_id": uuid_text(license.0),
            "activation_id": uuid_text(activation.0),
        }),
        Detail::ActivationChange { license, activation, change, write_off, reason } => json!({
            "license_id": uuid_text(license.0),
            "activation_id": uuid_text(activation.0),
            "change": word(change),
            "write_off": write_off,
            "reason": text(reason),
        }),
        Detail::Identity { license, subject_client } => json!({
            "license_id": uuid_text(license.0),
            "client_id": uuid_text(subject_client.0),
        }),
        Detail::Client { client, banned, reason } => json!({
            "client_id": uuid_text(client.0),
            "banned": banned,
            "reason": text(reason),
        }),
        Detail::Product { product, version } => {
            json!({ "product_id": uuid_text(product.0), "version": version })
        }
        // The others have their place above.
        _ => Value::Null,
    }
}

fn alarm(node: NodeId, kind: &str) -> Value {
    json!({ "node": node, "kind": kind })
}

fn fence_of(epoch: &Epoch, fence: Fence) -> impl Serialize {
    epoch.fence(fence)
}

/// A text that says something.
fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The number of an operator token as the API shows it.
pub(super) fn operator_text(operator: u64) -> String {
    format!("operator-{operator:016x}")
}

/// A number of 64 bits in which nobody counts.
pub(super) fn hex64(number: u64) -> String {
    format!("{number:016x}")
}

/// The name of a variant without fields, in snake case.
fn word(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use lease::command::SeatClass;
    use lease::ids::{LicenseId, SubjectRef};
    use lease::outcome::RefusalCode;

    use super::*;

    #[test]
    fn particulars_are_said_in_the_words_of_the_api() {
        let epoch = Epoch::new(1, 7);
        let table = [
            (AuditDetail::None, json!({})),
            (
                AuditDetail::Refusal { code: RefusalCode::MaxOverageExceeded },
                json!({ "code": "max_overage_exceeded" }),
            ),
            (
                AuditDetail::End { class: SeatClass::Overage, quantity: 2, duration_ms: 9 },
                json!({ "class": "overage", "quantity": 2, "duration_ms": 9 }),
            ),
            (
                AuditDetail::OfLicense(LicenseId(1)),
                json!({ "license_id": "00000000-0000-0000-0000-000000000001" }),
            ),
            (AuditDetail::Reason("".into()), json!({})),
            (
                AuditDetail::Erasure { subject: SubjectRef(255), reason: "left".into() },
                json!({ "reference": "00000000000000ff", "reason": "left" }),
            ),
            (AuditDetail::AuditFloor { seq: 9 }, json!({ "floor": "9" })),
        ];
        for (given, want) in table {
            assert_eq!(Value::Object(detail(&epoch, &given)), want, "{given:?}");
        }
    }
}

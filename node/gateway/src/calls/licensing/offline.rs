//! Who may borrow how much, who is offline, and seats of lost devices.

use lease::Ledger;
use lease::command::Command;
use lease::ids::LeaseId;
use lease::offline::{
    BorrowParty as LedgerParty, BorrowRules as LedgerRules, SetBorrowRules, WriteOff,
};
use protocol::cloud::admin::{
    BorrowLimitsView, BorrowParty, BorrowRules, BorrowRulesView, OfflineLeaseView, OfflineList,
    OfflineQuery, WriteOffRequest, WriteOffResponse,
};
use protocol::cloud::lease::LeaseState;
use protocol::lease_id;
use protocol::wire::UtcTime;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::{done, not_found, page, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::uuid_text;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view::{lease_id_text, ledger_id, unknown_package};

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    OfflineQuery::into_params(|| None)
}

/// `GET /admin/packages/{package_id}/borrow-rules`
pub(crate) async fn show_rules(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    Ok(Reply::ok(&rules(&ledger, call.subject()?)?))
}

/// `PUT /admin/packages/{package_id}/borrow-rules`
pub(crate) async fn set_rules(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: BorrowRules = call.json()?;
    let package = call.subject()?;
    let parties = |parties: &[BorrowParty]| {
        parties
            .iter()
            .map(|party| match party {
                BorrowParty::User(name) => LedgerParty::User(name.as_str().into()),
                BorrowParty::Host(name) => LedgerParty::Host(name.as_str().into()),
            })
            .collect()
    };
    let rules = LedgerRules {
        max_ms: request.max_seconds.map(|seconds| u64::from(seconds) * 1_000),
        seats_max: request.seats_max,
        online_reserve: request.online_reserve.unwrap_or(0),
        include: parties(&request.include),
        exclude: parties(&request.exclude),
    };
    let command =
        Command::SetBorrowRules(Box::new(SetBorrowRules { package: package.into(), rules }));
    done(shared, call, call.request_id(&request), command).await?;
    Ok(Reply::ok(&self::rules(&shared.context.cluster.ledger(), package)?))
}

fn rules(ledger: &Ledger, package: &str) -> Result<BorrowRulesView, Failure> {
    ledger.package(package).ok_or_else(unknown_package)?;
    let terms = ledger.offline_terms(package);
    let set = ledger.borrow_rules(package).cloned().unwrap_or_default();
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let least = |one: Option<u32>, other: Option<u32>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let parties = |parties: &[LedgerParty]| {
        parties
            .iter()
            .map(|party| match party {
                LedgerParty::User(name) => BorrowParty::User(name.to_string()),
                LedgerParty::Host(name) => BorrowParty::Host(name.to_string()),
            })
            .collect()
    };
    Ok(BorrowRulesView {
        package_id: package.to_owned(),
        in_force: BorrowLimitsView {
            max_seconds: seconds(
                set.max_ms.map_or(terms.borrow_max_ms, |max| max.min(terms.borrow_max_ms)),
            ),
            seats_max: least(terms.borrow_seats_max, set.seats_max),
            online_reserve: terms.online_reserve.max(set.online_reserve),
        },
        rules: BorrowRules {
            max_seconds: set.max_ms.map(seconds),
            seats_max: set.seats_max,
            online_reserve: (set.online_reserve > 0).then_some(set.online_reserve),
            include: parties(&set.include),
            exclude: parties(&set.exclude),
        },
    })
}

/// `GET /admin/packages/{package_id}/offline`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: OfflineQuery = call.query()?;
    let package = call.subject()?;
    let after = match query.cursor.as_deref() {
        Some(text) => Some(
            lease_in(&keys, text)
                .ok_or_else(|| Failure::field("cursor", "not where a page of ours ended"))?,
        ),
        None => None,
    };
    let ledger = shared.read(call).await?;
    ledger.package(package).ok_or_else(unknown_package)?;
    let (leases, next) = page(
        ledger.leases(after),
        query.limit,
        |lease| lease_id_text(&keys, lease.lease),
        |lease| {
            let hold = (**lease.package == *package).then(|| ledger.hold(lease.lease)).flatten()?;
            let activation = ledger.activation_of_lease(lease.lease);
            let holder = activation.map(|row| row.holder.to_string());
            Some(OfflineLeaseView {
                lease_id: lease_id_text(&keys, lease.lease),
                quantity: lease.quantity,
                user: view::name(&ledger, lease.user),
                hostname: view::name(&ledger, lease.host).or(holder),
                until: UtcTime::from_unix_ms(hold.ends_ms),
                seats_taken_until: UtcTime::from_unix_ms(
                    hold.ends_ms.saturating_add(hold.skew_ms.into()),
                ),
                borrowed: hold.borrowed,
                activation_id: activation.map(|row| uuid_text(row.activation.0)),
            })
        },
    );
    Ok(Reply::ok(&OfflineList {
        package_id: package.to_owned(),
        seats_borrowed: ledger.borrowed_seats(package),
        seats_offline: ledger.held_seats(package),
        leases,
        next,
    }))
}

/// `POST /admin/leases/{lease_id}/write-off`
pub(crate) async fn write_off(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: WriteOffRequest = call.json()?;
    let lease = lease_in(&keys, call.subject()?)
        .ok_or_else(|| not_found("unknown_lease", "No such lease."))?;
    let hold = {
        let ledger = shared.read(call).await?;
        ledger.hold(lease)
    };
    let reason = request.reason.as_str().into();
    let command = Command::WriteOff(WriteOff { lease, reason });
    done(shared, call, call.request_id(&request), command).await?;
    Ok(Reply::ok(&WriteOffResponse {
        lease_id: lease_id_text(&keys, lease),
        state: LeaseState::Released,
        token_good_until: hold.map(|hold| UtcTime::from_unix_ms(hold.ends_ms)),
    }))
}

fn lease_in(keys: &Keys, text: &str) -> Option<LeaseId> {
    lease_id::decode(&keys.lease_id, text).map(ledger_id).ok()
}

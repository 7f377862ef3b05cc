//! Holders of the former epoch who come back: a heartbeat with a renewal token of that epoch,
//! within the grace.
//!
//! The token's MAC is checked under the former epoch's number, which is no secret but is in the
//! MAC; whether the lease may come back, and whether there is a seat, is the ledger's to say. A
//! lease that a restored state does not know takes its seat from a package of the app's product,
//! asked in the order of a checkout. The answer is that of any heartbeat: a token of the present
//! epoch, which this heartbeat cannot be repeated with, so the former one stays good until the
//! grace ends.

use lease::Ledger;
use lease::command::Command;
use lease::ids::{AppId, LeaseId, Name};
use lease::operate::Reclaim;
use lease::outcome::{Outcome, Refusal, RefusalCode, RenewalOutcome};
use protocol::lease_id::LeaseKey;
use protocol::renewal;

use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::refusal::cloud_failure;
use crate::shared::Shared;
use crate::view;

/// A lease and the token of the former epoch that was shown for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) lease: LeaseId,
    sequence: u32,
    epoch: u32,
}

/// The former epoch while its holders may come back, as this node has applied it: a new epoch is
/// in the state that a node begins with, so no node is behind it.
pub(crate) fn former_epoch(shared: &Shared) -> Option<u32> {
    shared.context.cluster.ledger().grace().map(|grace| grace.former_epoch)
}

/// What the token proves, if it is that lease's in the former epoch.
pub(crate) fn shown(keys: &Keys, epoch: u32, lease: LeaseKey, token: &str) -> Option<Former> {
    let renewal = renewal::decode(&keys.renewal, epoch, token).ok()?;
    let sequence = renewal.sequence;
    (renewal.lease == lease).then(|| Former { lease: view::ledger_id(lease), sequence, epoch })
}

/// Brings a lease back, or says why not.
pub(crate) async fn reclaim(
    shared: &Shared,
    call: &Call,
    former: Former,
) -> Result<RenewalOutcome, Failure> {
    let app = call.app()?;
    let packages = packages(&shared.context.cluster.ledger(), &app.product, app.app);
    let mut refused = None;
    for package in packages.into_iter().take(MAX_PACKAGES_TRIED) {
        let Former { lease, sequence, epoch: former_epoch } = former;
        let command = Reclaim { lease, sequence, former_epoch, package };
        // No request id: as with any renewal, the sequence makes it repeatable.
        match shared.submit(call, None, Command::Reclaim(Box::new(command))).await? {
            Outcome::Renewed(outcomes) => match outcomes.into_iter().next() {
                Some(outcome) => return Ok(outcome),
                None => return Err(Failure::internal("a reclaim gave no renewal")),
            },
            Outcome::Refused(refusal) if may_fit_elsewhere(refusal.code) => {
                refused.get_or_insert(refusal);
            }
            Outcome::Refused(refusal) => return Ok(RenewalOutcome::Refused(refusal)),
            _ => return Err(Failure::internal("a reclaim had the outcome of another command")),
        }
    }
    let unknown = || Refusal::new(RefusalCode::UnknownPackage);
    Ok(RenewalOutcome::Refused(refused.unwrap_or_else(unknown)))
}

/// The same for a single heartbeat: a refusal is its answer.
pub(crate) async fn reclaim_one(
    shared: &Shared,
    call: &Call,
    former: Former,
) -> Result<RenewalOutcome, Failure> {
    match reclaim(shared, call, former).await? {
        RenewalOutcome::Refused(refusal) => Err(cloud_failure(&refusal, &[])),
        renewed => Ok(renewed),
    }
}

/// Packages that the seat can have come from, those with free seats first.
fn packages(ledger: &Ledger, product: &str, app: AppId) -> Vec<Name> {
    let vendor = ledger.app(app).map(|app| &app.vendor);
    let mut found: Vec<(bool, Name)> = ledger
        .packages_of_product(product)
        .filter(|package| vendor == Some(&package.terms.vendor))
        .map(|package| {
            let is_full = package.seats().total_free == 0 || !view::is_in_force(&package);
            (is_full, package.terms.package.clone())
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, package)| package).collect()
}

fn may_fit_elsewhere(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::MaxOverageExceeded
            | RefusalCode::QuantityExceedsPackage
            | RefusalCode::PoolExhausted
            | RefusalCode::UnknownPackage
            | RefusalCode::PackageSuspended
            | RefusalCode::PackageRevoked
            | RefusalCode::PackageExpired
            | RefusalCode::PackageNotYetValid
            // A lease of another package's group.
            | RefusalCode::NotReclaimable
    )
}

/// As many as a checkout asks.
const MAX_PACKAGES_TRIED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys::keys;
    use crate::view::Epoch;

    #[test]
    fn only_this_leases_token_of_the_former_epoch_is_one() {
        let keys = keys();
        let lease = LeaseKey { group: 0, random: [7; 10] };
        let other = LeaseKey { group: 0, random: [8; 10] };
        let token = |epoch: u32, lease: LeaseKey| {
            let epoch = Epoch::new(epoch, 9);
            view::renewal_token(&keys, &epoch, view::ledger_id(lease), 41)
        };
        let former = Former { lease: view::ledger_id(lease), sequence: 41, epoch: 1 };
        for (token, want) in [
            (token(1, lease), Some(former)),
            (token(2, lease), None),
            (token(1, other), None),
            ("rt1-forged".to_owned(), None),
        ] {
            assert_eq!(shown(&keys, 1, lease, &token), want, "{token}");
        }
    }
}

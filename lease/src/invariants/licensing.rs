//! The rules of license keys and activations as checks.

use crate::apply::is_total;
use crate::command::SeatClass;
use crate::ids::Face;
use crate::invariants::{Violation, ensure};
use crate::ledger::Ledger;
use crate::license::ActivationState;
use crate::limits::{MAX_GUESSES, MAX_GUESSES_PER_ADDRESS};

/// An activation in force holds a live lease of its face and its license's package; one that is not
/// holds none, or one that is kept for an offline token.
pub fn activations_in_force_hold_a_seat(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "activations_in_force_hold_a_seat";
    let licensing = ledger.state.licensing();
    for row in licensing.activations().values() {
        let what = || format!("{:?}", row.activation);
        let lease = row.lease.map(|lease| ledger.state.lease(lease));
        let active = row.state == ActivationState::Active;
        ensure(rule, !active || lease.is_some(), what)?;
        let Some(lease) = lease else { continue };
        let (Some(lease), Some(license)) = (lease, licensing.license(row.license)) else {
            return ensure(rule, false, what);
        };
        let package = &ledger.state.at(lease.package()).terms().package;
        let same = lease.app() == license.terms.face.app() && *package == license.terms.package;
        ensure(rule, same, what)?;
        ensure(rule, lease.quantity() == license.terms.plan.seats_per_activation, what)?;
        ensure(rule, lease.user().0 == 0 && lease.host().0 == 0, what)?;
        let kept = ledger.state.hold(lease.id()).is_some() || ledger.is_due(lease);
        ensure(rule, active || kept, what)?;
    }
    Ok(())
}

/// A lease of a face belongs to exactly one activation, unless that was removed while its offline
/// token was outstanding.
pub fn leases_of_faces_belong_to_activations(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "leases_of_faces_belong_to_activations";
    for lease in ledger.state.leases_after(None) {
        let owned = match lease.app().face() {
            None | Some(Face::Classic) => continue,
            Some(_) => ledger.state.licensing().activation_of_lease(lease.id()).is_some(),
        };
        let kept = ledger.state.hold(lease.id()).is_some() || ledger.is_due(lease);
        ensure(rule, owned || kept, || format!("{:?} is nobody's", lease.id()))?;
    }
    Ok(())
}

/// No license has more activations than its plan allows that are in force, or whose seat is kept
/// for an offline token.
pub fn plans_are_kept(ledger: &Ledger) -> Result<(), Violation> {
    let licensing = ledger.state.licensing();
    for (id, row) in licensing.licenses() {
        let most = match (row.terms.face, row.terms.plan.max_activations) {
            (Face::Deployment, slots) => slots.max(1),
            (_, 0) => u32::MAX,
            (_, most) => most,
        };
        let active = licensing.active(*id).saturating_add(licensing.kept(*id));
        ensure("plans_are_kept", active <= most, || format!("{id:?}: {active} of {most}"))?;
    }
    Ok(())
}

/// What belongs to a license, a client or a package leads to one that is there.
pub fn what_hangs_on_licenses_is_there(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "what_hangs_on_licenses_is_there";
    let licensing = ledger.state.licensing();
    for (id, row) in licensing.licenses() {
        let client = row.terms.client;
        let known = client.is_none_or(|client| licensing.clients().contains_key(&client));
        let package = ledger.state.slot(&row.terms.package);
        ensure(rule, known && package.is_some(), || format!("{id:?}"))?;
    }
    let of_activations = licensing.activations().values().map(|row| row.license);
    let of_identities = licensing.identities().values().map(|row| row.license);
    let of_trials = licensing.trials().values().map(|row| row.license);
    let mut named = of_activations.chain(of_identities).chain(of_trials);
    let missing = named.find(|id| licensing.license(*id).is_none());
    ensure(rule, missing.is_none(), || format!("{missing:?} is missing"))
}

/// No window counts more wrong keys than are looked at.
pub fn guesses_stay_within_their_limits(ledger: &Ledger) -> Result<(), Violation> {
    let guesses = ledger.state.licensing().guesses();
    let mut within = guesses.iter().map(|(address, row)| match is_total(*address) {
        true => row.count <= MAX_GUESSES,
        false => row.count <= MAX_GUESSES_PER_ADDRESS,
    });
    ensure("guesses_stay_within_their_limits", within.all(|within| within), || {
        format!("{guesses:?}")
    })
}

/// A package's seats are those of its leases, whichever face took them: never more than it has.
pub fn every_face_takes_the_same_seats(ledger: &Ledger) -> Result<(), Violation> {
    for package in ledger.state.packages() {
        let leases = package.leases().filter_map(|id| ledger.state.lease(id));
        let seats: u32 = leases.map(|lease| lease.quantity()).sum();
        let in_use = package.in_use(SeatClass::Commit) + package.in_use(SeatClass::Overage);
        ensure("every_face_takes_the_same_seats", seats == in_use, || {
            format!("{}: {seats} held, {in_use} counted", package.terms().package)
        })?;
    }
    Ok(())
}

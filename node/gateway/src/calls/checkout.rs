//! Checkout: finds the package, asks the ledger for the seat, and says what came of it.
//!
//! Which package is asked first is decided by what this node has applied, and that may be a moment
//! old: the ledger alone decides whether a seat is free. When it says no for want of seats, the
//! next package that fits is asked under the same request id, so that a retry of the caller finds
//! whichever lease was made. Before the last no, this node catches up with the refusal and asks the
//! packages it had not known to have seats.

use lease::Ledger;
use lease::command::{Checkout, Command};
use lease::ids::{AppId, Name, RequestId};
use lease::outcome::{Grant, Outcome, Refusal, RefusalCode};
use protocol::cloud::denial::{DenialReason, Denied, Remedy};
use protocol::cloud::lease::{CheckoutRequest, CheckoutResponse, CheckoutStatus};
use protocol::package::version_matches;
use protocol::wire::{Money, UtcTime};
use raft::ReadError;
use storage::seam::{Clock, Entropy};

use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{draw_lease, subject};
use crate::refusal::cloud_failure;
use crate::reply::Reply;
use crate::shared::{Decided, MAX_DRAWS, Shared};
use crate::view::{self, Epoch};

/// `POST /api/v1/licenses/checkout`
pub(crate) async fn checkout(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: CheckoutRequest = call.json()?;
    let app = call.app()?;
    if *app.product != *request.product_id {
        // Another product is as unknown to this app as one that does not exist.
        return Err(Failure::denied(DenialReason::UnknownProduct));
    }
    let (mut candidates, epoch) = find(shared, call, &request, app.app).await?;
    let request_id = call.request_id(&request);
    let mut refused: Option<Refusal> = None;
    let mut tried: Vec<Name> = Vec::new();
    let mut to_try = names(candidates.iter());
    let mut is_fresh = false;
    loop {
        let mut decided_at = 0;
        for package in to_try {
            let Decided { index, outcome } =
                ask(shared, call, &request, request_id, &package).await?;
            decided_at = index;
            tried.push(package);
            match outcome {
                Outcome::Granted(grant) => {
                    let pool = pool_of(shared, call, &request, &grant, index).await;
                    let response = response(&keys, &epoch, &candidates, request, *grant);
                    return Ok(Reply::ok(&CheckoutResponse { pool, ..response }));
                }
                Outcome::Refused(refusal) if may_fit_elsewhere(refusal.code) => {
                    refused = Some(sooner(refused, refusal));
                }
                Outcome::Refused(refusal) => {
                    return Err(cloud_failure(&refusal, &request.features));
                }
                _ => {
                    return Err(Failure::internal("a checkout had the outcome of another command"));
                }
            }
        }
        if is_fresh {
            break;
        }
        // Whatever was imported or freed before this call began is in the log before the refusal.
        if !shared.has_applied(call, decided_at).await {
            return Err(ReadError::NoQuorum.into());
        }
        is_fresh = true;
        if let Found::Candidates(now) =
            self::candidates(&shared.context.cluster.ledger(), &request, app.app)
        {
            candidates = now;
        }
        to_try = names(candidates.iter().filter(|candidate| is_worth_asking(candidate, &tried)));
    }
    match refused {
        Some(refusal) => Err(cloud_failure(&refusal, &request.features)),
        None => Err(Failure::denied(DenialReason::UnknownProduct)),
    }
}

/// The pool that a seat came from. Who names none gets one of a pool that is kept for them: which,
/// only the lease tells. Where no pool is kept, there is nothing to wait for.
async fn pool_of(
    shared: &Shared,
    call: &Call,
    request: &CheckoutRequest,
    grant: &Grant,
    decided_at: u64,
) -> Option<String> {
    if request.pool.is_some() {
        return request.pool.clone();
    }
    let has_kept = shared.context.cluster.ledger().keeps_pools(&grant.package);
    if !has_kept || !shared.has_applied(call, decided_at).await {
        return None;
    }
    let ledger = shared.context.cluster.ledger();
    ledger.lease(&grant.lease).and_then(|lease| lease.pool.map(|pool| pool.to_string()))
}

/// Asks one package for the seat.
async fn ask(
    shared: &Shared,
    call: &Call,
    request: &CheckoutRequest,
    request_id: RequestId,
    package: &Name,
) -> Result<Decided, Failure> {
    let mut draws = 0;
    loop {
        let (clock, entropy) = (&*shared.context.clock, &*shared.context.entropy);
        let command = command(clock, entropy, request, package);
        let decided = shared.decide(call, Some(request_id), command).await?;
        let is_taken = matches!(
            &decided.outcome,
            Outcome::Refused(refusal) if refusal.code == RefusalCode::LeaseIdTaken
        );
        draws += 1;
        if !is_taken || draws == MAX_DRAWS {
            return Ok(decided);
        }
    }
}

fn names<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<Name> {
    candidates.take(MAX_PACKAGES_TRIED).map(|candidate| candidate.package.clone()).collect()
}

/// Whether a package that was not asked yet has seats, as a ledger knows that has caught up.
fn is_worth_asking(candidate: &Candidate, tried: &[Name]) -> bool {
    let has_seats = matches!(candidate.standing, Standing::CommitFree | Standing::OverageFree);
    has_seats && !tried.contains(&candidate.package)
}

/// A package that may be asked for the seat.
struct Candidate {
    package: Name,
    currency: Box<str>,
    standing: Standing,
}

/// How promising a package looks from here; asked in this order, then in order of id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    CommitFree,
    OverageFree,
    Full,
    /// Suspended, revoked, expired or not begun: asked only when there is nothing else, so that the
    /// ledger names and counts the reason.
    NotInForce,
}

/// What the local ledger has for a request.
enum Found {
    Candidates(Vec<Candidate>),
    /// There are packages, and none covers the version: the first one's range.
    VersionNotCovered(String),
    Nothing,
}

async fn find(
    shared: &Shared,
    call: &Call,
    request: &CheckoutRequest,
    app: AppId,
) -> Result<(Vec<Candidate>, Epoch), Failure> {
    let mut caught_up = false;
    loop {
        let (found, epoch) = {
            let ledger = shared.context.cluster.ledger();
            (candidates(&ledger, request, app), view::epoch(&ledger)?)
        };
        match found {
            Found::Candidates(candidates) => return Ok((candidates, epoch)),
            Found::VersionNotCovered(_) | Found::Nothing if !caught_up => {
                shared.catch_up(call.deadline).await?;
                caught_up = true;
            }
            Found::VersionNotCovered(range) => {
                let mut denied = Denied::because(DenialReason::VersionNotCovered);
                denied.would_be_satisfied_by =
                    Some(Remedy { version: Some(range), ..Remedy::default() });
                return Err(denied.into());
            }
            Found::Nothing => return Err(Failure::denied(DenialReason::UnknownProduct)),
        }
    }
}

fn candidates(ledger: &Ledger, request: &CheckoutRequest, app: AppId) -> Found {
    let vendor = ledger.app(app).map(|app| &app.vendor);
    let mut candidates = Vec::new();
    let mut uncovered = None;
    for package in ledger.packages_of_product(&request.product_id) {
        let terms = package.terms;
        if vendor != Some(&terms.vendor) {
            // Another vendor's product of the same id is another product.
            continue;
        }
        let version = request.metadata.version.as_deref();
        // A caller that does not say its version is not held to one; neither a version nor a range
        // that cannot be compared is covered.
        let is_covered = version
            .is_none_or(|version| version_matches(&terms.version_range, version).unwrap_or(false));
        if !is_covered {
            uncovered.get_or_insert_with(|| terms.version_range.to_string());
            continue;
        }
        let seats = package.seats();
        let standing = if !view::is_in_force(&package) {
            Standing::NotInForce
        } else if seats.commit_free >= request.quantity {
            Standing::CommitFree
        } else if seats.overage_free >= request.quantity {
            Standing::OverageFree
        } else {
            Standing::Full
        };
        candidates.push(Candidate {
            package: terms.package.clone(),
            currency: terms.pricing.currency.clone(),
            standing,
        });
    }
    if candidates.iter().any(|candidate| candidate.standing != Standing::NotInForce) {
        candidates.retain(|candidate| candidate.standing != Standing::NotInForce);
    }
    // Stable: packages come in order of id.
    candidates.sort_by_key(|candidate| candidate.standing);
    match (candidates.is_empty(), uncovered) {
        (false, _) => Found::Candidates(candidates),
        (true, Some(range)) => Found::VersionNotCovered(range),
        (true, None) => Found::Nothing,
    }
}

fn command(
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    request: &CheckoutRequest,
    package: &Name,
) -> Command {
    let names = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    Command::Checkout(Box::new(Checkout {
        package: package.clone(),
        product: request.product_id.as_str().into(),
        lease: draw_lease(clock, entropy),
        pool: request.pool.as_deref().map(Into::into),
        quantity: request.quantity,
        features: names(&request.features),
        user: subject(entropy, &request.user),
        host: subject(entropy, &request.hostname),
        version: request.metadata.version.as_deref().unwrap_or_default().into(),
        session: request.metadata.session_id.as_deref().unwrap_or_default().into(),
    }))
}

/// Whether another package may have what this one has not.
fn may_fit_elsewhere(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::MaxOverageExceeded
            | RefusalCode::QuantityExceedsPackage
            | RefusalCode::PoolExhausted
            | RefusalCode::PoolReserved
            | RefusalCode::UnknownPool
            | RefusalCode::UnknownFeature
            | RefusalCode::UnknownPackage
            | RefusalCode::PackageSuspended
            | RefusalCode::PackageRevoked
            | RefusalCode::PackageExpired
            | RefusalCode::PackageNotYetValid
    )
}

/// Of two refusals the one to report: the one after which asking again makes sense first.
fn sooner(before: Option<Refusal>, now: Refusal) -> Refusal {
    match before {
        None => now,
        Some(before) => {
            let when = |refusal: &Refusal| refusal.available_at_ms.unwrap_or(i64::MAX);
            if when(&now) < when(&before) { now } else { before }
        }
    }
}

fn response(
    keys: &Keys,
    epoch: &Epoch,
    candidates: &[Candidate],
    request: CheckoutRequest,
    grant: Grant,
) -> CheckoutResponse {
    let currency = || {
        let from = candidates.iter().find(|candidate| candidate.package == grant.package);
        from.map(|candidate| candidate.currency.to_string())
    };
    CheckoutResponse {
        status: CheckoutStatus::Success,
        lease_id: view::lease_id_text(keys, grant.lease),
        lease_type: view::lease_type(grant.class),
        currency: grant.cost.and_then(|_| currency()),
        cost: grant.cost.map(|cost| Money(cost.0)),
        expires_at: UtcTime::from_unix_ms(grant.expires_at_ms),
        expires_in_ms: grant.expires_in_ms,
        heartbeat_interval_ms: grant.heartbeat_interval_ms.into(),
        renewal_token: view::renewal_token(keys, epoch, grant.lease, grant.sequence),
        fence: epoch.fence(grant.fence),
        package_id: grant.package.to_string(),
        quantity: grant.quantity,
        features: request.features,
        pool: None,
    }
}

/// Packages asked before this node catches up, and again after: each costs a round through the log.
const MAX_PACKAGES_TRIED: usize = 8;

#[cfg(test)]
mod tests {
    use storage::seam::{RealClock, RealEntropy};

    use super::*;

    #[test]
    fn the_sooner_refusal_is_reported() {
        let at = |ms: Option<i64>| {
            let mut refusal = Refusal::new(RefusalCode::MaxOverageExceeded);
            refusal.available_at_ms = ms;
            refusal
        };
        let table = [
            (None, at(Some(5)), Some(5)),
            (Some(at(Some(5))), at(Some(4)), Some(4)),
            (Some(at(Some(5))), at(None), Some(5)),
            (Some(at(None)), at(Some(9)), Some(9)),
        ];
        for (before, now, want) in table {
            assert_eq!(sooner(before, now).available_at_ms, want);
        }
    }

    #[test]
    fn packages_are_asked_where_a_seat_costs_nothing_first() {
        let mut standings =
            [Standing::NotInForce, Standing::Full, Standing::OverageFree, Standing::CommitFree];
        standings.sort();
        assert_eq!(
            standings,
            [Standing::CommitFree, Standing::OverageFree, Standing::Full, Standing::NotInForce]
        );
    }

    #[test]
    fn after_catching_up_only_new_packages_with_seats_are_asked() {
        let tried: [Name; 1] = ["tried".into()];
        let table = [
            ("new", Standing::CommitFree, true),
            ("new", Standing::OverageFree, true),
            ("new", Standing::Full, false),
            ("new", Standing::NotInForce, false),
            ("tried", Standing::CommitFree, false),
        ];
        for (package, standing, want) in table {
            let candidate = Candidate { package: package.into(), currency: "EUR".into(), standing };
            assert_eq!(is_worth_asking(&candidate, &tried), want, "{package} {standing:?}");
        }
    }

    #[test]
    fn every_draw_is_new() {
        let request: CheckoutRequest = protocol::cloud::body::decode(
            br#"{"product_id":"p","user":"u","hostname":"h","metadata":{"version":"8.2"}}"#,
        )
        .unwrap();
        let draw = || match command(&RealClock::new(), &RealEntropy, &request, &"package".into()) {
            Command::Checkout(checkout) => *checkout,
            other => panic!("{other:?}"),
        };
        let (one, two) = (draw(), draw());
        assert_ne!(one.lease, two.lease);
        assert_ne!(one.user.candidate, two.user.candidate);
        assert_ne!(one.user.candidate, one.host.candidate);
        assert_eq!((one.quantity, &*one.version, &*one.session), (1, "8.2", ""));
    }
}

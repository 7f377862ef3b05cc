//! Taking a seat, giving it back, what is out and what it cost.
//!
//! Which package of a tool is asked first is decided by what this node has applied; the ledger
//! alone decides whether a seat is free. All packages are asked under one request id, and before
//! the last no this node catches up, as in a checkout of `cloud`.
//!
//! These clients never renew: a seat lasts as long as the face's setting says. They return by the
//! borrow's id alone, unless the setting asks for a proof.

use lease::command::{Command, SeatClass};
use lease::ids::{ApiKeyId, Face, LeaseId, Name, RequestId};
use lease::offline::ClassicCheckout;
use lease::outcome::{Grant, Outcome};
use lease::{LeaseView, Ledger};
use protocol::classic::refusal::Refusal;
use protocol::classic::wire::{
    self, Borrow, BorrowRequest, OkStatus, OverageCharge, OverageCharges, ReturnAnswer,
    ReturnRequest,
};
use protocol::lease_id;
use protocol::wire::Money;
use raft::ReadError;

use super::refusal::{Verdict, verdict};
use super::tools::{self, name_of};
use super::{
    ToolQuery, UserQuery, as_reader, check_signature, invalid, not_believed, refused, settings,
    shown_key, signature_headers,
};
use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{draw_lease, subject};
use crate::reply::Reply;
use crate::shared::{Decided, MAX_DRAWS, Shared};
use crate::view;

/// `POST /licenses/borrow`
pub(crate) async fn borrow(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let clock = &*shared.context.clock;
    let started_ns = clock.monotonic_ns();
    let taken = take(shared, call).await;
    let duration_ns = clock.monotonic_ns().saturating_sub(started_ns);
    let class = taken.as_ref().map(|(_, class)| *class).map_err(Failure::status);
    shared.metrics.classic.observe_borrow(class, duration_ns);
    taken.map(|(borrow, _)| Reply::ok(&borrow))
}

async fn take(shared: &Shared, call: &Call) -> Result<(Borrow, SeatClass), Failure> {
    let keys = shared.serving_keys()?;
    let request = BorrowRequest::from_body(&call.body).map_err(invalid)?;
    let shown = shown_key(shared, call, &keys).await?;
    let text = shown.as_ref().map(|shown| shown.text);
    check_signature(shared, call, &keys, &request.tool, &request.user, text)
        .map_err(not_believed)?;
    let asking = Asking {
        request_id: call.request_id(&request),
        api_key: shown.map(|shown| shown.key),
        ttl_ms: settings(shared)?.ttl_ms,
        request,
    };
    let grant = seat(shared, call, &asking).await?;
    let borrowed_at_ms = grant.expires_at_ms.saturating_sub_unsigned(grant.expires_in_ms);
    let borrow = Borrow {
        id: view::lease_id_text(&keys, grant.lease),
        tool: asking.request.tool,
        user: asking.request.user,
        borrowed_at: wire::iso_utc(borrowed_at_ms),
    };
    Ok((borrow, grant.class))
}

/// A borrow that may be decided.
struct Asking {
    request: BorrowRequest,
    request_id: RequestId,
    api_key: Option<ApiKeyId>,
    ttl_ms: u64,
}

/// Asks the packages of the tool for the seat, one after the other.
async fn seat(shared: &Shared, call: &Call, asking: &Asking) -> Result<Grant, Failure> {
    let tool = &asking.request.tool;
    let mut tried: Vec<Name> = Vec::new();
    let mut is_spent = false;
    for is_fresh in [false, true] {
        let mut to_ask = tools::packages_to_ask(&shared.context.cluster.ledger(), tool);
        to_ask.retain(|(name, standing)| {
            !tried.contains(name) && (!is_fresh || tried.is_empty() || standing.has_seats())
        });
        let mut decided_at = None;
        for (package, _) in to_ask.into_iter().take(MAX_PACKAGES_TRIED) {
            let Decided { index, outcome } = ask(shared, call, asking, &package).await?;
            decided_at = Some(index);
            tried.push(package);
            let refusal = match outcome {
                Outcome::Granted(grant) => return Ok(*grant),
                Outcome::Refused(refusal) => refusal,
                _ => return Err(Failure::internal("a borrow had another command's outcome")),
            };
            match verdict(refusal.code) {
                Verdict::NoSeatHere => {}
                Verdict::Spent => is_spent = true,
                Verdict::Final(refusal) => return Err(refused(&refusal).into()),
                Verdict::DrawAnother => return Err(Failure::internal("every id drawn was taken")),
                Verdict::Impossible => {
                    return Err(Failure::internal("a borrow met another face's refusal"));
                }
            }
        }
        match decided_at {
            _ if is_fresh => {}
            Some(index) if !shared.has_applied(call, index).await => {
                return Err(ReadError::NoQuorum.into());
            }
            Some(_) => {}
            None => {
                shared.catch_up(call.deadline).await?;
            }
        }
    }
    if is_spent {
        return Err(refused(&Refusal::MaxSpend).into());
    }
    let none = refused(&Refusal::NoLicenses(tool.clone()));
    // The ledger has counted what it refused; a tool that is unknown it was not asked for.
    Err(if tried.is_empty() { none.because("unknown_product") } else { none }.into())
}

/// Asks one package.
async fn ask(
    shared: &Shared,
    call: &Call,
    asking: &Asking,
    package: &Name,
) -> Result<Decided, Failure> {
    let entropy = &*shared.context.entropy;
    let mut draws = 0;
    loop {
        let command = Command::ClassicCheckout(Box::new(ClassicCheckout {
            package: package.clone(),
            lease: draw_lease(&*shared.context.clock, entropy),
            user: subject(entropy, &asking.request.user),
            api_key: asking.api_key,
            ttl_ms: asking.ttl_ms,
        }));
        let decided = shared.decide(call, Some(asking.request_id), command).await?;
        draws += 1;
        let is_taken = matches!(
            &decided.outcome,
            Outcome::Refused(refusal) if verdict(refusal.code) == Verdict::DrawAnother
        );
        if !is_taken || draws == MAX_DRAWS {
            return Ok(decided);
        }
    }
}

/// `POST /licenses/return`
pub(crate) async fn give_back(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request = ReturnRequest::from_body(&call.body).map_err(invalid)?;
    let unknown = || Failure::from(refused(&Refusal::BorrowNotFound).because("unknown_lease"));
    let lease = lease_id::decode(&keys.lease_id, &request.id)
        .map(view::ledger_id)
        .map_err(|_| unknown())?;
    let held = match held(shared, lease) {
        Some(held) => held,
        None => {
            // The borrow may be younger than what this node has applied.
            shared.catch_up(call.deadline).await?;
            held(shared, lease).ok_or_else(unknown)?
        }
    };
    if settings(shared)?.strict_return {
        may_return(shared, call, &keys, &held).await?;
    }
    let request_id = call.request_id(&request);
    match shared.submit(call, Some(request_id), Command::ClassicReturn { lease }).await? {
        Outcome::Returned(_) => {
            Ok(Reply::ok(&ReturnAnswer { status: OkStatus::Ok, tool: held.tool }))
        }
        Outcome::Refused(refusal) => match verdict(refusal.code) {
            Verdict::Final(refusal) => Err(refused(&refusal).into()),
            _ => Err(Failure::internal("a return met another face's refusal")),
        },
        _ => Err(Failure::internal("a return had the outcome of another command")),
    }
}

/// A borrow in force, as far as its return needs it.
struct Held {
    tool: String,
    product: String,
    user: String,
    /// The API key it was taken with; empty: none.
    api_key: String,
}

fn held(shared: &Shared, lease: LeaseId) -> Option<Held> {
    let ledger = shared.context.cluster.ledger();
    let found = ledger.lease(&lease).filter(is_borrow)?;
    Some(Held {
        tool: tool_of(&ledger, &found),
        product: found.product.to_string(),
        user: user_of(&ledger, &found),
        api_key: found.session.to_owned(),
    })
}

/// Whether whoever returns a borrow shows that it is theirs: its API key, or headers signed like
/// those of the borrow.
async fn may_return(shared: &Shared, call: &Call, keys: &Keys, held: &Held) -> Result<(), Failure> {
    let shown = shown_key(shared, call, keys).await?;
    if shown.as_ref().is_some_and(|shown| super::keys::key_text(shown.key) == held.api_key) {
        return Ok(());
    }
    if signature_headers(call).signature.is_none() {
        return Err(refused(&Refusal::ReturnNeedsKey).because("return_needs_key").into());
    }
    let text = shown.map(|shown| shown.text);
    let by = |tool: &str| check_signature(shared, call, keys, tool, &held.user, text);
    by(&held.tool).or_else(|_| by(&held.product)).map_err(not_believed)
}

/// `GET /borrows`: of an API key its own, to an operator all.
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let own = as_reader(shared, call, &keys).await?;
    let query: UserQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let mut found = newest(&ledger, own, |lease| {
        query.user.as_deref().is_none_or(|user| user_of(&ledger, lease) == user)
    });
    let borrows: Vec<Borrow> = found
        .drain(..)
        .map(|lease| Borrow {
            id: view::lease_id_text(&keys, lease.lease),
            tool: tool_of(&ledger, &lease),
            user: user_of(&ledger, &lease),
            borrowed_at: wire::iso_utc(lease.granted_at_ms),
        })
        .collect();
    Ok(Reply::ok(&borrows))
}

/// `GET /overage-charges`: what the overage seats cost that are out; of an API key its own.
pub(crate) async fn charges(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let own = as_reader(shared, call, &keys).await?;
    let query: ToolQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let found = newest(&ledger, own, |lease| {
        lease.cost.is_some()
            && query.tool.as_deref().is_none_or(|tool| {
                ledger.package(lease.package).is_some_and(|it| tools::is_of(it.terms, tool))
            })
    });
    let charges = found
        .into_iter()
        .map(|lease| OverageCharge {
            id: view::lease_id_text(&keys, lease.lease),
            tool: tool_of(&ledger, &lease),
            user: user_of(&ledger, &lease),
            amount: Money(lease.cost.unwrap_or_default().0),
            charged_at: wire::iso_utc(lease.granted_at_ms),
        })
        .collect();
    Ok(Reply::ok(&OverageCharges { charges }))
}

/// The face's own leases, all or those of an API key, newest first.
fn newest<'a>(
    ledger: &'a Ledger,
    own: Option<ApiKeyId>,
    keep: impl Fn(&LeaseView<'a>) -> bool,
) -> Vec<LeaseView<'a>> {
    let own = own.map(super::keys::key_text);
    let is_own = |lease: &LeaseView<'_>| own.as_deref().is_none_or(|own| lease.session == own);
    let borrows = ledger.leases(None).take(MAX_LOOKED_AT).filter(is_borrow);
    let mut found: Vec<_> =
        borrows.filter(|lease| is_own(lease) && keep(lease)).take(MAX_LISTED).collect();
    found.sort_by_key(|lease| std::cmp::Reverse(lease.fence));
    found
}

/// Whether a lease was taken through this face.
fn is_borrow(lease: &LeaseView<'_>) -> bool {
    lease.app == Face::Classic.app()
}

fn tool_of(ledger: &Ledger, lease: &LeaseView<'_>) -> String {
    let package = ledger.package(lease.package);
    package.map_or_else(|| lease.product.to_string(), |it| name_of(it.terms).to_owned())
}

fn user_of(ledger: &Ledger, lease: &LeaseView<'_>) -> String {
    ledger.subject(lease.user).map_or_else(String::new, |(_, name)| name.to_owned())
}

/// Packages asked before this node catches up, and again after: each costs a round through the log.
const MAX_PACKAGES_TRIED: usize = 8;
/// Leases looked at for one list, those of other faces included: some ten milliseconds under the
/// ledger's read lock.
const MAX_LOOKED_AT: usize = 100_000;
/// Borrows in one list: there are no pages in this protocol.
const MAX_LISTED: usize = 10_000;

//! Pools of packages: create, size, keep for somebody, move seats between them.
//!
//! Whether a pool is there before it is made or changed is looked up here, since one command does
//! both; of two calls that make one pool at once the second may find and change it. All else is
//! decided in the log.

use http::StatusCode;
use lease::command::{Command, TransferSeats};
use lease::ids::{Face, Name, RequestId};
use lease::offline::BorrowParty;
use lease::operate::{PoolParty, PoolRule, PoolUsage, SetPool};
use lease::outcome::Outcome;
use lease::{Ledger, PoolSeats};
use protocol::cloud::admin::{
    ChangePoolRequest, CreatePoolRequest, PageQuery, PoolList, PoolQuery, PoolUsageView, PoolView,
    ReservedFor, TransferSeatsRequest, TransferSeatsResponse,
};
use protocol::wire::UtcTime;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::paged;
use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::tokens::{app_id_text, parse_app_id};
use crate::view::unknown_package;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    PoolQuery::into_params(|| None)
}

/// `POST /admin/licenses/transfer`
pub(crate) async fn transfer(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: TransferSeatsRequest = call.json()?;
    let name = |pool: &Option<String>| pool.as_deref().map(Name::from);
    let command = Command::TransferSeats(TransferSeats {
        package: request.package_id.as_str().into(),
        from: name(&request.from_pool),
        to: name(&request.to_pool),
        quantity: request.quantity,
    });
    done(shared, call, call.request_id(&request), command).await?;
    let ledger = shared.context.cluster.ledger();
    let package = request.package_id;
    Ok(Reply::ok(&TransferSeatsResponse {
        from: find(&ledger, &package, request.from_pool.as_deref()),
        to: find(&ledger, &package, request.to_pool.as_deref()),
        quantity: request.quantity,
        package_id: package,
    }))
}

/// `GET /admin/pools`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: PoolQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let only = query.package_id.as_deref();
    let packages =
        ledger.packages().filter(|package| only.is_none_or(|only| *package.terms.package == *only));
    let pools = packages.flat_map(|package| {
        let name = package.terms.package.clone();
        package.seats().pools.into_iter().map(move |pool| (name.clone(), pool))
    });
    let (pools, next) = by_pair(pools, query.cursor.as_deref(), query.limit, |(package, pool)| {
        (package.to_string(), pool.pool.as_deref().unwrap_or_default().to_owned())
    });
    let pools = pools.iter().map(|(package, pool)| view(&ledger, package, pool)).collect();
    Ok(Reply::ok(&PoolList { pools, next }))
}

/// `POST /admin/pools`
pub(crate) async fn create(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: CreatePoolRequest = call.json()?;
    let request_id = call.request_id(&request);
    let (package, pool) = (request.package_id.as_str(), request.pool.as_str());
    let rule = PoolRule {
        reserved_for: parties(&request.reserved_for)?,
        description: request.description.as_deref().unwrap_or_default().into(),
    };
    {
        let ledger = shared.read(call).await?;
        let exists = find(&ledger, package, Some(pool)).is_some();
        if exists && !ledger.is_remembered(&request_id) {
            return Err(Failure::problem(
                StatusCode::CONFLICT,
                "pool_exists",
                "The package has a pool of this name: change it, or choose another.",
            ));
        }
    }
    let set = SetPool {
        package: package.into(),
        pool: pool.into(),
        seats: Some(request.seats),
        rule: Some(rule),
    };
    done(shared, call, request_id, Command::SetPool(Box::new(set))).await?;
    let view = find(&shared.context.cluster.ledger(), package, Some(pool));
    Ok(Reply::json(StatusCode::CREATED, &view.ok_or_else(unknown_pool)?))
}

/// `GET /admin/pools/{package_id}/{pool}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    view_of(&ledger, call)
}

/// `PUT /admin/pools/{package_id}/{pool}`
pub(crate) async fn change(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: ChangePoolRequest = call.json()?;
    let request_id = call.request_id(&request);
    let (package, pool) = (call.param("package_id")?, call.param("pool")?);
    let reserved_for = request.reserved_for.as_ref().map(parties).transpose()?;
    let rule = {
        let ledger = shared.read(call).await?;
        ledger.package(package).ok_or_else(unknown_package)?;
        let exists = find(&ledger, package, Some(pool)).is_some();
        if !exists && !ledger.is_remembered(&request_id) {
            return Err(unknown_pool());
        }
        let before = ledger.pool_rule(&package.into(), &pool.into()).cloned().unwrap_or_default();
        let says = reserved_for.is_some() || request.description.is_some();
        says.then(|| PoolRule {
            reserved_for: reserved_for.unwrap_or(before.reserved_for),
            description: request.description.as_deref().map_or(before.description, Into::into),
        })
    };
    let (package, pool) = (package.into(), pool.into());
    let set = SetPool { package, pool, seats: request.seats, rule };
    done(shared, call, request_id, Command::SetPool(Box::new(set))).await?;
    view_of(&shared.context.cluster.ledger(), call)
}

/// `DELETE /admin/pools/{package_id}/{pool}`
pub(crate) async fn remove(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let (package, pool) = (call.param("package_id")?.into(), call.param("pool")?.into());
    let command = Command::RemovePool { package, pool };
    done(shared, call, call.request_id(&()), command).await?;
    Ok(Reply::no_content())
}

/// A page of items in order of two names, and where it ended when there are more.
pub(super) fn by_pair<T>(
    items: impl Iterator<Item = T>,
    cursor: Option<&str>,
    limit: u32,
    names: impl Fn(&T) -> (String, String),
) -> (Vec<T>, Option<String>) {
    // A zero byte sorts before every character of a name, so the pairs sort as their texts do; in
    // the cursor a slash stands for it, which no name has.
    let cursor = cursor.map(|cursor| cursor.replacen('/', "\0", 1));
    let page = PageQuery { cursor, limit };
    let (items, next) = paged::by_name(items, &page, |item| {
        let (first, second) = names(item);
        format!("{first}\0{second}")
    });
    (items, next.map(|next| next.replacen('\0', "/", 1)))
}

/// How a pool was used.
pub(super) fn usage_view(usage: PoolUsage) -> PoolUsageView {
    let at = |ms: i64| (usage.granted > 0).then(|| UtcTime::from_unix_ms(ms));
    PoolUsageView {
        peak: usage.peak,
        peak_at: at(usage.peak_at_ms),
        last_taken_at: at(usage.last_taken_at_ms),
        granted: usage.granted,
    }
}

async fn done(
    shared: &Shared,
    call: &Call,
    request: RequestId,
    command: Command,
) -> Result<(), Failure> {
    let decided = shared.decide(call, Some(request), command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => shared.seen(call, decided.index).await,
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a change of a pool had the outcome of another command")),
    }
}

fn unknown_pool() -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, "unknown_pool", "The package has no such pool.")
}

fn view_of(ledger: &Ledger, call: &Call) -> Result<Reply, Failure> {
    let (package, pool) = (call.param("package_id")?, call.param("pool")?);
    ledger.package(package).ok_or_else(unknown_package)?;
    let view = find(ledger, package, Some(pool)).ok_or_else(unknown_pool)?;
    Ok(Reply::ok(&view))
}

fn find(ledger: &Ledger, package: &str, pool: Option<&str>) -> Option<PoolView> {
    let seats = ledger.package(package)?.seats();
    let found = seats.pools.iter().find(|it| it.pool.as_deref() == pool)?;
    Some(view(ledger, &package.into(), found))
}

fn view(ledger: &Ledger, package: &Name, pool: &PoolSeats) -> PoolView {
    let rule = pool.pool.as_ref().and_then(|pool| ledger.pool_rule(package, pool));
    let rule = rule.cloned().unwrap_or_default();
    PoolView {
        package_id: package.to_string(),
        pool: pool.pool.as_ref().map(|pool| pool.to_string()),
        seats: pool.share,
        in_use: pool.in_use,
        free: pool.share.saturating_sub(pool.in_use),
        reserved_for: reserved_for(&rule.reserved_for),
        description: Some(rule.description.to_string()).filter(|text| !text.is_empty()),
        usage: usage_view(ledger.pool_usage(package, pool.pool.as_ref())),
    }
}

fn reserved_for(parties: &[PoolParty]) -> ReservedFor {
    let mut named = ReservedFor::default();
    for party in parties {
        match party {
            PoolParty::Party(BorrowParty::User(name)) => named.users.push(name.to_string()),
            PoolParty::Party(BorrowParty::Host(name)) => named.hosts.push(name.to_string()),
            PoolParty::App(app) => named.apps.push(match app.face() {
                Some(face) => face.name().to_owned(),
                None => app_id_text(*app),
            }),
        }
    }
    named
}

fn parties(named: &ReservedFor) -> Result<Vec<PoolParty>, Failure> {
    let user = |name: &String| PoolParty::Party(BorrowParty::User(name.as_str().into()));
    let host = |name: &String| PoolParty::Party(BorrowParty::Host(name.as_str().into()));
    let mut parties: Vec<PoolParty> = named.users.iter().map(user).collect();
    parties.extend(named.hosts.iter().map(host));
    for text in &named.apps {
        let face = Face::ALL.into_iter().find(|face| face.name() == text).map(Face::app);
        let app = face.or_else(|| parse_app_id(text)).ok_or_else(|| {
            Failure::field("reserved_for.apps", "want ids of applications, as `app list` shows")
        })?;
        parties.push(PoolParty::App(app));
    }
    if parties.len() > lease::limits::MAX_POOL_PARTIES {
        let most = lease::limits::MAX_POOL_PARTIES;
        return Err(Failure::field("reserved_for", &format!("want at most {most} in all")));
    }
    Ok(parties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_pairs_end_in_no_middle() {
        let items = [("a", ""), ("a", "x"), ("a", "y"), ("a-b", ""), ("a-b", "a"), ("b", "")];
        for limit in 1..=7 {
            let mut cursor: Option<String> = None;
            let mut seen = Vec::new();
            loop {
                let names = |item: &(&str, &str)| (item.0.to_owned(), item.1.to_owned());
                let (page, next) = by_pair(items.into_iter(), cursor.as_deref(), limit, names);
                assert!(page.len() <= limit as usize);
                seen.extend(page);
                match next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, items, "{limit}");
        }
    }

    #[test]
    fn parties_have_one_spelling() {
        let named = ReservedFor {
            users: vec!["alice".to_owned()],
            hosts: vec!["ci-1".to_owned()],
            apps: vec!["app-00abcdef01234567".to_owned(), "classic".to_owned()],
        };
        let Ok(read) = parties(&named) else { panic!("parties") };
        assert_eq!(reserved_for(&read), named);
        for wrong in ["app-1", "cloud", "Classic"] {
            let named = ReservedFor { apps: vec![wrong.to_owned()], ..ReservedFor::default() };
            assert!(parties(&named).is_err(), "{wrong}");
        }
    }
}

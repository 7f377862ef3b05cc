//! Pools: named shares of a package's seats, for whom they are kept, seats that move between them.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{default_page, page_items};
use crate::package::MAX_QUANTITY;
use crate::wire::{self, UtcTime};

/// Most users, hosts and applications for whom one pool is kept.
pub const MAX_POOL_PARTIES: usize = 256;

/// `POST /admin/licenses/transfer`: moves free seats between pools of a package, all or none. A
/// pool that is not there yet comes to be; one that has no seat left is gone, with its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferSeatsRequest {
    /// The package.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "vec-davinci-se-bmw-2025-001", max_length = 128)]
    pub package_id: String,
    /// The pool that gives; the unassigned seats when left out.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-a", max_length = 128)]
    pub from_pool: Option<String>,
    /// The pool that takes; the unassigned seats when left out.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-b", max_length = 128)]
    pub to_pool: Option<String>,
    /// How many seats; `seats` is read, too.
    #[serde(alias = "seats", deserialize_with = "wire::quantity")]
    #[schema(example = 5, minimum = 1, maximum = 10_000_000)]
    pub quantity: u32,
}

/// Seats that moved, and how both pools stand now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferSeatsResponse {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// How many seats moved.
    #[schema(example = 5)]
    pub quantity: u32,
    /// The pool that gave; absent when no seat is left in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PoolView>,
    /// The pool that took; absent when it has been removed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PoolView>,
}

/// For whom a pool is kept. Those named get its seats, also without naming it, and nobody else
/// does; nobody named: whoever names the pool gets them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReservedFor {
    /// Users by name, compared without regard to the case of ASCII letters.
    #[serde(default, deserialize_with = "names")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["alice@bmw.com"]), max_items = 256)]
    pub users: Vec<String>,
    /// Hosts by name, compared likewise.
    #[serde(default, deserialize_with = "names")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["ci-runner-1"]), max_items = 256)]
    pub hosts: Vec<String>,
    /// Applications by `app_id`. `device`, `deployment`, `evaluation` and `classic` stand for all
    /// callers of these protocols.
    #[serde(default, deserialize_with = "apps")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub apps: Vec<String>,
}

impl ReservedFor {
    /// How many are named.
    pub fn count(&self) -> usize {
        self.users.len() + self.hosts.len() + self.apps.len()
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

/// `POST /admin/pools`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePoolRequest {
    /// The package.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "vec-davinci-se-bmw-2025-001", max_length = 128)]
    pub package_id: String,
    /// Its name, as checkouts give it.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "team-a", max_length = 128)]
    pub pool: String,
    /// Its share; these seats are taken from the unassigned ones, where as many must be free.
    #[serde(deserialize_with = "wire::quantity")]
    #[schema(example = 5, minimum = 1, maximum = 10_000_000)]
    pub seats: u32,
    /// For whom it is kept; nobody in particular when left out.
    #[serde(default, skip_serializing_if = "ReservedFor::is_empty")]
    pub reserved_for: ReservedFor,
    /// For people.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "night builds", max_length = 256)]
    pub description: Option<String>,
}

/// `PUT /admin/pools/{package_id}/{pool}`: what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePoolRequest {
    /// Its share: more comes from the unassigned seats, where as many must be free; less goes back
    /// to them, but never seats that are out.
    #[serde(default, deserialize_with = "optional_quantity")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 8, minimum = 1, maximum = 10_000_000)]
    pub seats: Option<u32>,
    /// For whom it is kept, as a whole; an empty object: for nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_for: Option<ReservedFor>,
    /// For people; an empty text takes it away.
    #[serde(default, deserialize_with = "short_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "night builds", max_length = 256)]
    pub description: Option<String>,
}

/// `GET /admin/pools`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PoolQuery {
    /// Only pools of this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "long_cursor")]
    #[param(max_length = 520)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Pools in order of package and name; the unassigned seats of a package come first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    /// One page.
    pub pools: Vec<PoolView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A pool, or the seats of a package that are in none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Its name; absent for the unassigned seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-a")]
    pub pool: Option<String>,
    /// Its share.
    #[schema(example = 5)]
    pub seats: u32,
    /// Seats of it that are out.
    #[schema(example = 2)]
    pub in_use: u32,
    /// Seats of it that are not. Fewer can be taken where the package as a whole has fewer left.
    #[schema(example = 3)]
    pub free: u32,
    /// For whom it is kept; empty: for whoever names it.
    #[serde(default, skip_serializing_if = "ReservedFor::is_empty")]
    pub reserved_for: ReservedFor,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "night builds")]
    pub description: Option<String>,
    /// How much it was used.
    pub usage: PoolUsageView,
}

/// How much a pool was used since it was made; the unassigned seats, since the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolUsageView {
    /// Most seats that were out at once.
    #[schema(example = 4)]
    pub peak: u32,
    /// When that was first so; absent when no seat was ever taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_at: Option<UtcTime>,
    /// When a seat was taken last; absent when none ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_taken_at: Option<UtcTime>,
    /// How often seats were taken.
    #[schema(example = 128)]
    pub granted: u64,
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let fits = |name: &String| wire::is_text(name, wire::MAX_TEXT_CHARS);
    let want = "names of 1 to 256 characters without control characters";
    list(deserializer, fits, want)
}

fn apps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    list(deserializer, |app| wire::is_id(app), "ids of applications")
}

/// Reads a list of at most [`MAX_POOL_PARTIES`] texts, each once, in order.
fn list<'de, D: Deserializer<'de>>(
    deserializer: D,
    fits: impl Fn(&String) -> bool,
    want: &str,
) -> Result<Vec<String>, D::Error> {
    let mut texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MAX_POOL_PARTIES || !texts.iter().all(fits) {
        return Err(serde::de::Error::custom(format_args!(
            "want at most {MAX_POOL_PARTIES} {want}"
        )));
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}

fn optional_quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    super::optional_count::<1, MAX_QUANTITY, D>(deserializer)
}

/// Reads a text of at most 256 characters that may be absent, null, or empty, which is kept.
fn short_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.is_empty() && !wire::is_text(&text, wire::MAX_TEXT_CHARS) => {
            Err(serde::de::Error::custom(format_args!(
                "want at most {} characters without control characters",
                wire::MAX_TEXT_CHARS
            )))
        }
        text => Ok(text),
    }
}

/// Reads a cursor of two names that may be absent.
pub(super) fn long_cursor<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !wire::is_text(&text, MAX_CURSOR_CHARS) => {
            Err(serde::de::Error::custom("not where a page of ours ended"))
        }
        text => Ok(text),
    }
}

/// Two names of the ledger and what stands between them.
const MAX_CURSOR_CHARS: usize = 520;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::body;

    #[test]
    fn requests_are_read_and_mistakes_name_their_field() {
        type Row = (&'static str, Result<&'static str, &'static str>);
        let create: &[Row] = &[
            (
                r#"{"package_id":"p","pool":"a","seats":3}"#,
                Ok(r#"{"package_id":"p","pool":"a","seats":3}"#),
            ),
            (
                r#"{"package_id":"p","pool":"a","seats":3,"description":"",
                    "reserved_for":{"users":["b","a","b"],"hosts":[],"apps":["classic"]}}"#,
                Ok(concat!(
                    r#"{"package_id":"p","pool":"a","seats":3,"reserved_for":"#,
                    r#"{"users":["a","b"],"apps":["classic"]}}"#
                )),
            ),
            (r#"{"package_id":"p","pool":"a","seats":0}"#, Err("seats")),
            (r#"{"package_id":"p","pool":"a b","seats":1}"#, Err("pool")),
            (r#"{"package_id":"p","pool":"a"}"#, Err("seats")),
            (
                r#"{"package_id":"p","pool":"a","seats":1,"reserved_for":{"users":[""]}}"#,
                Err("reserved_for.users"),
            ),
            (
                r#"{"package_id":"p","pool":"a","seats":1,"reserved_for":{"teams":["x"]}}"#,
                Err("reserved_for.teams"),
            ),
        ];
        for (text, want) in create {
            let read = body::decode::<CreatePoolRequest>(text.as_bytes());
            check(text, read, *want);
        }
        for (text, want) in [
            ("{}", Ok("{}")),
            (r#"{"seats":null,"description":""}"#, Ok(r#"{"description":""}"#)),
            (r#"{"reserved_for":{}}"#, Ok(r#"{"reserved_for":{}}"#)),
            (r#"{"seats":10000001}"#, Err("seats")),
            (r#"{"description":"a\nb"}"#, Err("description")),
            (r#"{"pool":"b"}"#, Err("pool")),
        ] {
            check(text, body::decode::<ChangePoolRequest>(text.as_bytes()), want);
        }
        for (text, want) in [
            (
                r#"{"package_id":"p","from_pool":"a","to_pool":null,"quantity":5}"#,
                Ok(r#"{"package_id":"p","from_pool":"a","quantity":5}"#),
            ),
            (
                r#"{"package_id":"p","to_pool":"b","seats":5}"#,
                Ok(r#"{"package_id":"p","to_pool":"b","quantity":5}"#),
            ),
            (r#"{"package_id":"p","quantity":0}"#, Err("quantity")),
            (r#"{"package_id":"p"}"#, Err("quantity")),
        ] {
            check(text, body::decode::<TransferSeatsRequest>(text.as_bytes()), want);
        }
    }

    #[track_caller]
    fn check<T: Serialize>(text: &str, read: Result<T, body::BodyError>, want: Result<&str, &str>) {
        match (read, want) {
            (Ok(read), Ok(want)) => {
                assert_eq!(serde_json::to_string(&read).unwrap(), want, "{text}");
            }
            (Err(error), Err(field)) => assert_eq!(error.field(), Some(field), "{text}: {error}"),
            (Ok(_), Err(field)) => panic!("{text} is read, {field} is wrong"),
            (Err(error), Ok(_)) => panic!("{text}: {error}"),
        }
    }
}

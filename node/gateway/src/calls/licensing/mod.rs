//! What operators do with license keys: issue them, watch what is activated under them, say who may
//! borrow, and bring the secrets that faces share with their callers.

pub(crate) mod activations;
pub(crate) mod clients;
pub(crate) mod licenses;
pub(crate) mod offline;
mod plan;
pub(crate) mod secrets;
mod view;

use http::StatusCode;
use lease::command::Command;
use lease::ids::RequestId;
use lease::outcome::Outcome;

use crate::call::Call;
use crate::failure::Failure;
use crate::licensing::parse_uuid;
use crate::refusal::admin_failure;
use crate::shared::Shared;

/// Items looked at for one page: a few milliseconds under the ledger's read lock.
const MAX_LOOKED_AT: usize = 10_000;

/// Has a command decided that answers with done, or already so; waits until this node has it.
async fn done(
    shared: &Shared,
    call: &Call,
    request: RequestId,
    command: Command,
) -> Result<(), Failure> {
    let decided = shared.decide(call, Some(request), command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("a change had the outcome of another command")),
    }
    shared.seen(call, decided.index).await
}

/// The number in a path, or the 404 of what was not found there.
fn in_path(call: &Call, code: &str, title: &str) -> Result<u128, Failure> {
    parse_uuid(call.subject()?).ok_or_else(|| not_found(code, title))
}

fn not_found(code: &str, title: &str) -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, code, title)
}

/// Where a page begins: after the item that the cursor names.
fn cursor(text: Option<&str>) -> Result<Option<u128>, Failure> {
    let parse = |text| {
        parse_uuid(text).ok_or_else(|| Failure::field("cursor", "not where a page of ours ended"))
    };
    text.map(parse).transpose()
}

/// One page: what `keep` makes of the items, and where it ended when there may be more.
fn page<T, V>(
    items: impl Iterator<Item = T>,
    limit: u32,
    id: impl Fn(&T) -> String,
    mut keep: impl FnMut(T) -> Option<V>,
) -> (Vec<V>, Option<String>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut kept = Vec::with_capacity(limit.min(64));
    let mut last = None;
    for (looked_at, item) in items.enumerate() {
        if kept.len() == limit || looked_at == MAX_LOOKED_AT {
            return (kept, last);
        }
        last = Some(id(&item));
        kept.extend(keep(item));
    }
    (kept, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let table: [(u32, &[u32], Option<&str>); 4] = [
            (2, &[2, 4], Some("4")),
            (3, &[2, 4, 6], Some("6")),
            (4, &[2, 4, 6, 8], None),
            (1_000, &[2, 4, 6, 8], None),
        ];
        for (limit, want, next) in table {
            let even = |item: u32| item.is_multiple_of(2).then_some(item);
            let (kept, end) = page(1..=8_u32, limit, |item| item.to_string(), even);
            assert_eq!((kept.as_slice(), end.as_deref()), (want, next), "{limit}");
        }
    }

    #[test]
    fn a_page_looks_at_a_bounded_number_of_items() {
        let (kept, next) = page(0..u32::MAX, 5, |item| item.to_string(), |_| None::<u32>);
        assert_eq!((kept.len(), next), (0, Some((MAX_LOOKED_AT - 1).to_string())));
    }
}

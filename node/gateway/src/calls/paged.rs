//! Pages of short lists that are in order of a name: packages, applications, vendors.
//!
//! The cursor is the name of the last item, so a page begins after it whatever came or went in the
//! meantime. Long lists, whose rows the ledger finds by key, page for themselves.

use protocol::cloud::admin::PageQuery;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::call::Call;
use crate::failure::Failure;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    PageQuery::into_params(|| None)
}

/// The page that a call asks for.
pub(crate) fn asked(call: &Call) -> Result<PageQuery, Failure> {
    call.query()
}

/// The page of items in order of their name, and where it ended when there are more.
pub(crate) fn by_name<T>(
    items: impl Iterator<Item = T>,
    page: &PageQuery,
    name: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let is_past =
        |item: &T| page.cursor.as_deref().is_none_or(|cursor| name(item).as_str() > cursor);
    let mut rest = items.filter(|item| is_past(item));
    let kept: Vec<T> = rest.by_ref().take(limit).collect();
    let next = rest.next().and(kept.last()).map(&name);
    (kept, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_whatever_comes_or_goes() {
        type Row = (Option<&'static str>, u32, &'static [&'static str], Option<&'static str>);
        let table: [Row; 7] = [
            (None, 2, &["a", "b"], Some("b")),
            (Some("b"), 2, &["d", "e"], None),
            (Some("c"), 1, &["d"], Some("d")),
            (Some("e"), 5, &[], None),
            (None, 4, &["a", "b", "d", "e"], None),
            (None, 3, &["a", "b", "d"], Some("d")),
            (None, 1_000, &["a", "b", "d", "e"], None),
        ];
        for (cursor, limit, want, next) in table {
            let page = PageQuery { cursor: cursor.map(str::to_owned), limit };
            let items = ["a", "b", "d", "e"].into_iter();
            let (kept, end) = by_name(items, &page, |item| (*item).to_owned());
            assert_eq!((kept.as_slice(), end.as_deref()), (want, next), "{cursor:?} {limit}");
        }
    }
}

//! How fresh a read must be, and how old it was.
//!
//! Reads of applications and operators are linearizable: they show everything that was answered
//! anywhere before. With `?consistency=stale` a node answers from what it has applied itself, which
//! needs no quorum and no leader. Such an answer says as of when it is:
//!
//! | header | holds |
//! |---|---|
//! | `Leasehold-Applied-Index` | the log index up to which this node has applied |
//! | `Leasehold-Age-Ms` | milliseconds since it heard from a leader or, leading, from a quorum |
//!
//! What it leaves to others: the read itself ([`crate::shared::Shared::read`]).

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use raft::Status;

use crate::failure::Failure;
use crate::routes::Operation;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Consistency {
    /// Everything that was answered anywhere before.
    #[default]
    Linearizable,
    /// What this node has applied.
    Stale,
}

/// As of when a stale answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// Log index up to which this node has applied; 0: nothing.
    pub(crate) applied_index: u64,
    /// Milliseconds since it last heard from a leader or, leading, from a quorum; `None`: it has
    /// not since it started.
    pub(crate) age_ms: Option<u64>,
}

impl Consistency {
    /// What a request of an operation asks for. Where there is no choice, the word is not ours.
    pub(crate) fn of_request(operation: &Operation, query: &str) -> Result<Self, Failure> {
        if !operation.has_consistency() {
            return Ok(Self::Linearizable);
        }
        let mut asked = query.split('&').filter_map(value_of);
        let consistency = match asked.next() {
            None | Some("linearizable") => Self::Linearizable,
            Some("stale") => Self::Stale,
            Some(_) => return Err(Failure::field(PARAMETER, "want linearizable or stale")),
        };
        match asked.next() {
            None => Ok(consistency),
            Some(_) => Err(Failure::field(PARAMETER, "want it once")),
        }
    }
}

/// A query without the parameter, which every read has beside its own.
pub(crate) fn without_parameter(query: &str) -> Cow<'_, str> {
    if query.split('&').any(|pair| value_of(pair).is_some()) {
        let others: Vec<&str> = query.split('&').filter(|pair| value_of(pair).is_none()).collect();
        Cow::Owned(others.join("&"))
    } else {
        Cow::Borrowed(query)
    }
}

impl Staleness {
    /// Of a node that stands so.
    pub(crate) fn of(status: &Status) -> Self {
        Self {
            applied_index: status.applied.map_or(0, |applied| applied.index),
            age_ms: status.quorum_ack_age_ms.or(status.leader_contact_age_ms),
        }
    }

    /// Says it in an answer.
    pub(crate) fn dress(self, headers: &mut HeaderMap) {
        headers.insert(APPLIED_INDEX, HeaderValue::from(self.applied_index));
        if let Some(age_ms) = self.age_ms {
            headers.insert(AGE_MS, HeaderValue::from(age_ms));
        }
    }
}

/// The value, where a pair of a query is the parameter.
fn value_of(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name == PARAMETER).then_some(value)
}

/// The parameter's name.
pub(crate) const PARAMETER: &str = "consistency";
const APPLIED_INDEX: HeaderName = HeaderName::from_static("leasehold-applied-index");
const AGE_MS: HeaderName = HeaderName::from_static("leasehold-age-ms");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::operations;

    #[test]
    fn only_reads_of_applications_and_operators_have_the_choice() {
        let find = |id: &str| operations().find(|row| row.id == id).expect("an operation");
        let table = [
            ("listPackages", "", Ok(Consistency::Linearizable)),
            ("listPackages", "consistency=linearizable", Ok(Consistency::Linearizable)),
            ("listPackages", "limit=3&consistency=stale", Ok(Consistency::Stale)),
            ("listPackages", "consistency=eventual", Err(400)),
            ("listPackages", "consistency", Err(400)),
            ("listPackages", "consistency=stale&consistency=stale", Err(400)),
            ("discoverLicenses", "consistency=stale", Ok(Consistency::Stale)),
            ("suspendPackage", "consistency=stale", Ok(Consistency::Linearizable)),
            ("isReady", "consistency=what", Ok(Consistency::Linearizable)),
        ];
        for (id, query, want) in table {
            let got = Consistency::of_request(find(id), query);
            assert_eq!(got.map_err(|failure| failure.status().as_u16()), want, "{id}?{query}");
        }
    }

    #[test]
    fn the_parameter_is_taken_out_and_nothing_else() {
        let table = [
            ("", ""),
            ("consistency=stale", ""),
            ("a=1&consistency=stale&b=2", "a=1&b=2"),
            ("consistency_of=x", "consistency_of=x"),
            ("consistency", ""),
        ];
        for (query, want) in table {
            assert_eq!(without_parameter(query), want, "{query}");
        }
    }
}

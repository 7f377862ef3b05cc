//! What every call can answer beside what it was asked for: statuses, and for each the codes that a
//! program can meet there.
//!
//! Decisions come from the tables that make them ([`crate::refusal`], `protocol::cloud::denial`,
//! `protocol::oauth::token`); what any call can meet before or around a decision is listed here. A
//! code of the ledger belongs to a call when they speak of the same thing: `license_taken` to calls
//! about licenses, `idempotency_key_reused` to all that take a key.
//!
//! Long because half of it is a table.

use std::collections::BTreeSet;

use http::StatusCode;
use lease::ids::TraceId;
use protocol::cloud::denial::{DenialReason, Denied};
use protocol::cloud::problem::Problem;
use protocol::oauth::token::TokenError;
use serde_json::Value;

use crate::face::has_own_words;
use crate::failure::Failure;
use crate::refusal;
use crate::routes::{Credential, Operation, Protocol, Verb};
use crate::trace;

/// A code with its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    /// The code, or the status where the face has none.
    pub(super) code: String,
    /// One sentence.
    pub(super) sentence: String,
    /// The media type of the answer.
    pub(super) media: Media,
    /// The answer.
    pub(super) body: Value,
}

/// What an answer that fails is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`
    Json,
    /// `application/problem+json`
    Problem,
}

/// Every status other than success that an operation may answer with, in order.
pub(super) fn statuses(operation: &Operation) -> BTreeSet<u16> {
    let mut statuses: BTreeSet<u16> = operation.failures.iter().copied().collect();
    if operation.protocol != Protocol::Operations || operation.path == "/docs" {
        statuses.insert(500);
    }
    if operation.counts_addresses() || matches!(operation.credential, Credential::AccessToken(_)) {
        statuses.insert(429);
    }
    // Whoever guesses is counted, too.
    if matches!(operation.credential, Credential::Operator(_) | Credential::ApiKey(_)) {
        statuses.insert(429);
    }
    if operation.has_consistency() {
        statuses.insert(400);
    }
    if operation.takes_body() {
        statuses.extend([400, 408, 413]);
    }
    if operation.is_keyed() && operation.protocol != Protocol::Operations {
        statuses.insert(400);
    }
    if takes_room(operation) {
        statuses.insert(507);
    }
    if operation.protocol != Protocol::Operations {
        statuses.insert(503);
    }
    statuses
}

/// The codes of an operation at a status. `fields` are the names in its request.
pub(super) fn codes(operation: &Operation, status: u16, fields: &[String]) -> Vec<Known> {
    let protocol = operation.protocol;
    let around = AROUND
        .iter()
        .filter(|frame| frame.status == status && (frame.fits)(operation))
        .map(|frame| frame_answer(protocol, frame));
    let mut known: Vec<Known> = around.flatten().collect();
    match protocol {
        Protocol::Cloud => known.extend(denials(operation, status)),
        Protocol::OAuth => known.extend(token_errors(operation, status)),
        Protocol::Admin => known.extend(verdicts(operation, status, fields)),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    known.retain(|one| seen.insert(one.code.clone()));
    known
}

struct Frame {
    status: u16,
    code: &'static str,
    title: &'static str,
    fits: fn(&Operation) -> bool,
}

/// The answer of a part of the face to what any call can meet.
fn frame_answer(protocol: Protocol, frame: &Frame) -> Option<Known> {
    let status = StatusCode::from_u16(frame.status).ok()?;
    let (code, sentence) = (frame.code.to_owned(), frame.title.to_owned());
    if has_own_words(protocol) {
        let failure = Failure::problem(status, frame.code, frame.title).in_words_of(protocol);
        let body: Value = serde_json::from_slice(&failure.body).ok()?;
        return Some(Known { code, sentence, media: Media::Json, body });
    }
    if protocol == Protocol::OAuth {
        return None;
    }
    let mut problem = Problem::new(frame.status, frame.code, frame.title);
    if frame.status == 503 {
        problem = problem.outcome(protocol::cloud::problem::ProblemOutcome::NotExecuted);
    }
    Some(of_problem(problem))
}

fn of_problem(mut problem: Problem) -> Known {
    problem.instance = Some(format!("urn:uuid:{}", trace::text(TraceId(EXAMPLE_TRACE))));
    Known {
        code: problem.code.clone(),
        sentence: problem.title.clone(),
        media: Media::Problem,
        body: serde_json::to_value(&problem).unwrap_or_default(),
    }
}

/// What the ledger may say to a call of an application.
fn denials(operation: &Operation, status: u16) -> impl Iterator<Item = Known> {
    let reasons = DenialReason::ALL
        .iter()
        .copied()
        .filter(move |reason| reason.http_status() == status && meets(operation, *reason));
    reasons.map(|reason| Known {
        code: reason.code().to_owned(),
        sentence: reason.sentence().to_owned(),
        media: Media::Json,
        body: serde_json::to_value(Denied::because(reason)).unwrap_or_default(),
    })
}

/// Whether a call of an application can be refused for this reason.
fn meets(operation: &Operation, reason: DenialReason) -> bool {
    use DenialReason as Reason;
    let id = operation.id;
    let takes_seat = id == "checkoutLicense";
    let names_lease = operation.path.contains("{lease_id}");
    let renews = matches!(id, "renewLease" | "borrowLease");
    match reason {
        Reason::AppRemoved | Reason::InsufficientScope => true,
        Reason::IdempotencyKeyReused | Reason::IdempotencyTableFull => operation.is_keyed(),
        Reason::NoSpace => takes_room(operation),
        Reason::UnknownLease | Reason::LeaseEnded => names_lease || id.contains("OfflineToken"),
        Reason::AlreadyEnded => id == "returnLease",
        Reason::RenewalTokenReplayed | Reason::RenewalTokenInvalid => names_lease,
        Reason::OfflineNotAllowed
        | Reason::BorrowTooLong
        | Reason::BorrowLimitReached
        | Reason::OnlineReserve
        | Reason::BorrowExcluded
        | Reason::NotBorrowed => id.to_ascii_lowercase().contains("borrow") || takes_seat,
        Reason::PackageNotYetValid
        | Reason::PackageExpired
        | Reason::PackageSuspended
        | Reason::PackageRevoked
        | Reason::RestoreHold => takes_seat || renews,
        _ => takes_seat,
    }
}

/// What the token endpoint and its documents may say.
fn token_errors(operation: &Operation, status: u16) -> Vec<Known> {
    const ALL: [TokenError; 9] = [
        TokenError::InvalidRequest("grant_type is missing"),
        TokenError::InvalidClient,
        TokenError::UnauthorizedClient,
        TokenError::UnsupportedGrantType,
        TokenError::InvalidScope,
        TokenError::TooLarge,
        TokenError::TooManyRequests,
        TokenError::ServerError,
        TokenError::TemporarilyUnavailable,
    ];
    let is_form = operation.takes_body();
    let slow = (status == 408).then_some(TokenError::InvalidRequest("the form did not arrive"));
    let found =
        ALL.into_iter().filter(|error| error.http_status() == status && (is_form || status >= 429));
    let known = found.chain(slow).map(|error| Known {
        code: error.code().to_owned(),
        sentence: error.to_string(),
        media: Media::Json,
        body: serde_json::to_value(error.body()).unwrap_or_default(),
    });
    known.collect()
}

/// What the ledger may say to a call of an operator.
fn verdicts(operation: &Operation, status: u16, fields: &[String]) -> Vec<Known> {
    let speaks_of = words_of(operation, fields);
    let at_status = || {
        refusal::ALL
            .iter()
            .map(|code| refusal::admin_verdict(*code))
            .filter(move |verdict| verdict.status == status && status != 500)
    };
    let fits = |code: &str| {
        if KEYED.contains(&code) {
            return operation.is_keyed();
        }
        GENERAL.contains(&code)
            || words(code)
                .any(|word| !EMPTY_WORDS.contains(&word.as_str()) && speaks_of.contains(&word))
    };
    let known = at_status().filter(|verdict| fits(verdict.code)).map(|verdict| {
        let problem = Problem::new(verdict.status, verdict.code, verdict.title);
        of_problem(match verdict.field {
            Some(field) => problem.field(field),
            None => problem,
        })
    });
    known.collect()
}

/// What an operation is about: the words of its path, its name, and its request.
fn words_of(operation: &Operation, fields: &[String]) -> BTreeSet<String> {
    let path = operation.path.split('/').filter(|part| !part.starts_with('{'));
    let mut spoken: BTreeSet<String> = path.flat_map(words).collect();
    let mut id = String::new();
    for letter in operation.id.chars() {
        if letter.is_ascii_uppercase() {
            id.push('_');
        }
        id.push(letter.to_ascii_lowercase());
    }
    spoken.extend(words(&id));
    spoken.extend(fields.iter().flat_map(|field| words(field)));
    // A package is imported below /admin/licenses, and is none.
    if imports(operation) {
        spoken.remove("license");
    }
    // A pool is a share of a package's free seats.
    if spoken.contains("pool") || operation.id == "transferSeats" {
        spoken.extend(["package", "pool", "free"].map(str::to_owned));
    }
    spoken
}

/// Words in the singular.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(['_', '-']).filter(|word| !word.is_empty()).map(|word| {
        let stem = word.strip_suffix('s').filter(|stem| stem.len() > 3).unwrap_or(word);
        stem.to_owned()
    })
}

/// Words of codes that say nothing of what a call is about.
const EMPTY_WORDS: [&str; 26] = [
    "unknown",
    "taken",
    "not",
    "yet",
    "valid",
    "state",
    "conflict",
    "differ",
    "for",
    "another",
    "expired",
    "revoked",
    "suspended",
    "cancelled",
    "in",
    "use",
    "last",
    "allowed",
    "id",
    "key",
    "name",
    "limit",
    "reached",
    "too",
    "many",
    "hold",
];
/// Codes that any call of an operator can meet.
const GENERAL: [&str; 7] = [
    "invalid_token",
    "role_too_narrow",
    "limit_reached",
    "version_conflict",
    "starting",
    "no_space",
    "already_initialised",
];
/// Codes of calls that take an idempotency key.
const KEYED: [&str; 2] = ["idempotency_key_reused", "idempotency_table_full"];

const EXAMPLE_TRACE: u128 = 0x0195_f3a2_7c11_7d3e_9c55_0d8f_2b6a_4e10;

fn always(_: &Operation) -> bool {
    true
}

fn with_body(operation: &Operation) -> bool {
    operation.takes_body()
}

fn with_credential(operation: &Operation) -> bool {
    !matches!(operation.credential, Credential::Nobody | Credential::Face | Credential::Client)
}

fn with_role(operation: &Operation) -> bool {
    matches!(operation.credential, Credential::Operator(_) | Credential::ApiKey(_))
}

fn imports(operation: &Operation) -> bool {
    operation.id.starts_with("import")
}

fn changes_members(operation: &Operation) -> bool {
    matches!(operation.id, "promoteMember" | "removeMember" | "transferLeader")
}

fn takes_away(operation: &Operation) -> bool {
    matches!(operation.id, "removeMember" | "drainNode")
}

fn removes_members(operation: &Operation) -> bool {
    operation.id == "removeMember"
}

fn invites(operation: &Operation) -> bool {
    operation.id == "addMember"
}

fn lets_in(operation: &Operation) -> bool {
    operation.id == "joinCluster"
}

fn certifies(operation: &Operation) -> bool {
    matches!(operation.id, "addMember" | "joinCluster" | "getAuthorities")
}

fn orders(operation: &Operation) -> bool {
    operation.id == "drainNode"
}

fn watches(operation: &Operation) -> bool {
    operation.id == "watchEvents"
}

fn reads_on(operation: &Operation) -> bool {
    matches!(operation.id, "watchEvents" | "listAuditEvents")
}

fn makes_pools(operation: &Operation) -> bool {
    operation.id == "createPool"
}

/// Whether something new is written, which a full disk forbids; what gives back goes on.
fn takes_room(operation: &Operation) -> bool {
    let gives = ["return", "renew", "release", "remove", "clear"];
    operation.is_keyed()
        && operation.method != Verb::Delete
        && matches!(operation.protocol, Protocol::Cloud | Protocol::Admin | Protocol::DeviceAdmin)
        && !gives.iter().any(|word| operation.id.starts_with(word))
}

/// What calls can meet before or around a decision.
const AROUND: &[Frame] = &[
    Frame { status: 400, code: "invalid_field", title: "The request is not valid.", fits: always },
    Frame {
        status: 400,
        code: "malformed_json",
        title: "The request's body is not valid.",
        fits: with_body,
    },
    Frame {
        status: 400,
        code: "body_incomplete",
        title: "The body did not arrive whole.",
        fits: with_body,
    },
    Frame {
        status: 400,
        code: "package_field_missing",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 400,
        code: "package_field_unknown",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 400,
        code: "package_field_type",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 400,
        code: "package_field_out_of_bounds",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 400,
        code: "package_not_strict_json",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 401,
        code: "invalid_token",
        title: "The token is not valid, has expired or was revoked.",
        fits: with_credential,
    },
    Frame {
        status: 403,
        code: "role_too_narrow",
        title: "The operator's role does not allow this.",
        fits: with_role,
    },
    Frame {
        status: 409,
        code: "quorum_would_be_lost",
        title: "The voters that are left would be no quorum.",
        fits: takes_away,
    },
    Frame {
        status: 409,
        code: "last_voter",
        title: "It is the only voter.",
        fits: removes_members,
    },
    Frame {
        status: 409,
        code: "change_in_progress",
        title: "Another change of the members is under way; try again in a moment.",
        fits: changes_members,
    },
    Frame {
        status: 409,
        code: "change_not_possible",
        title: "The members cannot be changed so.",
        fits: changes_members,
    },
    Frame {
        status: 409,
        code: "clock_differs",
        title: "The node's clock differs from the cluster's.",
        fits: lets_in,
    },
    Frame { status: 409, code: "node_id_taken", title: "The id was used before.", fits: lets_in },
    Frame {
        status: 409,
        code: "node_unreachable",
        title: "The node does not answer.",
        fits: orders,
    },
    Frame { status: 409, code: "order_refused", title: "The node does not do this.", fits: orders },
    Frame { status: 500, code: "order_failed", title: "The node tried, and failed.", fits: orders },
    Frame {
        status: 503,
        code: "node_unreachable",
        title: "The node did not answer; it may have obeyed.",
        fits: orders,
    },
    Frame {
        status: 503,
        code: "no_authority",
        title: "This node cannot open the key of the certificate authority; ask another.",
        fits: certifies,
    },
    Frame {
        status: 409,
        code: "secret_shown_before",
        title: "This was done before.",
        fits: invites,
    },
    Frame {
        status: 410,
        code: "events_pruned",
        title: "Events behind this one were pruned.",
        fits: watches,
    },
    Frame {
        status: 410,
        code: "epoch_changed",
        title: "The event is of another epoch: the cluster was restored or recovered since.",
        fits: reads_on,
    },
    Frame { status: 404, code: "not_found", title: "There is nothing at this path.", fits: always },
    Frame {
        status: 408,
        code: "body_timeout",
        title: "The body took too long to arrive.",
        fits: with_body,
    },
    Frame { status: 413, code: "body_too_large", title: "The body is too long.", fits: with_body },
    Frame {
        status: 413,
        code: "too_large",
        title: "The request does not fit into one entry.",
        fits: with_body,
    },
    Frame {
        status: 422,
        code: "package_unsigned",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 422,
        code: "package_signature_form",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 422,
        code: "package_signature_algorithm",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 422,
        code: "package_signature_invalid",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame {
        status: 422,
        code: "package_key_mismatch",
        title: "The license package is not accepted.",
        fits: imports,
    },
    Frame { status: 429, code: "rate_limited", title: "This caller asks too often.", fits: always },
    Frame { status: 500, code: "internal", title: "The server is at fault.", fits: always },
    Frame {
        status: 503,
        code: "no_quorum",
        title: "No quorum of the cluster can be reached.",
        fits: always,
    },
    Frame {
        status: 503,
        code: "overloaded",
        title: "The cluster has more to do than it can.",
        fits: always,
    },
    Frame {
        status: 503,
        code: "starting",
        title: "This node has not caught up with its own log yet.",
        fits: always,
    },
    Frame {
        status: 503,
        code: "sealed",
        title: "This node has no keys; ask another.",
        fits: always,
    },
    Frame {
        status: 503,
        code: "shutting_down",
        title: "This node is stopping; ask another.",
        fits: always,
    },
    Frame {
        status: 503,
        code: "node_failed",
        title: "This node has failed; ask another.",
        fits: always,
    },
    Frame {
        status: 507,
        code: "no_space",
        title: "A node's disk is nearly full: nothing new is written until it has room.",
        fits: takes_room,
    },
    Frame {
        status: 409,
        code: "pool_exists",
        title: "The package has a pool of this name: change it, or choose another.",
        fits: makes_pools,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::operations;

    fn names(id: &str, status: u16) -> Vec<String> {
        let operation = operations().find(|row| row.id == id).expect("an operation");
        codes(operation, status, &[]).into_iter().map(|known| known.code).collect()
    }

    #[test]
    fn a_call_names_what_it_can_meet_and_nothing_of_others() {
        let table: [(&str, u16, &[&str], &[&str]); 9] = [
            ("createPool", 409, &["pool_exists", "not_enough_free"], &["lease_ended"]),
            ("transferSeats", 409, &["not_enough_free"], &["pool_exists"]),
            ("showPool", 404, &["unknown_pool", "unknown_package"], &["unknown_app"]),
            ("suspendPackage", 404, &["unknown_package"], &["unknown_lease", "unknown_app"]),
            ("releaseLease", 410, &["lease_ended"], &[]),
            ("checkoutLicense", 409, &["max_overage_exceeded"], &["renewal_token_replayed"]),
            ("renewLease", 409, &["renewal_token_replayed"], &["max_overage_exceeded"]),
            ("issueToken", 401, &["invalid_client"], &["no_quorum"]),
            ("importPackage", 422, &["package_signature_invalid"], &["license_expired"]),
        ];
        for (id, status, has, has_not) in table {
            let names = names(id, status);
            for code in has {
                assert!(names.iter().any(|name| name == code), "{id} {status}: {names:?}");
            }
            for code in has_not {
                assert!(!names.iter().any(|name| name == code), "{id} {status}: {names:?}");
            }
        }
    }

    #[test]
    fn every_status_where_codes_are_spoken_has_one() {
        for operation in operations() {
            let speaks =
                matches!(operation.protocol, Protocol::Cloud | Protocol::Admin | Protocol::OAuth);
            for status in statuses(operation).into_iter().filter(|_| speaks) {
                let known = codes(operation, status, &[]);
                assert!(!known.is_empty(), "{} {status}: no code", operation.id);
            }
        }
    }

    #[test]
    fn every_code_of_the_ledger_is_some_calls() {
        let spoken: BTreeSet<String> = operations()
            .filter(|row| row.protocol == Protocol::Admin)
            .flat_map(|row| statuses(row).into_iter().map(move |status| (row, status)))
            .flat_map(|(row, status)| codes(row, status, &[]))
            .map(|known| known.code)
            .collect();
        let silent = refusal::ALL
            .iter()
            .map(|code| refusal::admin_verdict(*code).code)
            .filter(|code| !spoken.contains(*code));
        let silent: BTreeSet<&str> = silent.collect();
        assert!(silent.len() <= refusal::ALL.len() / 4, "too many are nobody's: {silent:?}");
    }
}

//! From an operation of a history to a step of the model: names to places, answers to the model's.

use std::collections::BTreeSet;

use super::problem::{Interval, Names, key_of};
use crate::check::Run;
use crate::history::{Act, Answer};
use crate::model::{
    Asked, BorrowAnswer, CheckoutAnswer, Class, HeartbeatAnswer, Lateness, PoolNo, ReturnAnswer,
    Step,
};
use crate::operation::{Operation, Outcome};

/// The step of an operation, and when it may have happened; `None` when it says nothing.
pub(super) fn interval(
    run: &Run,
    names: &Names,
    place: usize,
    operation: &Operation,
) -> Option<Interval> {
    if operation.outcome == Outcome::Failed {
        return None;
    }
    let is_unknown = operation.outcome == Outcome::Unknown;
    if is_unknown && operation.act.is_read() {
        return None;
    }
    let step = step(run, names, operation)?;
    let asked = Asked {
        invoke_ns: operation.invoke_ns,
        until_ns: until_ns(run, operation),
        term_ns: term_ns(run, operation),
    };
    // A renewal that spends no token could be placed again and again: that it was is remembered.
    let rotates = operation.act.package().and_then(|it| run.terms(it)).is_none_or(|it| it.rotation);
    let repeats = matches!(step, Step::Heartbeat { .. }) && !rotates;
    Some(Interval {
        operation: place,
        step,
        asked,
        end_ns: operation.return_ns,
        required: !is_unknown,
        eager: false,
        is_remembered: !is_unknown || repeats,
    })
}

/// Until when a lease that this operation extends lives at least.
fn until_ns(run: &Run, operation: &Operation) -> u64 {
    let Some(terms) = operation.act.package().and_then(|package| run.terms(package)) else {
        return operation.invoke_ns;
    };
    let asked_ms = match &operation.act {
        Act::Checkout { ttl_ms, .. } => *ttl_ms,
        _ => None,
    };
    let online_ms = run.ttl_ms(&terms.name, asked_ms);
    // The end of an offline token is on the civil clock, which a fault may move.
    let skew_ms = if run.moves_clocks() { 0 } else { terms.offline_skew_ms };
    let keeps_ms = match (&operation.act, &operation.outcome) {
        (Act::Borrow { duration_ms, .. }, _) => online_ms.max(duration_ms + skew_ms),
        (_, Outcome::Done(Answer::Renewed { offline_until_ms: Some(_), .. })) => {
            online_ms + skew_ms
        }
        _ => online_ms,
    };
    operation.invoke_ns.saturating_add(run.at_least_ns(keeps_ms))
}

/// When a borrow ends at the earliest, or the ordinary term of a renewal at the latest. Both ends
/// are on the civil clock: where a fault may move it, no borrow certainly lasts.
fn term_ns(run: &Run, operation: &Operation) -> u64 {
    match &operation.act {
        Act::Borrow { .. } if run.moves_clocks() => 0,
        Act::Borrow { duration_ms, .. } => {
            operation.invoke_ns.saturating_add(run.at_least_ns(*duration_ms))
        }
        act => {
            let package = act.package().unwrap_or_default();
            let heard_ns = operation.return_ns.unwrap_or(u64::MAX);
            heard_ns.saturating_add(run.at_most_ns(run.ttl_ms(package, None)))
        }
    }
}

fn step(run: &Run, names: &Names, operation: &Operation) -> Option<Step> {
    let key = |key: &String| names.keys.get(&key_of(operation, key)).copied();
    let lease_of = |name: &String| names.leases.get(name).copied();
    Some(match &operation.act {
        Act::Checkout { key, seats, pool, .. } => {
            check_out(names, operation, key, *seats, pool.as_deref())?
        }
        Act::Heartbeat { lease, sequence_token, .. } => {
            heartbeat(run, lease_of(lease)?, sequence_token, operation)?
        }
        Act::Return { lease, key: name, .. } => Step::Return {
            lease: lease_of(lease)?,
            key: key(name)?,
            answer: match &operation.outcome {
                Outcome::Done(_) => Some(ReturnAnswer::Returned),
                Outcome::Refused { code } => Some(match code.as_str() {
                    "already_ended" => ReturnAnswer::AlreadyEnded,
                    "unknown_lease" => ReturnAnswer::NoSuchLease,
                    _ => return None,
                }),
                _ => None,
            },
        },
        Act::Borrow { lease, key: name, .. } => Step::Borrow {
            lease: lease_of(lease)?,
            key: key(name)?,
            answer: borrow_answer(operation)?,
        },
        Act::ReturnBorrow { lease, key: name, .. } => Step::ReturnBorrow {
            lease: lease_of(lease)?,
            key: key(name)?,
            answer: borrow_answer(operation)?,
        },
        Act::Transfer { from, to, seats, key: name, .. } => Step::Transfer {
            from: pool_of(names, from)?,
            to: pool_of(names, to)?,
            seats: *seats,
            key: key(name)?,
            answer: match &operation.outcome {
                Outcome::Done(_) => Some(true),
                Outcome::Refused { code } if code == "not_enough_free" => Some(false),
                Outcome::Refused { .. } => return None,
                _ => None,
            },
        },
        Act::ReadPackage { .. } | Act::ReadLease { .. } | Act::ReadPools { .. } => {
            read(names, operation)?
        }
        Act::Fault(_) => return None,
    })
}

fn check_out(
    names: &Names,
    operation: &Operation,
    key: &str,
    seats: u32,
    pool: Option<&str>,
) -> Option<Step> {
    let lease = names.made.get(key).copied()?;
    let pool = pool_of(names, pool.unwrap_or_default())?;
    let mut fence = None;
    let answer = match &operation.outcome {
        Outcome::Done(Answer::Granted { lease: told, fence: at, class, renewal_token, .. }) => {
            if names.leases.get(told) != Some(&lease) {
                // The key made another lease before.
                return Some(Step::Never);
            }
            fence = names.fences.get(at).copied();
            let class = if class == "commit" { Class::Commit } else { Class::Overage };
            Some(CheckoutAnswer::Granted { class: Some(class), sequence: sequence(renewal_token) })
        }
        Outcome::Done(_) => return Some(Step::Never),
        Outcome::Refused { code } => Some(match code.as_str() {
            "max_overage_exceeded" => CheckoutAnswer::Full,
            "pool_exhausted" => CheckoutAnswer::PoolFull,
            "lease_ended" => CheckoutAnswer::Ended,
            _ => return None,
        }),
        _ => None,
    };
    Some(Step::Checkout { lease, seats, pool, fence, answer })
}

fn heartbeat(run: &Run, lease: usize, token: &str, operation: &Operation) -> Option<Step> {
    let answer = match &operation.outcome {
        Outcome::Done(Answer::Renewed { renewal_token, .. }) => {
            Some(HeartbeatAnswer::Renewed { next: sequence(renewal_token) })
        }
        Outcome::Done(_) => return Some(Step::Never),
        Outcome::Refused { code } => Some(match code.as_str() {
            "lease_ended" => HeartbeatAnswer::Ended,
            "renewal_token_replayed" => HeartbeatAnswer::Replayed,
            "unknown_lease" => HeartbeatAnswer::NoSuchLease,
            _ => return None,
        }),
        _ => None,
    };
    let heard_ns = operation.return_ns.unwrap_or(u64::MAX);
    let late = Lateness {
        before_ns: heard_ns.saturating_sub(run.at_least_ns(FORMER_TOKEN_MS)).saturating_add(1),
    };
    Some(Step::Heartbeat { lease, sent: sequence(token), late, answer })
}

/// The answer to a borrow; outside `None`: it says nothing; inside: nobody knows it.
fn borrow_answer(operation: &Operation) -> Option<Option<BorrowAnswer>> {
    Some(match &operation.outcome {
        Outcome::Done(_) => Some(BorrowAnswer::Done),
        Outcome::Refused { code } => Some(match code.as_str() {
            "lease_ended" => BorrowAnswer::Ended,
            "not_borrowed" => BorrowAnswer::NotBorrowed,
            "unknown_lease" => BorrowAnswer::NoSuchLease,
            _ => return None,
        }),
        _ => None,
    })
}

fn read(names: &Names, operation: &Operation) -> Option<Step> {
    let Outcome::Done(answer) = &operation.outcome else { return None };
    Some(match (&operation.act, answer) {
        (_, Answer::Package { in_use, total, leases, .. }) => {
            let live = match leases {
                // Which of the leases without a name a name stands for, nobody knows.
                Some(leases) if names.nameless.is_empty() => {
                    let known = leases.iter().map(|name| names.leases.get(name).copied());
                    match known.collect::<Option<BTreeSet<usize>>>() {
                        Some(live) => Some(live),
                        None => return Some(Step::Never),
                    }
                }
                _ => None,
            };
            Step::ReadPackage { in_use: *in_use, total: *total, live }
        }
        (Act::ReadLease { lease, .. }, Answer::Lease { live, .. }) => {
            Step::ReadLease { lease: names.leases.get(lease).copied()?, live: *live }
        }
        (_, Answer::Pools { shares, .. }) => {
            let mut told: Vec<(PoolNo, u32, u32)> = Vec::new();
            for (name, seats, in_use) in shares {
                match pool_of(names, name) {
                    Some(pool) => told.push((pool, *seats, *in_use)),
                    None => return Some(Step::Never),
                }
            }
            // A pool without seats is not there.
            let missing =
                names.pools.values().filter(|it| !told.iter().any(|(pool, ..)| pool == *it));
            let missing: Vec<_> = missing.map(|pool| (*pool, 0, 0)).collect();
            told.extend(missing);
            Step::ReadPools { shares: told }
        }
        _ => Step::Never,
    })
}

/// Place of a pool; the seats that are in none have no name.
fn pool_of(names: &Names, name: &str) -> Option<PoolNo> {
    if name.is_empty() { Some(0) } else { names.pools.get(name).copied() }
}

/// The sequence in a renewal token (`protocol::renewal`; its MAC is the cluster's to check). Where
/// it is no such token, the number at its end.
pub(crate) fn sequence(token: &str) -> u32 {
    let decoded = token
        .strip_prefix("rt1-")
        .and_then(|body| data_encoding::BASE64URL_NOPAD.decode(body.as_bytes()).ok());
    if let Some(bytes) = decoded.as_deref().and_then(|bytes| bytes.get(SEQUENCE)) {
        return bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    }
    let digits = token.len() - token.trim_end_matches(|it: char| it.is_ascii_digit()).len();
    token[token.len() - digits..].parse().unwrap_or(0)
}

/// Where the sequence stands in the bytes of a renewal token.
const SEQUENCE: std::ops::Range<usize> = 13..17;
/// For how long the token before the current one gets the same answer again, in milliseconds of
/// the lease clock.
const FORMER_TOKEN_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_read_out_of_a_token() {
        let token = "rt1-AQABAQIDBAUGBwgJCgAAAAM68c7dLyk4fQcVZe0jwfrE";
        assert_eq!([sequence(token), sequence("t-12"), sequence("t")], [3, 12, 0]);
    }
}

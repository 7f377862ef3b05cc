//! The rules of pools as checks, beside that of their shares.

use crate::invariants::{Violation, ensure};
use crate::ledger::Ledger;

/// Rules and counters belong to pools that are there; those of the unassigned seats have no name.
pub fn rules_and_use_belong_to_pools(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "rules_and_use_belong_to_pools";
    let operate = ledger.state.operate();
    let is_pool = |package: &str, pool: &str| {
        let slot = ledger.state.slot(package);
        slot.is_some_and(|slot| ledger.state.at(slot).pools().contains_key(pool))
    };
    for (package, pool) in operate.pool_rules().keys() {
        ensure(rule, is_pool(package, pool), || format!("a rule of {package}, {pool}"))?;
    }
    for (package, pool) in operate.pool_usage().keys() {
        let unassigned = pool.is_empty() && ledger.state.slot(package).is_some();
        ensure(rule, unassigned || is_pool(package, pool), || format!("use of {package}, {pool}"))?;
    }
    Ok(())
}

/// Where grants were counted, no more seats of a pool are out than its peak. States from before
/// they were counted have leases and no counters.
pub fn no_pool_is_above_its_peak(ledger: &Ledger) -> Result<(), Violation> {
    for ((package, pool), usage) in ledger.state.operate().pool_usage() {
        let Some(slot) = ledger.state.slot(package) else { continue };
        let name = (!pool.is_empty()).then_some(pool);
        let out = ledger.state.at(slot).pool(name).map_or(0, |pool| pool.in_use);
        ensure("no_pool_is_above_its_peak", out <= usage.peak, || {
            format!("{package}, {pool:?}: {out} out, {} at most", usage.peak)
        })?;
    }
    Ok(())
}

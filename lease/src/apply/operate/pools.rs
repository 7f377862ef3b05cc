//! Pools: named shares of a package's seats, for whom they are kept, and how much they are used.
//!
//! A pool grows out of the unassigned seats that are free and shrinks back into them, so shares
//! never add up to more than the package has. A rule keeps a pool for users, hosts and
//! applications:
//! nobody else gets a seat of it, and those it names are given its seats first when they name no
//! pool. What a rule says counts for the next grant; seats that are out stay where they are.
//!
//! Letters beyond ASCII are compared as they are: how they fold depends on tables that change with
//! the toolchain, and replicas of two releases must decide alike.

use crate::apply::seat::SeatRequest;
use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::format;
use crate::ids::{AppId, Name};
use crate::ledger::Ledger;
use crate::limits::{MAX_POOL_PARTIES, MAX_POOL_RULE_BYTES, MAX_POOLS};
use crate::offline::BorrowParty;
use crate::operate::{PoolParty, PoolRule, PoolUsage, SetPool};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::PackageState;

/// Who asks for a seat, as far as rules of pools look.
#[derive(Debug, Clone, Copy)]
pub(in crate::apply) struct Asker<'a> {
    /// An application, or the id of a face.
    pub(in crate::apply) app: AppId,
    /// The user's name; `None`: nobody is named.
    pub(in crate::apply) user: Option<&'a str>,
    /// The host's name; `None`: none is named.
    pub(in crate::apply) host: Option<&'a str>,
}

impl<'a> Asker<'a> {
    /// Who asks in a request.
    pub(in crate::apply) fn of(request: &SeatRequest<'a>) -> Self {
        Self {
            app: request.app,
            user: request.user.map(|user| &*user.name),
            host: request.host.map(|host| &*host.name),
        }
    }

    fn is(&self, party: &PoolParty) -> bool {
        let same = |asked: Option<&str>, named: &str| {
            asked.is_some_and(|asked| asked.eq_ignore_ascii_case(named))
        };
        match party {
            PoolParty::App(app) => *app == self.app,
            PoolParty::Party(BorrowParty::User(name)) => same(self.user, name),
            PoolParty::Party(BorrowParty::Host(name)) => same(self.host, name),
        }
    }
}

impl Ledger {
    /// Creates a pool, or changes its share, its rule, or both; all or nothing.
    pub(super) fn set_pool(&mut self, context: &Context, set: &SetPool) -> Decision {
        let SetPool { package, pool, seats, rule } = set;
        let slot = self.package_slot(package)?;
        if self.state.at(slot).state() == PackageState::Revoked {
            return refuse(RefusalCode::PackageRevoked);
        }
        within(seats.is_none_or(|seats| seats > 0))?;
        let pools = self.state.at(slot).pools();
        let share = match (pools.get(pool), seats) {
            (Some(known), _) => known.share,
            (None, None) => return refuse(RefusalCode::UnknownPool),
            (None, Some(_)) => {
                within(pools.len() < MAX_POOLS && is_name(pool))?;
                0
            }
        };
        if let Some(rule) = rule {
            self.is_sound(rule)?;
        }
        let seats = seats.unwrap_or(share);
        self.can_share(context, slot, pool, seats)?;
        let before = self.pool_rule(package, pool).cloned().unwrap_or_default();
        let rule = rule.as_ref().unwrap_or(&before);
        if seats == share && *rule == before {
            return Ok(Outcome::Unchanged);
        }
        if seats != share {
            self.state.set_pool_share(slot, pool, seats);
        }
        if *rule != before {
            let kept = (*rule != PoolRule::default()).then(|| rule.clone());
            self.state.set_pool_rule(package, pool, kept);
        }
        let reserved_for = u32::try_from(rule.reserved_for.len()).unwrap_or(u32::MAX);
        let detail = AuditDetail::Pool { pool: pool.clone(), seats, reserved_for };
        self.record(&context.origin, Event::of_package(AuditKind::PoolSet, package, detail));
        Ok(Outcome::Done)
    }

    /// Gives a pool's seats back to the unassigned ones; none of them may be out.
    pub(super) fn remove_pool(
        &mut self,
        context: &Context,
        package: &Name,
        pool: &Name,
    ) -> Decision {
        let slot = self.package_slot(package)?;
        if !self.state.at(slot).pools().contains_key(pool) {
            return refuse(RefusalCode::UnknownPool);
        }
        self.can_share(context, slot, pool, 0)?;
        self.state.set_pool_share(slot, pool, 0);
        self.forget_pool(package, pool);
        let detail = AuditDetail::Pool { pool: pool.clone(), seats: 0, reserved_for: 0 };
        self.record(&context.origin, Event::of_package(AuditKind::PoolRemoved, package, detail));
        Ok(Outcome::Done)
    }

    /// What is kept beside the share of a pool that is no more.
    pub(in crate::apply) fn forget_pool(&mut self, package: &Name, pool: &Name) {
        let operate = self.state.operate();
        let key = (package.clone(), pool.clone());
        let (rule, usage) =
            (operate.pool_rules().contains_key(&key), operate.pool_usage().contains_key(&key));
        if rule {
            self.state.set_pool_rule(package, pool, None);
        }
        if usage {
            self.state.set_pool_usage(package, pool, None);
        }
    }

    /// Whether somebody may take seats of a named pool.
    pub(in crate::apply) fn may_use(&self, slot: u32, pool: &Name, asker: &Asker<'_>) -> bool {
        let rule = self.pool_rule(&self.state.at(slot).terms().package, pool);
        rule.is_none_or(|rule| {
            rule.reserved_for.is_empty() || rule.reserved_for.iter().any(|it| asker.is(it))
        })
    }

    /// Where a seat may come from, in the order in which it is tried: the pool named; without one,
    /// those kept for who asks in order of name, then the unassigned seats.
    pub(in crate::apply) fn pools_for(
        &self,
        slot: u32,
        named: Option<&Name>,
        asker: &Asker<'_>,
    ) -> Vec<Option<Name>> {
        if let Some(named) = named {
            return vec![Some(named.clone())];
        }
        let package = &self.state.at(slot).terms().package;
        let from = (package.clone(), Name::from(""));
        let rules = self.state.operate().pool_rules().range(from..);
        let of_package = rules.take_while(|((of, _), _)| of == package);
        let kept = of_package.filter(|(_, rule)| rule.reserved_for.iter().any(|it| asker.is(it)));
        kept.map(|((_, pool), _)| Some(pool.clone())).chain([None]).collect()
    }

    /// Counts a grant whose seats are out already. `pool`: where it came from.
    pub(in crate::apply) fn count_pool_use(&mut self, slot: u32, pool: Option<&Name>) {
        let civil_ms = self.clock().civil_ms;
        let package = self.state.at(slot);
        let out = package.pool(pool).map_or(0, |pool| pool.in_use);
        let name = package.terms().package.clone();
        let before = self.pool_usage(&name, pool);
        let is_peak = out > before.peak;
        let after = PoolUsage {
            peak: before.peak.max(out),
            peak_at_ms: if is_peak { civil_ms } else { before.peak_at_ms },
            last_taken_at_ms: civil_ms,
            granted: before.granted.saturating_add(1),
        };
        let pool = pool.cloned().unwrap_or_else(|| Name::from(""));
        self.state.set_pool_usage(&name, &pool, Some(after));
    }

    /// Whether a pool may have this share: its seats that are out stay in it, and what it gains is
    /// free among the unassigned seats.
    fn can_share(
        &mut self,
        context: &Context,
        slot: u32,
        pool: &Name,
        seats: u32,
    ) -> Result<(), Refusal> {
        let before = self.state.at(slot).pool(Some(pool)).unwrap_or_default().share;
        if seats > before {
            let gained = seats - before;
            let free = |package: &crate::state::Package| {
                let unassigned = package.pool(None).unwrap_or_default();
                unassigned.share.saturating_sub(unassigned.in_use) >= gained
            };
            self.settle_package(&context.time, slot, free);
            let enough = free(self.state.at(slot));
            return if enough { Ok(()) } else { Err(Refusal::new(RefusalCode::NotEnoughFree)) };
        }
        let fits = |package: &crate::state::Package| {
            package.pool(Some(pool)).unwrap_or_default().in_use <= seats
        };
        self.settle_package(&context.time, slot, fits);
        let enough = fits(self.state.at(slot));
        if enough { Ok(()) } else { Err(Refusal::new(RefusalCode::PoolInUse)) }
    }

    fn is_sound(&self, rule: &PoolRule) -> Result<(), Refusal> {
        within(rule.reserved_for.len() <= MAX_POOL_PARTIES && is_text(&rule.description))?;
        for party in &rule.reserved_for {
            match party {
                PoolParty::Party(BorrowParty::User(name) | BorrowParty::Host(name)) => {
                    within(!name.is_empty() && is_text(name))?;
                }
                PoolParty::App(app) => {
                    let known = app.face().is_some() || self.state.apps().contains_key(app);
                    if !known {
                        return Err(Refusal::new(RefusalCode::UnknownApp));
                    }
                }
            }
        }
        within(format::encode_body(rule).len() <= MAX_POOL_RULE_BYTES)
    }
}

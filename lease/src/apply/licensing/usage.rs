//! Metered use of a license, as its cluster reports it; counted per license, never per person.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::apply::licensing::activate::is_holder;
use crate::apply::licensing::guesses::{Found, Tried};
use crate::apply::{Decision, is_name, refuse, within};
use crate::ids::{Face, LicenseId, Name};
use crate::ledger::Ledger;
use crate::license::{ActivationRow, ReportUsage};
use crate::limits::{MAX_LICENSE_METRICS, MAX_PLAN_ITEMS};
use crate::money::Measure;
use crate::outcome::{Outcome, RefusalCode, UsageTotal, UsageTotals};

impl Ledger {
    /// Adds to the use of the license under which the cluster has its slot: the one that the report
    /// proves, or the only one there is. Without proof a report names nothing but the cluster, so a
    /// name that no cluster has is a guess, counted apart from those of keys; and where several
    /// licenses have such a cluster, nobody knows whose use it is.
    /// Metrics with a quota are always counted; of the others, those beyond the bound are
    /// not, so that made-up names neither grow without end nor keep the others from being counted.
    pub(super) fn report_usage(&mut self, report: &ReportUsage) -> Decision {
        let ReportUsage { holder, address, metrics, license: proven } = report;
        let sound = |metric: &(Name, Measure)| is_name(&metric.0) && !metric.1.0.is_sign_negative();
        within(is_holder(holder) && metrics.len() <= MAX_PLAN_ITEMS && metrics.iter().all(sound))?;
        let licensing = self.state.licensing();
        let of_face = |row: &&ActivationRow| {
            let license = licensing.license(row.license);
            license.is_some_and(|license| license.terms.face == Face::Deployment)
                && proven.is_none_or(|proven| row.license == proven)
        };
        let is_known = licensing.of_holder(holder).any(|row| of_face(&row));
        let license = {
            let of_holder = licensing.of_holder(holder).filter(of_face);
            let mut in_force = of_holder.filter(|row| self.is_held(row)).map(|row| row.license);
            in_force.next().filter(|_| in_force.next().is_none())
        };
        let found = match license {
            Some(_) => Found::Known,
            None if is_known => Found::Right,
            None => Found::Wrong,
        };
        self.may_try(Tried::Cluster, *address, found)?;
        let Some(license) = license else {
            return refuse(RefusalCode::UnknownActivation);
        };
        let mut counts: BTreeMap<Name, Measure> = self
            .state
            .licensing()
            .usage(license)
            .map(|(name, used)| (name.clone(), used))
            .collect();
        let quotas = self.quotas(license);
        let mut others = counts.keys().filter(|metric| !quotas.contains(*metric)).count();
        for (metric, amount) in metrics {
            if !quotas.contains(metric) && !counts.contains_key(metric) {
                if others >= MAX_LICENSE_METRICS {
                    continue;
                }
                others += 1;
            }
            let used = counts.entry(metric.clone()).or_default();
            used.0 = used.0.checked_add(amount.0).unwrap_or(Decimal::MAX);
        }
        for (metric, _) in metrics {
            if let Some(used) = counts.get(metric) {
                self.state.put_license_usage(license, metric, *used);
            }
        }
        Ok(self.usage_totals(license))
    }

    /// Metrics of a license that have a quota.
    fn quotas(&self, license: LicenseId) -> BTreeSet<Name> {
        let quotas = self.state.licensing().license(license).map(|row| &row.terms.plan.quotas);
        quotas.into_iter().flatten().map(|(metric, _)| metric.clone()).collect()
    }

    /// Every metric of a license that was ever reported or has a quota.
    pub(in crate::apply) fn usage_totals(&self, license: LicenseId) -> Outcome {
        let licensing = self.state.licensing();
        let mut totals: BTreeMap<&Name, UsageTotal> = BTreeMap::new();
        let total = |metric: &Name| UsageTotal {
            metric: metric.clone(),
            used: Measure::default(),
            quota: None,
        };
        for (metric, used) in licensing.usage(license) {
            totals.entry(metric).or_insert_with(|| total(metric)).used = used;
        }
        let quotas = licensing.license(license).map(|row| &row.terms.plan.quotas);
        for (metric, quota) in quotas.into_iter().flatten() {
            totals.entry(metric).or_insert_with(|| total(metric)).quota = Some(*quota);
        }
        let totals = totals.into_values().collect();
        Outcome::Counted(Box::new(UsageTotals { license, totals }))
    }
}

//! Metered use of a license, as its cluster reports it; counted per license, never per person.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use crate::apply::licensing::activate::is_holder;
use crate::apply::{Decision, is_name, refuse, within};
use crate::ids::{Face, LicenseId, Name};
use crate::ledger::Ledger;
use crate::license::{ActivationRow, ReportUsage};
use crate::limits::{MAX_LICENSE_METRICS, MAX_PLAN_ITEMS};
use crate::money::Measure;
use crate::outcome::{Outcome, RefusalCode, UsageTotal, UsageTotals};

impl Ledger {
    /// Adds to the use of the license under which the cluster has its slot. Such a report names
    /// nothing but the cluster, so a name that no cluster has is a guess.
    pub(super) fn report_usage(&mut self, report: &ReportUsage) -> Decision {
        let ReportUsage { holder, address, metrics } = report;
        let sound = |metric: &(Name, Measure)| is_name(&metric.0) && !metric.1.0.is_sign_negative();
        within(is_holder(holder) && metrics.len() <= MAX_PLAN_ITEMS && metrics.iter().all(sound))?;
        let licensing = self.state.licensing();
        let of_face = |row: &&ActivationRow| {
            let license = licensing.license(row.license);
            license.is_some_and(|license| license.terms.face == Face::Deployment)
        };
        let is_known = licensing.of_holder(holder).any(|row| of_face(&row));
        let in_force = licensing.of_holder(holder).filter(of_face).find(|row| self.is_held(row));
        let license = in_force.map(|row| row.license);
        self.may_guess(*address, license.is_some())?;
        if !is_known {
            self.count_guess(*address);
        }
        let Some(license) = license else {
            return refuse(RefusalCode::UnknownActivation);
        };
        let mut counts: BTreeMap<Name, Measure> = self
            .state
            .licensing()
            .usage(license)
            .map(|(name, used)| (name.clone(), used))
            .collect();
        for (metric, amount) in metrics {
            let used = counts.entry(metric.clone()).or_default();
            used.0 = used.0.checked_add(amount.0).unwrap_or(Decimal::MAX);
        }
        within(counts.len() <= MAX_LICENSE_METRICS)?;
        for (metric, _) in metrics {
            self.state.put_license_usage(license, metric, counts[metric]);
        }
        Ok(self.usage_totals(license))
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

//! Giving a seat back: by its holder, or taken back by an operator.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::command::{Return, UsageReport};
use crate::ids::{AppId, KeyOrigin, LeaseId, Name, RequestId};
use crate::ledger::Ledger;
use crate::limits::{MAX_COUNTED_FEATURES, MAX_FEATURE_CHARS, MAX_FEATURES};
use crate::outcome::{Outcome, Receipt, Refusal, RefusalCode};
use crate::requests::{EndedLease, LeaseEnd, RequestRecord};

impl Ledger {
    pub(super) fn give_back(&mut self, context: &Context, give_back: &Return) -> Decision {
        let app = self.credentials(context)?.app;
        self.give_back_of(context, app, give_back.lease, &give_back.usage)
    }

    /// Gives a lease back in the name of the application, or face, that holds it.
    pub(super) fn give_back_of(
        &mut self,
        context: &Context,
        app: AppId,
        id: LeaseId,
        usage: &UsageReport,
    ) -> Decision {
        if let Some(request) = &context.request
            && let Some(receipt) = self.returned_before(request)?
        {
            return Ok(Outcome::Returned(receipt));
        }
        if self.state.lease(id).is_some_and(|lease| lease.app() != app) {
            return refuse(RefusalCode::UnknownLease);
        }
        let was_live = self.state.lease(id).is_some();
        if !self.settle_lease(&context.time, id) {
            return if was_live {
                refuse(RefusalCode::AlreadyEnded)
            } else {
                self.give_back_again(context, app, id)
            };
        }
        let Some(lease) = self.state.lease(id) else {
            return refuse(RefusalCode::AlreadyEnded);
        };
        let slot = lease.package();
        let end = self.returned(lease, context.request);
        self.end_lease(&context.origin, id, end, None);
        self.count_usage(slot, usage);
        Ok(Outcome::Returned(receipt(id, &end, false)))
    }

    pub(super) fn release(&mut self, context: &Context, id: LeaseId, reason: &str) -> Decision {
        within(is_text(reason))?;
        if !self.settle_lease(&context.time, id) {
            return refuse(RefusalCode::AlreadyEnded);
        }
        self.has_no_token_out(id)?;
        self.end_lease(&context.origin, id, LeaseEnd::Released, Some(reason));
        Ok(Outcome::Done)
    }

    /// The receipt of an earlier return under the same id.
    fn returned_before(&self, request: &RequestId) -> Result<Option<Receipt>, Refusal> {
        let reused = Refusal::new(RefusalCode::IdempotencyKeyReused);
        if self.state.lease_by_scope(&request.scope).is_some() {
            return Err(reused);
        }
        match self.requests.find(&request.scope) {
            None => Ok(None),
            Some(RequestRecord::Lease(ended)) => match &ended.end {
                LeaseEnd::Returned { request: Some(earlier), .. }
                    if earlier.scope == request.scope && earlier.body == request.body =>
                {
                    Ok(Some(receipt(ended.lease, &ended.end, true)))
                }
                _ => Err(reused),
            },
            Some(RequestRecord::Other(_)) => Err(reused),
        }
    }

    /// A return of a lease that is not live: the same receipt, unless the caller chose another key.
    fn give_back_again(&self, context: &Context, app: AppId, id: LeaseId) -> Decision {
        let Some(ended) = self.requests.ended(id) else {
            return refuse(RefusalCode::AlreadyEnded);
        };
        let EndedLease { app: holder, end, .. } = ended;
        if *holder != app {
            return refuse(RefusalCode::UnknownLease);
        }
        let own_key = context.request.is_some_and(|request| request.origin == KeyOrigin::Caller);
        match end {
            LeaseEnd::Returned { .. } if !own_key => Ok(Outcome::Returned(receipt(id, end, true))),
            _ => refuse(RefusalCode::AlreadyEnded),
        }
    }

    fn count_usage(&mut self, slot: u32, report: &UsageReport) {
        let empty = report.session_duration_s == 0 && report.files_processed == 0;
        if empty && report.features_used.is_empty() {
            return;
        }
        let mut others = 0_u64;
        for feature in report.features_used.iter().take(MAX_FEATURES) {
            let counts = self.state.at(slot).feature_usage();
            let name = Name::from(&**feature);
            let room = counts.contains_key(&name) || counts.len() < MAX_COUNTED_FEATURES;
            let sound = !name.is_empty()
                && name.chars().count() <= MAX_FEATURE_CHARS
                && !name.chars().any(char::is_control);
            if room && sound {
                self.state.count_feature(slot, &name);
            } else {
                others += 1;
            }
        }
        let usage = self.state.usage_mut(slot);
        usage.sessions = usage.sessions.saturating_add(1);
        usage.session_duration_s =
            usage.session_duration_s.saturating_add(report.session_duration_s);
        usage.files_processed = usage.files_processed.saturating_add(report.files_processed);
        usage.other_features = usage.other_features.saturating_add(others);
    }
}

fn receipt(lease: LeaseId, end: &LeaseEnd, repeated: bool) -> Receipt {
    let (total_cost, duration_ms) = match end {
        LeaseEnd::Returned { total_cost, duration_ms, .. } => (*total_cost, *duration_ms),
        _ => unreachable!("only what was returned has a receipt"),
    };
    Receipt { lease, total_cost, duration_ms, repeated }
}

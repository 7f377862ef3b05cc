//! How applications are let in beside their secret. What a policy asks for is the gateway's to see
//! to. Where it begins to ask for a certificate, tokens that were made without one end: the app's
//! generation moves, its secret stays.

use crate::apply::{Context, Decision, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::SigningAlgorithm;
use crate::ids::AppId;
use crate::ledger::Ledger;
use crate::limits::MAX_APP_CERTIFICATES;
use crate::operate::AppPolicy;
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    /// A policy that asks for nothing is kept as none.
    pub(super) fn set_app_policy(&mut self, context: &Context, policy: &AppPolicy) -> Decision {
        let Some(mut app) = self.state.apps().get(&policy.app).cloned() else {
            return refuse(RefusalCode::UnknownApp);
        };
        within(policy.certificates.len() <= MAX_APP_CERTIFICATES)?;
        within(policy.requests_per_second.is_none_or(|rate| rate > 0 && policy.burst > 0))?;
        let plain = AppPolicy::plain(policy.app);
        let known = self.app_policy(policy.app).unwrap_or(&plain);
        if known == policy {
            return Ok(Outcome::Unchanged);
        }
        if policy.certificate_bound && !known.certificate_bound {
            let Some(generation) = app.generation.checked_add(1) else {
                return refuse(RefusalCode::LimitReached);
            };
            app.generation = generation;
            self.state.put_app(app.clone());
        }
        let generation = app.generation;
        let kept = (*policy != plain).then(|| policy.clone());
        self.state.set_app_policy(policy.app, kept);
        let detail = AuditDetail::App { app: policy.app, generation };
        self.record(&context.origin, Event::new(AuditKind::AppPolicySet, detail));
        Ok(Outcome::Done)
    }
}

impl AppPolicy {
    /// Of an application that its secret alone lets in.
    pub fn plain(app: AppId) -> Self {
        Self {
            app,
            certificate_bound: false,
            certificates: Vec::new(),
            requests_per_second: None,
            burst: 0,
            token_algorithm: SigningAlgorithm::Rs256,
        }
    }
}

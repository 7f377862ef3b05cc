//! The classic face: seats that are borrowed and returned by id, and the keys it knows.
//!
//! Its callers never renew, so a lease of this face lasts as long as the gateway says and ends by
//! itself; and they return by the lease's id alone, which only their own answer told them.

use crate::apply::seat::SeatRequest;
use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::UsageReport;
use crate::ids::{ApiKeyId, Face, LeaseId};
use crate::ledger::Ledger;
use crate::limits::{MAX_API_KEYS, MAX_CLASSIC_TTL_MS, MIN_CLASSIC_TTL_MS};
use crate::offline::{ApiKeyRow, ClassicCheckout};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    pub(in crate::apply) fn classic_checkout(
        &mut self,
        context: &Context,
        checkout: &ClassicCheckout,
    ) -> Decision {
        let known = |key: &ApiKeyId| self.state.offline().api_keys().contains_key(key);
        if !checkout.api_key.as_ref().is_none_or(known) {
            return refuse(RefusalCode::CredentialsRevoked);
        }
        if let Some(request) = &context.request
            && let Some(lease) = self.made_before(request)?
        {
            return self.grant_again(context, lease);
        }
        let slot = self.package_slot(&checkout.package)?;
        self.is_in_force(slot)?;
        within((MIN_CLASSIC_TTL_MS..=MAX_CLASSIC_TTL_MS).contains(&checkout.ttl_ms))?;
        within(is_text(&checkout.user.name))?;
        if let Some(request) = &context.request {
            self.admit(request)?;
        }
        // Under which key it was borrowed is all that can tell later whose it is.
        let session = checkout.api_key.map(|key| format!("key_{:016x}", key.0));
        let request = SeatRequest {
            lease: checkout.lease,
            app: Face::Classic.app(),
            pool: None,
            quantity: 1,
            features: &[],
            user: Some(&checkout.user),
            host: None,
            version: "",
            session: session.as_deref().unwrap_or_default(),
            request: context.request,
            expires_led_ms: self.clock().led_ms.saturating_add(checkout.ttl_ms),
            not_after_ms: None,
        };
        self.take_seat(context, slot, request)?;
        self.granted(checkout.lease, false)
    }

    pub(in crate::apply) fn classic_return(&mut self, context: &Context, id: LeaseId) -> Decision {
        if self.state.lease(id).is_none() && self.requests.ended(id).is_none() {
            return refuse(RefusalCode::UnknownLease);
        }
        let usage = UsageReport::default();
        let returned = self.give_back_of(context, Face::Classic.app(), id, &usage);
        match returned {
            Err(refusal) if refusal.code == RefusalCode::AlreadyEnded => {
                refuse(RefusalCode::LeaseEnded)
            }
            _ => returned,
        }
    }

    pub(super) fn add_api_key(&mut self, context: &Context, key: &ApiKeyRow) -> Decision {
        let offline = self.state.offline();
        let texts = [&key.name, &key.environment, &key.tenant];
        within(texts.into_iter().all(|text| is_text(text)))?;
        if let Some(known) = offline.api_keys().get(&key.key) {
            let same = ApiKeyRow { created_at_ms: known.created_at_ms, ..key.clone() } == *known;
            return if same { Ok(Outcome::Unchanged) } else { refuse(RefusalCode::NameTaken) };
        }
        if offline.api_key_by_mac(&key.mac).is_some() {
            return refuse(RefusalCode::NameTaken);
        }
        within(offline.api_keys().len() < MAX_API_KEYS)?;
        let created_at_ms = self.clock().civil_ms;
        self.state.put_api_key(ApiKeyRow { created_at_ms, ..key.clone() });
        self.note_api_key(context, AuditKind::ApiKeyAdded, key.key)
    }

    pub(super) fn remove_api_key(&mut self, context: &Context, key: ApiKeyId) -> Decision {
        if !self.state.offline().api_keys().contains_key(&key) {
            return refuse(RefusalCode::UnknownApiKey);
        }
        self.state.remove_api_key(key);
        self.note_api_key(context, AuditKind::ApiKeyRemoved, key)
    }

    fn note_api_key(&mut self, context: &Context, kind: AuditKind, key: ApiKeyId) -> Decision {
        self.record(&context.origin, Event::new(kind, AuditDetail::ApiKey { key }));
        Ok(Outcome::Done)
    }
}

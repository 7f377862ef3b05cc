//! Who may ask: operators, vendors, applications.

use sha2::{Digest, Sha256};

use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{Operator, RegisterApp, RotateAppSecret, Vendor};
use crate::ids::AppId;
use crate::ledger::Ledger;
use crate::limits::{MAX_APPS, MAX_OPERATORS, MAX_PUBLIC_KEY_BYTES, MAX_VENDORS};
use crate::operate::{CLIENT_SECRET_PEPPER, OPERATOR_PEPPER};
use crate::outcome::{AppOutcome, Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::App;

impl Ledger {
    pub(super) fn add_operator(&mut self, context: &Context, operator: &Operator) -> Decision {
        match self.state.operators().get(&operator.operator) {
            Some(known) if known == operator => return Ok(Outcome::Unchanged),
            Some(_) => return refuse(RefusalCode::VersionConflict),
            None => within(self.state.operators().len() < MAX_OPERATORS)?,
        }
        if self.state.operator_by_mac(&operator.token_mac).is_some() {
            return refuse(RefusalCode::VersionConflict);
        }
        within(is_text(&operator.name))?;
        self.may_store(OPERATOR_PEPPER, &operator.token_mac)?;
        let detail = AuditDetail::Operator { operator: operator.operator, role: operator.role };
        self.state.put_operator(operator.clone());
        self.record(&context.origin, Event::new(AuditKind::OperatorAdded, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn pin_vendor(&mut self, context: &Context, vendor: &Vendor) -> Decision {
        match self.state.vendors().get(&vendor.vendor) {
            Some(known) if known.fingerprint == vendor.fingerprint => {
                return Ok(Outcome::Unchanged);
            }
            Some(_) => return refuse(RefusalCode::VendorKeyDiffers),
            None => within(self.state.vendors().len() < MAX_VENDORS)?,
        }
        within(is_name(&vendor.vendor) && is_text(&vendor.name))?;
        within(vendor.public_der.len() <= MAX_PUBLIC_KEY_BYTES)?;
        if Sha256::digest(&vendor.public_der)[..] != vendor.fingerprint {
            return refuse(RefusalCode::VendorKeyDiffers);
        }
        let detail =
            AuditDetail::Vendor { vendor: vendor.vendor.clone(), fingerprint: vendor.fingerprint };
        self.state.put_vendor(vendor.clone());
        self.record(&context.origin, Event::new(AuditKind::VendorPinned, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn register_app(&mut self, context: &Context, new: &RegisterApp) -> Decision {
        let taken = new.app > AppId::LAST
            || self.state.apps().contains_key(&new.app)
            || self.state.app_by_client(&new.client_id).is_some();
        if taken {
            return refuse(RefusalCode::AppIdTaken);
        }
        if !self.state.vendors().contains_key(&new.vendor) {
            return refuse(RefusalCode::UnknownVendor);
        }
        let packages = self.state.product(&new.product).into_iter().flatten();
        let mut packages = packages.filter_map(|name| self.state.slot(name));
        if !packages.any(|slot| self.state.at(slot).terms().vendor == new.vendor) {
            return refuse(RefusalCode::UnknownProduct);
        }
        within(self.state.apps().len() < MAX_APPS)?;
        within(is_name(&new.client_id) && is_text(&new.name))?;
        self.may_store(CLIENT_SECRET_PEPPER, &new.secret_mac)?;
        let registered_at_ms = self.clock().civil_ms;
        let app = App {
            app: new.app,
            client_id: new.client_id.clone(),
            name: new.name.clone(),
            product: new.product.clone(),
            vendor: new.vendor.clone(),
            secret_mac: new.secret_mac,
            generation: 1,
            registered_at_ms,
        };
        Ok(self.store_app(context, AuditKind::AppRegistered, app))
    }

    pub(super) fn rotate_app_secret(
        &mut self,
        context: &Context,
        rotation: &RotateAppSecret,
    ) -> Decision {
        let mut app = self.app_of(rotation.app)?.clone();
        let Some(generation) = app.generation.checked_add(1) else {
            return refuse(RefusalCode::LimitReached);
        };
        self.may_store(CLIENT_SECRET_PEPPER, &rotation.secret_mac)?;
        app.generation = generation;
        app.secret_mac = rotation.secret_mac;
        Ok(self.store_app(context, AuditKind::AppSecretRotated, app))
    }

    pub(super) fn remove_app(&mut self, context: &Context, app: AppId) -> Decision {
        let generation = self.app_of(app)?.generation;
        self.state.remove_app(app);
        if self.app_policy(app).is_some() {
            self.state.set_app_policy(app, None);
        }
        let detail = AuditDetail::App { app, generation };
        self.record(&context.origin, Event::new(AuditKind::AppRemoved, detail));
        Ok(Outcome::Done)
    }

    fn app_of(&self, app: AppId) -> Result<&App, Refusal> {
        self.state.apps().get(&app).ok_or(Refusal::new(RefusalCode::UnknownApp))
    }

    fn store_app(&mut self, context: &Context, kind: AuditKind, app: App) -> Outcome {
        let outcome = AppOutcome {
            app: app.app,
            client_id: app.client_id.clone(),
            generation: app.generation,
            secret_matches: true,
        };
        let detail = AuditDetail::App { app: app.app, generation: app.generation };
        self.state.put_app(app);
        self.record(&context.origin, Event::new(kind, detail));
        Outcome::App(outcome)
    }
}

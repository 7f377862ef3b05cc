//! Books that are kept for the gateway: clients, products, users, versions of rotating keys.

use crate::apply::licensing::activate::is_email;
use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Subject;
use crate::ids::{ClientId, Name, ProductId};
use crate::ledger::Ledger;
use crate::license::{AddClient, ChangeClient, ClientRow, KeyWindow, ProductRow, UserRow};
use crate::limits::{MAX_CLIENTS, MAX_KEY_WINDOWS, MAX_PRODUCT_BYTES, MAX_PRODUCTS};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;
use crate::rows::SubjectKind;

impl Ledger {
    pub(super) fn add_client(&mut self, context: &Context, add: &AddClient) -> Decision {
        within(is_email(&add.email.name))?;
        let email = Subject {
            name: add.email.name.to_ascii_lowercase().into(),
            candidate: add.email.candidate,
        };
        let known = self.state.subject_by_name(SubjectKind::User, &Name::from(&*email.name));
        let licensing = self.state.licensing();
        let taken = licensing.clients().contains_key(&add.client)
            || known.is_some_and(|contact| licensing.client_by_email(contact).is_some());
        if taken {
            return refuse(RefusalCode::ClientTaken);
        }
        within(licensing.clients().len() < MAX_CLIENTS)?;
        // An address that is not kept could not be compared.
        within(known.is_some() || self.state.subjects().len() < self.limits.subjects)?;
        self.store_client(context, &email, add.client);
        Ok(Outcome::Done)
    }

    pub(super) fn store_client(
        &mut self,
        context: &Context,
        email: &Subject,
        client: ClientId,
    ) -> ClientRow {
        let now = self.clock().civil_ms;
        let row = ClientRow {
            client,
            email: self.refer_to(SubjectKind::User, email),
            created_at_ms: now,
            updated_at_ms: now,
            banned_at_ms: None,
            ban_reason: "".into(),
        };
        self.state.put_client(row.clone());
        self.record_client(context, AuditKind::ClientAdded, &row);
        row
    }

    pub(super) fn change_client(&mut self, context: &Context, change: &ChangeClient) -> Decision {
        let Some(row) = self.state.licensing().clients().get(&change.client) else {
            return refuse(RefusalCode::UnknownClient);
        };
        if row.banned_at_ms.is_some() == change.banned {
            return Ok(Outcome::Unchanged);
        }
        within(is_text(&change.reason))?;
        let now = self.clock().civil_ms;
        let row = ClientRow {
            banned_at_ms: change.banned.then_some(now),
            ban_reason: if change.banned { change.reason.clone() } else { "".into() },
            updated_at_ms: now,
            ..row.clone()
        };
        self.state.put_client(row.clone());
        self.record_client(context, AuditKind::ClientChanged, &row);
        Ok(Outcome::Done)
    }

    fn record_client(&mut self, context: &Context, kind: AuditKind, row: &ClientRow) {
        let detail = AuditDetail::Client {
            client: row.client,
            banned: row.banned_at_ms.is_some(),
            reason: row.ban_reason.clone(),
        };
        self.record(&context.origin, Event::new(kind, detail).by(row.email));
    }

    /// A product under a version one higher than the stored one; the very same again is no change.
    pub(super) fn put_product(&mut self, context: &Context, put: &ProductRow) -> Decision {
        let licensing = self.state.licensing();
        let next = match licensing.products().get(&put.product) {
            Some(known) if known == put => return Ok(Outcome::Unchanged),
            Some(known) => known.version.checked_add(1),
            None => {
                within(licensing.products().len() < MAX_PRODUCTS)?;
                Some(1)
            }
        };
        if next != Some(put.version) {
            return refuse(RefusalCode::VersionConflict);
        }
        if licensing.product_by_slug(&put.slug).is_some_and(|it| it.product != put.product) {
            return refuse(RefusalCode::NameTaken);
        }
        within(is_name(&put.slug) && put.document.len() <= MAX_PRODUCT_BYTES)?;
        self.state.put_product(put.clone());
        self.record_product(context, AuditKind::ProductPut, put.product, put.version);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_product(
        &mut self,
        context: &Context,
        product: ProductId,
        version: u32,
    ) -> Decision {
        let Some(known) = self.state.licensing().products().get(&product) else {
            return refuse(RefusalCode::UnknownCatalogProduct);
        };
        if known.version != version {
            return refuse(RefusalCode::VersionConflict);
        }
        self.state.remove_product(product);
        self.record_product(context, AuditKind::ProductRemoved, product, version);
        Ok(Outcome::Done)
    }

    fn record_product(
        &mut self,
        context: &Context,
        kind: AuditKind,
        product: ProductId,
        version: u32,
    ) {
        let detail = AuditDetail::Product { product, version };
        self.record(&context.origin, Event::new(kind, detail));
    }

    pub(super) fn add_user(&mut self, context: &Context, user: &UserRow) -> Decision {
        let licensing = self.state.licensing();
        let taken = licensing.users().contains_key(&user.user)
            || licensing.user_by_name(&user.username).is_some();
        if taken {
            return refuse(RefusalCode::NameTaken);
        }
        within(licensing.users().len() < MAX_CLIENTS)?;
        within(is_name(&user.username) && is_text(&user.password_hash))?;
        let created_at_ms = self.clock().civil_ms;
        self.state.put_user(UserRow { created_at_ms, ..user.clone() });
        let event = Event::new(AuditKind::UserAdded, AuditDetail::User(user.user));
        self.record(&context.origin, event);
        Ok(Outcome::Done)
    }

    /// Which versions of a rotating key are in use. All of them must be stored, and what documents
    /// were signed with is never signed with less again.
    pub(in crate::apply) fn set_key_window(
        &mut self,
        context: &Context,
        window: &KeyWindow,
    ) -> Decision {
        let KeyWindow { name, current, minimum } = window;
        let windows = self.state.licensing().key_windows();
        match windows.get(name) {
            Some(known) if known == window => return Ok(Outcome::Unchanged),
            Some(known) if *current < known.current => {
                return refuse(RefusalCode::VersionConflict);
            }
            Some(_) => {}
            None => within(windows.len() < MAX_KEY_WINDOWS && is_name(name))?,
        }
        let stored = || {
            let secrets = self.state.secrets();
            (*minimum..=*current)
                .all(|version| secrets.contains_key(format!("{name}-{version}").as_str()))
        };
        if *minimum == 0 || minimum > current || !stored() {
            return refuse(RefusalCode::VersionConflict);
        }
        let detail =
            AuditDetail::KeyWindow { name: name.clone(), current: *current, minimum: *minimum };
        self.state.put_key_window(window.clone());
        self.record(&context.origin, Event::new(AuditKind::KeyWindowSet, detail));
        Ok(Outcome::Done)
    }
}

//! Activation: a device, cluster or host asks for its seat, or confirms the one it has.
//!
//! Order of questions, as the protocols have it:
//!
//! ```text
//! device       key, product, client banned, state, validity, identity, activation, device limit
//! deployment   key, client banned, state, validity, node limit, activation, slot
//! evaluation   key, client banned, state, activation, validity, host limit
//! ```
//!
//! and after all of them the seat. Asking again confirms: no seat is taken, a slot lasts longer.
//! Of those who show no key an address brings only some new ones in a day, as with trials.

use crate::apply::licensing::face_of;
use crate::apply::licensing::guesses::Tried;
use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{Sealed, Subject};
use crate::ids::{ClientId, Face, LicenseId, Name, SubjectRef};
use crate::ledger::Ledger;
use crate::license::{
    Activate, ActivationRow, ActivationState, Claim, DeviceIdentity, IdentityRow, LicenseRow,
    ProductRef,
};
use crate::limits::{
    MAX_ACTIVATIONS, MAX_DELEGATES, MAX_HOLDER_BYTES, MAX_METADATA_BYTES, MAX_RELEASED_CLUSTERS,
    MAX_SESSION_BYTES,
};
use crate::outcome::{Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::SubjectKind;

/// Who asks through `device`, as a license knows them.
pub(super) enum Standing {
    /// Its owner, or a delegate.
    Known { contact: SubjectRef, subject_client: ClientId },
    /// Nobody yet: an address that makes them a delegate.
    New(Subject),
}

impl Ledger {
    pub(super) fn activate(&mut self, context: &Context, activate: &Activate) -> Decision {
        let right_face = match activate.claim {
            Claim::Device { .. } => Face::Device,
            Claim::Deployment { .. } | Claim::Setup { .. } => Face::Deployment,
            Claim::Evaluation { .. } => Face::Evaluation,
        };
        if face_of(context) != Some(right_face) {
            return refuse(RefusalCode::RoleTooNarrow);
        }
        within(is_holder(&activate.holder) && is_claim(&activate.claim))?;
        let license = match &activate.key_mac {
            Some(mac) => self.license_shown(context, mac, activate.address, &activate.holder)?,
            None => self.open_to(right_face)?,
        };
        match &activate.claim {
            Claim::Device { identity, session } => {
                self.activate_device(context, license, activate, identity, session)
            }
            Claim::Deployment { nodes, metadata } => {
                self.activate_cluster(context, license, activate, *nodes, metadata)
            }
            Claim::Setup { contact, terms_accepted_at_ms } => {
                self.set_up(context, license, contact, *terms_accepted_at_ms)
            }
            Claim::Evaluation { org, project, version } => {
                self.activate_host(context, license, activate, [org, project, version])
            }
        }
    }

    fn activate_device(
        &mut self,
        context: &Context,
        license: LicenseRow,
        activate: &Activate,
        identity: &DeviceIdentity,
        session: &Sealed,
    ) -> Decision {
        self.is_for_product(&license, identity.product.as_ref())?;
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        self.is_in_time(&license.terms)?;
        let standing = self.standing(&license, identity)?;
        if matches!(standing, Standing::New(_)) {
            let delegates = self.state.licensing().delegates(license.terms.license).count();
            within(delegates < MAX_DELEGATES)?;
        }
        let mut row = self.present_activation(context, &license, activate)?;
        self.is_usable(&row)?;
        self.has_place(&license, &row)?;
        let took_seat = self.seat_activation(context, &license, &mut row, activate.lease)?;
        let subject_client;
        (row.contact, subject_client) = match standing {
            Standing::Known { contact, subject_client } => (contact, subject_client),
            Standing::New(email) => {
                self.add_delegate(context, &license, &email, identity.subject_client)
            }
        };
        row.subject_client = Some(subject_client);
        row.session.get_or_insert_with(|| session.clone());
        self.finish(context, license, row, took_seat)
    }

    fn activate_cluster(
        &mut self,
        context: &Context,
        license: LicenseRow,
        activate: &Activate,
        nodes: u32,
        metadata: &str,
    ) -> Decision {
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        self.is_in_time(&license.terms)?;
        has_nodes(&license, nodes)?;
        let mut row = self.present_activation(context, &license, activate)?;
        self.is_usable(&row)?;
        self.has_slot(context, &license, &row)?;
        let took_seat = self.seat_activation(context, &license, &mut row, activate.lease)?;
        if nodes > 0 {
            row.nodes = nodes;
        }
        if !metadata.is_empty() {
            row.metadata = metadata.into();
        }
        self.forget_clusters(license.terms.license);
        self.finish(context, license, row, took_seat)
    }

    fn activate_host(
        &mut self,
        context: &Context,
        license: LicenseRow,
        activate: &Activate,
        said: [&str; 3],
    ) -> Decision {
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        let mut row = self.present_activation(context, &license, activate)?;
        self.is_usable(&row)?;
        self.is_in_time(&license.terms)?;
        self.has_place(&license, &row)?;
        // A row that is not stored yet is a holder never seen, or seen and removed.
        let is_new = self.state.licensing().activation(row.activation).is_none();
        let is_counted = is_new && activate.key_mac.is_none();
        if is_counted {
            self.may_begin(Tried::Open, activate.address)?;
        }
        let took_seat = self.seat_activation(context, &license, &mut row, activate.lease)?;
        if is_counted {
            self.count_begun(Tried::Open, activate.address);
        }
        let [org, project, version] = said;
        // Whom an activation is for is said once: its seat is not another's to take over.
        for (kept, said) in [(&mut row.org, org), (&mut row.project, project)] {
            if kept.is_empty() {
                *kept = said.into();
            }
        }
        if !version.is_empty() {
            row.version = version.into();
        }
        self.finish(context, license, row, took_seat)
    }

    fn finish(
        &mut self,
        context: &Context,
        mut license: LicenseRow,
        row: ActivationRow,
        took_seat: bool,
    ) -> Decision {
        self.store_activation(context, &license, row.clone(), took_seat);
        let (id, civil_ms) = (license.terms.license, self.clock().civil_ms);
        if license.last_activated_at_ms != Some(civil_ms) {
            license.last_activated_at_ms = Some(civil_ms);
            self.state.put_license(license);
        }
        self.activated(id, &row, took_seat)
    }

    /// The license for callers without a key.
    fn open_to(&self, face: Face) -> Result<LicenseRow, Refusal> {
        let open = self.state.licensing().open_license().filter(|row| row.terms.face == face);
        open.cloned().ok_or(Refusal::new(RefusalCode::UnknownLicenseKey))
    }

    /// The holder's activation under a license as it stands now, or the one that it may become.
    fn present_activation(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        activate: &Activate,
    ) -> Result<ActivationRow, Refusal> {
        let id = license.terms.license;
        let present = self.settled_activation(context, id, &activate.holder);
        let removed = match present {
            Some(row) if !row.is_removed() => return Ok(row),
            removed => removed,
        };
        let activations = self.state.licensing().activations();
        if activations.contains_key(&activate.activation) {
            return Err(Refusal::new(RefusalCode::LeaseIdTaken));
        }
        within(activations.len() < MAX_ACTIVATIONS)?;
        let civil_ms = self.clock().civil_ms;
        let activation_ms = license.terms.plan.activation_ms;
        let valid_until_ms =
            civil_ms.saturating_add(i64::try_from(activation_ms).unwrap_or(i64::MAX));
        Ok(ActivationRow {
            activation: activate.activation,
            license: id,
            holder: activate.holder.clone(),
            state: ActivationState::Released,
            // What is kept for the token of one that was removed is this holder's seat.
            lease: removed.and_then(|row| row.lease),
            contact: SubjectRef(0),
            subject_client: None,
            session: None,
            activated_at_ms: civil_ms,
            last_seen_at_ms: civil_ms,
            valid_until_ms: (activation_ms > 0).then_some(valid_until_ms),
            org: "".into(),
            project: "".into(),
            version: "".into(),
            nodes: 0,
            metadata: "".into(),
        })
    }

    /// A holder's activation under a license, once what is due of it has ended.
    pub(super) fn settled_activation(
        &mut self,
        context: &Context,
        license: LicenseId,
        holder: &Name,
    ) -> Option<ActivationRow> {
        let row = self.state.licensing().activation_of(license, holder)?;
        if let Some(lease) = row.lease {
            self.settle_lease(&context.time, lease);
        }
        self.state.licensing().activation_of(license, holder).cloned()
    }

    /// Whether an activation may have a seat at all.
    pub(super) fn is_usable(&self, row: &ActivationRow) -> Result<(), Refusal> {
        if row.state == ActivationState::Revoked {
            return Err(Refusal::new(RefusalCode::ActivationRevoked));
        }
        self.is_young(row)
    }

    /// Whether a license has room for one more device or host, if this one is not in force.
    pub(super) fn has_place(
        &self,
        license: &LicenseRow,
        row: &ActivationRow,
    ) -> Result<(), Refusal> {
        let most = license.terms.plan.max_activations;
        let is_free = most == 0 || self.places_taken(license, row) < most;
        if row.state == ActivationState::Active || is_free {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::TooManyActivations))
    }

    /// Activations other than this one that count against a plan: those in force, and those that
    /// are no longer but whose seat is kept for an offline token.
    fn places_taken(&self, license: &LicenseRow, row: &ActivationRow) -> u32 {
        let (id, licensing) = (license.terms.license, self.state.licensing());
        let own = u32::from(row.state == ActivationState::Active || row.lease.is_some());
        licensing.active(id).saturating_add(licensing.kept(id)).saturating_sub(own)
    }

    /// Whether a slot of a license is this cluster's or free; a plan without a number has one.
    pub(super) fn has_slot(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        row: &ActivationRow,
    ) -> Result<(), Refusal> {
        let (id, slots) = (license.terms.license, license.terms.plan.max_activations.max(1));
        if row.state == ActivationState::Active || self.places_taken(license, row) < slots {
            return Ok(());
        }
        let seats = self.state.licensing().of_license(id).filter_map(|row| row.lease);
        for lease in seats.collect::<Vec<_>>() {
            self.settle_lease(&context.time, lease);
        }
        if self.places_taken(license, row) < slots {
            return Ok(());
        }
        let available_at_ms = self.holder_of_seat(id).and_then(|(_, frees_at_ms)| frees_at_ms);
        Err(Refusal { available_at_ms, ..Refusal::new(RefusalCode::SlotInUse) })
    }

    /// When an activation loses its seat on the civil clock at the latest if its holder is not
    /// heard again; `None`: never by itself.
    pub(crate) fn seat_frees_at(&self, row: &ActivationRow) -> Option<i64> {
        let clock = self.clock();
        let lease = self.state.lease(row.lease?)?;
        let led_ms = Some(lease.expires_led_ms()).filter(|at| *at != u64::MAX);
        let wait = led_ms.and_then(|at| i64::try_from(at.saturating_sub(clock.led_ms)).ok());
        let by_led = wait.map(|wait| clock.civil_ms.saturating_add(wait));
        let by_civil = lease.not_after_ms().map(|last| last.saturating_add(1));
        let own = by_led.into_iter().chain(by_civil).min();
        let kept = self.state.hold(lease.id()).map(|hold| hold.free_at_ms());
        own.map(|at| kept.map_or(at, |kept| at.max(kept)))
    }

    /// Whether a license is for the product that was asked for, by either of its names.
    pub(super) fn is_for_product(
        &self,
        license: &LicenseRow,
        asked: Option<&ProductRef>,
    ) -> Result<(), Refusal> {
        let Some(asked) = asked else { return Ok(()) };
        let plan = &license.terms.plan;
        if plan.product.is_empty() && plan.product_id.is_none() {
            return Err(Refusal::new(RefusalCode::LicenseWithoutProduct));
        }
        let catalog = self.state.licensing();
        let same = match asked {
            ProductRef::Id(id) => {
                let slug = || catalog.products().get(id).map(|product| &product.slug);
                plan.product_id.map_or_else(|| slug() == Some(&plan.product), |own| own == *id)
            }
            ProductRef::Slug(slug) => {
                let id = || catalog.product_by_slug(slug).map(|product| product.product);
                *slug == plan.product || (plan.product_id.is_some() && id() == plan.product_id)
            }
        };
        if same { Ok(()) } else { Err(Refusal::new(RefusalCode::LicenseOfOtherProduct)) }
    }

    /// Who somebody is to a license. The client id must be the owner's or a delegate's.
    pub(super) fn standing(
        &self,
        license: &LicenseRow,
        identity: &DeviceIdentity,
    ) -> Result<Standing, Refusal> {
        let (id, licensing) = (license.terms.license, self.state.licensing());
        let delegate = |client| licensing.delegates(id).any(|row| row.subject_client == client);
        let known = identity
            .client
            .is_some_and(|client| license.terms.client == Some(client) || delegate(client));
        if !known {
            return Err(Refusal::new(RefusalCode::ClientMismatch));
        }
        let email = Subject {
            name: identity.email.name.to_ascii_lowercase().into(),
            candidate: identity.email.candidate,
        };
        let Some(contact) =
            self.state.subject_by_name(SubjectKind::User, &Name::from(&*email.name))
        else {
            return Ok(Standing::New(email));
        };
        let owner = license.terms.client.and_then(|client| licensing.clients().get(&client));
        if let Some(owner) = owner.filter(|owner| owner.email == contact) {
            return Ok(Standing::Known { contact, subject_client: owner.client });
        }
        Ok(match licensing.identities().get(&(id, contact)) {
            Some(row) => Standing::Known { contact, subject_client: row.subject_client },
            None => Standing::New(email),
        })
    }

    fn add_delegate(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        email: &Subject,
        subject_client: ClientId,
    ) -> (SubjectRef, ClientId) {
        let (id, package) = (license.terms.license, &license.terms.package);
        let contact = self.refer_to(SubjectKind::User, email);
        self.keep_identity(id, contact, subject_client);
        let detail = AuditDetail::Identity { license: id, subject_client };
        let event = Event::of_package(AuditKind::IdentityDelegated, package, detail);
        self.record(&context.origin, event.by(contact));
        (contact, subject_client)
    }

    /// Keeps who came to a license, unless the book of names was full: nothing finds a row again
    /// whose name is not kept.
    pub(super) fn keep_identity(
        &mut self,
        license: LicenseId,
        contact: SubjectRef,
        subject_client: ClientId,
    ) {
        let granted_at_ms = self.clock().civil_ms;
        if self.state.subjects().contains_key(&contact) {
            self.state.put_identity(IdentityRow {
                license,
                contact,
                subject_client,
                granted_at_ms,
            });
        }
    }

    /// Forgets clusters of a license that gave its slot back and were not heard for longest, when
    /// there are too many.
    fn forget_clusters(&mut self, license: LicenseId) {
        let rows = self.state.licensing().of_license(license);
        let idle = rows.filter(|row| row.state == ActivationState::Released && row.lease.is_none());
        let mut idle: Vec<_> = idle.map(|row| (row.last_seen_at_ms, row.activation)).collect();
        idle.sort_unstable();
        let excess = idle.len().saturating_sub(MAX_RELEASED_CLUSTERS);
        for (_, activation) in idle.into_iter().take(excess) {
            self.state.remove_activation(activation);
        }
    }
}

/// Whether a cluster is not larger than its plan allows; one that does not say is not.
pub(super) fn has_nodes(license: &LicenseRow, nodes: u32) -> Result<(), Refusal> {
    let most = license.terms.plan.max_nodes;
    if most > 0 && nodes > most {
        return Err(Refusal::new(RefusalCode::NodeLimitExceeded));
    }
    Ok(())
}

/// Whether a text can stand for a device, cluster or host.
pub(super) fn is_holder(holder: &str) -> bool {
    is_name(holder) && holder.len() <= MAX_HOLDER_BYTES
}

/// Whether what a face adds is short enough to keep.
pub(super) fn is_claim(claim: &Claim) -> bool {
    match claim {
        Claim::Device { identity, session } => {
            is_email(&identity.email.name) && session.bytes.len() <= MAX_SESSION_BYTES
        }
        Claim::Deployment { metadata, .. } => metadata.len() <= MAX_METADATA_BYTES,
        Claim::Setup { contact, .. } => is_email(&contact.name),
        Claim::Evaluation { org, project, version } => {
            is_text(org) && is_text(project) && is_text(version)
        }
    }
}

/// Whether a text can be an address; whether it is one was judged by the gateway.
pub(super) fn is_email(email: &str) -> bool {
    is_text(email) && is_name(email)
}

//! Entitlements: packages come, pause, end; seats move between their pools.

use sha2::{Digest, Sha256};

use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{ImportPackage, PackageChange, PackageTerms, SeatClass, TransferSeats};
use crate::format;
use crate::ids::Name;
use crate::ledger::Ledger;
use crate::limits::{MAX_DOCUMENT_BYTES, MAX_PACKAGES, MAX_POOLS};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::{Document, PackageRow, PackageState};

impl Ledger {
    pub(super) fn import_package(&mut self, context: &Context, import: &ImportPackage) -> Decision {
        let ImportPackage { canonical, signature, verified_by, terms } = import;
        if let Some(slot) = self.state.slot(&terms.package) {
            let known = self.state.at(slot);
            let same = known.canonical() == canonical && known.signature() == &**signature;
            return if same {
                Ok(Outcome::Imported { already: true })
            } else {
                refuse(RefusalCode::PackageIdTaken)
            };
        }
        self.is_for_us(import)?;
        if self.clock().civil_ms > terms.valid_until_ms {
            return refuse(RefusalCode::PackageExpired);
        }
        within(self.state.package_count() < MAX_PACKAGES && are_sound(terms))?;
        let document = Document {
            terms: terms.clone(),
            canonical: canonical.clone(),
            signature: signature.clone(),
        };
        within(format::encode_body(&document).len() <= MAX_DOCUMENT_BYTES)?;
        let row = PackageRow {
            package: terms.package.clone(),
            state: PackageState::Active,
            imported_at_ms: self.clock().civil_ms,
            verified_by: *verified_by,
            pieces: 0,
        };
        self.state.add_package(row, document);
        let detail = AuditDetail::Package {
            vendor: terms.vendor.clone(),
            product: terms.product.clone(),
            total: terms.total,
            document: Sha256::digest(canonical).into(),
        };
        let kind = AuditKind::PackageImported;
        self.record(&context.origin, Event::of_package(kind, &terms.package, detail));
        Ok(Outcome::Imported { already: false })
    }

    pub(super) fn suspend_package(
        &mut self,
        context: &Context,
        change: &PackageChange,
    ) -> Decision {
        self.change_package(context, change, PackageState::Suspended)
    }

    pub(super) fn resume_package(&mut self, context: &Context, change: &PackageChange) -> Decision {
        self.change_package(context, change, PackageState::Active)
    }

    /// Its leases are due from here on: the next entries sweep them.
    pub(super) fn revoke_package(&mut self, context: &Context, change: &PackageChange) -> Decision {
        self.change_package(context, change, PackageState::Revoked)
    }

    pub(super) fn transfer_seats(
        &mut self,
        context: &Context,
        transfer: &TransferSeats,
    ) -> Decision {
        let TransferSeats { package: name, from, to, quantity } = transfer;
        let slot = self.package_slot(name)?;
        let package = self.state.at(slot);
        if package.state() == PackageState::Revoked {
            return refuse(RefusalCode::PackageRevoked);
        }
        within(*quantity > 0)?;
        let Some(giving) = package.pool(from.as_ref()) else {
            return refuse(RefusalCode::UnknownPool);
        };
        if from == to {
            return Ok(Outcome::Unchanged);
        }
        self.settle_package(&context.time, slot, |package| {
            let pool = package.pool(from.as_ref()).unwrap_or_default();
            pool.share - pool.in_use >= *quantity
        });
        let package = self.state.at(slot);
        let in_use = package.pool(from.as_ref()).unwrap_or_default().in_use;
        if giving.share - in_use < *quantity {
            return refuse(RefusalCode::NotEnoughFree);
        }
        if let Some(to) = to {
            let room = package.pools().contains_key(to) || package.pools().len() < MAX_POOLS;
            within(room && is_name(to))?;
        }
        let taking = package.pool(to.as_ref()).unwrap_or_default();
        if let Some(from) = from {
            self.state.set_pool_share(slot, from, giving.share - quantity);
            if giving.share == *quantity {
                self.forget_pool(name, from);
            }
        }
        if let Some(to) = to {
            self.state.set_pool_share(slot, to, taking.share + quantity);
        }
        let detail =
            AuditDetail::Transfer { from: from.clone(), to: to.clone(), quantity: *quantity };
        let kind = AuditKind::SeatsTransferred;
        self.record(&context.origin, Event::of_package(kind, name, detail));
        Ok(Outcome::Done)
    }

    /// Slot of a package that must be there.
    pub(super) fn package_slot(&self, name: &str) -> Result<u32, Refusal> {
        self.state.slot(name).ok_or(Refusal::new(RefusalCode::UnknownPackage))
    }

    fn change_package(
        &mut self,
        context: &Context,
        change: &PackageChange,
        to: PackageState,
    ) -> Decision {
        let slot = self.package_slot(&change.package)?;
        let from = self.state.at(slot).state();
        if from == to {
            return Ok(Outcome::Unchanged);
        }
        if from == PackageState::Revoked {
            return refuse(RefusalCode::PackageRevoked);
        }
        within(is_text(&change.reason))?;
        self.state.set_package_state(slot, to);
        let kind = match to {
            PackageState::Active => AuditKind::PackageResumed,
            PackageState::Suspended => AuditKind::PackageSuspended,
            PackageState::Revoked => AuditKind::PackageRevoked,
        };
        let detail = AuditDetail::Reason(change.reason.clone());
        self.record(&context.origin, Event::of_package(kind, &change.package, detail));
        Ok(Outcome::Done)
    }

    /// The key that verified it is still pinned, and it was issued to this cluster's organisation.
    fn is_for_us(&self, import: &ImportPackage) -> Result<(), Refusal> {
        let terms = &import.terms;
        let Some(vendor) = self.state.vendors().get(&terms.vendor) else {
            return Err(Refusal::new(RefusalCode::UnknownVendor));
        };
        if vendor.fingerprint != import.verified_by {
            return Err(Refusal::new(RefusalCode::VendorKeyNotPinned));
        }
        let cluster = self.cluster();
        if cluster.is_none_or(|cluster| cluster.client_id != terms.client_id) {
            return Err(Refusal::new(RefusalCode::ForeignClient));
        }
        if cluster.is_none_or(|cluster| cluster.org_domain != terms.org_domain) {
            return Err(Refusal::new(RefusalCode::ForeignDomain));
        }
        Ok(())
    }
}

/// Whether terms can be counted with: names fit into keys, no sum overflows, money has room.
fn are_sound(terms: &PackageTerms) -> bool {
    let names = [&terms.package, &terms.vendor, &terms.product];
    let price = terms.pricing.overage_per_use.0;
    let seats = |class| {
        let of_class = terms.sources.iter().filter(|source| source.class == class);
        of_class.map(|source| u64::from(source.seats)).sum::<u64>()
    };
    names.into_iter().chain(&terms.features).all(|name: &Name| is_name(name))
        && [SeatClass::Commit, SeatClass::Overage]
            .into_iter()
            .all(|class| seats(class) <= u64::from(u32::MAX))
        && !price.is_sign_negative()
        && price.checked_mul(u64::MAX.into()).is_some()
        && terms.policy.lease_ttl_ms > 0
        && terms.valid_from_ms <= terms.valid_until_ms
}

//! The words for what can happen, as answers, exports and filters have them.
//!
//! Adding a kind does not compile until it has a word here.

use super::AuditKind;

impl AuditKind {
    /// Every kind, in the order of its number.
    pub const ALL: &[Self] = &[
        Self::ClusterFounded,
        Self::MemberPut,
        Self::SigningKeyPublished,
        Self::SecretStored,
        Self::DataKeyWrapped,
        Self::OperatorAdded,
        Self::VendorPinned,
        Self::PackageImported,
        Self::PackageSuspended,
        Self::PackageResumed,
        Self::PackageRevoked,
        Self::AppRegistered,
        Self::AppSecretRotated,
        Self::AppRemoved,
        Self::LeaseGranted,
        Self::LeaseReturned,
        Self::LeaseReleased,
        Self::LeaseExpired,
        Self::LeaseEndedWithPackage,
        Self::LeaseEndedWithSeats,
        Self::SeatsTransferred,
        Self::RenewalTokenReplayed,
        Self::Refused,
        Self::LicenseIssued,
        Self::LicenseChanged,
        Self::LicenseKeyRotated,
        Self::LicenseSetUp,
        Self::Activated,
        Self::ActivationEnded,
        Self::ActivationChanged,
        Self::TrialStarted,
        Self::IdentityDelegated,
        Self::ClientAdded,
        Self::ClientChanged,
        Self::ProductPut,
        Self::ProductRemoved,
        Self::UserAdded,
        Self::KeyWindowSet,
        Self::LeaseBorrowed,
        Self::BorrowReturned,
        Self::LeaseWrittenOff,
        Self::BorrowRulesSet,
        Self::ApiKeyAdded,
        Self::ApiKeyRemoved,
        Self::BudgetSet,
        Self::MemberInvited,
        Self::MemberJoined,
        Self::MemberRemoved,
        Self::EpochOpened,
        Self::OperatorRemoved,
        Self::AlarmRaised,
        Self::AlarmCleared,
        Self::SubjectErased,
        Self::PoolSet,
        Self::PoolRemoved,
        Self::AuditPruned,
        Self::AppPolicySet,
        Self::TrustAnchorPut,
        Self::TrustAnchorRemoved,
        Self::DataKeyReplaced,
        Self::DataKeyRetired,
        Self::LeaseReclaimed,
        Self::ReservedReleased,
        Self::SigningKeyRetired,
        Self::SecretRemoved,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterFounded => "cluster_founded",
            Self::MemberPut => "member_put",
            Self::SigningKeyPublished => "signing_key_published",
            Self::SecretStored => "secret_stored",
            Self::DataKeyWrapped => "data_key_wrapped",
            Self::OperatorAdded => "operator_added",
            Self::VendorPinned => "vendor_pinned",
            Self::PackageImported => "package_imported",
            Self::PackageSuspended => "package_suspended",
            Self::PackageResumed => "package_resumed",
            Self::PackageRevoked => "package_revoked",
            Self::AppRegistered => "app_registered",
            Self::AppSecretRotated => "app_secret_rotated",
            Self::AppRemoved => "app_removed",
            Self::LeaseGranted => "lease_granted",
            Self::LeaseReturned => "lease_returned",
            Self::LeaseReleased => "lease_released",
            Self::LeaseExpired => "lease_expired",
            Self::LeaseEndedWithPackage => "lease_ended_with_package",
            Self::LeaseEndedWithSeats => "lease_ended_with_seats",
            Self::SeatsTransferred => "seats_transferred",
            Self::RenewalTokenReplayed => "renewal_token_replayed",
            Self::Refused => "refused",
            Self::LicenseIssued => "license_issued",
            Self::LicenseChanged => "license_changed",
            Self::LicenseKeyRotated => "license_key_rotated",
            Self::LicenseSetUp => "license_set_up",
            Self::Activated => "activated",
            Self::ActivationEnded => "activation_ended",
            Self::ActivationChanged => "activation_changed",
            Self::TrialStarted => "trial_started",
            Self::IdentityDelegated => "identity_delegated",
            Self::ClientAdded => "client_added",
            Self::ClientChanged => "client_changed",
            Self::ProductPut => "product_put",
            Self::ProductRemoved => "product_removed",
            Self::UserAdded => "user_added",
            Self::KeyWindowSet => "key_window_set",
            Self::LeaseBorrowed => "lease_borrowed",
            Self::BorrowReturned => "borrow_returned",
            Self::LeaseWrittenOff => "lease_written_off",
            Self::BorrowRulesSet => "borrow_rules_set",
            Self::ApiKeyAdded => "api_key_added",
            Self::ApiKeyRemoved => "api_key_removed",
            Self::BudgetSet => "budget_set",
            Self::MemberInvited => "member_invited",
            Self::MemberJoined => "member_joined",
            Self::MemberRemoved => "member_removed",
            Self::EpochOpened => "epoch_opened",
            Self::OperatorRemoved => "operator_removed",
            Self::AlarmRaised => "alarm_raised",
            Self::AlarmCleared => "alarm_cleared",
            Self::SubjectErased => "subject_erased",
            Self::PoolSet => "pool_set",
            Self::PoolRemoved => "pool_removed",
            Self::AuditPruned => "audit_pruned",
            Self::AppPolicySet => "app_policy_set",
            Self::TrustAnchorPut => "trust_anchor_put",
            Self::TrustAnchorRemoved => "trust_anchor_removed",
            Self::DataKeyReplaced => "data_key_replaced",
            Self::DataKeyRetired => "data_key_retired",
            Self::LeaseReclaimed => "lease_reclaimed",
            Self::ReservedReleased => "reserved_released",
            Self::SigningKeyRetired => "signing_key_retired",
            Self::SecretRemoved => "secret_removed",
        }
    }

    /// The kind of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word is the name of the variant in snake case, so a reader of either finds the other;
    /// the last of the list is the last there is, so none is left out.
    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for (number, kind) in AuditKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number, "{kind:?}");
            let camel: String = kind.name().split('_').map(capitalised).collect();
            assert_eq!(camel, format!("{kind:?}"));
            assert_eq!(AuditKind::from_name(kind.name()), Some(*kind));
        }
        let next = AuditKind::ALL.len() as u32;
        let bytes = crate::format::encode_body(&next);
        assert!(crate::format::decode_body::<AuditKind>(&bytes).is_err(), "a kind has no word");
    }

    fn capitalised(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }
}

//! Who holds an activation: a hash over host, organisation and project.
//!
//! ```text
//! first 32 hex digits of SHA-256 over
//!     "leasehold evaluation holder 1:" | host binding | 8 bytes n | organisation | project
//! ```
//!
//! where `n` is the length of the organisation in bytes, big-endian: so no two of the three run
//! into each other. A part that is not named is empty.

use data_encoding::HEXLOWER;
use lease::ids::Name;
use lease::license::ActivationRow;
use protocol::evaluation::identity::HostHash;
use protocol::evaluation::wire::{ActivateRequest, ValidateRequest};
use sha2::{Digest, Sha256};

/// The holder for whom an activation is asked.
pub(super) fn of_activation(request: &ActivateRequest) -> Name {
    holder(&request.hostname_hash, named(&request.org_id), named(&request.project_id))
}

/// The holder that a validation speaks for. What it does not name, or the activation does not, is
/// as the activation has it.
pub(super) fn of_validation(request: &ValidateRequest, row: Option<&ActivationRow>) -> Name {
    let host = &request.hostname_hash;
    match row {
        Some(row) if is_for(row, request) => holder(host, &row.org, &row.project),
        _ => holder(host, named(&request.org_id), named(&request.project_id)),
    }
}

/// Whether a validation names the organisation and project that an activation was made for. A part
/// that either does not name fits.
pub(super) fn is_for(row: &ActivationRow, request: &ValidateRequest) -> bool {
    let fits = |kept: &str, said: &Option<String>| {
        kept.is_empty() || named(said).is_empty() || named(said) == kept
    };
    fits(&row.org, &request.org_id) && fits(&row.project, &request.project_id)
}

fn named(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn holder(host: &HostHash, org: &str, project: &str) -> Name {
    let mut hash = Sha256::new_with_prefix(LABEL);
    hash.update(host.binding());
    hash.update((org.len() as u64).to_be_bytes());
    hash.update(org);
    hash.update(project);
    let digits = HEXLOWER.encode(&hash.finalize()[..HOLDER_BYTES]);
    Name::from(digits.as_str())
}

const LABEL: &[u8] = b"leasehold evaluation holder 1:";
/// As long as an activation's id: no two holders meet by accident.
const HOLDER_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_organisation_and_project_is_a_holder() {
        let (host, other) = (HostHash::of(""), HostHash::of("host-1"));
        let all = [
            holder(&host, "", ""),
            holder(&host, "a", ""),
            holder(&host, "", "a"),
            holder(&host, "a", "b"),
            holder(&host, "ab", ""),
            holder(&other, "a", "b"),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        let longer: HostHash = format!("{host}{}", "0".repeat(48)).parse().unwrap();
        assert_eq!(holder(&longer, "a", "b"), all[3], "a client that sends more of the hash");
        assert_eq!(&*all[0], "b651dfc303ca682bc0071950ce16e3c9");
    }
}

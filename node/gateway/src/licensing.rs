//! What the faces of license keys have in common: how a key is looked up, how an address is counted
//! without being kept, how ids are drawn and shown, how an offline token is made of a proof.
//!
//! What it leaves to others: which commands these go into (`calls`), what the ledger allows
//! (`lease`), the forms of keys and tokens (`protocol`).

use std::net::IpAddr;

use lease::command::Subject;
use lease::ids::{AddressTag, LeaseId, SubjectRef};
use lease::offline::OfflineProof;
use protocol::mac::MacKey;
use protocol::offline::{self, Holder, OfflineClaims, Protocol};
use storage::seam::{Clock, Entropy};
use uuid::Uuid;

use crate::failure::Failure;
use crate::keys::Keys;
use crate::view::{self, Epoch};

/// What the ledger keeps of a license key. `canonical` is the one form that `protocol` gives a key
/// of its kind; `key` is [`Keys::license_keys`].
pub(crate) fn license_key_mac(key: &MacKey, canonical: &str) -> [u8; 32] {
    key.tag(&[b"license-key", canonical.as_bytes()])
}

/// What the ledger keeps of a key of the classic face.
pub(crate) fn api_key_mac(key: &MacKey, text: &str) -> [u8; 32] {
    key.tag(&[b"api-key", text.as_bytes()])
}

/// What stands for the address of a caller where wrong keys are counted. Of IPv6 it is the network
/// (/64), since a caller has as many addresses in it as it likes. 0: not known.
pub(crate) fn address_tag(key: &MacKey, address: Option<IpAddr>) -> AddressTag {
    let bytes = match address.map(|address| address.to_canonical()) {
        None => return AddressTag(0),
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
    };
    let tag = key.tag(&[b"address", &bytes]);
    let mut short = [0; 8];
    short.copy_from_slice(&tag[..8]);
    AddressTag(u64::from_be_bytes(short).max(1))
}

/// Draws the number of a license, an activation, a client or a product: a UUID of version 4.
pub(crate) fn draw_uuid(entropy: &dyn Entropy) -> u128 {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().as_u128()
}

/// Draws the id of a lease of any package: there is one group.
///
/// Forty bits of time come before forty random ones, so that what is granted together lies together
/// in memory and in the store, where a random id touches a page of its own. The time is good for
/// nothing else, and a clock that lies costs no more than that; an id that is taken is drawn again.
pub(crate) fn draw_lease(clock: &dyn Clock, entropy: &dyn Entropy) -> LeaseId {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let time = (clock.wall_ms() / LEASE_TIME_UNIT_MS).to_be_bytes();
    random[..LEASE_TIME_BYTES].copy_from_slice(&time[time.len() - LEASE_TIME_BYTES..]);
    LeaseId { group: lease::ids::group_of(""), random }
}

/// A person by name, with a reference to use should the name be new.
pub(crate) fn subject(entropy: &dyn Entropy, name: &str) -> Subject {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    Subject { name: name.into(), candidate: SubjectRef(u64::from_le_bytes(bytes)) }
}

/// A number as the wire shows it.
pub(crate) fn uuid_text(number: u128) -> String {
    Uuid::from_u128(number).hyphenated().to_string()
}

/// The number of a UUID in its hyphenated form, in any case.
pub(crate) fn parse_uuid(text: &str) -> Option<u128> {
    let uuid = Uuid::try_parse(text).ok()?;
    text.eq_ignore_ascii_case(&uuid.hyphenated().to_string()).then(|| uuid.as_u128())
}

/// Whose an offline token is, beside what its proof says.
#[derive(Debug, Clone)]
pub(crate) struct TokenOf<'a> {
    /// The cluster's id.
    pub(crate) issuer: &'a str,
    /// The face that gives it.
    pub(crate) protocol: Protocol,
    /// The package, or the license issued from it.
    pub(crate) license_id: String,
    /// What it is bound to.
    pub(crate) holder: Holder,
    /// Version of the license's tokens; 1 where there is no license.
    pub(crate) token_version: u32,
    /// `deployment`: most nodes.
    pub(crate) max_nodes: Option<u32>,
    /// `deployment`: the cluster.
    pub(crate) cluster_id: Option<String>,
}

/// The offline token of a proof.
pub(crate) fn offline_token(
    keys: &Keys,
    epoch: &Epoch,
    proof: &OfflineProof,
    of: TokenOf<'_>,
) -> Result<String, Failure> {
    let lease_id = view::lease_id_text(keys, proof.lease);
    let user_hash = (!proof.user.is_empty()).then(|| offline::user_hash(&proof.user));
    let claims = OfflineClaims {
        iss: of.issuer.to_owned(),
        jti: token_id(&lease_id, proof.version),
        license_id: of.license_id,
        product: proof.product.to_string(),
        protocol: of.protocol,
        lease_id,
        holder: of.holder,
        user_hash,
        features: proof.features.iter().map(|feature| feature.to_string()).collect(),
        quantity: proof.quantity,
        class: Some(view::lease_type(proof.class)),
        max_nodes: of.max_nodes,
        cluster_id: of.cluster_id,
        fence: epoch.fence(proof.fence),
        epoch: epoch.number,
        token_version: of.token_version.into(),
        iat: u64::try_from(proof.issued_ms.div_euclid(1_000)).unwrap_or(0),
        exp: offline::exp_seconds(proof.ends_ms),
        borrowed: proof.borrowed,
        skew_seconds: proof.skew_ms.div_ceil(1_000),
    };
    offline::sign(&keys.offline.key, &claims)
        .map_err(|_| Failure::internal("an offline token could not be signed"))
}

/// The unique id of a lease's token of a version.
fn token_id(lease_id: &str, version: u32) -> String {
    format!("{lease_id}.{version}")
}

/// The version in a token's unique id.
pub(crate) fn token_version_of(token_id: &str) -> Option<u32> {
    token_id.rsplit_once('.')?.1.parse().ok()
}

/// Bytes of a lease's id that come from the clock: in this unit they last for 139 years.
const LEASE_TIME_BYTES: usize = 5;
const LEASE_TIME_UNIT_MS: i64 = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use storage::seam::RealEntropy;
    use storage::testing::ManualClock;

    use super::*;

    #[test]
    fn an_address_is_counted_by_its_network_and_never_kept() {
        let key = MacKey::new([7; 32]);
        let tag = |text: &str| address_tag(&key, Some(text.parse().unwrap()));
        assert_eq!(address_tag(&key, None), AddressTag(0));
        assert_eq!(tag("2001:db8::1"), tag("2001:db8::ffff:2"));
        assert_ne!(tag("2001:db8::1"), tag("2001:db8:0:1::1"));
        assert_eq!(tag("192.0.2.1"), tag("::ffff:192.0.2.1"));
        assert_ne!(tag("192.0.2.1"), tag("192.0.2.2"));
        assert_ne!(
            tag("192.0.2.1"),
            address_tag(&MacKey::new([8; 32]), Some("192.0.2.1".parse().unwrap()))
        );
    }

    #[test]
    fn leases_lie_in_the_order_in_which_they_were_drawn_and_none_is_drawn_twice() {
        let clock = ManualClock::new(1_767_225_600_000);
        let draw = || draw_lease(&clock, &RealEntropy);
        let mut drawn: Vec<LeaseId> = (0..100)
            .map(|_| {
                clock.advance_ms(4);
                draw()
            })
            .collect();
        assert!(drawn.is_sorted_by(|one, other| one < other));
        drawn.extend((0..100).map(|_| draw()));
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 200);
    }

    #[test]
    fn a_uuid_has_one_form_in_any_case() {
        let number = 0x0c92_b546_e1cb_4987_8025_6b3d_d951_3a5f;
        let text = uuid_text(number);
        assert_eq!(parse_uuid(&text), Some(number));
        assert_eq!(parse_uuid(&text.to_uppercase()), Some(number));
        for other in ["", "nope", &text.replace('-', ""), &format!("{{{text}}}")] {
            assert_eq!(parse_uuid(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_version_of_a_token_is_read_back() {
        assert_eq!(token_version_of(&token_id("lease-abc", 7)), Some(7));
        for text in ["", "lease-abc", "lease-abc.", "lease-abc.x"] {
            assert_eq!(token_version_of(text), None, "{text:?}");
        }
    }
}

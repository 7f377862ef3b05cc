//! Lease ids, renewal tokens and fences: golden texts, exact spelling, order.

use proptest::prelude::*;
use protocol::fence::{self, Fence};
use protocol::lease_id::{self, LeaseIdError, LeaseKey};
use protocol::mac::MacKey;
use protocol::renewal::{self, Renewal, RenewalError};

/// Made with Python's hmac and base64 from the layouts in the module headers.
const GOLDEN_LEASE: &str = "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga";
const GOLDEN_RENEWAL: &str = "rt1-AQABAQIDBAUGBwgJCgAAAAM68c7dLyk4fQcVZe0jwfrE";

fn golden_key() -> MacKey {
    MacKey::new(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

fn golden_lease() -> LeaseKey {
    LeaseKey { group: 1, random: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }
}

#[test]
fn golden_texts_do_not_change() {
    let key = golden_key();
    assert_eq!(lease_id::encode(&key, golden_lease()), GOLDEN_LEASE);
    assert_eq!(lease_id::decode(&key, GOLDEN_LEASE), Ok(golden_lease()));
    assert_eq!(GOLDEN_LEASE.len(), lease_id::TEXT_LEN);

    let renewal = Renewal { lease: golden_lease(), sequence: 3 };
    assert_eq!(renewal::encode(&key, 7, renewal), GOLDEN_RENEWAL);
    assert_eq!(renewal::decode(&key, 7, GOLDEN_RENEWAL), Ok(renewal));
    assert_eq!(GOLDEN_RENEWAL.len(), renewal::TEXT_LEN);

    let fence = Fence { epoch: 1, index: 42, position: 7, incarnation: 0x9f3c_5d7e_11a0_b2c4 };
    let text = "00000001-000000000000002a-0007-9f3c5d7e11a0b2c4";
    assert_eq!(fence.to_string(), text);
    assert_eq!(text.parse(), Ok(fence));
    assert_eq!(text.len(), fence::TEXT_LEN);
}

#[test]
fn a_lease_id_has_one_spelling() {
    let key = golden_key();
    let last = |character: char| format!("{}{character}", &GOLDEN_LEASE[..41]);
    let cases = [
        (String::new(), LeaseIdError::Form),
        ("lease-".to_owned(), LeaseIdError::Form),
        (GOLDEN_LEASE.to_uppercase(), LeaseIdError::Form),
        (GOLDEN_LEASE.replace("lease-", "LEASE-"), LeaseIdError::Form),
        (GOLDEN_LEASE.replacen('q', "Q", 1), LeaseIdError::Form),
        (format!("{GOLDEN_LEASE}===="), LeaseIdError::Form),
        (format!("{GOLDEN_LEASE}a"), LeaseIdError::Form),
        (format!(" {GOLDEN_LEASE}"), LeaseIdError::Form),
        (format!("{GOLDEN_LEASE}\n"), LeaseIdError::Form),
        (GOLDEN_LEASE[..40].to_owned(), LeaseIdError::Form),
        (GOLDEN_LEASE.replace("lease-aaaq", "lease-aaa0"), LeaseIdError::Form),
        // The last character has one data bit; the four below it must be zero.
        (last('b'), LeaseIdError::Form),
        (last('p'), LeaseIdError::Form),
        (last('q'), LeaseIdError::Mac),
        (GOLDEN_LEASE.replace("lease-aaaq", "lease-aaaa"), LeaseIdError::Mac),
    ];
    for (text, error) in cases {
        assert_eq!(lease_id::decode(&key, &text), Err(error), "{text:?}");
    }
    let other = MacKey::new([9; 32]);
    assert_eq!(lease_id::decode(&other, GOLDEN_LEASE), Err(LeaseIdError::Mac));
}

#[test]
fn a_renewal_token_has_one_spelling_and_one_epoch() {
    let key = golden_key();
    let cases = [
        (String::new(), RenewalError::Form),
        (GOLDEN_RENEWAL.replace("rt1-", "rt2-"), RenewalError::Form),
        (format!("{GOLDEN_RENEWAL}="), RenewalError::Form),
        (format!("{GOLDEN_RENEWAL}A"), RenewalError::Form),
        (GOLDEN_RENEWAL[..47].to_owned(), RenewalError::Form),
        (GOLDEN_RENEWAL.replace("AAAAM", "AAA+M"), RenewalError::Form),
        (GOLDEN_RENEWAL.replace("rt1-AQ", "rt1-Ag"), RenewalError::Version(2)),
        (GOLDEN_RENEWAL.replace("AAAAM", "AAAAQ"), RenewalError::Mac),
        // A lease id of the same key is no renewal token.
        (format!("rt1-{}", &GOLDEN_LEASE[..44.min(GOLDEN_LEASE.len())]), RenewalError::Form),
    ];
    for (text, error) in cases {
        assert_eq!(renewal::decode(&key, 7, &text), Err(error), "{text:?}");
    }
    assert_eq!(renewal::decode(&key, 8, GOLDEN_RENEWAL), Err(RenewalError::Mac));
    let other = MacKey::new([9; 32]);
    assert_eq!(renewal::decode(&other, 7, GOLDEN_RENEWAL), Err(RenewalError::Mac));
}

#[test]
fn a_fence_has_one_spelling() {
    let cases = [
        "",
        "1-2a-7-9f",
        "00000001-000000000000002A-0007-9f3c5d7e11a0b2c4",
        "00000001-000000000000002a-0007-9f3c5d7e11a0b2c4-",
        "00000001-000000000000002a-0007-9f3c5d7e11a0b2c4-0",
        "+0000001-000000000000002a-0007-9f3c5d7e11a0b2c4",
        "00000001_000000000000002a_0007_9f3c5d7e11a0b2c4",
        "000000001-00000000000002a-0007-9f3c5d7e11a0b2c4",
        " 0000001-000000000000002a-0007-9f3c5d7e11a0b2c4",
    ];
    for text in cases {
        assert!(text.parse::<Fence>().is_err(), "{text:?}");
    }
}

#[test]
fn short_tags_prove_nothing() {
    let key = golden_key();
    let tag = key.tag(&[b"label", b"text"]);
    for length in 0..=tag.len() {
        assert_eq!(key.verify(&[b"label", b"text"], &tag[..length]), length >= 8, "{length}");
    }
    assert!(!key.verify(&[b"label", b"text"], &[tag.as_slice(), &[0]].concat()));
}

fn any_lease() -> impl Strategy<Value = LeaseKey> {
    (any::<u16>(), any::<[u8; 10]>()).prop_map(|(group, random)| LeaseKey { group, random })
}

fn any_fence() -> impl Strategy<Value = Fence> {
    // Small numbers too, so that the later fields decide often enough.
    let epoch = prop_oneof![any::<u32>(), 0..3_u32];
    let index = prop_oneof![any::<u64>(), 0..3_u64];
    let position = prop_oneof![any::<u16>(), 0..3_u16];
    (epoch, index, position, any::<u64>()).prop_map(|(epoch, index, position, incarnation)| Fence {
        epoch,
        index,
        position,
        incarnation,
    })
}

proptest! {
    #[test]
    fn the_order_of_fence_texts_is_the_order_of_numbers(a in any_fence(), b in any_fence()) {
        let numbers = |f: &Fence| (f.epoch, f.index, f.position, f.incarnation);
        prop_assert_eq!(numbers(&a).cmp(&numbers(&b)), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(numbers(&a).cmp(&numbers(&b)), a.cmp(&b));
        prop_assert_eq!(a.to_string().parse::<Fence>(), Ok(a));
        let json = serde_json::to_string(&a).unwrap();
        prop_assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), a);
    }

    #[test]
    fn ids_and_tokens_survive_their_text(
        key in any::<[u8; 32]>(), lease in any_lease(),
        sequence in any::<u32>(), epoch in any::<u32>(),
    ) {
        let key = MacKey::new(key);
        let renewal = Renewal { lease, sequence };
        let (id, token) = (lease_id::encode(&key, lease), renewal::encode(&key, epoch, renewal));
        prop_assert_eq!(lease_id::decode(&key, &id), Ok(lease));
        prop_assert_eq!(renewal::decode(&key, epoch, &token), Ok(renewal));
    }

    /// Any change of a text makes it invalid: there is one spelling, and it is protected.
    #[test]
    fn no_changed_text_is_accepted(
        lease in any_lease(), at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f,
    ) {
        let key = golden_key();
        let change = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            *at.get_mut(&mut bytes) = byte;
            String::from_utf8(bytes).unwrap()
        };
        let id = lease_id::encode(&key, lease);
        let token = renewal::encode(&key, 1, Renewal { lease, sequence: 1 });
        let (changed_id, changed_token) = (change(&id), change(&token));
        prop_assert_eq!(lease_id::decode(&key, &changed_id).is_ok(), changed_id == id);
        prop_assert_eq!(renewal::decode(&key, 1, &changed_token).is_ok(), changed_token == token);
    }

    #[test]
    fn no_text_makes_a_decoder_panic(text in any::<String>()) {
        let key = golden_key();
        let _refused = lease_id::decode(&key, &text);
        let _refused = lease_id::decode(&key, &format!("lease-{text}"));
        let _refused = renewal::decode(&key, 1, &text);
        let _refused = text.parse::<Fence>();
    }
}

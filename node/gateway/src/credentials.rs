//! How the long-lived credentials look, and the form in which they are stored.
//!
//! | credential | text | stored as |
//! |---|---|---|
//! | client secret | `lh_cs_` + base64url of 32 random bytes | HMAC under `client_secret_pepper` |
//! | operator token | `lh_op_` + base64url of 32 random bytes | HMAC under `operator_pepper` |
//! | API key (device.md, 1.8) | 48 upper-case hex digits | as an operator token is |
//!
//! The texts hold 192 or 256 random bits, so the stored form needs no slow hash; the pepper keeps a
//! stolen state from being tested against guesses at all. A prefix tells secret scanners what they
//! found.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXUPPER;
use protocol::secret::Disclosed;
use storage::seam::Entropy;
use zeroize::Zeroizing;

use crate::peppers::Peppers;

/// How an operator token begins.
pub const OPERATOR_TOKEN_PREFIX: &str = "lh_op_";
/// How a client secret begins.
pub const CLIENT_SECRET_PREFIX: &str = "lh_cs_";

/// Draws a new operator token.
pub fn new_operator_token(entropy: &dyn Entropy) -> Disclosed {
    new_credential(OPERATOR_TOKEN_PREFIX, entropy)
}

/// Draws a new API key for the device protocol's admin tools; its row is an operator's.
pub fn new_api_key(entropy: &dyn Entropy) -> Disclosed {
    let mut bytes = Zeroizing::new([0_u8; API_KEY_CHARS / 2]);
    entropy.fill(&mut *bytes);
    Disclosed::new(HEXUPPER.encode(&*bytes))
}

/// Draws a new client secret.
pub fn new_client_secret(entropy: &dyn Entropy) -> Disclosed {
    new_credential(CLIENT_SECRET_PREFIX, entropy)
}

/// What the ledger keeps of an operator token or API key. `pepper` is
/// [`crate::Keys::operator_pepper`].
pub fn operator_token_mac(pepper: &Peppers, token: &str) -> [u8; 32] {
    pepper.tag(&[b"operator-token", token.as_bytes()])
}

/// All forms in which the ledger may keep an operator token or API key, newest first.
pub(crate) fn operator_token_macs(pepper: &Peppers, token: &str) -> Vec<[u8; 32]> {
    pepper.tags(&[b"operator-token", token.as_bytes()])
}

/// Whether a stored form is that of this client secret.
pub(crate) fn is_client_secret(pepper: &Peppers, stored: &[u8; 32], secret: &str) -> bool {
    pepper.matches(stored, &[b"client-secret", secret.as_bytes()])
}

/// What the ledger keeps of a join token's secret.
pub(crate) fn join_token_mac(pepper: &Peppers, secret: &[u8; 32]) -> [u8; 32] {
    pepper.tag(&[b"join-token", secret])
}

/// All forms in which the ledger may keep it, newest first.
pub(crate) fn join_token_macs(pepper: &Peppers, secret: &[u8; 32]) -> Vec<[u8; 32]> {
    pepper.tags(&[b"join-token", secret])
}

/// What the ledger keeps of a client secret. `pepper` is [`crate::Keys::client_secret_pepper`].
pub fn client_secret_mac(pepper: &Peppers, secret: &str) -> [u8; 32] {
    pepper.tag(&[b"client-secret", secret.as_bytes()])
}

/// Whether a text has the form of an operator token, before anything is computed over it.
pub(crate) fn is_operator_token(text: &str) -> bool {
    text.strip_prefix(OPERATOR_TOKEN_PREFIX).is_some_and(is_credential_body)
}

/// Whether a text has the form of an API key.
pub(crate) fn is_api_key(text: &str) -> bool {
    text.len() == API_KEY_CHARS
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

fn is_credential_body(body: &str) -> bool {
    body.len() == BODY_CHARS
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn new_credential(prefix: &str, entropy: &dyn Entropy) -> Disclosed {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *bytes);
    // Room for everything from the start: a text that grows leaves a copy behind.
    let mut text = String::with_capacity(prefix.len() + BODY_CHARS);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
    Disclosed::new(text)
}

/// Characters of 32 bytes in base64url without padding.
const BODY_CHARS: usize = 43;
/// What the device protocol's first server gave out.
const API_KEY_CHARS: usize = 48;

#[cfg(test)]
mod tests {
    use storage::seam::RealEntropy;

    use super::*;

    #[test]
    fn a_new_token_has_the_form_and_a_secret_is_no_token() {
        let token = new_operator_token(&RealEntropy);
        assert!(is_operator_token(token.expose()));
        assert!(!is_operator_token(new_client_secret(&RealEntropy).expose()));
    }

    #[test]
    fn an_api_key_is_48_upper_case_hex_digits() {
        let key = new_api_key(&RealEntropy);
        assert!(is_api_key(key.expose()) && !is_operator_token(key.expose()));
        for text in ["", &"A".repeat(47), &"A".repeat(49), &"a".repeat(48), &"G".repeat(48)] {
            assert!(!is_api_key(text), "{text:?}");
        }
    }

    #[test]
    fn the_form_is_strict() {
        for text in ["", "lh_op_", "lh_op_short", &format!("lh_op_{}", "!".repeat(43))] {
            assert!(!is_operator_token(text), "{text:?}");
        }
    }

    #[test]
    fn the_two_stored_forms_differ_even_under_one_key() {
        let key = Peppers::first(protocol::mac::MacKey::new([7; 32]));
        assert_ne!(operator_token_mac(&key, "text"), client_secret_mac(&key, "text"));
    }
}

//! Join tokens: what a new node is handed, so that it finds the cluster and both believe each
//! other.
//!
//! ```text
//! lhj1_<base64url>   RFC 4648 section 5, no padding
//!   8 bytes          node id, big endian
//!  32 bytes          secret; the cluster keeps its MAC only
//!  32 bytes          SHA-256 of the certificate (DER) of the authority that issues
//!   1 byte  + text   cluster id
//!   1 byte           number of gateways, at least 1
//!   1 byte  + text   each gateway's URL
//!   4 bytes          first bytes of SHA-256 over all before: finds an error of copying
//! ```
//!
//! The fingerprint makes the first connection safe: an authority's certificate that was fetched
//! from anybody is believed when it has this hash. Whoever holds the text may join once, so it is
//! a secret until then.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::secret::{Disclosed, Secret};
use crate::wire;

/// How every join token begins.
pub const PREFIX: &str = "lhj1_";
/// Longest text that is read.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Gateways named in one token.
pub const MAX_GATEWAYS: usize = 8;

/// What a join token holds.
pub struct JoinToken {
    /// The id that was allocated.
    pub node: u64,
    /// What proves that its bearer was invited.
    pub secret: Secret<[u8; 32]>,
    /// SHA-256 of the issuing authority's certificate (DER).
    pub authority: [u8; 32],
    /// The cluster.
    pub cluster_id: String,
    /// Gateways to join through, 1 to [`MAX_GATEWAYS`]; each at most 255 bytes.
    pub gateways: Vec<String>,
}

/// Why a text is no join token. Each is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JoinTokenError {
    /// It begins otherwise.
    #[error("a join token begins with lhj1_")]
    Prefix,
    /// A character is missing, changed or too many.
    #[error("the join token was not copied whole")]
    Copied,
    /// What should be in it does not fit.
    #[error("the join token cannot be written: a name in it is too long")]
    TooLong,
}

impl JoinToken {
    /// The token's text, to be shown once.
    pub fn encode(&self) -> Result<Disclosed, JoinTokenError> {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&self.node.to_be_bytes());
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(&self.authority);
        push(&mut bytes, &self.cluster_id)?;
        if self.gateways.is_empty() || self.gateways.len() > MAX_GATEWAYS {
            return Err(JoinTokenError::TooLong);
        }
        bytes.push(u8::try_from(self.gateways.len()).map_err(|_| JoinTokenError::TooLong)?);
        for gateway in &self.gateways {
            push(&mut bytes, gateway)?;
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let bytes = Secret::new(bytes);
        let mut text = String::with_capacity(PREFIX.len() + bytes.expose().len() * 4 / 3 + 4);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.expose(), &mut text);
        Ok(Disclosed::new(text))
    }

    /// Reads a token; spaces and line ends around it are taken off.
    pub fn decode(text: &str) -> Result<Self, JoinTokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinTokenError::Prefix)?;
        if body.len() > MAX_TEXT_BYTES {
            return Err(JoinTokenError::Copied);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinTokenError::Copied)?;
        let bytes = Secret::new(bytes);
        let bytes = bytes.expose().as_slice();
        let (content, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(JoinTokenError::Copied)?;
        if checksum(content) != *sum {
            return Err(JoinTokenError::Copied);
        }
        read(content).ok_or(JoinTokenError::Copied)
    }
}

fn push(bytes: &mut Vec<u8>, text: &str) -> Result<(), JoinTokenError> {
    bytes.push(u8::try_from(text.len()).map_err(|_| JoinTokenError::TooLong)?);
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::digest(bytes);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    sum
}

fn read(content: &[u8]) -> Option<JoinToken> {
    let (node, rest) = content.split_first_chunk::<8>()?;
    let (secret, rest) = rest.split_first_chunk::<32>()?;
    let (authority, rest) = rest.split_first_chunk::<32>()?;
    let (cluster_id, rest) = pull(rest)?;
    let (count, mut rest) = rest.split_first()?;
    let count = usize::from(*count);
    if !(1..=MAX_GATEWAYS).contains(&count) {
        return None;
    }
    let mut gateways = Vec::with_capacity(count);
    for _ in 0..count {
        let (gateway, after) = pull(rest)?;
        gateways.push(gateway);
        rest = after;
    }
    let token = JoinToken {
        node: u64::from_be_bytes(*node),
        secret: Secret::new(*secret),
        authority: *authority,
        cluster_id,
        gateways,
    };
    (rest.is_empty() && wire::is_id(&token.cluster_id)).then_some(token)
}

fn pull(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}

const CHECKSUM_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            node: 4,
            secret: Secret::new([7; 32]),
            authority: [9; 32],
            cluster_id: "lh-3f2a9c5d7e11a0b2".to_owned(),
            gateways: vec!["https://a:7401".to_owned(), "https://b.example:7401".to_owned()],
        }
    }

    #[test]
    fn a_token_comes_back_and_its_text_stays_as_it_is() {
        let text = token().encode().unwrap();
        let read = JoinToken::decode(&format!(" {}\n", text.expose())).unwrap();
        let want = token();
        assert_eq!(read.node, want.node);
        assert!(read.secret.equals(want.secret.expose()));
        assert_eq!(read.authority, want.authority);
        assert_eq!((read.cluster_id, read.gateways), (want.cluster_id, want.gateways));
        let golden = "lhj1_AAAAAAAAAAQHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwkJCQkJ";
        assert!(text.expose().starts_with(golden), "{}", text.expose());
    }

    #[test]
    fn every_error_of_copying_is_found() {
        let whole = token().encode().unwrap();
        let whole = whole.expose();
        for at in PREFIX.len()..whole.len() {
            let cut = format!("{}{}", &whole[..at], &whole[at + 1..]);
            assert_eq!(
                JoinToken::decode(&cut).err(),
                Some(JoinTokenError::Copied),
                "{at} left out"
            );
            let other = if whole.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &whole[..at], &whole[at + 1..]);
            let read = JoinToken::decode(&changed).err();
            assert_eq!(read, Some(JoinTokenError::Copied), "{at} changed");
        }
        for text in ["", "lhj2_AAAA", "lh_op_AAAA", whole.trim_start_matches("lhj1_")] {
            assert_eq!(JoinToken::decode(text).err(), Some(JoinTokenError::Prefix), "{text}");
        }
        assert_eq!(JoinToken::decode("lhj1_").err(), Some(JoinTokenError::Copied));
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for gateways in [vec![], vec!["x".repeat(256)], vec!["x".to_owned(); MAX_GATEWAYS + 1]] {
            let encoded = JoinToken { gateways, ..token() }.encode();
            assert_eq!(encoded.err(), Some(JoinTokenError::TooLong));
        }
    }
}

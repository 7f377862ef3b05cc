//! Small documents that show whether they were changed.
//!
//! ```text
//! 64 hex digits of HMAC-SHA-256 over the label and the JSON, line end, JSON
//! ```
//!
//! What finds an attacker depends on the key, which is the caller's affair: one that is derived
//! from what stands beside the document finds accidents and careless hands only.

use data_encoding::HEXLOWER;
use protocol::mac::MacKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The document of a value.
pub(crate) fn seal<T: Serialize>(key: &MacKey, label: &[u8], value: &T) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    let mut document = HEXLOWER.encode(&key.tag(&[label, &json])).into_bytes();
    document.push(b'\n');
    document.extend_from_slice(&json);
    Ok(document)
}

/// The value of a document; refuses one that was changed or written under another key.
pub(crate) fn open<T: DeserializeOwned>(
    key: &MacKey,
    label: &[u8],
    document: &[u8],
) -> Result<T, String> {
    let refused = || "it was not written here, or was changed".to_owned();
    let (tag, json) = document.split_at_checked(TAG_CHARS).ok_or_else(refused)?;
    let json = json.strip_prefix(b"\n").ok_or_else(refused)?;
    let tag = HEXLOWER.decode(tag).map_err(|_| refused())?;
    if !key.verify(&[label, json], &tag) {
        return Err(refused());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

const TAG_CHARS: usize = 64;

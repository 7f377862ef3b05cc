//! Cluster ids: the name under which a cluster of machines holds its slot.
//!
//! Made once and kept in the cluster's configuration. Ours look as the document's do,
//! `bzzz-cluster-<eight hex digits of randomness>-<host name>`; every printable text is accepted.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer};

use crate::wire::is_text;

/// Longest cluster id.
pub const MAX_CLUSTER_ID_CHARS: usize = 128;

/// A new cluster id of four random bytes and the name of the host. A character that cannot stand in
/// a host name becomes `-`; a name that is too long is cut; no name is `unknown`.
pub fn generate(random: [u8; 4], hostname: &str) -> String {
    let mut id = format!("{PREFIX}{}-", HEXLOWER.encode(&random));
    let fits = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    let hostname = if hostname.is_empty() { "unknown" } else { hostname };
    let room = MAX_CLUSTER_ID_CHARS - id.len();
    id.extend(hostname.chars().take(room).map(|c| if fits(c) { c } else { '-' }));
    id
}

/// Whether a text is a cluster id: 1 to 128 printable characters.
pub fn is_cluster_id(text: &str) -> bool {
    is_text(text, MAX_CLUSTER_ID_CHARS)
}

/// Reads a cluster id.
pub(super) fn cluster_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_cluster_id(&text) { Ok(text) } else { Err(wrong()) }
}

/// Reads a cluster id that may be absent, null or empty.
pub(super) fn optional_cluster_id<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    match text {
        Some(text) if !is_cluster_id(&text) => Err(wrong()),
        text => Ok(text),
    }
}

fn wrong<E: serde::de::Error>() -> E {
    E::custom(format_args!("want 1 to {MAX_CLUSTER_ID_CHARS} printable characters"))
}

const PREFIX: &str = "bzzz-cluster-";

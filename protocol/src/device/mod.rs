//! The `device` protocol: activate a device with a license key, verify it again on a schedule.
//!
//! | module | owns |
//! |---|---|
//! | [`key`] | license keys: reading, making, hinting |
//! | [`fingerprint`] | what a machine is known by |
//! | [`crypto`] | the sealed and signed license of an answer |
//! | [`envelope`] | requests and answers under the session key |
//! | [`payload`] | the license inside: fields, entitlements, gates |
//! | [`schedule`] | check modes, and when the next check is due |
//! | [`stored`], [`checksum`] | `.license.dat` and `.license.dat.chk` |
//! | [`wire`], [`trial`] | requests and answers of applications |
//! | [`refusals`] | why a call is refused: the one table of messages and statuses |
//! | [`admin`] | requests and answers of the `X-API-Key` API |
//! | [`time`] | RFC 3339 with nanoseconds, and the zero time |
//!
//! Where the protocol's document and its reference implementation disagree, the reference and its
//! recorded data win: hex and not base64 on the wire, RSA-PSS and not PKCS#1 v1.5, the signature
//! over the ciphertext alone, the session key and not the transport key for envelopes.
//!
//! What it leaves to others: whether a key is known and a device fits (`lease`), files and machines
//! (the SDK), routes (`node`).

pub mod admin;
pub mod checksum;
pub mod crypto;
pub mod envelope;
pub mod fingerprint;
pub mod key;
pub mod payload;
pub mod refusals;
pub mod schedule;
pub mod stored;
pub mod time;
pub mod trial;
pub mod wire;

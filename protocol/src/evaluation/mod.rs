//! The `evaluation` protocol: activation by organisation and project, and an HMAC-signed license
//! file beside the program.
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] | requests and answers of `/v1/activate` and `/v1/validate` |
//! | [`refusal`] | why a call is refused; always HTTP 200 |
//! | [`license_file`] | the license file: its canonical text, its signature, its two readers |
//! | [`key_ring`] | versions of the signing key, which rotate |
//! | [`python_json`] | JSON as Python's standard library writes it |
//! | [`identity`] | hashed host names, activation ids |
//! | [`client`] | when a program may run, as a pure state machine |
//! | [`clock_skew`] | the offset between server and client |
//! | [`message`] | what people read when it may not |
//! | [`event`] | what stands in the log |
//! | [`config`] | `EDON_*` variables |
//!
//! Source: the protocol document "License Enforcement" and its Python client. Nothing that
//! identifies a person crosses the wire: host names go as hashes. What it leaves to others: which
//! activations are in force (`lease`), files, HTTP (`node`, SDKs).

pub mod client;
pub mod clock_skew;
pub mod config;
pub mod event;
pub mod identity;
pub mod key_ring;
pub mod license_file;
pub mod message;
pub mod python_json;
pub mod refusal;
pub mod wire;

/// How long an evaluation lasts unless its license says otherwise: 30 days.
pub const EVALUATION_SECONDS: u64 = 2_592_000;

//! The `classic` face: the borrow and return API that older Python, Rust, C and C++ programs speak.
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] | requests and answers; compact JSON, fields in the order the C client looks for |
//! | [`validation`] | the 422 body of a request with missing or wrong fields |
//! | [`refusal`] | every other refusal: status and `detail` |
//! | [`signature`] | the signed headers of a borrow |
//! | [`api_key`] | keys of the form `{tenant}_{environment}_pk_{43 characters}` |
//!
//! Source: the reference implementation and recorded exchanges. Two of its habits are not kept: a
//! browser's headers do not stand in for a signature, and a borrow signed without an API key is
//! accepted in the form that its clients really sign. What it leaves to others: seats (`lease`),
//! HTTP and metrics (`node`).

pub mod api_key;
pub mod refusal;
pub mod signature;
pub mod validation;
pub mod wire;

/// The vendor of a request that names none.
pub const DEFAULT_VENDOR: &str = "techvendor";

//! Requests and answers of the `cloud` protocol and of the admin API.
//!
//! | module | calls |
//! |---|---|
//! | [`lease`] | checkout, heartbeat (one and many), return, borrow, show, discover |
//! | [`admin`] | packages, vendors, apps, leases, license keys, clients, activations, offline use |
//! | [`denial`] | why a lease call is refused: the one table of codes and statuses |
//! | [`problem`] | RFC 9457 bodies, for everything that has no body of its own |
//! | [`body`] | reading a JSON body so that errors name the field |
//!
//! Applications outlive servers: unknown fields of their requests are ignored, wrong types are
//! errors. Administrators make typing mistakes: unknown fields of their requests are errors.

pub mod admin;
pub mod body;
pub mod denial;
pub mod lease;
pub mod problem;

//! The client over real connections, against a far end that the test plays: every request is
//! answered, delayed, cut or left alone by the test, and the clock is the test's. Gateways
//! themselves are tested with real processes elsewhere.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod access;
mod checkout;
mod deployment;
mod device;
mod evaluation;
mod far;
mod lifecycle;
mod offline;
mod property;
mod renewal;
mod retries;
mod tls;
mod vectors;
mod world;

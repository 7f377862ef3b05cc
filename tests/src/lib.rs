//! How we distrust it: a cluster of real processes, the calls of an application, and checkers over
//! what the applications saw.
//!
//! Everything here stands outside the product: it drives the release binary through its command
//! line, its HTTPS face and signals, and judges by what came back. The scenarios are in `it/`.
//! Only [`decoders`] looks inside: every reader of bytes, for the mutation loop and the fuzzer.

pub mod api;
pub mod cluster;
pub mod decoders;
pub mod disks;
pub mod holds;
pub mod operated;
pub mod packages;
pub mod tenant;
pub mod upkeep;
pub mod wait;

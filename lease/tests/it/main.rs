//! Tests of the ledger through its public face: verbs by scripts, random histories against a naive
//! model, checkpoints, stored bytes.

mod bounds;
mod script;
mod verbs;
mod world;

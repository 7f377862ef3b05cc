//! Tests of the ledger through its public face: verbs by scripts, random histories against a naive
//! model, checkpoints, stored bytes.

mod begun;
mod bounds;
mod checkpoints;
mod golden;
mod license_golden;
mod license_model;
mod license_script;
mod licenses;
mod model;
mod offline;
mod operate;
mod people;
mod pools;
mod pools_model;
mod script;
mod verbs;
mod world;

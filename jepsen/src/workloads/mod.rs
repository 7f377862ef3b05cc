//! What clients do: each workload is a row of a table, and one kind of client reads it.
//!
//! A row says which packages there are and how often a client takes, keeps, gives back, borrows,
//! moves, reads, or asks again. So workloads differ in what they press on, and a checker need know
//! nothing of them.

pub mod ask;
pub mod client;
pub mod table;

pub use client::{Client, Shared};
pub use table::{WORKLOADS, Weights, Workload};

//! The fault rig: real processes of the release binary, driven over HTTPS, with faults between and
//! under them; histories of what clients saw; and checkers that judge those histories offline.
//!
//! A run is made of two halves that meet in a directory of files. The first half founds a cluster,
//! hurts it and writes down what every client asked and was told. The second half reads only these
//! files. So a history can be judged again, by another checker, on another machine.
//!
//! The rig is a black box: it knows the command line, the HTTPS face, files and signals, and
//! nothing of the crates that make the product.

pub mod args;
pub mod audit;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod edn;
pub mod evidence;
pub mod faults;
pub mod finish;
pub mod history;
pub mod judge;
pub mod machine;
pub mod model;
pub mod nemesis;
pub mod operation;
pub mod proxy;
pub mod record;
pub mod report;
pub mod rng;
pub mod run;
pub mod suite;
pub mod verdict;
pub mod volume;
pub mod windows;
pub mod workloads;

//! One module per group of operations: from a request to commands, from an outcome to an answer.

pub(crate) mod admin_leases;
pub(crate) mod alarms;
pub(crate) mod apps;
pub(crate) mod checkout;
pub(crate) mod classic;
pub(crate) mod cluster;
pub(crate) mod deployment;
pub(crate) mod device;
pub(crate) mod device_admin;
pub(crate) mod discover;
pub(crate) mod evaluation;
pub(crate) mod heartbeat;
pub(crate) mod import;
pub(crate) mod leases;
pub(crate) mod licensing;
pub(crate) mod oauth;
pub(crate) mod offline;
pub(crate) mod packages;
pub(crate) mod paged;
pub(crate) mod probes;
pub(crate) mod reclaim;
pub(crate) mod snapshot;
pub(crate) mod vendors;

//! The gateway over a real cluster of one node: its calls, and its listener.

mod admin;
mod alarms;
mod audit;
mod captured;
mod classic;
mod cloud;
mod credentials;
mod deployment;
mod device;
mod device_admin;
mod document;
mod evaluation;
mod events;
mod frame;
mod issued;
mod keys;
mod licenses;
mod listener;
mod measure;
mod members;
mod offline;
mod people;
mod pools;
mod rates;
mod recorded;
mod security;
mod snapshot;
mod world;

use gateway::{DeviceSigner, Keys, NewAuthority, OfflineSigner, Peppers, Vault, VaultError};

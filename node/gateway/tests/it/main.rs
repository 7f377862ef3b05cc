//! The gateway over a real cluster of one node: its calls, and its listener.

mod admin;
mod audit;
mod captured;
mod classic;
mod cloud;
mod credentials;
mod deployment;
mod device;
mod device_admin;
mod evaluation;
mod frame;
mod issued;
mod keys;
mod licenses;
mod listener;
mod measure;
mod offline;
mod people;
mod recorded;
mod world;

use gateway::{DeviceSigner, Keys, NewAuthority, OfflineSigner, Peppers, Vault, VaultError};

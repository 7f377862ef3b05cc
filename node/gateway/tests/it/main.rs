//! The gateway over a real cluster of one node: its calls, and its listener.

mod admin;
mod cloud;
mod credentials;
mod frame;
mod keys;
mod listener;
mod measure;
mod world;

use gateway::{DeviceSigner, Keys, OfflineSigner, Vault, VaultError};

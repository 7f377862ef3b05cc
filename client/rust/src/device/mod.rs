//! The client of the `device` protocol: a license key activated on a device, verified on a
//! schedule.
//!
//! ```no_run
//! use leasehold_client::device::{DeviceClient, Gate};
//!
//! # async fn example() -> Result<(), leasehold_client::Error> {
//! let client = DeviceClient::builder()
//!     .server_url("https://licenses.example.com:8801")
//!     .application("my-tool", "8.2")
//!     .build()?;
//! if !client.start().await?.permits_use() {
//!     client.activate().await?; // e-mail, client id and key from `LICENSE_CLIENT_*`
//! }
//! if let Gate::Limited(seats) = client.can("export", "batch") {
//!     // at most so many
//! #   let _ = seats;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `client`, `builder` | what a program calls |
//! | `core` | the state machine of verification, one call after the other |
//! | `online` | the two calls on the wire, in envelopes after the first activation |
//! | `background` | checks while the program runs |
//! | `files` | license, checksum, what else is remembered |
//! | `machine` | what the fingerprint is made of |
//!
//! A license that is stored is good until its end while no server can be reached; what a server
//! decides counts at once and outlives a restart. What it leaves to others: formats and schedules
//! ([`protocol::device`]), the way to the server (`transport`).

mod background;
mod builder;
mod client;
mod core;
mod files;
mod machine;
mod online;

pub use builder::DeviceClientBuilder;
pub use client::{Activation, DeviceClient, Gate, Trial};
pub use protocol::device::payload::LicenseData;
pub use protocol::device::trial::TrialCheckResponse;

use std::fmt;

/// The server decided against a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status; 200 from servers that answer everything with it.
    pub status: u16,
    /// What the server said, as `Maximum devices (5) reached`.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP {})", self.message, self.status)
    }
}

//! The Leasehold client: takes a license, keeps it, and gives it back.
//!
//! ```no_run
//! use leasehold_client::LicenseClient;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = LicenseClient::new(
//!     "https://licenses.bmw-internal.com",
//!     "davinci-bmw-client",
//!     &std::env::var("LICENSE_SECRET")?
//! );
//!
//! let lease = client.checkout("davinci-configurator-se", "alice@bmw.com").await?;
//! // Application logic
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A lease renews itself on the client's own thread, whatever the host does, and says at any time
//! whether the program may go on ([`Lease::verdict`]): `Held`, `Grace` (could not be renewed, good
//! until its end) or `Lost`. Decisions of the server ([`Denied`]) are kept apart from obstacles
//! ([`Error`]):
//!
//! ```no_run
//! use leasehold_client::{Checkout, LicenseClient, Verdict};
//!
//! # async fn example(client: LicenseClient) -> Result<(), leasehold_client::Error> {
//! let checkout = client.checkout("davinci-configurator-se", "alice@bmw.com").version("8.2.1");
//! match checkout.outcome().await? {
//!     Checkout::Granted(lease) => {
//!         lease.on_change(|verdict| {
//!             if let Verdict::Lost { reason } = verdict {
//!                 // save and close: {reason}
//! #               let _ = reason;
//!             }
//!         });
//!     }
//!     Checkout::Denied(denied) => {
//!         // "Every seat of the package is out." Again in denied.retry_after.
//! #       let _ = denied;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It never ends, blocks or panics its host, prints nothing (events go to `tracing`), installs no
//! signal handler and has no global state.
//!
//! | module | owns |
//! |---|---|
//! | `client`, `builder`, `checkout` | what a program calls |
//! | `lease` | a lease's end, renewal, return |
//! | `access` | access tokens |
//! | `network`, `transport` | servers, retries, TLS; shared by all protocols |
//! | `worker` | the background thread; shared by all protocols |
//! | [`device`] | a license key activated on a device |
//! | [`deployment`] | a license key held by a cluster of machines |
//! | [`evaluation`] | an evaluation by organisation and project |
//! | `announce`, `steady`, `document`, `variables` | what the clients of installed licenses share |
//! | `store`, `kept` | what is kept for a restart without servers |
//! | `environment` | the seam to clocks and randomness |
#![warn(missing_docs)]

mod access;
mod announce;
mod builder;
mod checkout;
mod client;
mod core;
mod denied;
pub mod deployment;
pub mod device;
mod document;
mod environment;
mod error;
pub mod evaluation;
mod kept;
mod lease;
mod network;
mod steady;
mod store;
mod transport;
mod variables;
mod verdict;
mod worker;

pub use announce::VerdictFeed;
pub use builder::LicenseClientBuilder;
pub use checkout::{Checkout, CheckoutCall, CheckoutError};
pub use client::{LicenseClient, Resume};
pub use denied::{Denied, Reason};
pub use environment::{Environment, Sleep, SystemEnvironment};
pub use error::{Attempt, Error, Outcome, Unavailable};
pub use lease::{Borrow, Lease, Release, ReturnBorrow, VerdictWatch};
pub use protocol::cloud::denial::{DenialReason, Remedy};
pub use protocol::cloud::lease::{LeaseType, UsageMetadata};
pub use protocol::fence::Fence;
pub use protocol::wire::{Money, UtcTime};
pub use store::{FileStore, MemoryStore, OfflineStore};
pub use verdict::{GraceReason, LostReason, Verdict};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

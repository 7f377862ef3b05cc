//! The client of the `deployment` protocol: a license key activated by a cluster of machines, kept
//! by heartbeats.
//!
//! ```no_run
//! use leasehold_client::deployment::DeploymentClient;
//! use leasehold_client::Verdict;
//!
//! # async fn example() -> Result<(), leasehold_client::Error> {
//! // `LICENSE_SERVER_URL`, `LICENSE_KEY`, `CLUSTER_ID`
//! let client = DeploymentClient::builder().product("my-cluster", "1.4.0").build()?;
//! if let Verdict::Lost { reason } = client.start().await? {
//!     // enter the setup pages: {reason}
//! #   let _ = reason;
//! }
//! client.report("job-4711", [("tokens", 1_200.0), ("cpu_hours", 1.5)]).await?;
//! client.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `client`, `builder` | what a program calls |
//! | `core` | what is known: tokens, license, last success |
//! | `actor` | the task that activates, sends heartbeats, deactivates |
//! | `calls` | the calls on the wire |
//!
//! Access and offline tokens are held in memory only. The last success is kept in the offline
//! store, so that a restart gives none of the grace back. What it leaves to others: what each
//! answer means ([`protocol::deployment::client`]), variables ([`protocol::deployment::config`]).

mod actor;
mod builder;
mod calls;
mod client;
mod core;

pub use builder::DeploymentClientBuilder;
pub use calls::Refused;
pub use client::{DeploymentClient, Report, Setup, SetupOutcome};
pub use protocol::deployment::client::State;
pub use protocol::deployment::config::{FileConfig, NotLicensed};
pub use protocol::deployment::telemetry::TelemetryAnswer;
pub use protocol::deployment::wire::LicenseDetails;

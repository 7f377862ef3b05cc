//! The client of the `evaluation` protocol: an activation by organisation and project, a license
//! file beside the program, a server that is asked at the start and every hour.
//!
//! ```no_run
//! use leasehold_client::evaluation::EvaluationClient;
//!
//! # async fn example() -> Result<(), leasehold_client::Error> {
//! // `EDON_ACTIVATION_SERVER`
//! let client = EvaluationClient::builder().version("2.0.0").organisation("org-12345").build()?;
//! if !client.start().await?.permits_use() {
//!     // do not start: client.gate() has the words for people
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `client`, `builder` | what a program calls |
//! | `core` | validation, step by step |
//! | `file` | the license file, what is remembered beside it, when the file is believed |
//!
//! Variables that bypass checks count only in builds with the feature `development`. What it leaves
//! to others: the order of checks ([`protocol::evaluation::client`]), variables
//! ([`protocol::evaluation::config`]).

mod builder;
mod client;
mod core;
mod file;

pub use builder::EvaluationClientBuilder;
pub use client::{Activation, EvaluationClient};
pub use protocol::evaluation::license_file::License;
pub use protocol::evaluation::message::Rejection;

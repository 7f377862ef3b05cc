//! `endpoint status` and `endpoint health`: what etcdctl calls the status and health of a cluster.

use clap::Subcommand;

use super::health::{self, HealthArgs};
use super::status::{self, StatusArgs};
use crate::error::Result;
use crate::report::Report;
use crate::session::Session;

/// The cluster, by etcdctl's names
#[derive(Debug, Clone, Subcommand)]
pub enum EndpointVerb {
    /// The same as `cluster status`
    #[command(after_help = "\
Example:
  leasehold endpoint status -o json")]
    Status(StatusArgs),
    /// The same as `cluster health`
    #[command(after_help = "\
Example:
  leasehold endpoint health")]
    Health(HealthArgs),
}

pub(crate) async fn run(verb: EndpointVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        EndpointVerb::Status(args) => status::run(&args, session).await,
        EndpointVerb::Health(args) => health::run(&args, session).await,
    }
}

//! The command line: every verb that talks to a cluster, and the vendor's bench.
//!
//! ```text
//! argv ─ clap ─▶ Verb + GlobalOptions
//!                  │
//!   flags, environment, context file ─ settings ─▶ Session ─ client, rounds ─▶ any gateway
//!                  │                                              │
//!                  └────────▶ verbs/* ◀──── protocol::cloud ◀─────┘
//!                                │
//!                          Report or CliError ─ report ─▶ table or JSON, exit code
//! ```
//!
//! A verb never prints: it gives a report or an error, which are printed in one place, so that
//! standard output is either for people or exactly one JSON document. Answers are read with the
//! types of `protocol` that the gateway writes them with, so that the two cannot drift apart.
//!
//! What it leaves to others: `serve`, `dev` and `openapi`, which are the node's (`node`); its
//! `main` flattens [`Verb`] and [`GlobalOptions`] into one command line.

mod answer;
mod client;
mod context;
mod error;
mod exit;
mod files;
mod options;
mod report;
mod rounds;
mod session;
mod settings;
mod verbs;
mod world;

use clap::Subcommand;

pub use exit::{EXIT_CODES, Exit};
pub use options::{
    AppOptions, GlobalOptions, Hidden, MAX_WAIT_MS, MutationOptions, OutputFormat, Wait,
};
pub use verbs::ReasonOptions;
pub use verbs::app::{AppArgs, AppVerb, RegisterArgs};
pub use verbs::application::{CheckoutArgs, HeartbeatArgs, ReturnArgs, TokenArgs};
pub use verbs::cluster::ClusterVerb;
pub use verbs::lease::{LeaseVerb, ListArgs, ReleaseArgs, ShowArgs};
pub use verbs::package::{ChangeArgs, ImportArgs, PackageArgs, PackageVerb, ServerVerb};
pub use verbs::vendor::{AddArgs, TrustVerb, VendorVerb};
pub use verbs::workshop::{BenchVerb, KeyAlgorithm, KeygenArgs, SignArgs, VerifyArgs};

use crate::error::{CliError, Result};
use crate::report::Report;
use crate::session::Session;
use crate::verbs::{app, application, cluster, lease, package, vendor, workshop};

/// What a user can ask of a cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Show how the cluster is
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Choose whose packages are believed
    #[command(subcommand)]
    Vendor(VendorVerb),
    /// Make, import and manage license packages
    #[command(subcommand)]
    Package(PackageVerb),
    /// Register and manage applications
    #[command(subcommand)]
    App(AppVerb),
    /// Look at the seats that are out, and take them back
    #[command(subcommand)]
    Lease(LeaseVerb),
    /// Take a seat, as an application
    #[command(after_help = "\
Example:
  leasehold checkout --product-id davinci-configurator-se --user alice@bmw.com")]
    Checkout(CheckoutArgs),
    /// Renew a lease, as an application
    Heartbeat(HeartbeatArgs),
    /// Give a seat back, as an application
    Return(ReturnArgs),
    /// Get an access token, as an application
    #[command(after_help = "\
Example:
  curl -H \"Authorization: Bearer $(leasehold token)\" …")]
    Token(TokenArgs),
    /// Import a signed package (the same as `package import`)
    #[command(after_help = package::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Register an application and print its credentials as JSON
    #[command(after_help = "\
Example:
  leasehold register-app --name \"DaVinci Configurator SE\" \\
      --product-id davinci-configurator-se --vendor vector-de --generate-credentials")]
    RegisterApp(RegisterArgs),
}

/// Does what was asked, prints what came of it, and gives the exit code.
///
/// Starts a runtime of its own and blocks until done, so it must not be called from async code.
pub fn run(verb: Verb, options: &GlobalOptions) -> Exit {
    let var = |name: &str| std::env::var(name).ok();
    report::print(act(verb, options, &var), options, &var)
}

fn act(
    verb: Verb,
    options: &GlobalOptions,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<Report> {
    match verb {
        Verb::Package(PackageVerb::Bench(verb)) => workshop::run(verb, options),
        Verb::Package(PackageVerb::Server(verb)) => {
            ask(options, var, async |at| package::run(verb, at).await)
        }
        Verb::Import(args) => {
            ask(options, var, async |at| package::run(ServerVerb::Import(args), at).await)
        }
        Verb::Cluster(verb) => ask(options, var, async |at| cluster::run(verb, at).await),
        Verb::Vendor(verb) => ask(options, var, async |at| vendor::run(verb, at).await),
        Verb::App(verb) => ask(options, var, async |at| app::run(verb, at).await),
        Verb::RegisterApp(args) => ask(options, var, async |at| app::register_app(args, at).await),
        Verb::Lease(verb) => ask(options, var, async |at| lease::run(verb, at).await),
        Verb::Checkout(args) => ask(options, var, async |at| application::checkout(args, at).await),
        Verb::Heartbeat(args) => {
            ask(options, var, async |at| application::heartbeat(args, at).await)
        }
        Verb::Return(args) => ask(options, var, async |at| application::give_back(args, at).await),
        Verb::Token(args) => ask(options, var, async |at| application::token(args, at).await),
    }
}

/// Reads the configuration and runs a verb that asks a server.
fn ask(
    options: &GlobalOptions,
    var: &dyn Fn(&str) -> Option<String>,
    verb: impl AsyncFnOnce(&Session<'_>) -> Result<Report>,
) -> Result<Report> {
    let session = Session::open(options, var)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("no runtime: {error}")))?
        .block_on(verb(&session))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    /// The command line as the binary has it, its own verbs excepted.
    #[derive(Debug, Parser)]
    #[command(name = "leasehold")]
    struct CommandLine {
        #[command(flatten)]
        options: GlobalOptions,
        #[command(subcommand)]
        verb: Verb,
    }

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    fn parse(line: &str) -> std::result::Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn every_spelling_of_the_issue_and_the_document_is_taken() {
        for line in [
            "leasehold cluster status",
            "leasehold cluster status --output json --server https://a:1 --server https://b:2",
            "leasehold -o json --ca-cert ca.pem --token t cluster status --timeout 500ms",
            "leasehold vendor trust add --vendor vector-de --public-key p.pem",
            "leasehold vendor trust list",
            "leasehold package keygen --algorithm rsa --private-key a --public-key b",
            "leasehold package sign --package t.json --key k.pem --out p.json",
            "leasehold package verify --package p.json --vendor-public-key k.pem",
            "leasehold package import --package p.json",
            "leasehold package list -q",
            "leasehold package show p-1",
            "leasehold package suspend p-1 --reason unpaid",
            "leasehold package resume p-1",
            "leasehold package revoke p-1 --idempotency-key k",
            "leasehold app register --name A --product-id p --vendor v",
            "leasehold app list",
            "leasehold app rotate-secret app-1",
            "leasehold app remove app-1",
            "leasehold lease list --package p-1 --limit 10",
            "leasehold lease show lease-1",
            "leasehold lease release lease-1",
            "leasehold checkout --product-id p --user a --hostname h --client-id c",
            "leasehold heartbeat lease-1 --renewal-token rt1-x",
            "leasehold return lease-1 --client-secret-file -",
            "leasehold token --scope license:read",
            "leasehold import --package p.json",
            "leasehold import --package p.json --verify-signature --vendor-public-key k.pem",
            "leasehold import --package p.json --vendor-public-key k.pem --trust",
            "leasehold register-app --name A --product-id p --vendor v --generate-credentials",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn mistakes_are_refused_and_the_nearest_word_is_offered() {
        for (line, message_has) in [
            ("leasehold cluster statsu", "'status'"),
            ("leasehold packge list", "'package'"),
            ("leasehold package list --sever https://a", "'--server'"),
            ("leasehold import --package p --verify-signature", "--vendor-public-key"),
            ("leasehold import --package p --trust", "--vendor-public-key"),
            ("leasehold lease list --limit 0", "0"),
            ("leasehold checkout --quantity 0", "0"),
            ("leasehold token --client-secret a --client-secret-file b", "cannot be used with"),
            ("leasehold cluster status --timeout 5h", "want a time as"),
            ("leasehold cluster status -o yaml", "table, json"),
        ] {
            let error = parse(line).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{line}");
            let text = error.to_string();
            assert!(text.contains(message_has), "{line}\n{text}");
        }
    }

    #[test]
    fn verbs_without_a_server_say_how_to_name_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let var = |name: &str| (name == "HOME").then(|| home.to_owned());
        let CommandLine { options, verb } = parse("leasehold cluster status").ok().unwrap();
        let error = act(verb, &options, &var).err().unwrap();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.line().contains("--server"));
    }

    #[test]
    fn a_server_that_is_not_there_is_not_reachable() {
        // Port 1 of loopback: nobody listens, and the refusal is immediate.
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let var = |name: &str| (name == "HOME").then(|| home.to_owned());
        let ca_cert = dir.path().join("ca.pem");
        std::fs::write(&ca_cert, TEST_CA).unwrap();
        let line = format!(
            "leasehold package list --token lh_op_x --server https://127.0.0.1:1 --ca-cert {}",
            ca_cert.display()
        );
        let CommandLine { options, verb } = parse(&line).ok().unwrap();
        let error = act(verb, &options, &var).err().unwrap();
        assert_eq!(error.exit(), Exit::NotReachable, "{error}");
        assert!(error.line().contains("https://127.0.0.1:1 ("), "{error}");
    }

    /// A certificate of an authority, valid until 2126; its key is not kept.
    const TEST_CA: &str = include_str!("../tests/authority.pem");
}

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
pub mod local;
mod misuse;
mod options;
#[cfg(test)]
mod outputs;
mod remote;
mod report;
mod rounds;
#[cfg(test)]
mod scripted;
mod session;
mod settings;
mod verbs;
mod world;

use clap::Subcommand;

pub use exit::{EXIT_CODES, Exit};
pub use misuse::misuse;
pub use options::{
    AppOptions, GlobalOptions, Hidden, MAX_SPAN_SECONDS, MAX_WAIT_MS, MutationOptions,
    OutputFormat, Span, Wait,
};
pub use remote::{Remote, Trust, given_token};
pub use verbs::ReasonOptions;
pub use verbs::activation::{ActivationListArgs, ActivationVerb, ReinstateArgs, RevokeArgs};
pub use verbs::app::{AppArgs, AppVerb, RegisterArgs};
pub use verbs::app_policy::{SetAppArgs, ShowAppArgs};
pub use verbs::application::{CheckoutArgs, HeartbeatArgs, ReturnArgs, TokenArgs};
pub use verbs::audit::{AuditVerb, ExportArgs, KeyOptions, PruneArgs, TailArgs, VerifyAuditArgs};
pub use verbs::borrow::{
    BorrowArgs, BorrowRulesVerb, OfflineArgs, ReturnBorrowArgs, RulesArgs, SetRulesArgs,
    WriteOffArgs,
};
pub use verbs::bundle::{BundleVerb, GatherArgs};
pub use verbs::certs::{CertsVerb, RotateCertsArgs};
pub use verbs::client::{ClientAddArgs, ClientChangeArgs, ClientListArgs, ClientVerb};
pub use verbs::cluster::ClusterVerb;
pub use verbs::device::{DeviceListArgs, DeviceRemoveArgs, DeviceVerb};
pub use verbs::doctor::DoctorArgs;
pub use verbs::enroll::{AddressArgs, InitArgs, JoinArgs, TimingPreset};
pub use verbs::hand_over::{DrainArgs, NodeVerb, TransferLeaderArgs};
pub use verbs::keys::{KeysVerb, PepperOf, RotateKeysArgs};
pub use verbs::lease::{LeaseVerb, ListArgs, ReleaseArgs, ShowArgs};
pub use verbs::license::{
    IssueArgs, LicenseArgs, LicenseChangeArgs, LicenseListArgs, LicenseRotateArgs, LicenseVerb,
};
pub use verbs::member::{
    AddMemberArgs, MemberVerb, PromoteMemberArgs, RemoveMemberArgs, ReplaceMemberArgs,
};
pub use verbs::offline_token::{InspectArgs, OfflineTokenVerb, VerifyTokenArgs};
pub use verbs::operator::{OperatorAddArgs, OperatorRemoveArgs, OperatorVerb};
pub use verbs::package::{ChangeArgs, ImportArgs, PackageArgs, PackageVerb, ServerVerb};
pub use verbs::plan::PlanArgs;
pub use verbs::pool::{
    PoolArgs, PoolCreateArgs, PoolListArgs, PoolRemoveArgs, PoolReserveArgs, PoolResizeArgs,
    PoolTransferArgs, PoolVerb,
};
pub use verbs::roll::RollArgs;
pub use verbs::shared_secret::{AddVendorArgs, ClassicVerb, EvaluationVerb, RotateKeyArgs};
pub use verbs::snapshot::{
    DirArgs, FileArgs, KnownArgs, NowArgs, RecoverArgs, RestoreArgs, SaveArgs, SnapshotVerb,
};
pub use verbs::subject::{EraseArgs, SubjectArgs, SubjectVerb};
pub use verbs::top::TopArgs;
pub use verbs::usage::{ReportArgs, UnusedArgs, UsageVerb};
pub use verbs::vendor::{AddArgs, TrustVerb, VendorVerb};
pub use verbs::watching::alarm::{AlarmVerb, ClearArgs};
pub use verbs::watching::endpoint::EndpointVerb;
pub use verbs::watching::health::HealthArgs;
pub use verbs::watching::status::StatusArgs;
pub use verbs::workshop::{BenchVerb, KeyAlgorithm, KeygenArgs, SignArgs, VerifyArgs};

use crate::error::{CliError, Result};
use crate::report::Report;
use crate::session::Session;
use crate::verbs::watching::{alarm, endpoint};
use crate::verbs::{
    activation, app, application, bundle, cluster, device, doctor, lease, license, offline_token,
    package, shared_secret, top, vendor, workshop,
};

/// What a user can ask of a cluster.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Show how the cluster is
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Invite, list, promote, remove and replace nodes
    #[command(subcommand)]
    Member(MemberVerb),
    /// Stop a node so that nobody notices
    #[command(subcommand)]
    Node(NodeVerb),
    /// Look at what is wrong with the nodes, and clear it
    #[command(subcommand)]
    Alarm(AlarmVerb),
    /// Check the cluster, name by name: what is measured, what it should be, what to do
    #[command(after_help = "\
Examples:
  leasehold doctor
  leasehold doctor --list
  leasehold doctor --only disk clocks")]
    Doctor(DoctorArgs),
    /// Gather what a supporter needs, without secrets and people
    #[command(subcommand)]
    Bundle(BundleVerb),
    /// Show status and health of the cluster, by etcdctl's names
    #[command(subcommand)]
    Endpoint(EndpointVerb),
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
    /// Share a package's seats out: make pools, keep them for somebody, move seats
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Report use, refusals, cost, and what nobody uses
    #[command(subcommand)]
    Usage(UsageVerb),
    /// Look at what happened, check the log of it, and keep it elsewhere
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Show who is behind a reference, and forget them
    #[command(subcommand)]
    Subject(SubjectVerb),
    /// Manage who may run the cluster
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Issue and manage license keys
    #[command(subcommand)]
    License(LicenseVerb),
    /// Manage those to whom license keys are issued
    #[command(subcommand)]
    Client(ClientVerb),
    /// Look at the devices of a license, and remove them
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Look at what licenses were activated on, and revoke it
    #[command(subcommand)]
    Activation(ActivationVerb),
    /// Look at the key that signs evaluation licenses, and rotate it
    #[command(subcommand)]
    Evaluation(EvaluationVerb),
    /// Manage the vendors of the classic face
    #[command(subcommand)]
    Classic(ClassicVerb),
    /// Look at the nodes' certificates, and replace them and their authority
    #[command(subcommand)]
    Certs(CertsVerb),
    /// Look at the versions of the cluster's keys, and rotate them
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Take a seat, as an application
    #[command(after_help = "\
Example:
  leasehold checkout --product-id davinci-configurator-se --user alice@bmw.com")]
    Checkout(CheckoutArgs),
    /// Renew a lease, as an application
    #[command(after_help = "\
Example:
  leasehold heartbeat lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga \\
      --renewal-token \"$RENEWAL_TOKEN\"")]
    Heartbeat(HeartbeatArgs),
    /// Give a seat back, as an application
    #[command(after_help = "\
Example:
  leasehold return lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga")]
    Return(ReturnArgs),
    /// Get an access token, as an application; look at offline tokens
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  curl -H \"Authorization: Bearer $(leasehold token)\" …
  leasehold token inspect - < offline.jwt
  leasehold token verify - --keys offline-keys.json < offline.jwt"
    )]
    Token(TokenArgs),
    /// Watch the cluster: nodes, seats, refusals, slow calls
    #[command(after_help = "\
Examples:
  leasehold top
  leasehold top --once > now.txt")]
    Top(TopArgs),
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
        Verb::Top(args) => ask(options, var, async |at| top::run(args, options.output, at).await),
        Verb::Cluster(ClusterVerb::Roll(args)) => {
            ask(options, var, async |at| verbs::roll::run(args, at, options).await)
        }
        Verb::Member(verb) => ask(options, var, async |at| verbs::member::run(verb, at).await),
        Verb::Node(verb) => ask(options, var, async |at| verbs::hand_over::run(verb, at).await),
        Verb::Cluster(verb) => ask(options, var, async |at| cluster::run(verb, at).await),
        Verb::Alarm(verb) => ask(options, var, async |at| alarm::run(verb, at).await),
        Verb::Doctor(args) if args.list => Ok(doctor::list()),
        Verb::Doctor(args) => ask(options, var, async |at| doctor::run(&args, at).await),
        Verb::Bundle(verb) => ask(options, var, async |at| bundle::run(verb, options, at).await),
        Verb::Endpoint(verb) => ask(options, var, async |at| endpoint::run(verb, at).await),
        Verb::Vendor(verb) => ask(options, var, async |at| vendor::run(verb, at).await),
        Verb::App(verb) => ask(options, var, async |at| app::run(verb, at).await),
        Verb::RegisterApp(args) => ask(options, var, async |at| app::register_app(args, at).await),
        Verb::Pool(verb) => ask(options, var, async |at| verbs::pool::run(verb, at).await),
        Verb::Usage(verb) => ask(options, var, async |at| verbs::usage::run(verb, at).await),
        Verb::Lease(verb) => ask(options, var, async |at| lease::run(verb, at).await),
        Verb::Checkout(args) => ask(options, var, async |at| application::checkout(args, at).await),
        Verb::Heartbeat(args) => {
            ask(options, var, async |at| application::heartbeat(args, at).await)
        }
        Verb::Return(args) => ask(options, var, async |at| application::give_back(args, at).await),
        Verb::Audit(AuditVerb::Verify(args)) if !args.needs_server() => {
            verbs::audit::verify_offline(&args)
        }
        Verb::Audit(verb) => {
            ask(options, var, async |at| verbs::audit::run(verb, at, options).await)
        }
        Verb::Subject(verb) => ask(options, var, async |at| verbs::subject::run(verb, at).await),
        Verb::Operator(verb) => ask(options, var, async |at| verbs::operator::run(verb, at).await),
        Verb::License(verb) => ask(options, var, async |at| license::run(verb, at).await),
        Verb::Client(verb) => ask(options, var, async |at| verbs::client::run(verb, at).await),
        Verb::Device(verb) => ask(options, var, async |at| device::run(verb, at).await),
        Verb::Activation(verb) => ask(options, var, async |at| activation::run(verb, at).await),
        Verb::Evaluation(verb) => {
            ask(options, var, async |at| shared_secret::evaluation(verb, at).await)
        }
        Verb::Classic(verb) => ask(options, var, async |at| shared_secret::classic(verb, at).await),
        Verb::Certs(verb) => {
            ask(options, var, async |at| verbs::certs::run(verb, at, options).await)
        }
        Verb::Keys(verb) => ask(options, var, async |at| verbs::keys::run(verb, at).await),
        Verb::Token(args) => token(args, options, var),
    }
}

/// An access token asks a server; an offline token needs one only for keys that no file has.
fn token(
    args: TokenArgs,
    options: &GlobalOptions,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<Report> {
    match &args.verb {
        None => ask(options, var, async |at| application::token(args, at).await),
        Some(OfflineTokenVerb::Inspect(args)) => offline_token::show(args),
        Some(OfflineTokenVerb::Verify(args)) if args.needs_server() => {
            ask(options, var, async |at| offline_token::verify_with_server(args, at).await)
        }
        Some(OfflineTokenVerb::Verify(args)) => offline_token::verify_with_file(args),
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
    use crate::scripted::CommandLine;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    fn parse(line: &str) -> std::result::Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split_whitespace())
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
            "leasehold app show app-1",
            "leasehold app set app-1 --mtls on --certificate a.pem --certificate b.pem",
            "leasehold app set app-1 --rate 5 --burst 9 --token-algorithm EdDSA",
            "leasehold app set app-1 --mtls off --any-certificate --rate 0",
            "leasehold certs status",
            "leasehold certs rotate --node 2",
            "leasehold certs rotate --all --idempotency-key k",
            "leasehold certs rotate --ca --finish --force",
            "leasehold keys status",
            "leasehold keys rotate --data-key --finish --force",
            "leasehold keys rotate --pepper client-secrets --retire",
            "leasehold keys rotate --pepper operator-tokens",
            "leasehold keys rotate --token-signing --node 2",
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
    fn every_spelling_about_license_keys_and_offline_use_is_taken() {
        for line in [
            "leasehold token inspect -",
            "leasehold token verify eyJ.x.y --keys k.json --hostname h --product p",
            "leasehold token verify - --server https://a:1",
            "leasehold --server https://a:1 token verify -",
            "leasehold license issue --protocol device --package p-1 --email a@b.c --days 365",
            "leasehold license issue --protocol deployment --package p-1 --max-nodes 5 \
             --feature export:create=allow --quota tokens=1000 --slot-ttl 24h --offline 24h",
            "leasehold license issue --protocol evaluation --package p-1 --open \
             --valid-until 2027-12-31 --activation-days 30",
            "leasehold license issue --protocol device --package p-1 --client c-1 \
             --check-mode each-execution --max-activations 3 --trial --plan-file plan.json",
            "leasehold license list --protocol device --state not-yet-valid --limit 5",
            "leasehold license show l-1",
            "leasehold license suspend l-1 --reason unpaid",
            "leasehold license resume l-1",
            "leasehold license cancel l-1",
            "leasehold license revoke l-1",
            "leasehold license reinstate l-1",
            "leasehold license rotate l-1 --idempotency-key k",
            "leasehold client add a@b.c",
            "leasehold client list --state banned",
            "leasehold client ban c-1 --reason fraud",
            "leasehold client unban c-1",
            "leasehold device list --license l-1",
            "leasehold device remove a-1 --write-off --reason lost",
            "leasehold device remove --license l-1 --fingerprint 6b7d0c9b",
            "leasehold activation list --protocol evaluation --expires this-month --org X \
             --project Y",
            "leasehold activation revoke a-1 --write-off",
            "leasehold activation reinstate a-1",
            "leasehold package borrow-rules show p-1",
            "leasehold package borrow-rules set p-1 --max 7d --seats-max 5 --online-reserve 2 \
             --include user:alice --exclude host:kiosk",
            "leasehold package offline p-1",
            "leasehold lease write-off lease-1 --reason stolen",
            "leasehold pool list p-1 --limit 5 -o csv",
            "leasehold pool create p-1 team --seats 5 --for user:a --for app:device",
            "leasehold pool show p-1 team",
            "leasehold pool resize p-1 team 8",
            "leasehold pool reserve p-1 team --nobody --description x",
            "leasehold pool transfer p-1 3 --from a --to b",
            "leasehold pool transfer p-1 3 --to b --idempotency-key k",
            "leasehold pool remove p-1 team",
            "leasehold usage show p-1",
            "leasehold usage refusals --limit 5",
            "leasehold usage costs -o csv",
            "leasehold usage unused --days 90",
            "leasehold lease borrow lease-1 --renewal-token t --duration 8h --client-id c",
            "leasehold lease return-borrow lease-1 --renewal-token t",
            "leasehold evaluation keys",
            "leasehold evaluation rotate-key --minimum 2 --secret-file -",
            "leasehold classic add-vendor --vendor v --secret-file s.txt",
            "leasehold classic vendors",
            "leasehold audit tail -f -n 20 --kind lease-granted --since 1h --user a@b.c",
            "leasehold audit tail --package p --lease l --actor node-1 --hostname h",
            "leasehold audit verify",
            "leasehold audit verify a.jsonl --keys k.json",
            "leasehold audit export a.jsonl --from 1 --to 800",
            "leasehold audit prune --export a.jsonl",
            "leasehold subject show a@b.c --kind user",
            "leasehold subject erase a@b.c --reason left",
            "leasehold operator add backup --role auditor --expires-in 30d",
            "leasehold operator list",
            "leasehold operator remove operator-1",
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
            ("leasehold certs rotate", "--node"),
            ("leasehold certs rotate --node 1 --ca", "cannot be used with"),
            ("leasehold certs rotate --all --finish", "cannot be used with"),
            ("leasehold keys rotate", "--data-key"),
            ("leasehold keys rotate --data-key --node 1", "cannot be used with"),
            ("leasehold keys rotate --pepper x", "client-secrets"),
            ("leasehold keys rotate --token-signing --finish", "cannot be used with"),
            ("leasehold app set app-1 --certificate a --any-certificate", "cannot be used with"),
            ("leasehold cluster status --timeout 5h", "want a time as"),
            ("leasehold cluster status -o yaml", "table, json"),
            ("leasehold license issue --protocol devcie --package p", "`deployment`"),
            ("leasehold license issue --protocol device --package p --days 0", "0"),
            ("leasehold license issue --protocol device --package p --valid-until soon", "a day"),
            (
                "leasehold license issue --protocol device --package p --client c --email a@b.c",
                "cannot be used with",
            ),
            ("leasehold device remove", "ACTIVATION_ID"),
            ("leasehold pool create p-1 team", "--seats"),
            ("leasehold pool create p-1 team --seats 0", "0"),
            ("leasehold pool create p-1 team --seats 1 --for alice", "user:NAME"),
            ("leasehold pool reserve p-1 team", "--for"),
            ("leasehold pool reserve p-1 team --nobody --for user:a", "cannot be used with"),
            ("leasehold pool transfer p-1 3", "--from"),
            ("leasehold usage unused --days 0", "0"),
            ("leasehold device remove --fingerprint 6b7d0c9b", "--license"),
            ("leasehold device remove a-1 --license l --fingerprint 6b7d0c9b", "cannot be used"),
            ("leasehold activation list --expires soon", "this-month"),
            ("leasehold package borrow-rules set p --include alice", "user:NAME"),
            ("leasehold lease write-off lease-1", "--reason"),
            ("leasehold lease borrow l --renewal-token t --duration 400d", "366 days"),
            ("leasehold token --scope license:read inspect -", "cannot be used with"),
            ("leasehold token verify - --hostname a --fingerprint b", "cannot be used with"),
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

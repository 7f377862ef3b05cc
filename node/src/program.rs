//! The command line of the whole program, and its exit codes.
//!
//! It is in the library rather than in `main.rs` so that the tasks of a node are compiled once:
//! what polls a future is what generates its code.

use std::io::Write;
use std::process::ExitCode;

use crate::backup;
use crate::dev::{self, DevOptions};
use crate::enroll;
use crate::manual::{self, CompletionsOptions, ManOptions};
use crate::serve::{self, ServeOptions};
use clap::{CommandFactory, Parser, Subcommand};

/// A license server that cannot oversell
#[derive(Debug, Parser)]
#[command(name = "leasehold", version = VERSION, propagate_version = false)]
#[command(after_help = "Begin with: leasehold dev")]
struct CommandLine {
    #[command(flatten)]
    options: cli::GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one exists, and not for long")]
enum Command {
    /// Start a whole cluster on this machine and watch it work
    #[command(after_help = "\
Example:
  leasehold dev --nodes 3")]
    Dev(DevOptions),
    /// Run one node
    #[command(after_help = "\
Example:
  leasehold serve --config /var/lib/leasehold/node.toml")]
    Serve(ServeOptions),
    /// Print the OpenAPI document of the HTTP API
    #[command(after_help = "\
Example:
  leasehold openapi > openapi.json")]
    Openapi,
    /// Print the completions of a shell
    #[command(after_help = "\
Example:
  leasehold completions bash > /etc/bash_completion.d/leasehold")]
    Completions(CompletionsOptions),
    /// Write the manual pages
    #[command(after_help = "\
Example:
  leasehold man --dir /usr/local/share/man/man1")]
    Man(ManOptions),
    /// Take backups, look into them, and begin again from one
    #[command(subcommand)]
    Snapshot(cli::SnapshotVerb),
    #[command(flatten)]
    Client(cli::Verb),
}

/// Plants the bug that the environment names, in a build that can have one.
#[cfg(feature = "planted")]
fn plant() -> Result<(), ExitCode> {
    use lease::planted::{self, Bug};
    let Ok(name) = std::env::var("LEASEHOLD_PLANTED_BUG") else { return Ok(()) };
    let Some(bug) = Bug::of_name(&name) else {
        let known = Bug::ALL.map(Bug::name).join(", ");
        let _ = writeln!(std::io::stderr(), "error: no bug is called {name}; there are {known}");
        return Err(ExitCode::from(2));
    };
    planted::plant(Some(bug));
    Ok(())
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    #[cfg(feature = "planted")]
    if let Err(unknown) = plant() {
        return unknown;
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let CommandLine { options, command } = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return cli::misuse(&error, &words).into(),
    };
    match command {
        Command::Dev(options) => {
            run(dev::run(&options), |error| (error.exit_code(), error.to_string()))
        }
        Command::Serve(options) => {
            run(serve::serve(&options), |error| (error.exit_code(), error.to_string()))
        }
        Command::Openapi => {
            let document = gateway::openapi::document();
            match writeln!(std::io::stdout(), "{}", document.trim_end()) {
                Ok(()) => ExitCode::SUCCESS,
                // Whoever reads it has read enough.
                Err(_) => ExitCode::FAILURE,
            }
        }
        Command::Completions(options) => {
            printed(manual::completions(CommandLine::command(), &options, &mut std::io::stdout()))
        }
        Command::Man(options) => {
            printed(manual::man(CommandLine::command(), &options, &mut std::io::stdout()))
        }
        Command::Snapshot(verb) => backup::snapshot(&verb, &options).into(),
        Command::Client(cli::Verb::Cluster(cli::ClusterVerb::Recover(args))) => {
            backup::recover(&args, &options).into()
        }
        Command::Client(cli::Verb::Cluster(cli::ClusterVerb::Init(args))) => {
            enroll::init(&args, &options).into()
        }
        Command::Client(cli::Verb::Cluster(cli::ClusterVerb::Join(args))) => {
            enroll::join(&args, &options).into()
        }
        Command::Client(cli::Verb::Member(cli::MemberVerb::Replace(args)))
            if args.config.is_some() =>
        {
            let config = args.config.clone().unwrap_or_default();
            enroll::replace(&args, &config, &options).into()
        }
        Command::Client(verb) => cli::run(verb, &options).into(),
    }
}

/// Whoever reads standard output may have read enough; anything else is told.
fn printed(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            crate::logging::last_words(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end; an error is one line on standard error and an exit code.
fn run<E>(
    work: impl Future<Output = Result<(), E>>,
    failure: impl FnOnce(&E) -> (u8, String),
) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // What says otherwise is tokio's own variable, which it then reads by itself.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(worker_threads());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            crate::logging::last_words(&format!("the runtime cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(work);
    // Reads of standard input cannot be cancelled; nothing else is left to wait for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => {
            crate::logging::let_out();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let (code, line) = failure(&error);
            crate::logging::last_words(&line);
            ExitCode::from(code)
        }
    }
}

/// One for every two cores. The kernel's part of the network, the log's threads and those that may
/// block need the others: with one for each core, threads wake each other for work that no core is
/// free for.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// With the commit where the build was told it.
const VERSION: &str = match option_env!("LEASEHOLD_COMMIT") {
    Some(commit) => commit,
    None => env!("CARGO_PKG_VERSION"),
};

#[cfg(test)]
pub(crate) mod tests;

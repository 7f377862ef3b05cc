//! Completions for shells and manual pages, made from the command line itself, so that neither can
//! say anything that the program does not do.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Which shell's completions to print.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where the manual pages go.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ManOptions {
    /// Write one page per verb into this directory; without it, the first page goes to standard
    /// output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the completions of a command line.
pub(crate) fn completions(
    mut command: Command,
    options: &CompletionsOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    out.write_all(&script)
}

/// Writes the manual of a command line: `leasehold.1`, `leasehold-cluster.1`, and so on.
pub(crate) fn man(
    mut command: Command,
    options: &ManOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    command.build();
    let Some(dir) = &options.dir else { return Man::new(command).render(out) };
    fs::create_dir_all(dir)?;
    let pages = write_pages(&command, dir)?;
    writeln!(
        out,
        "{pages} pages in {}; read one: man -l {}/leasehold.1",
        dir.display(),
        dir.display()
    )
}

/// One page for a command and each one below it; gives how many.
fn write_pages(command: &Command, dir: &Path) -> io::Result<usize> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    Man::new(command.clone()).title(name.clone()).render(&mut page)?;
    fs::write(dir.join(format!("{name}.1")), page)?;
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below.map(|below| write_pages(below, dir)).sum::<io::Result<usize>>().map(|pages| pages + 1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "leasehold", about = "Sells seats")]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(clap::Subcommand)]
    enum Verb {
        /// The cluster
        #[command(subcommand)]
        Cluster(ClusterVerb),
    }

    #[derive(clap::Subcommand)]
    enum ClusterVerb {
        /// How it is
        Status {
            /// Longest wait
            #[arg(long)]
            wait: bool,
        },
    }

    #[test]
    fn every_shell_has_completions_of_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut out = Vec::new();
            completions(Line::command(), &CompletionsOptions { shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            assert!(script.contains("cluster") && script.contains("status"), "{shell}");
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let options = ManOptions { dir: Some(dir.path().join("man")) };
        man(Line::command(), &options, &mut Vec::new()).unwrap();
        for (page, has) in [
            ("leasehold.1", "Sells seats"),
            ("leasehold-cluster.1", "leasehold\\-cluster"),
            ("leasehold-cluster-status.1", "Longest wait"),
        ] {
            let text = fs::read_to_string(dir.path().join("man").join(page)).unwrap();
            assert!(text.contains(has), "{page}: {text}");
        }
    }
}

//! What verbs that the program does on this machine need of the command line: one way to say what
//! came of them, in the tables and JSON documents of all others, and a download.
//!
//! `snapshot`, `cluster recover` and their like read and write data directories, which this crate
//! does not know; the node does the work and says what came of it here.

use std::io;

use serde_json::Value;

use crate::error::CliError;
use crate::exit::Exit;
use crate::options::GlobalOptions;
use crate::report::{self, Column, Grid, Part, Report};
use crate::session::Session;
use crate::verbs::snapshot::{self, NowArgs};

/// What a verb has to say.
#[derive(Debug, Default)]
pub struct Told {
    /// For scripts: the whole of it.
    pub json: Value,
    /// For people, in order.
    pub parts: Vec<ToldPart>,
    /// For `--quiet`, one a line.
    pub ids: Vec<String>,
}

/// A piece of what people read.
#[derive(Debug)]
pub enum ToldPart {
    /// One line.
    Line(String),
    /// Names with values, aligned.
    Facts(Vec<(&'static str, String)>),
    /// A table: its columns, and whether each is of numbers; its rows.
    Table(Vec<(&'static str, bool)>, Vec<Vec<String>>),
}

/// Why a verb failed: one line for people, a code for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The exit code.
    pub exit: Exit,
    /// The machine-readable reason, as `snapshot_corrupt`.
    pub code: &'static str,
    /// What happened, and what to do about it.
    pub message: String,
}

impl Trouble {
    /// A failure.
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into() }
    }
}

/// Prints what a verb came to as all verbs do, and gives its exit code.
pub fn conclude(outcome: Result<Told, Failed>, options: &GlobalOptions) -> Exit {
    let var = |name: &str| std::env::var(name).ok();
    let outcome = outcome.map(report_of).map_err(|failed| failed.0);
    report::print(outcome, options, &var)
}

/// Why a verb failed: of its own, or as the client of a server.
#[derive(Debug)]
pub struct Failed(pub(crate) CliError);

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self(CliError::Local(trouble))
    }
}

impl Failed {
    /// What people read after `error: `.
    pub fn line(&self) -> String {
        self.0.line()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.0.exit()
    }

    /// The HTTP status, where a server refused.
    pub fn status(&self) -> Option<u16> {
        match &self.0 {
            CliError::Refused(refusal) | CliError::NotServing(refusal) => Some(refusal.status),
            _ => None,
        }
    }
}

impl From<CliError> for Failed {
    fn from(error: CliError) -> Self {
        Self(error)
    }
}

/// What a server said before the bytes of a download.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// The name it suggests for the file.
    pub file_name: Option<String>,
}

/// Downloads what a server sends to a request of an operator, from the first server that does.
/// `begun` is called once, and gives what takes the pieces.
///
/// Starts a runtime of its own and blocks until done, so it must not be called from async code.
/// When the pieces end early, the error says so; what was taken is of no use then.
///
/// # Errors
/// When no server answers or the stream is cut.
pub fn download<T>(
    options: &GlobalOptions,
    path: &[&str],
    begun: impl FnOnce(&Offered) -> Result<T, Trouble>,
    mut take: impl FnMut(&mut T, &[u8]) -> io::Result<()>,
) -> Result<T, Failed> {
    let var = |name: &str| std::env::var(name).ok();
    let session = Session::open(options, &var).map_err(Failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed(CliError::Failed(format!("no runtime: {error}"))))?;
    runtime.block_on(async {
        let mut stream = session.stream(path).await.map_err(Failed)?;
        let mut taken = begun(&stream.offered)?;
        while let Some(piece) = stream.next().await.map_err(Failed)? {
            take(&mut taken, &piece).map_err(|source| {
                Failed(CliError::Failed(format!("the download cannot be written: {source}")))
            })?;
        }
        Ok(taken)
    })
}

/// `snapshot now`: printed, and its exit code.
pub fn snapshot_now(args: NowArgs, options: &GlobalOptions) -> Exit {
    let var = |name: &str| std::env::var(name).ok();
    report::print(
        crate::ask(options, &var, async |at| snapshot::now(args, at).await),
        options,
        &var,
    )
}

fn report_of(told: Told) -> Report {
    let parts = told.parts.into_iter().map(|part| match part {
        ToldPart::Line(line) => Part::Line(line),
        ToldPart::Facts(facts) => Part::Facts(facts),
        ToldPart::Table(columns, rows) => {
            let columns: Vec<Column> = columns
                .into_iter()
                .map(|(header, is_number)| match is_number {
                    true => Column::number(header),
                    false => Column::whole(header),
                })
                .collect();
            let mut grid = Grid::new(&columns);
            for row in rows {
                grid.row(row);
            }
            Part::Grid(grid, "none")
        }
    });
    Report::done(told.json, parts.collect(), told.ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_a_report_like_any_other() {
        let told = Told {
            json: serde_json::json!({ "rows": 2 }),
            parts: vec![
                ToldPart::Line("done".to_owned()),
                ToldPart::Facts(vec![("index", "7".to_owned())]),
                ToldPart::Table(
                    vec![("TABLE", false), ("ROWS", true)],
                    vec![vec!["lease".to_owned(), "2".to_owned()]],
                ),
            ],
            ids: vec!["7".to_owned()],
        };
        let report = report_of(told);
        assert_eq!(report::shown(&report), "done\nindex  7\nTABLE  ROWS\nlease     2\n");
        assert_eq!(report.exit, Exit::Done);
    }

    #[test]
    fn trouble_has_a_code_and_an_exit() {
        let failed: Failed = Trouble::new(Exit::Unverifiable, "snapshot_corrupt", "no").into();
        assert_eq!((failed.exit(), failed.line().as_str()), (Exit::Unverifiable, "no"));
        assert_eq!(failed.0.to_json()["error"]["code"], "snapshot_corrupt");
    }
}

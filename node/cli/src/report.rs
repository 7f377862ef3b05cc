//! What a verb has to say, and how it is printed.
//!
//! A verb gives a [`Report`]: one JSON document for scripts, parts for people, ids for `--quiet`.
//! All text that came from a server or a file is escaped here, in one place, so that no name can
//! move the cursor or forge a line. Standard output is written once, at the end; a reader that went
//! away (`| head`) is no error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table};
use protocol::csv;
use serde_json::Value;

use crate::error::CliError;
use crate::exit::Exit;
use crate::options::{GlobalOptions, OutputFormat};

/// What a verb has to say.
#[derive(Debug)]
pub(crate) struct Report {
    /// How it ended.
    pub(crate) exit: Exit,
    /// For scripts: the whole of it.
    pub(crate) json: Value,
    /// For people, in order.
    pub(crate) parts: Vec<Part>,
    /// For `--quiet`, one a line.
    pub(crate) ids: Vec<String>,
}

/// A piece of what people read.
#[derive(Debug)]
pub(crate) enum Part {
    /// One line.
    Line(String),
    /// A document as it is, several lines; from a source that is JSON or PEM.
    Document(String),
    /// Names with values, aligned.
    Facts(Vec<(&'static str, String)>),
    /// A table; what to say when it has no rows.
    Grid(Grid, &'static str),
}

/// A table.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column's header, and how it behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    header: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    Number,
    Tone,
    Drawn,
}

impl Column {
    /// Text that is cut where the terminal is too narrow.
    pub(crate) fn text(header: &'static str) -> Self {
        Self { header, kind: Kind::Text }
    }

    /// Text that is never cut: an id that is copied.
    pub(crate) fn whole(header: &'static str) -> Self {
        Self { header, kind: Kind::Whole }
    }

    /// A number, to the right.
    pub(crate) fn number(header: &'static str) -> Self {
        Self { header, kind: Kind::Number }
    }

    /// A picture of what other columns say in numbers; for people alone.
    pub(crate) fn drawn(header: &'static str) -> Self {
        Self { header, kind: Kind::Drawn }
    }

    /// A state, coloured by what it means.
    pub(crate) fn state(header: &'static str) -> Self {
        Self { header, kind: Kind::Tone }
    }
}

impl Grid {
    /// A table without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one text for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column");
        self.rows.push(cells);
    }
}

impl Report {
    /// A report of something done.
    pub(crate) fn done(json: Value, parts: Vec<Part>, ids: Vec<String>) -> Self {
        Self { exit: Exit::Done, json, parts, ids }
    }
}

/// Where people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns, if it is a terminal.
    width: Option<u16>,
    /// Whether to use colours.
    color: bool,
}

impl Screen {
    /// Standard output: its width, and colours unless `NO_COLOR` or `TERM=dumb` say no.
    pub(crate) fn stdout(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let width = Table::new().width();
        Self { width, color: wants_color(io::stdout().is_terminal(), var) }
    }
}

/// See <https://no-color.org>.
fn wants_color(is_terminal: bool, var: &dyn Fn(&str) -> Option<String>) -> bool {
    let forbidden = var("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !forbidden && var("TERM").as_deref() != Some("dumb")
}

/// Prints what a verb came to, and gives its exit code.
pub(crate) fn print(
    outcome: Result<Report, CliError>,
    options: &GlobalOptions,
    var: &dyn Fn(&str) -> Option<String>,
) -> Exit {
    match outcome {
        Ok(report) => {
            let text = match (options.output, options.quiet) {
                (OutputFormat::Json, _) => format!("{:#}\n", report.json),
                (OutputFormat::Table | OutputFormat::Csv, true) => lines_of(&report.ids),
                (OutputFormat::Csv, false) => match sheet(&report.parts) {
                    Some(text) => text,
                    None => {
                        write_stderr("warning: this has no table that could be CSV\n");
                        render(&report.parts, Screen::stdout(var))
                    }
                },
                (OutputFormat::Table, false) => render(&report.parts, Screen::stdout(var)),
            };
            match write_stdout(&text) {
                Ok(()) => report.exit,
                Err(source) => {
                    let error = CliError::File {
                        action: "write to",
                        path: "standard output".into(),
                        source,
                    };
                    print(Err(error), options, var)
                }
            }
        }
        Err(error) if options.output == OutputFormat::Json => print_error(&error),
        Err(error) => {
            let color = wants_color(io::stderr().is_terminal(), var);
            let label = if color { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
            write_stderr(&format!("{label} {}\n", escaped(&error.line())));
            error.exit()
        }
    }
}

/// Prints an error as scripts read it, and gives its exit code.
pub(crate) fn print_error(error: &CliError) -> Exit {
    write_stderr(&format!("{:#}\n", error.to_json()));
    error.exit()
}

/// What people read on a terminal of 80 columns.
#[cfg(test)]
pub(crate) fn shown(report: &Report) -> String {
    render(&report.parts, Screen { width: Some(80), color: false })
}

/// Says something beside the report, unless told to be quiet or read by a script.
pub(crate) fn warn(text: &str, options: &GlobalOptions) {
    if options.is_talkative() {
        write_stderr(&format!("warning: {}\n", escaped(text)));
    }
}

/// Says how far a verb is, for people who wait.
pub(crate) fn progress(line: &str) {
    write_stderr(&format!("{}\n", escaped(line)));
}

/// Prints what cannot wait for the report; `false` when nobody reads any more.
pub(crate) fn print_now(text: &str) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => {
            Err(CliError::File { action: "write to", path: "standard output".into(), source })
        }
    }
}

/// The first table of a report, or else its facts as a table of one row, as CSV; what is only drawn
/// is left out. `None`: there is neither.
fn sheet(parts: &[Part]) -> Option<String> {
    let name = |header: &str| header.to_lowercase().replace(' ', "_");
    let cell = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
    let grid = parts.iter().find_map(|part| match part {
        Part::Grid(grid, _) => Some(grid),
        _ => None,
    });
    if let Some(grid) = grid {
        let is_shown: Vec<bool> = grid.columns.iter().map(|it| it.kind != Kind::Drawn).collect();
        let shown = |at: &usize| is_shown[*at];
        let places: Vec<usize> = (0..grid.columns.len()).filter(shown).collect();
        let header: Vec<String> = places.iter().map(|at| name(grid.columns[*at].header)).collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let rows = grid.rows.iter().map(|row| {
            let cells: Vec<String> = places.iter().map(|at| cell(&row[*at])).collect();
            cells
        });
        return Some(csv::table(&header, rows));
    }
    let facts = parts.iter().find_map(|part| match part {
        Part::Facts(facts) => Some(facts),
        _ => None,
    })?;
    let header: Vec<String> = facts.iter().map(|(header, _)| name(header)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row: Vec<String> = facts.iter().map(|(_, value)| cell(value)).collect();
    Some(csv::table(&header, [row]))
}

fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// What cannot be said to standard error cannot be said at all; the exit code still tells.
fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn lines_of(ids: &[String]) -> String {
    ids.iter().fold(String::new(), |mut text, id| {
        text.push_str(&escaped(id));
        text.push('\n');
        text
    })
}

fn render(parts: &[Part], screen: Screen) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Line(line) => {
                text.push_str(&escaped(line));
                text.push('\n');
            }
            Part::Document(document) => {
                for line in document.lines() {
                    text.push_str(&escaped(line));
                    text.push('\n');
                }
            }
            Part::Facts(facts) => render_facts(&mut text, facts),
            Part::Grid(grid, when_empty) if grid.rows.is_empty() => {
                text.push_str(when_empty);
                text.push('\n');
            }
            Part::Grid(grid, _) => text.push_str(&render_grid(grid, screen)),
        }
    }
    text
}

fn render_facts(text: &mut String, facts: &[(&'static str, String)]) {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        let line = format!("{name:width$}  {}", escaped(value));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn render_grid(grid: &Grid, screen: Screen) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty().set_delimiter(NO_DELIMITER);
    if let Some(width) = screen.width {
        table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    if screen.color {
        table.enforce_styling();
    }
    table.set_header(grid.columns.iter().map(|column| Cell::new(column.header)));
    for cells in &grid.rows {
        let cells = cells.iter().zip(&grid.columns).map(|(text, column)| {
            let cell = Cell::new(escaped(text));
            match (column.kind, tone(text)) {
                (Kind::Tone, Some(color)) => cell.fg(color),
                _ => cell,
            }
        });
        let mut row = Row::from(cells.collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
    }
    let last = grid.columns.len().saturating_sub(1);
    for (index, column) in grid.columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(index) {
            shown.set_padding((0, if index == last { 0 } else { COLUMN_GAP }));
            if column.kind != Kind::Text {
                shown.set_constraint(ColumnConstraint::ContentWidth);
            }
            if column.kind == Kind::Number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// What a state means, as a colour.
fn tone(state: &str) -> Option<Color> {
    match state {
        "leader" | "follower" | "active" | "yes" | "ok" => Some(Color::Green),
        "learner" | "not yet valid" | "suspended" | "released" | "warn" => Some(Color::Yellow),
        "unreachable" | "expired" | "revoked" | "cancelled" | "banned" | "no" | "fail" => {
            Some(Color::Red)
        }
        _ => None,
    }
}

/// Text with everything made visible that could move the cursor, change colours or turn the
/// direction of reading.
pub(crate) fn escaped(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || ('\u{2060}'..='\u{2069}').contains(&c)
            || c == '\u{feff}'
    };
    if !text.contains(is_unsafe) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, c| {
        if is_unsafe(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// A length of time in its two largest units: `15m 0s`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How much of something is taken, as a bar of ten characters; full only where all of it is, and
/// empty only where none is.
pub(crate) fn bar(taken: u32, of: u32) -> String {
    const WIDTH: u64 = 10;
    let (taken, of) = (u64::from(taken.min(of)), u64::from(of));
    let filled = match (taken * WIDTH).checked_div(of) {
        None => 0,
        Some(0) if taken > 0 => 1,
        Some(filled) => filled,
    };
    (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect()
}

/// A text that may be absent.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// Wraps at no character that a cell can have: cells are cut, not wrapped.
const NO_DELIMITER: char = '\u{1}';
const COLUMN_GAP: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn leases() -> Grid {
        let mut grid = Grid::new(&[
            Column::whole("LEASE"),
            Column::state("STATE"),
            Column::number("SEATS"),
            Column::text("HOLDER"),
        ]);
        let lease = "lease-aaaqcaidaqdaocajbifryuhbvxbgqsinu4aq";
        let holder = "alice@bmw.com on dev-workstation-042.munich.bmw.example";
        grid.row(vec![lease.into(), "active".into(), "1".into(), holder.into()]);
        grid.row(vec![lease.into(), "active".into(), "20".into(), "b\x1b[2J".into()]);
        grid
    }

    fn check(width: Option<u16>, expected: &str) {
        let screen = Screen { width, color: false };
        assert_eq!(render(&[Part::Grid(leases(), "none")], screen), expected);
    }

    #[test]
    fn a_table_fits_a_terminal_and_keeps_ids_whole() {
        check(
            Some(80),
            "\
LEASE                                       STATE   SEATS  HOLDER
lease-aaaqcaidaqdaocajbifryuhbvxbgqsinu4aq  active      1  alice@bmw.com on dev…
lease-aaaqcaidaqdaocajbifryuhbvxbgqsinu4aq  active     20  b\\u{1b}[2J
",
        );
    }

    #[test]
    fn a_table_that_no_terminal_shows_is_not_cut() {
        check(
            None,
            "\
LEASE                                       STATE   SEATS  HOLDER
lease-aaaqcaidaqdaocajbifryuhbvxbgqsinu4aq  active      1  \
alice@bmw.com on dev-workstation-042.munich.bmw.example
lease-aaaqcaidaqdaocajbifryuhbvxbgqsinu4aq  active     20  b\\u{1b}[2J
",
        );
    }

    #[test]
    fn colours_are_for_terminals_without_no_color() {
        let screen = Screen { width: Some(80), color: true };
        assert!(render(&[Part::Grid(leases(), "")], screen).contains("\x1b["));
        let set = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| value.to_owned())
        };
        assert!(wants_color(true, &|_| None));
        assert!(!wants_color(false, &|_| None));
        assert!(!wants_color(true, &set("NO_COLOR", "1")));
        assert!(wants_color(true, &set("NO_COLOR", "")));
        assert!(!wants_color(true, &set("TERM", "dumb")));
        assert!(wants_color(true, &set("TERM", "xterm")));
    }

    #[test]
    fn facts_are_aligned_and_an_empty_table_says_so() {
        let facts = vec![("lease", "l-1".to_owned()), ("renewal token", "rt1-x".to_owned())];
        let parts =
            [Part::Facts(facts), Part::Grid(Grid::new(&[Column::text("A")]), "no leases are out")];
        assert_eq!(
            render(&parts, Screen { width: None, color: false }),
            "lease          l-1\nrenewal token  rt1-x\nno leases are out\n"
        );
    }

    #[test]
    fn no_text_forges_a_line_or_moves_the_cursor() {
        assert_eq!(escaped("plain ü 漢"), "plain ü 漢");
        assert_eq!(escaped("a\nb"), "a\\u{a}b");
        assert_eq!(escaped("a\x1b]0;x\x07"), "a\\u{1b}]0;x\\u{7}");
        assert_eq!(escaped("\u{202e}gpj"), "\\u{202e}gpj");
        let line = Part::Line("one\ntwo".to_owned());
        assert_eq!(render(&[line], Screen { width: None, color: false }), "one\\u{a}two\n");
    }

    #[test]
    fn bars_are_full_and_empty_only_where_it_is_so() {
        for (taken, of, shown) in [
            (0, 0, ".........."),
            (0, 5, ".........."),
            (1, 100, "#........."),
            (5, 10, "#####....."),
            (99, 100, "#########."),
            (100, 100, "##########"),
            (7, 5, "##########"),
            (u32::MAX, u32::MAX, "##########"),
        ] {
            assert_eq!(bar(taken, of), shown, "{taken} of {of}");
        }
    }

    #[test]
    fn a_table_is_csv_without_what_is_drawn() {
        let mut grid =
            Grid::new(&[Column::whole("PACKAGE"), Column::drawn("USE"), Column::text("KEPT FOR")]);
        grid.row(vec!["p-1".into(), bar(1, 2), "=cmd, \"x\"".into()]);
        grid.row(vec!["p-2".into(), bar(1, 2), "-".into()]);
        let parts = [Part::Line("before".to_owned()), Part::Grid(grid, "none")];
        let want = "package,kept_for\r\np-1,\"'=cmd, \"\"x\"\"\"\r\np-2,\r\n";
        assert_eq!(sheet(&parts).as_deref(), Some(want));
        let facts =
            Part::Facts(vec![("package", "p-1".to_owned()), ("last taken", "-".to_owned())]);
        assert_eq!(sheet(&[facts]).as_deref(), Some("package,last_taken\r\np-1,\r\n"));
        assert_eq!(sheet(&[Part::Line("done".to_owned())]), None);
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (ms, text) in [
            (0, "0ms"),
            (850, "850ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (900_000, "15m 0s"),
            (5_460_000, "1h 31m"),
            (93_600_000, "1d 2h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}

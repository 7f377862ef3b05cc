//! Tables as text that spreadsheets read (RFC 4180).
//!
//! Names come from packages and people, and a spreadsheet runs what begins like a formula. So a
//! cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in
//! front, as OWASP advises; a number stays a number. Rows end with CR LF.

use ::csv::{QuoteStyle, Terminator, WriterBuilder};

/// The media type of such a table.
pub const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// A table: the names of its columns, then its rows, each with as many cells.
pub fn table<Cells>(header: &[&str], rows: impl IntoIterator<Item = Cells>) -> String
where
    Cells: IntoIterator<Item: AsRef<str>>,
{
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .flexible(true)
        .quote_style(QuoteStyle::Necessary)
        .from_writer(Vec::new());
    let mut write = |cells: Vec<String>| {
        #[expect(clippy::expect_used, reason = "a vector takes every byte")]
        writer.write_record(&cells).expect("a vector takes every byte");
    };
    write(header.iter().map(|name| (*name).to_owned()).collect());
    for row in rows {
        write(row.into_iter().map(|cell| harmless(cell.as_ref())).collect());
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: &str) -> String {
    let is_number = !cell.starts_with('+') && cell.parse::<rust_decimal::Decimal>().is_ok();
    match cell.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') if !is_number => format!("'{cell}"),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_never_formulas() {
        for (cell, want) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+49 89", "'+49 89"),
            ("+5", "'+5"),
            ("-cmd", "'-cmd"),
            ("--5", "'--5"),
            ("-12.5", "-12.5"),
            ("12.5", "12.5"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("a=b", "a=b"),
            ("'=x", "'=x"),
            ("ü 漢", "ü 漢"),
        ] {
            let text = table(&["a", "b"], [[cell, "end"]]);
            assert_eq!(text, format!("a,b\r\n{want},end\r\n"), "{cell:?}");
            let mut reader = ::csv::Reader::from_reader(text.as_bytes());
            let row = reader.records().next().expect("a row").expect("CSV");
            assert_eq!(row[0].trim_start_matches('\''), cell.trim_start_matches('\''));
        }
    }

    #[test]
    fn a_table_without_rows_names_its_columns() {
        let none: [[&str; 2]; 0] = [];
        assert_eq!(table(&["package_id", "seats"], none), "package_id,seats\r\n");
    }
}

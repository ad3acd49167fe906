//! What the commands write: tables and progress for people, JSON for programs.
//!
//! The only place of the host that writes to standard output and standard error by itself. A closed pipe is no error.

use std::io::{IsTerminal, Write};

use serde_json::Value;

/// Characters of one cell; longer ones end in an ellipsis.
const CELL_CHARACTERS_MAX: usize = 60;

/// One line on standard output.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The same for something that goes on: whether anybody still reads it.
pub(super) fn say_to_reader(line: &str) -> bool {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).is_ok()
}

/// One sentence on standard error.
pub(super) fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "berth: {sentence}");
}

/// A line about what goes on, on standard error, and only for a person at a terminal.
pub(super) fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// A JSON document on standard output, indented.
pub(super) fn json(value: &Value) {
    say(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// So many bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// The end of a text that is longer than a cell.
pub(super) fn end_of(text: &str) -> String {
    let count = text.chars().count();
    if count <= CELL_CHARACTERS_MAX {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(count - CELL_CHARACTERS_MAX + 1)).collect()
}

/// A column: its heading, and the member it shows.
pub(super) struct Column {
    pub heading: &'static str,
    pub member: &'static str,
}

/// Columns from pairs of heading and member.
pub(super) fn columns<const N: usize>(pairs: [(&'static str, &'static str); N]) -> [Column; N] {
    pairs.map(|(heading, member)| Column { heading, member })
}

/// Rows as an aligned table on standard output. Numbers stand right, everything else left.
pub(super) fn table(columns: &[Column], rows: &[Value]) {
    for line in lines(columns, rows) {
        say(&line);
    }
}

fn lines(columns: &[Column], rows: &[Value]) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row.get(column.member))).collect()).collect();
    let width = |index: usize, heading: &str| {
        let widest = cells.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count()).max();
        widest.unwrap_or_default().max(heading.len())
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(index, column)| width(index, column.heading)).collect();
    let is_number: Vec<bool> = columns
        .iter()
        .map(|column| !rows.is_empty() && rows.iter().all(|row| row.get(column.member).is_some_and(Value::is_number)))
        .collect();
    let headings: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    std::iter::once(&headings).chain(&cells).map(|row| line(row, &widths, &is_number)).collect()
}

fn line(row: &[String], widths: &[usize], is_number: &[bool]) -> String {
    let aligned: Vec<String> = row
        .iter()
        .zip(widths)
        .zip(is_number)
        .map(|((text, width), right)| if *right { format!("{text:>width$}") } else { format!("{text:<width$}") })
        .collect();
    aligned.join("  ").trim_end().to_owned()
}

/// What a host sends may hold control characters; on a terminal they could do harm.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(" "),
        Some(value) => value.to_string(),
    };
    let plain = plain(&text);
    if plain.chars().count() <= CELL_CHARACTERS_MAX {
        return plain;
    }
    let begin: String = plain.chars().take(CELL_CHARACTERS_MAX - 1).collect();
    format!("{begin}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_aligned() {
        let columns = columns([("NAME", "name"), ("CALLS", "calls"), ("ROUTES", "routes")]);
        let rows = [
            json!({"name": "planning", "calls": 7, "routes": ["/a", "/b"]}),
            json!({"name": "x", "calls": 1200, "routes": null}),
        ];
        assert_eq!(lines(&columns, &rows), ["NAME      CALLS  ROUTES", "planning      7  /a /b", "x          1200  -"]);
        assert_eq!(lines(&columns, &[]), ["NAME  CALLS  ROUTES"]);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((size(12), size(2048), size(1_572_864)), ("12 B".into(), "2 KiB".into(), "1.5 MiB".into()));
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        assert_eq!(cell(Some(&json!("a\u{1b}[2Jb"))), "a [2Jb");
        assert_eq!(cell(Some(&json!("x".repeat(100)))).chars().count(), CELL_CHARACTERS_MAX);
    }
}

//! What differs between two versions of an entry, line by line.

use std::time::Duration;

use berth_sdk::prelude::*;
use similar::{ChangeTag, TextDiff};

use super::numbered;
use crate::entry::Entry;

/// How long the comparison may take; afterwards it is coarser, and still right.
const TIME_MAX: Duration = Duration::from_millis(500);

/// Which versions are compared.
#[data]
pub struct DiffQuery {
    /// The older one.
    #[field(min = 1)]
    from: i64,
    /// The newer one; the present one when absent.
    #[field(min = 1)]
    to: Option<i64>,
}

/// What became of a line.
#[choice]
pub enum Change {
    /// It stayed.
    Equal,
    /// It came.
    Insert,
    /// It went.
    Delete,
}

/// A line.
#[data]
pub struct Line {
    operation: Change,
    text: String,
}

/// The comparison.
#[data]
pub struct Difference {
    from: i64,
    to: i64,
    title_before: String,
    title_after: String,
    /// Lines that came.
    added: usize,
    /// Lines that went.
    removed: usize,
    changes: Vec<Line>,
}

/// `GET /api/knowledge/{id}/diff`.
pub fn diff(Params(id): Params<Id>, Query(which): Query<DiffQuery>) -> Result<Json<Difference>> {
    let entry = entity::read::<Entry>(&Pool, &id)?;
    let from = numbered(&Pool, &entry.id, which.from)?;
    // The present one is the entry itself: a move of what it is below counts as a version, and changes neither title nor content.
    let (to, title_after, content) = match which.to {
        Some(number) => {
            let version = numbered(&Pool, &entry.id, number)?;
            (number, version.data.title, version.data.content)
        }
        None => (entry.version, entry.data.title, entry.data.content),
    };
    let changes = lines(&from.content, &content);
    let count = |wanted: Change| changes.iter().filter(|line| line.operation == wanted).count();
    Ok(Json(Difference {
        from: which.from,
        to,
        title_before: from.data.title,
        title_after,
        added: count(Change::Insert),
        removed: count(Change::Delete),
        changes,
    }))
}

fn lines(from: &str, to: &str) -> Vec<Line> {
    let compared = TextDiff::configure().timeout(TIME_MAX).diff_lines(from, to);
    let line = |change: similar::Change<&str>| {
        let operation = match change.tag() {
            ChangeTag::Equal => Change::Equal,
            ChangeTag::Insert => Change::Insert,
            ChangeTag::Delete => Change::Delete,
        };
        Line { operation, text: change.value().trim_end_matches(['\n', '\r']).to_string() }
    };
    compared.iter_all_changes().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_went_is_told() {
        let told: Vec<(Change, String)> =
            lines("a\nb\n", "a\nc\n").into_iter().map(|line| (line.operation, line.text)).collect();
        let expected = [(Change::Equal, "a"), (Change::Delete, "b"), (Change::Insert, "c")];
        assert_eq!(told, expected.map(|(operation, text)| (operation, text.to_string())));
    }
}

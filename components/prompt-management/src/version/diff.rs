//! What differs between two versions, line by line.

use berth_sdk::prelude::*;
use similar::{ChangeTag, TextDiff};

use super::numbered;
use crate::prompt;

/// How long the comparison may take; afterwards it is coarser, and still right.
const TIME_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// Which versions are compared.
#[data]
pub struct DiffQuery {
    /// The older one.
    #[field(min = 1)]
    from: i64,
    /// The newer one.
    #[field(min = 1)]
    to: i64,
}

/// What became of a line.
#[choice]
pub enum Operation {
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
    operation: Operation,
    text: String,
}

/// The comparison.
#[data]
pub struct Difference {
    from: i64,
    to: i64,
    /// Lines that came.
    added: i64,
    /// Lines that went.
    removed: i64,
    changes: Vec<Line>,
}

/// `GET /api/prompts/{id}/diff`.
pub fn diff(Params(id): Params<Id>, Query(which): Query<DiffQuery>) -> Result<Json<Difference>> {
    let prompt = prompt::named(&Pool, &id)?;
    let from = numbered(&Pool, &prompt.id, which.from)?;
    let to = numbered(&Pool, &prompt.id, which.to)?;
    let changes = lines(&from.content, &to.content);
    let count = |wanted| i64::try_from(changes.iter().filter(|line| line.operation == wanted).count()).unwrap_or(0);
    Ok(Json(Difference {
        from: which.from,
        to: which.to,
        added: count(Operation::Insert),
        removed: count(Operation::Delete),
        changes,
    }))
}

fn lines(from: &str, to: &str) -> Vec<Line> {
    let diff = TextDiff::configure().timeout(TIME_MAX).diff_lines(from, to);
    let line = |change: similar::Change<&str>| Line {
        operation: match change.tag() {
            ChangeTag::Equal => Operation::Equal,
            ChangeTag::Insert => Operation::Insert,
            ChangeTag::Delete => Operation::Delete,
        },
        text: change.value().trim_end_matches(['\n', '\r']).to_string(),
    };
    diff.iter_all_changes().map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_came_and_went_is_told_line_by_line() {
        let changes = lines("a\nb\nc", "a\nB\nc");
        let told: Vec<(Operation, &str)> = changes.iter().map(|line| (line.operation, line.text.as_str())).collect();
        let expected =
            [(Operation::Equal, "a"), (Operation::Delete, "b"), (Operation::Insert, "B"), (Operation::Equal, "c")];
        assert_eq!(told, expected);
    }

    proptest! {
        /// The lines that stayed or came are the newer text.
        #[test]
        fn a_difference_leads_from_one_text_to_the_other(from in "([ab]\n){0,12}", to in "([ab]\n){0,12}") {
            let lines = lines(&from, &to);
            let side = |left: Operation| -> String {
                lines.iter().filter(|line| line.operation != left).map(|line| format!("{}\n", line.text)).collect()
            };
            prop_assert_eq!(side(Operation::Delete), to);
            prop_assert_eq!(side(Operation::Insert), from);
        }
    }
}

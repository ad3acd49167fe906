//! Patterns of `LIKE` for texts that somebody has typed, in which no letter stands for others. To be used as
//! `column LIKE ? ESCAPE '!'`.

use super::Value;
use crate::entity::Condition;

/// Letters beyond ASCII that are compared in both cases; further ones are compared as they stand.
const FOLDED_MAX: usize = 16;

/// A text as it stands in a pattern.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::escape("50%_a!"), "50!%!_a!!");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            escaped.push('!');
        }
        escaped.push(letter);
    }
    escaped
}

/// A pattern for a text anywhere.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::anywhere("100%"), "%100!%%");
/// ```
pub fn anywhere(text: &str) -> String {
    format!("%{}%", escape(text))
}

/// A pattern for an entry of a list of texts that is stored as JSON: `CAST(tags AS TEXT) LIKE ? ESCAPE '!'`.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::entry("a_b"), "%\"a!_b\"%");
/// assert_eq!(like::entry("say \"x\""), r#"%"say \"x\""%"#);
/// ```
pub fn entry(text: &str) -> String {
    anywhere(&serde_json::Value::from(text).to_string())
}

/// The condition that a column has a text anywhere, whatever the case of its letters. `LOWER` leaves letters beyond ASCII as they
/// are on some databases: of those, the ones in the text are made small letters one by one.
///
/// ```
/// use berth_sdk::database::like;
/// let found = like::in_any_case("t.name", "50% Über");
/// assert_eq!(found.sql, "REPLACE(LOWER(t.name), ?, ?) LIKE ? ESCAPE '!'");
/// assert_eq!(found.values, ["Ü", "ü", "%50!% über%"].map(berth_sdk::database::Value::from));
/// ```
pub fn in_any_case(column: &str, text: &str) -> Condition {
    let small = text.to_lowercase();
    let Condition { sql, mut values } = lowered(column, &small);
    values.push(anywhere(&small).into());
    Condition { sql: format!("{sql} LIKE ? ESCAPE '!'"), values }
}

/// The same of several columns, of which one has the text; of no column, no row.
///
/// ```
/// use berth_sdk::database::like;
/// let found = like::in_one_of(&["name", "title"], "X");
/// assert_eq!(found.sql, "LOWER(name) LIKE ? ESCAPE '!' OR LOWER(title) LIKE ? ESCAPE '!'");
/// assert_eq!(found.values, ["%x%", "%x%"].map(berth_sdk::database::Value::from));
/// ```
pub fn in_one_of(columns: &[&str], text: &str) -> Condition {
    let conditions = columns.iter().map(|column| in_any_case(column, text));
    conditions.reduce(Condition::or).unwrap_or_else(|| Condition::new("1 = 0", [] as [Value; 0]))
}

/// The same where a column is the text and nothing else.
///
/// ```
/// use berth_sdk::database::like;
/// let found = like::equal_in_any_case("title", "Übung");
/// assert_eq!(found.sql, "REPLACE(LOWER(title), ?, ?) = ?");
/// assert_eq!(found.values, ["Ü", "ü", "übung"].map(berth_sdk::database::Value::from));
/// ```
pub fn equal_in_any_case(column: &str, text: &str) -> Condition {
    let small = text.to_lowercase();
    let Condition { sql, mut values } = lowered(column, &small);
    values.push(small.into());
    Condition { sql: format!("{sql} = ?"), values }
}

/// A column in small letters, as far as a text in small letters needs it.
fn lowered(column: &str, small: &str) -> Condition {
    let mut sql = format!("LOWER({column})");
    let mut values: Vec<Value> = Vec::new();
    let mut folded: Vec<char> = Vec::new();
    for letter in small.chars().filter(|letter| !letter.is_ascii()) {
        let capital: String = letter.to_uppercase().collect();
        // What has no capital of its own, as ß has none, is nothing else in capitals.
        let has_capital = capital.chars().count() == 1 && !capital.starts_with(letter);
        if has_capital && !folded.contains(&letter) && folded.len() < FOLDED_MAX {
            folded.push(letter);
            sql = format!("REPLACE({sql}, ?, ?)");
            values.extend([capital.into(), letter.to_string().into()]);
        }
    }
    Condition { sql, values }
}

/// The same of an entry of a list of texts that is stored as JSON.
///
/// ```
/// use berth_sdk::database::like;
/// let found = like::entry_in_any_case("tags", "Übung");
/// assert_eq!(found.sql, "REPLACE(LOWER(CAST(tags AS TEXT)), ?, ?) LIKE ? ESCAPE '!'");
/// assert_eq!(found.values, ["Ü", "ü", "%\"übung\"%"].map(berth_sdk::database::Value::from));
/// ```
pub fn entry_in_any_case(column: &str, text: &str) -> Condition {
    in_any_case(&format!("CAST({column} AS TEXT)"), &serde_json::Value::from(text).to_string())
}

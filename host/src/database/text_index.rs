//! Text indexes: `CREATE TEXT INDEX name ON table (column [WEIGHT n], …)` in a migration, and what people type as the
//! query each database takes.
//!
//! SQLite: an FTS5 table that keeps words and no text, filled by triggers. PostgreSQL: a generated column of the index's
//! name and a GIN index of the same name. Both see words as `text_rules` does, as far as their own parsers let them.

use std::fmt::Write as _;

use text_rules::{Query, Term, WORDS_MAX};

use super::Dialect;

/// What SQLite's tables of text indexes begin with. No grant gives these.
pub(super) const PREFIX: &str = "text__";
/// What PostgreSQL makes of the weights 1 to 4.
pub(super) const WEIGHTS: &str = "{0.25,0.5,0.75,1}";
/// The heaviest weight. PostgreSQL has four, and makes no difference above.
pub(super) const WEIGHT_MAX: usize = 10;
/// Columns of one index.
pub(super) const COLUMNS_MAX: usize = 8;
/// Bytes of an index's name, so that every name made from it is within PostgreSQL's 63.
pub(super) const NAME_BYTES_MAX: usize = 48;
/// Characters of a column that are searched: PostgreSQL refuses more than a MiB of words.
const TEXT_LENGTH_MAX: usize = 200_000;

/// What stands between words, besides what PostgreSQL's parser holds for it: signs that would make a host, a path, a number
/// with a sign or a hyphenated word of several words.
const SIGNS: &str = "[\\u0001-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u00A9\\u00AB-\\u00B1\\u00B4\\u00B6-\\u00B8\\u00BB\
                     \\u00BF\\u00D7\\u00F7\\u2000-\\u206F\\u20A0-\\u20CF\\u2190-\\u23FF\\u2500-\\u2BFF\\u2E00-\\u2E7F\\u3000-\\u3004\
                     \\u3008-\\u3020\\u3030\\uFE10-\\uFE1F\\uFE30-\\uFE6F\\uFF00-\\uFF0F\\uFF1A-\\uFF20\\uFF3B-\\uFF40\\uFF5B-\\uFF65\
                     \\U0001F000-\\U0001FAFF]+";
/// An accent behind a Latin letter, once letters and accents are apart.
const ACCENTS: &str = "([A-Za-z])[\\u0300-\\u036F]+";

/// A text index, with names that have been checked.
pub(super) struct TextIndex {
    pub name: String,
    pub table: String,
    /// Columns and their weights.
    pub columns: Vec<(String, usize)>,
}

impl TextIndex {
    /// The statements that make it and fill it.
    pub(super) fn statements(&self, dialect: Dialect) -> Vec<String> {
        match dialect {
            Dialect::Sqlite => self.sqlite(),
            Dialect::Postgres => self.postgres(),
        }
    }

    fn sqlite(&self) -> Vec<String> {
        let Self { name, table, columns } = self;
        let index = format!("{PREFIX}{name}");
        let list = |write: &dyn Fn(usize, &str) -> String| {
            columns.iter().enumerate().map(|(place, (column, _))| write(place, column)).collect::<Vec<_>>()
        };
        // Named by place: FTS5 has names of its own, as `rank`.
        let places = list(&|place, _| format!("c{place}")).join(", ");
        let from = |row: &str| list(&|_, column| format!("substr({row}{column}, 1, {TEXT_LENGTH_MAX})")).join(", ");
        let names = list(&|_, column| column.to_owned()).join(", ");
        let changed = list(&|_, column| format!("old.{column} IS NOT new.{column}")).join(" OR ");
        let weights = columns.iter().map(|(_, weight)| format!("{weight}.0")).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO {index} (rowid, {places}) VALUES (new.rowid, {})", from("new."));
        let delete = format!("DELETE FROM {index} WHERE rowid = old.rowid");
        vec![
            format!(
                "CREATE VIRTUAL TABLE {index} USING fts5({places}, content='', contentless_delete=1, prefix='2 3', \
                 tokenize='unicode61 remove_diacritics 2')"
            ),
            format!("INSERT INTO {index} ({index}, rank) VALUES ('rank', 'bm25({weights})')"),
            format!("INSERT INTO {index} (rowid, {places}) SELECT rowid, {} FROM {table}", from("")),
            format!("CREATE TRIGGER {index}_insert AFTER INSERT ON {table} BEGIN {insert}; END"),
            format!("CREATE TRIGGER {index}_delete AFTER DELETE ON {table} BEGIN {delete}; END"),
            format!(
                "CREATE TRIGGER {index}_update AFTER UPDATE OF {names} ON {table} WHEN {changed} \
                 BEGIN {delete}; {insert}; END"
            ),
        ]
    }

    fn postgres(&self) -> Vec<String> {
        let Self { name, table, columns } = self;
        let vectors: Vec<String> = columns
            .iter()
            .map(|(column, weight)| {
                let words = separated(&format!("left(coalesce({column}, ''), {TEXT_LENGTH_MAX})"));
                let letter = ["D", "C", "B", "A"].get(weight.saturating_sub(1)).unwrap_or(&"A");
                format!("setweight(to_tsvector('pg_catalog.simple', {words}), '{letter}')")
            })
            .collect();
        // A word that nobody can look for keeps a phrase from going on in the next column.
        let vector = vectors.join(" || ''' '':1'::tsvector || ");
        vec![
            format!("ALTER TABLE {table} ADD COLUMN {name} TSVECTOR GENERATED ALWAYS AS ({vector}) STORED"),
            format!("CREATE INDEX {name} ON {table} USING gin ({name})"),
        ]
    }
}

/// A text in PostgreSQL with spaces for signs, and Latin letters without their accents.
fn separated(text: &str) -> String {
    let apart = format!("regexp_replace(normalize({text}, NFD), '{ACCENTS}', '\\1', 'g')");
    format!("regexp_replace(normalize({apart}, NFC), '{SIGNS}', ' ', 'g')")
}

/// What somebody typed, as the database takes it.
pub(super) fn query(text: &str, dialect: Dialect) -> String {
    let query = Query::parse(text, WORDS_MAX);
    let (write, and): (fn(&Term) -> String, &str) = match dialect {
        Dialect::Sqlite => (sqlite_term, " AND "),
        Dialect::Postgres => (postgres_term, " & "),
    };
    if query.is_empty() && dialect == Dialect::Sqlite {
        // An empty phrase finds nothing; no query at all is an error.
        return "\"\"".to_owned();
    }
    query.terms().iter().map(write).collect::<Vec<_>>().join(and)
}

fn sqlite_term(term: &Term) -> String {
    // Words are letters and digits, so that nothing in them ends the quotes.
    let star = if term.is_prefix { " *" } else { "" };
    format!("\"{}\"{star}", term.words.join(" "))
}

fn postgres_term(term: &Term) -> String {
    let mut text = String::new();
    for (place, word) in term.words.iter().enumerate() {
        let next = if place == 0 { "" } else { " <-> " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{next}'{word}'");
    }
    if term.is_prefix { text + ":*" } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_written_for_each_database() {
        for (text, sqlite, postgres) in [
            ("", "\"\"", ""),
            ("hot swap", "\"hot\" AND \"swap\" *", "'hot' & 'swap':*"),
            ("\"Hot Swap\"", "\"hot swap\"", "'hot' <-> 'swap'"),
            ("plan* x-y", "\"plan\" * AND \"x y\" *", "'plan':* & 'x' <-> 'y':*"),
            ("' OR 1=1; \\ \"*", "\"or\" AND \"1 1\" *", "'or' & '1' <-> '1':*"),
        ] {
            assert_eq!(query(text, Dialect::Sqlite), sqlite, "{text}");
            assert_eq!(query(text, Dialect::Postgres), postgres, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_leaves_its_quotes(text in "\\PC{0,40}|[a-z'\"\\\\&|!*:()<> -]{0,40}") {
            let sqlite = query(&text, Dialect::Sqlite);
            prop_assert!(sqlite.matches('"').count().is_multiple_of(2));
            let postgres = query(&text, Dialect::Postgres);
            prop_assert!(!postgres.contains('\\') && postgres.matches('\'').count().is_multiple_of(2));
        }
    }
}

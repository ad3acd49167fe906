//! Full-text search: what somebody asks for, how well a row answers it, and which part of it to show.
//!
//! The database finds the rows, by a text index of a migration and `text_match` in a statement; it reads the query as
//! [`Query::parse`] does. Its own order differs between databases, so rank what it found with [`Query::score`].
//!
//! ```
//! use berth_sdk::search::{Query, WORDS_MAX};
//! let query = Query::parse("\"hot swap\" eng", WORDS_MAX);
//! let mut found = ["Engines", "A hot swap needs an engine"];
//! found.sort_by(|left, right| query.score(&[(1.0, *right)]).total_cmp(&query.score(&[(1.0, *left)])));
//! assert_eq!(found[0], "A hot swap needs an engine");
//! ```

pub use text_rules::{QUERY_LENGTH_MAX, Query, Term, WORDS_MAX, Word, fold, words};

//! How texts are searched: what a word is, what a query asks for, how well a text answers it and which part of it to show.
//!
//! The host makes a database's own query of a [`Query`]; services rank and cut what the database found by the same words.

mod excerpt;
mod query;
mod rank;
mod word;

pub use query::{QUERY_LENGTH_MAX, Query, Term, WORDS_MAX};
pub use word::{Word, fold, words};

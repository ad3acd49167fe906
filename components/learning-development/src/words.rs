//! Skills and tags: short words in lists, compared without regard to case; and other words that rows are found by.

use std::collections::BTreeSet;

use berth_sdk::{
    database::like,
    prelude::*,
    validate::{clean_plain, string},
};

/// Entries of one list.
pub const ENTRIES_MAX: usize = 20;
/// Characters of one entry.
pub const CHARACTERS_MAX: usize = 60;

/// As a skill or tag is compared.
pub fn key(word: &str) -> String {
    word.trim().to_lowercase()
}

/// Cleans the entries of a list, leaves repeated ones out, and notes what is wrong with the others.
pub fn tidy(list: &mut Vec<String>, field: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, entry) in list.iter_mut().enumerate() {
        *entry = clean_plain(entry);
        faults.check(&format!("{field}[{index}]"), string(entry, 1, CHARACTERS_MAX));
    }
    list.retain(|entry| seen.insert(key(entry)));
}

/// Only rows with a word in a column's list.
pub fn listed<T: Entity>(select: Select<T>, column: &str, word: &str) -> Select<T> {
    select.meets(like::entry_in_any_case(column, word))
}

/// Only rows of which a column is a text, whatever its case.
pub fn called<T: Entity>(select: Select<T>, column: &str, text: &str) -> Select<T> {
    select.meets(like::equal_in_any_case(column, text))
}

/// Only rows with a text in their title or description.
pub fn titled<T: Entity>(select: Select<T>, text: &str) -> Select<T> {
    select.meets(like::in_one_of(&["title", "COALESCE(description, '')"], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_there_once_whatever_its_case() {
        let mut faults = Faults::default();
        let mut list = vec![" Rust ".to_string(), "rust".into(), "<SQL>".into()];
        tidy(&mut list, "skills", &mut faults);
        assert!(faults.is_empty());
        assert_eq!(list, ["Rust", "SQL"]);
    }

    #[test]
    fn an_entry_is_a_word_and_neither_nothing_nor_a_novel() {
        let mut faults = Faults::default();
        tidy(&mut vec!["ok".to_string(), " ".into(), "x".repeat(61)], "tags", &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["tags[1]", "tags[2]"]);
    }
}

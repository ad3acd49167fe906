//! Reading typed values out of the parsed document, with the line of each fault.

use std::ops::{Range, RangeInclusive};

use toml_edit::{Item, Key, Table, TableLike, Value};

use super::{Fault, FaultKind};
use crate::settings::nearest;

/// Entries of one list in the manifest.
const LIST_ENTRIES_MAX: usize = 500;

/// A string and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub value: String,
    pub span: Option<Range<usize>>,
}

/// The texts, for the lines, and the faults so far.
pub(super) struct Judge<'a> {
    sources: Vec<Source<'a>>,
    /// Which of them is being judged.
    current: usize,
    faults: Vec<Fault>,
}

/// The file, or an entry that lies over it.
struct Source<'a> {
    name: String,
    text: &'a str,
}

impl<'a> Judge<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        Self { sources: vec![Source { name: file.to_owned(), text }], current: 0, faults: Vec::new() }
    }

    /// Goes on with another text.
    pub(super) fn begin(&mut self, name: String, text: &'a str) {
        self.current = self.sources.len();
        self.sources.push(Source { name, text });
    }

    /// Which text is being judged.
    pub(super) fn source(&self) -> usize {
        self.current
    }

    /// Goes back to a text.
    pub(super) fn go_back(&mut self, source: usize) {
        self.current = source;
    }

    /// Nothing when no fault was found; the faults in the order of the lines otherwise.
    pub(super) fn finish(mut self) -> Result<(), Vec<Fault>> {
        self.faults.sort();
        self.faults.dedup();
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    pub(super) fn fault_at(&mut self, span: Option<Range<usize>>, sentence: String) {
        self.report(span, sentence, FaultKind::Wrong);
    }

    /// A fault that is none of the entry's own: somebody else has what it claims.
    pub(super) fn taken_at(&mut self, span: Option<Range<usize>>, sentence: String) {
        self.report(span, sentence, FaultKind::Taken);
    }

    fn report(&mut self, span: Option<Range<usize>>, sentence: String, kind: FaultKind) {
        let source = self.sources.get(self.current);
        let (file, text) = source.map_or(("", ""), |source| (source.name.as_str(), source.text));
        let line = span.map(|span| line_of(text, span.start));
        self.faults.push(Fault { file: file.to_owned(), line, sentence, kind });
    }

    /// Where a span of a text begins, for sentences that point at another place: `line 4`, and of what it is a line.
    pub(super) fn place(&self, source: usize, span: Option<&Range<usize>>) -> String {
        let Some(found) = self.sources.get(source) else { return "line 1".to_owned() };
        let line = span.map_or(1, |span| line_of(found.text, span.start));
        if source == self.current { format!("line {line}") } else { format!("line {line} of {}", found.name) }
    }

    /// Complains about every key of `table` that is not in `known`.
    pub(super) fn known_keys(&mut self, table: &dyn TableLike, place: &str, known: &[&str]) {
        let unknown: Vec<(String, Option<Range<usize>>)> = table
            .iter()
            .filter(|(name, _)| !known.contains(name))
            .map(|(name, _)| {
                (name.to_owned(), table.get_key_value(name).and_then(|(key, item)| key.span().or(item.span())))
            })
            .collect();
        for (name, span) in unknown {
            let hint = match nearest(&name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.fault_at(span, format!("{place} has no key {name}; {hint}"));
        }
    }

    pub(super) fn table<'t>(&mut self, key: &Key, item: &'t Item) -> Option<&'t dyn TableLike> {
        let table = item.as_table_like();
        if table.is_none() {
            self.fault_at(key.span().or(item.span()), format!("{} must be a table", key.get()));
        }
        table
    }

    /// A table under `name`; none when it is absent or no table.
    pub(super) fn section<'t>(&mut self, table: &'t dyn TableLike, name: &str) -> Option<&'t dyn TableLike> {
        let (key, item) = table.get_key_value(name)?;
        self.table(key, item)
    }

    pub(super) fn tables<'t>(&mut self, key: &Key, item: &'t Item) -> Vec<(&'t Table, Option<Range<usize>>)> {
        match item.as_array_of_tables() {
            Some(tables) => tables.iter().map(|table| (table, table.span())).collect(),
            None => {
                let name = key.get();
                self.fault_at(key.span().or(item.span()), format!("{name} must be written as [[{name}]]"));
                Vec::new()
            }
        }
    }

    pub(super) fn string(&mut self, table: &dyn TableLike, name: &str) -> Option<Word> {
        let (key, item) = table.get_key_value(name)?;
        match item.as_str() {
            Some(value) => Some(Word { value: value.to_owned(), span: item.span().or(key.span()) }),
            None => self.wrong_type(key, item, "a string"),
        }
    }

    /// A list of strings; empty when it is absent.
    pub(super) fn strings(&mut self, table: &dyn TableLike, name: &str) -> Vec<Word> {
        let Some((key, item)) = table.get_key_value(name) else { return Vec::new() };
        let Some(array) = item.as_array() else {
            return self.wrong_type(key, item, "a list of strings").unwrap_or_default();
        };
        if array.len() > LIST_ENTRIES_MAX {
            self.fault_at(key.span(), format!("{name} has more than {LIST_ENTRIES_MAX} entries"));
        }
        let mut words: Vec<Word> = Vec::new();
        for value in array.iter().take(LIST_ENTRIES_MAX) {
            let span = value.span().or(key.span());
            let Some(text) = value.as_str() else {
                self.fault_at(span, format!("{name} must hold strings only, not {}", type_of(value)));
                continue;
            };
            if words.iter().any(|word| word.value == text) {
                self.fault_at(span.clone(), format!("{name} names \"{text}\" twice"));
                continue;
            }
            words.push(Word { value: text.to_owned(), span });
        }
        words
    }

    pub(super) fn truth(&mut self, table: &dyn TableLike, name: &str) -> Option<bool> {
        let (key, item) = table.get_key_value(name)?;
        match item.as_bool() {
            Some(value) => Some(value),
            None => self.wrong_type(key, item, "true or false"),
        }
    }

    pub(super) fn number(&mut self, table: &dyn TableLike, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let (key, item) = table.get_key_value(name)?;
        let Some(value) = item.as_integer() else { return self.wrong_type(key, item, "a whole number") };
        let number = u32::try_from(value).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (min, max) = (range.start(), range.end());
            self.fault_at(item.span().or(key.span()), format!("{name} must be from {min} to {max}, not {value}"));
        }
        number
    }

    /// Name and value of each entry of a table of strings.
    pub(super) fn string_entries(&mut self, table: &dyn TableLike) -> Vec<(Word, Word)> {
        let mut entries = Vec::new();
        for (name, item) in table.iter() {
            let span = table.get_key_value(name).and_then(|(key, item)| key.span().or(item.span()));
            match item.as_str() {
                Some(value) => entries.push((
                    Word { value: name.to_owned(), span: span.clone() },
                    Word { value: value.to_owned(), span: item.span().or(span) },
                )),
                None => {
                    let found = item.as_value().map_or("a table", type_of);
                    self.fault_at(span, format!("{name} must be a string in quotes, not {found}"));
                }
            }
        }
        entries
    }

    fn wrong_type<T>(&mut self, key: &Key, item: &Item, wanted: &str) -> Option<T> {
        let found = item.as_value().map_or("a table", type_of);
        self.fault_at(item.span().or(key.span()), format!("{} must be {wanted}, not {found}", key.get()));
        None
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    1 + text.as_bytes().iter().take(end).filter(|byte| **byte == b'\n').count()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

//! One plugin's entry by itself, outside the file: read from what an operator sent, changed key by key, and kept in one form.

use std::collections::BTreeMap;

use toml_edit::{Document, DocumentMut, Item, Table, TableLike, Value};

use super::document::{Judge, line_of};
use super::plugin::{self, Draft};
use super::{EntryOrigin, Fault, FaultKind, ManifestFile};

/// Keys and values of a table, in the order of the keys, without comments and layout.
type Keys = BTreeMap<String, Value>;

/// The only key of a text that shows its entry as the file does.
const IN_FILE: &str = "plugin";

/// Reads a text as TOML; `name` is for the message.
pub(super) fn parse<'a>(name: &str, text: &'a str) -> Result<Document<&'a str>, Fault> {
    Document::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        Fault { file: name.to_owned(), line, sentence: format!("is not TOML: {message}"), kind: FaultKind::Wrong }
    })
}

/// The entries of a file by name; what has no name is judged elsewhere.
pub(super) fn of_file(root: &Table) -> BTreeMap<String, String> {
    let tables = root.get(IN_FILE).and_then(Item::as_array_of_tables);
    let entries = tables.into_iter().flatten().filter_map(|table| Some((table.get("name")?.as_str()?, table)));
    entries.map(|(name, table)| (name.to_owned(), text_of(keys(table)))).collect()
}

/// Judges an entry that lies over the file, as far as it concerns itself alone. None when it is no single entry, which is
/// a fault of the judge's then.
///
/// # Errors
/// When it is not TOML: then nothing else can be said of it.
pub(super) fn judge<'a>(
    judge: &mut Judge<'a>,
    plugin: &str,
    text: &'a str,
    file: &ManifestFile,
) -> Result<Option<Draft>, Vec<Fault>> {
    let name = label(plugin);
    let document = parse(&name, text).map_err(|fault| vec![fault])?;
    judge.begin(name, text);
    let table = match single(document.as_table()) {
        Ok(table) => table,
        Err(sentence) => {
            judge.fault_at(None, sentence);
            return Ok(None);
        }
    };
    let span = table.span().or(Some(0..0));
    let mut draft = plugin::judge(judge, table, span, &file.folder, Some(plugin));
    if file.entry(plugin).is_some() {
        draft.origin = EntryOrigin::Changed;
    } else {
        draft.origin = EntryOrigin::Added;
        draft.component = None;
    }
    Ok(Some(draft))
}

/// An entry in one form, whatever its layout was: a line for each key in their order, sections inline, the name among them.
/// Without its component where the file has no such plugin: its builds are deployed, and no file is a newer one.
///
/// # Errors
/// When it is not the entry of one plugin.
pub(crate) fn plain(plugin: &str, entry: &str, is_in_file: bool) -> Result<String, Fault> {
    let mut keys = named(plugin, read(plugin, entry)?);
    if !is_in_file {
        keys.remove("component");
    }
    Ok(text_of(keys))
}

/// An entry with the keys of `changes` in it; within a section only the keys that are named. In the form of [`plain`].
///
/// # Errors
/// When either is not the entry of one plugin.
pub(crate) fn merged(plugin: &str, entry: &str, changes: &str) -> Result<String, Fault> {
    let mut merged = read(plugin, entry)?;
    for (key, value) in read(plugin, changes)? {
        let value = match (merged.remove(&key), value) {
            (Some(Value::InlineTable(section)), Value::InlineTable(changes)) => {
                let mut all = keys(&section);
                all.extend(keys(&changes));
                Value::InlineTable(all.into_iter().collect())
            }
            (_, value) => value,
        };
        merged.insert(key, value);
    }
    Ok(text_of(named(plugin, merged)))
}

/// What faults call the text of a plugin's entry.
pub(crate) fn label(plugin: &str) -> String {
    format!("entry of {plugin}")
}

fn read(plugin: &str, text: &str) -> Result<Keys, Fault> {
    let name = label(plugin);
    let document = parse(&name, text)?;
    let table = single(document.as_table()).map_err(|sentence| Fault {
        file: name,
        line: None,
        sentence,
        kind: FaultKind::Wrong,
    })?;
    Ok(keys(table))
}

/// The keys of one entry: at the top of the text, or below its only `[[plugin]]`.
fn single(root: &Table) -> Result<&Table, String> {
    match root.get(IN_FILE) {
        None => Ok(root),
        Some(item) => match item.as_array_of_tables().filter(|tables| tables.len() == 1 && root.len() == 1) {
            Some(tables) => tables.get(0).ok_or_else(String::new),
            None => Err("must be one [[plugin]] and nothing else, or its keys alone".to_owned()),
        },
    }
}

fn named(plugin: &str, mut keys: Keys) -> Keys {
    keys.entry("name".to_owned()).or_insert_with(|| Value::from(plugin));
    keys
}

fn keys(table: &dyn TableLike) -> Keys {
    table.iter().filter_map(|(key, item)| Some((key.to_owned(), value(item)?))).collect()
}

fn value(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(found) => Some(undecorated(found)),
        Item::Table(table) => Some(Value::InlineTable(keys(table).into_iter().collect())),
        Item::ArrayOfTables(tables) => {
            let values = tables.iter().map(|table| Value::InlineTable(keys(table).into_iter().collect()));
            Some(Value::Array(values.collect()))
        }
    }
}

fn undecorated(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(text.value()),
        Value::Integer(number) => Value::from(*number.value()),
        Value::Float(number) => Value::from(*number.value()),
        Value::Boolean(truth) => Value::from(*truth.value()),
        Value::Datetime(time) => Value::from(*time.value()),
        Value::Array(values) => Value::Array(values.iter().map(undecorated).collect()),
        Value::InlineTable(table) => Value::InlineTable(keys(table).into_iter().collect()),
    }
}

fn text_of(keys: Keys) -> String {
    let mut document = DocumentMut::new();
    for (key, value) in keys {
        document.insert(&key, Item::Value(value));
    }
    document.to_string()
}

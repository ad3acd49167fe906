//! What entries are found by: their words, folded, in a table beside them.

use berth_sdk::{database::Value, prelude::*};

use super::rank::{Wanted, folded};
use crate::entry::{Entry, hash};

/// Entries that are ranked.
pub const CANDIDATES_MAX: usize = 500;
/// Entries of the organization that the text index names.
const MATCHES_MAX: usize = 5_000;
/// Bytes of folded words that are kept of one entry.
const TERMS_BYTES_MAX: usize = 400_000;

/// Writes what an entry is found by, and says so.
pub fn put(transaction: &Transaction, row: &Stored<Entry>) -> Result<()> {
    let mut terms = folded(&format!("{}\n{}", row.summary.as_deref().unwrap_or_default(), row.content));
    while terms.len() > TERMS_BYTES_MAX {
        let until = terms.char_indices().map(|(place, _)| place).rfind(|place| *place <= TERMS_BYTES_MAX).unwrap_or(0);
        terms.truncate(until);
    }
    transaction.execute(
        "INSERT INTO kb_search_index (entry_id, organization_id, title, tags, terms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (entry_id) DO UPDATE SET title = excluded.title, tags = excluded.tags, terms = excluded.terms",
        params![&row.id, &row.organization_id, folded(&row.title), folded(&row.tags.join(" ")), &terms],
    )?;
    let data = json!({ "entryId": row.id, "contentHash": row.content_hash, "terms": terms.matches(' ').count() - 1 });
    transaction.publish("knowledge.search.indexed", &data)?;
    super::forget(transaction);
    Ok(())
}

/// An entry is found no more.
pub fn take(transaction: &Transaction, id: &Id) -> Result<()> {
    transaction.execute("DELETE FROM kb_search_index WHERE entry_id = $1", params![id])?;
    super::forget(transaction);
    Ok(())
}

/// What is asked of the text index: every word and phrase in one question (`all`), or each in one of its own.
fn asked(wanted: &Wanted, all: bool) -> Vec<String> {
    let words = wanted.words.iter().map(|word| format!("{word}*"));
    let each: Vec<String> = words.chain(wanted.phrases.iter().map(|phrase| format!("\"{phrase}\""))).collect();
    if all && !each.is_empty() { vec![each.join(" ")] } else { each }
}

/// The entries of the organization that have every word (`all`), or one of them, those that fit best first; who may see them is not yet
/// asked.
pub fn matching(wanted: &Wanted, all: bool) -> Result<Vec<String>> {
    let asked = asked(wanted, all);
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let places = 2..asked.len() + 2;
    let matches: Vec<String> =
        places.clone().map(|place| format!("text_match(i.kb_search_index_text, ${place})")).collect();
    let ranks: Vec<String> = places.map(|place| format!("text_rank(i.kb_search_index_text, ${place})")).collect();
    let sql = format!(
        "SELECT i.entry_id FROM kb_search_index i WHERE i.organization_id = $1 AND ({})
         ORDER BY {} DESC, i.entry_id DESC LIMIT {MATCHES_MAX}",
        matches.join(" OR "),
        ranks.join(" + ")
    );
    let mut values: Vec<Value> = vec![auth::organization_id()?.into()];
    values.extend(asked.into_iter().map(Value::from));
    let rows = database::query(&sql, &values)?;
    Ok(rows.into_iter().map(|row| row.get("entry_id")).collect::<Result<Vec<_>, _>>()?)
}

/// The words of one entry.
#[data]
struct Row {
    entry_id: String,
    title: String,
    tags: String,
    terms: String,
}

/// Ids with how well they fit, the best first.
pub fn ranked(wanted: &Wanted, ids: &[String]) -> Result<Vec<(String, f64)>> {
    let mut ranked = Vec::with_capacity(ids.len());
    // A few at a time: an entry may be long, and an answer of the database has a limit.
    for part in ids.chunks(16) {
        let values: Vec<Value> = part.iter().map(Value::from).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT entry_id AS \"entryId\", title, tags, terms FROM kb_search_index WHERE entry_id IN ({})",
            places.join(", ")
        );
        let rows: Vec<Row> = database::query_as(&Pool, &sql, &values)?;
        ranked.extend(rows.into_iter().map(|row| {
            let score = wanted.score(&row.title, &row.tags, &row.terms);
            (row.entry_id, score)
        }));
    }
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| right.0.cmp(&left.0)));
    Ok(ranked)
}

/// A short name of whatever a cached search depends on.
pub fn digest(parts: &[&str]) -> String {
    hash(parts).chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_index_is_asked_for_beginnings_and_phrases() {
        let wanted = Wanted::read("databa \"every night\" tw");
        assert_eq!(asked(&wanted, true), ["databa* tw* \"every night\""]);
        assert_eq!(asked(&wanted, false), ["databa*", "tw*", "\"every night\""]);
        assert!(asked(&Wanted::read("!"), true).is_empty());
    }
}

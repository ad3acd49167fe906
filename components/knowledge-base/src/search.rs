//! Finding entries: by words, by meaning, or by both. Who may not see an entry does not even compete with it.

pub mod index;
pub mod meaning;
pub mod rank;

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    cache,
    database::{Value as Parameter, like},
    prelude::*,
    serde_json::Value,
};

use crate::entry::{CATEGORIES, Entry, Status, listed};
use rank::Wanted;

/// How long what was found is remembered; what the entries are is read anew.
const TTL: Duration = Duration::from_secs(60);
/// Entries found by one search.
const FOUND_MAX: usize = 200;
/// Passages that are asked of embeddings.
const PASSAGES: usize = 60;
/// How little the first places count more than those behind them, where two rankings become one.
const FLATNESS: f64 = 60.0;
/// Characters of a question.
const QUERY_MAX: usize = 500;
/// Entries of which one statement asks whether the caller sees them.
const ASKED_AT_ONCE: usize = 200;

/// How entries are looked for.
#[choice]
pub enum Mode {
    /// By words.
    Keyword,
    /// By meaning.
    Semantic,
    /// By both.
    Hybrid,
}

/// What is looked for.
#[data]
pub struct SearchQuery {
    /// Words; those in quotation marks must follow one another.
    q: Option<String>,
    /// Only these, with commas between them.
    category: Option<String>,
    /// Only with all of these, with commas between them.
    tags: Option<String>,
    /// Only of this project.
    project_id: Option<Id>,
    /// Only in this space.
    space_id: Option<Id>,
    /// Only in this state.
    status: Option<Status>,
    /// By words when absent.
    mode: Option<Mode>,
    /// The most results.
    #[field(min = 1, max = 200)]
    limit: Option<i64>,
    /// How many to leave out.
    #[field(min = 0, max = 200)]
    offset: Option<i64>,
}

/// Entries that were found.
#[data]
pub struct Found {
    items: Vec<Value>,
    total: usize,
    limit: i64,
    offset: i64,
    /// How it was looked for: `keyword` where meaning was not to be had.
    mode: Mode,
}

/// An entry on its place.
#[data]
struct Hit {
    id: String,
    score: f64,
    /// The passage that fits by its meaning.
    passage: Option<String>,
}

/// What is remembered of a search.
#[data]
struct Ranking {
    mode: Mode,
    hits: Vec<Hit>,
}

/// Searches before this moment count no more.
pub fn forget(transaction: &Transaction) {
    transaction.forget("search:generation");
}

/// `GET /api/knowledge/search`.
pub fn search(Query(query): Query<SearchQuery>) -> Result<Json<Found>> {
    let text = query.q.clone().unwrap_or_default();
    let wanted = Wanted::read(&text);
    if wanted.is_empty() {
        return Err(Problem::field("q", "must have a word to look for"));
    }
    if text.chars().count() > QUERY_MAX {
        return Err(Problem::field("q", format!("must have at most {QUERY_MAX} characters")));
    }
    let select = narrowed(&query)?;
    let mode = query.mode.unwrap_or(Mode::Keyword);
    let ranking = cache::remember(&key(&query, &text, mode), TTL, || rank_all(&select, &wanted, &text, mode, &query))?;
    let (limit, offset) = (query.limit.unwrap_or(20), query.offset.unwrap_or(0));
    // Seen with the eyes of now, so that what has gone meanwhile is not there.
    let seen = ids_of(select.clone().one_of("id", ranking.hits.iter().map(|hit| hit.id.as_str())))?;
    let hits: Vec<&Hit> = ranking.hits.iter().filter(|hit| seen.contains(&hit.id)).collect();
    let bound = |number: i64| usize::try_from(number).unwrap_or(0);
    let shown: Vec<&Hit> = hits.iter().copied().skip(bound(offset)).take(bound(limit)).collect();
    let items = describe(&shown, &wanted)?;
    Ok(Json(Found { items, total: hits.len(), limit, offset, mode: ranking.mode }))
}

/// The entries that a search is about, as far as the caller sees them.
fn narrowed(query: &SearchQuery) -> Result<Select<Entry>> {
    let mut select = Select::<Entry>::new().equal("is_template", false);
    if let Some(text) = query.category.as_deref().filter(|text| !text.is_empty()) {
        let wanted: Vec<&str> = text.split(',').map(str::trim).collect();
        for category in &wanted {
            validate::one_of(category, CATEGORIES).map_err(|message| Problem::field("category", message))?;
        }
        select = select.one_of("category", wanted);
    }
    for tag in query.tags.iter().flat_map(|tags| tags.split(',')).filter(|tag| !tag.trim().is_empty()).take(20) {
        select = select.condition("CAST(\"tags\" AS TEXT) LIKE ? ESCAPE '!'", [like::entry(tag.trim())]);
    }
    if let Some(project_id) = &query.project_id {
        select = select.equal("project_id", project_id);
    }
    if let Some(space_id) = &query.space_id {
        select = select.equal("space_id", space_id);
    }
    Ok(match query.status {
        Some(status) => select.equal("status", status),
        None => select.condition("\"status\" <> ?", [Parameter::from(Status::Archived)]),
    })
}

/// What a remembered search depends on: who asks, what, and since when nothing has changed.
fn key(query: &SearchQuery, text: &str, mode: Mode) -> String {
    let generation: String =
        cache::remember("search:generation", TTL * 60, || Ok::<_, Problem>(Id::new().into_string()))
            .unwrap_or_default();
    let principal = auth::principal();
    let more = json!([
        query.category,
        query.tags,
        query.project_id,
        query.space_id,
        query.status,
        principal.user_id,
        auth::teams()
    ]);
    format!("search:{}", index::digest(&[&generation, text, mode.as_str(), &more.to_string()]))
}

fn rank_all(select: &Select<Entry>, wanted: &Wanted, text: &str, mode: Mode, query: &SearchQuery) -> Result<Ranking> {
    let passages = match mode {
        Mode::Keyword => None,
        _ => meaning::passages(text, query.project_id.as_ref(), PASSAGES),
    };
    let Some(passages) = passages else {
        let hits = by_words(select, wanted, true)?.into_iter().map(|(id, score)| Hit { id, score, passage: None });
        return Ok(Ranking { mode: Mode::Keyword, hits: hits.take(FOUND_MAX).collect() });
    };
    let visible = ids_of(select.clone().one_of("id", passages.iter().map(|passage| passage.entry_id.as_str())))?;
    let mut best: Vec<Hit> = Vec::new();
    for passage in passages.into_iter().filter(|passage| visible.contains(&passage.entry_id)) {
        if !best.iter().any(|hit| hit.id == passage.entry_id) {
            best.push(Hit { id: passage.entry_id, score: passage.similarity, passage: Some(passage.content) });
        }
    }
    if mode == Mode::Semantic {
        return Ok(Ranking { mode, hits: best });
    }
    Ok(Ranking { mode, hits: fused(best, by_words(select, wanted, true)?) })
}

/// Two rankings as one, by the places in them.
fn fused(by_meaning: Vec<Hit>, by_words: Vec<(String, f64)>) -> Vec<Hit> {
    let mut hits: BTreeMap<String, Hit> = BTreeMap::new();
    for (place, hit) in (1_u32..).zip(by_meaning) {
        let score = 1.0 / (FLATNESS + f64::from(place));
        hits.insert(hit.id.clone(), Hit { score, ..hit });
    }
    for (place, (id, _)) in (1_u32..).zip(by_words) {
        let hit = hits.entry(id.clone()).or_insert(Hit { id, score: 0.0, passage: None });
        hit.score += 1.0 / (FLATNESS + f64::from(place));
    }
    let mut hits: Vec<Hit> = hits.into_values().collect();
    hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| right.id.cmp(&left.id)));
    hits.truncate(FOUND_MAX);
    hits
}

/// Entries that have the words, the best first. What the caller does not see takes nobody's place.
pub fn by_words(select: &Select<Entry>, wanted: &Wanted, all: bool) -> Result<Vec<(String, f64)>> {
    let mut seen: Vec<String> = Vec::new();
    for part in index::matching(wanted, all)?.chunks(ASKED_AT_ONCE) {
        seen.extend(ids_of(select.clone().one_of("id", part.iter().map(String::as_str)))?);
        if seen.len() >= index::CANDIDATES_MAX {
            break;
        }
    }
    index::ranked(wanted, &seen)
}

#[data]
struct Identity {
    id: String,
}

fn ids_of(select: Select<Entry>) -> Result<Vec<String>> {
    let rows: Vec<Identity> = select.columns(&Pool, "\"id\"")?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Entries as they are shown in a result: without their content, with the piece of it that fits.
fn describe(hits: &[&Hit], wanted: &Wanted) -> Result<Vec<Value>> {
    let mut items = Vec::with_capacity(hits.len());
    let columns = format!("{}, SUBSTR(\"content\", 1, 50000) AS \"content\"", listed());
    // A few at a time: their contents must fit into one answer of the database.
    for part in hits.chunks(20) {
        let mut rows: Vec<berth_sdk::serde_json::Map<String, Value>> =
            Select::<Entry>::new().one_of("id", part.iter().map(|hit| hit.id.as_str())).columns(&Pool, &columns)?;
        for hit in part {
            let Some(row) = rows.iter_mut().find(|row| row.get("id").and_then(Value::as_str) == Some(hit.id.as_str()))
            else {
                continue;
            };
            let content = row.remove("content");
            let content = content.as_ref().and_then(Value::as_str).unwrap_or_default();
            let snippet = wanted.snippet(hit.passage.as_deref().unwrap_or(content));
            row.insert("snippet".into(), snippet.into());
            row.insert("score".into(), json!((hit.score * 1e6).round() / 1e6));
            items.push(Value::Object(row.clone()));
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_find_comes_first() {
        let hit = |id: &str| Hit { id: id.into(), score: 0.5, passage: Some("p".into()) };
        let fused = fused(vec![hit("a"), hit("b")], vec![("b".into(), 1.0), ("c".into(), 1.0)]);
        assert_eq!(fused.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!(fused[0].passage.is_some());
    }
}

//! What belongs together: entries like another one, and the tags they have.

use std::collections::BTreeMap;

use berth_sdk::{
    database::{Value as Parameter, like},
    prelude::*,
    serde_json::Value,
};

use crate::{
    entry::{Entry, Status, listed},
    search::{self, meaning, rank::Wanted},
};

/// Entries that are shown.
const SHOWN: usize = 10;
/// Entries of each kind of nearness that are ranked.
const RANKED: i64 = 30;
/// Entries whose tags are counted, and tags that are shown.
const COUNTED_MAX: i64 = 10_000;
const TAGS_MAX: usize = 500;
/// How little the first places count more than those behind them.
const FLATNESS: f64 = 20.0;

/// Entries like another one.
#[data]
pub struct Related {
    items: Vec<Value>,
}

#[data]
struct Identity {
    id: String,
}

/// `GET /api/knowledge/{id}/related`: by meaning, by the words of its title, by its tags, and by where it stands.
pub fn related(Params(id): Params<Id>) -> Result<Json<Related>> {
    let entry = entity::read::<Entry>(&Pool, &id)?;
    let others = Select::<Entry>::new().equal("status", Status::Published).equal("is_template", false);
    let others = others.condition("\"id\" <> ?", [entry.id.as_str()]);
    let beginning: String = entry.content.chars().take(1_000).collect();
    let similar = meaning::passages(&format!("{}\n\n{beginning}", entry.title), None, 40).unwrap_or_default();
    let mut rankings: Vec<(f64, Vec<String>)> =
        vec![(1.0, similar.into_iter().map(|passage| passage.entry_id).collect())];
    let wanted = Wanted::of_question(&entry.title);
    if !wanted.is_empty() {
        let worded = search::by_words(&others, &wanted, false)?;
        rankings.push((1.0, worded.into_iter().map(|(id, _)| id).collect()));
    }
    for tag in entry.tags.iter().take(5) {
        let tagged = others.clone().condition("CAST(\"tags\" AS TEXT) LIKE ? ESCAPE '!'", [like::entry(tag.trim())]);
        rankings.push((0.7, some(tagged)?));
    }
    if let Some(parent_id) = &entry.parent_id {
        let beside = others
            .clone()
            .condition("\"parent_id\" = ? OR \"id\" = ?", [Parameter::from(parent_id), Parameter::from(parent_id)]);
        rankings.push((0.5, some(beside)?));
    }
    rankings.push((0.5, some(others.clone().equal("parent_id", &entry.id))?));
    let best = best(&rankings, entry.id.as_str());
    let mut items: Vec<Value> = others.one_of("id", best.iter().map(String::as_str)).columns(&Pool, &listed())?;
    items.sort_by_key(|item| best.iter().position(|id| item["id"] == id.as_str()));
    items.truncate(SHOWN);
    Ok(Json(Related { items }))
}

fn some(select: Select<Entry>) -> Result<Vec<String>> {
    let rows: Vec<Identity> = select.sort("-updatedAt").limit(RANKED).columns(&Pool, "\"id\"")?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The ids that are nearest in all rankings together.
fn best(rankings: &[(f64, Vec<String>)], own: &str) -> Vec<String> {
    let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
    for (weight, ranking) in rankings {
        let mut known = std::collections::BTreeSet::new();
        let distinct = ranking.iter().filter(|id| *id != own && known.insert(id.as_str()));
        for (place, id) in (1_u32..).zip(distinct) {
            *scores.entry(id).or_default() += weight / (FLATNESS + f64::from(place));
        }
    }
    let mut scored: Vec<(&str, f64)> = scores.into_iter().collect();
    scored.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(right.0)));
    scored.into_iter().take(SHOWN * 3).map(|(id, _)| id.to_string()).collect()
}

/// A tag, and how many entries have it.
#[data]
pub struct Tag {
    tag: String,
    count: i64,
}

/// Tags.
#[data]
pub struct Tags {
    items: Vec<Tag>,
    total: usize,
}

#[data]
struct Tagged {
    tags: Vec<String>,
}

/// `GET /api/knowledge/tags`: of what the caller sees, the most frequent first.
pub fn tags() -> Result<Json<Tags>> {
    let rows: Vec<Tagged> = Select::<Entry>::new()
        .condition("CAST(\"tags\" AS TEXT) <> ?", ["[]"])
        .limit(COUNTED_MAX)
        .columns(&Pool, "\"tags\"")?;
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for tag in rows.into_iter().flat_map(|row| row.tags) {
        *counts.entry(tag).or_default() += 1;
    }
    let total = counts.len();
    let mut items: Vec<Tag> = counts.into_iter().map(|(tag, count)| Tag { tag, count }).collect();
    items.sort_by(|left, right| right.count.cmp(&left.count).then_with(|| left.tag.cmp(&right.tag)));
    items.truncate(TAGS_MAX);
    Ok(Json(Tags { items, total }))
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn what_is_near_in_several_ways_is_nearest() {
        let ranking = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rankings = [(1.0, ranking(&["a", "b", "own"])), (0.7, ranking(&["b", "c"]))];
        assert_eq!(best(&rankings, "own"), ["b", "a", "c"]);
    }
}

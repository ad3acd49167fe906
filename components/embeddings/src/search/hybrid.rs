//! Searching by meaning and by words at once: two rankings, fused by their places.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use super::{Hit, InQuery, Results, SearchInput, found, fuse, read, scan, words};

/// How many of the best by meaning are ranked, as a multiple of what is wanted.
const BREADTH: usize = 4;
/// The most of the best by meaning.
const BEST_MAX: usize = 400;

/// `POST /api/embeddings/search/hybrid`. What has the words is found however little alike it is.
pub fn search(Query(more): Query<InQuery>, Json(input): Json<SearchInput>) -> Result<Json<Results>> {
    if input.query.is_none() {
        return Err(Problem::field("query", "is required for a hybrid search"));
    }
    let search = read(more, input)?;
    let (by_meaning, compared) = scan::best(&search, (search.limit * BREADTH).min(BEST_MAX))?;
    let by_words = words::best(&search)?;
    let first: Vec<&str> = by_meaning.iter().map(|(id, _)| id.as_str()).collect();
    let second: Vec<&str> = by_words.iter().map(|(id, _)| id.as_str()).collect();
    let mut similarities: BTreeMap<&str, f32> =
        by_words.iter().map(|(id, similarity)| (id.as_str(), *similarity)).collect();
    similarities.extend(by_meaning.iter().map(|(id, similarity)| (id.as_str(), *similarity)));
    let fused = fuse::fuse(&first, &second, f64::from(search.keyword_weight));
    let hits = fused.into_iter().take(search.limit).map(|(id, score)| Hit {
        id: id.to_string(),
        similarity: similarities.get(id).copied().unwrap_or_default(),
        score: Some(score),
        has_words: Some(second.contains(&id)),
    });
    Ok(Json(Results { results: found(hits.collect())?, compared }))
}

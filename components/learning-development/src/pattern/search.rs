//! Finding patterns by words.

use berth_sdk::{
    prelude::*,
    search::{QUERY_LENGTH_MAX, Query as Words, WORDS_MAX},
};

use super::{PatternType, sight::select};
use crate::words;

/// Patterns that are ranked, the newest of those that were found.
const FOUND_MAX: i64 = 500;
/// Characters of an excerpt.
const EXCERPT_CHARACTERS: usize = 200;

/// What is looked for.
#[data]
pub struct Wanted {
    /// Words, `"phrases"`, the beginnings of words as `word*`.
    #[field(min = 1, max = QUERY_LENGTH_MAX)]
    q: String,
    /// In this language.
    #[field(max = 60)]
    language: Option<String>,
    /// Of this type.
    pattern_type: Option<PatternType>,
    /// In this category.
    #[field(max = 100)]
    category: Option<String>,
    /// With this tag.
    #[field(max = 60)]
    tag: Option<String>,
    /// Of this project too, where it is not public.
    project_id: Option<Id>,
}

#[data]
struct Found {
    id: Id,
    name: String,
    description: String,
    pattern_type: PatternType,
    category: String,
    language: Option<String>,
    tags: Vec<String>,
    words: String,
    current_version: String,
    usage_count: i64,
    rating_sum: i64,
    rating_count: i64,
}

/// A pattern that was found.
#[data]
pub struct Hit {
    id: Id,
    name: String,
    /// The part of the description that says most of what was looked for.
    excerpt: String,
    pattern_type: PatternType,
    category: String,
    language: Option<String>,
    tags: Vec<String>,
    current_version: String,
    usage_count: i64,
    rating_sum: i64,
    rating_count: i64,
    /// The higher, the better it fits.
    score: f64,
}

/// `GET /api/patterns/search`: the best first.
pub fn search(Query(wanted): Query<Wanted>, query: PageQuery) -> Result<Page<Hit>> {
    let words = Words::parse(&wanted.q, WORDS_MAX);
    if words.is_empty() {
        return Err(Problem::field("q", "must have at least one word"));
    }
    let mut select = select(wanted.project_id.as_deref())?
        .condition("text_match(pattern_patterns.pattern_patterns_text, ?)", [wanted.q.as_str()]);
    for (column, value) in [("language", &wanted.language), ("category", &wanted.category)] {
        if let Some(value) = value {
            select = words::called(select, column, value);
        }
    }
    if let Some(kind) = wanted.pattern_type {
        select = select.equal("pattern_type", kind);
    }
    if let Some(tag) = &wanted.tag {
        select = words::listed(select, "tags", tag);
    }
    let columns = "id, name, description, pattern_type AS \"patternType\", category, language, tags, words, \
                   current_version AS \"currentVersion\", usage_count AS \"usageCount\", rating_sum AS \"ratingSum\", \
                   rating_count AS \"ratingCount\"";
    let found: Vec<Found> = select.limit(FOUND_MAX).columns(&Pool, columns)?;
    let mut hits: Vec<Hit> = found.into_iter().map(|found| hit(&words, found)).collect();
    hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| right.id.cmp(&left.id)));
    let total = i64::try_from(hits.len()).unwrap_or(i64::MAX);
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    let items = hits.into_iter().skip(count(query.offset)).take(count(query.limit)).collect();
    Ok(query.envelope(items, total))
}

fn hit(words: &Words, found: Found) -> Hit {
    let texts = [(3.0, &found.name), (2.0, &found.words), (2.0, &found.category), (1.0, &found.description)];
    let score = words.score(&texts.map(|(weight, text)| (weight, text.as_str())));
    Hit {
        excerpt: words.snippet(&found.description, EXCERPT_CHARACTERS),
        id: found.id,
        name: found.name,
        pattern_type: found.pattern_type,
        category: found.category,
        language: found.language,
        tags: found.tags,
        current_version: found.current_version,
        usage_count: found.usage_count,
        rating_sum: found.rating_sum,
        rating_count: found.rating_count,
        score: (score * 1e6).round() / 1e6,
    }
}

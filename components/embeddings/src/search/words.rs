//! Which passages have the words of a query, by full-text search: the half of a hybrid search that needs no vector.

use berth_sdk::prelude::*;

use super::{Search, scan::Measure};
use crate::embedder::lexical;

/// Words of a query that are looked for.
const WORDS_MAX: usize = 8;
/// Passages that are ranked.
const CANDIDATES_MAX: i64 = 200;

/// Passages that have every telling word of the query, the best first, each with its similarity.
pub fn best(search: &Search) -> Result<Vec<(String, f32)>> {
    let words = lexical::telling(search.query.as_deref().unwrap_or_default());
    let words: Vec<String> = words.into_iter().take(WORDS_MAX).collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut scope = search.scope.clone();
    scope.add("text_match(c.emb_chunks_text, ?)", [wanted(search.query.as_deref().unwrap_or_default(), &words)]);
    let sql = format!(
        "SELECT c.id AS id, c.content AS content, c.norm AS norm, c.vector AS vector FROM {} WHERE {}
         ORDER BY text_rank(c.emb_chunks_text, ${}) DESC, c.id DESC LIMIT {CANDIDATES_MAX}",
        scope.from(),
        scope.condition(),
        scope.values.len()
    );
    let measure = Measure::new(&search.vector, search.metric);
    let mut ranked = Vec::new();
    for row in database::query(&sql, &scope.values)? {
        let content: String = row.get("content")?;
        let bytes: Vec<u8> = row.get("vector")?;
        let similarity = measure.similarity(&bytes, row.get("norm")?).unwrap_or_default();
        let score = score(&words, &content);
        if score > 0.0 {
            ranked.push((row.get::<String>("id")?, similarity, score));
        }
    }
    ranked.sort_by(|left, right| right.2.total_cmp(&left.2).then(right.1.total_cmp(&left.1)));
    Ok(ranked.into_iter().map(|(id, similarity, _)| (id, similarity)).collect())
}

/// The telling words as they were typed, each of which may be the beginning of one.
fn wanted(query: &str, telling: &[String]) -> String {
    let typed = query.split(|letter: char| !letter.is_alphanumeric()).filter(|typed| !typed.is_empty());
    let tells = |typed: &&str| lexical::words(typed).iter().any(|word| telling.contains(word));
    typed.filter(tells).map(|typed| format!("{typed}*")).collect::<Vec<_>>().join(" ")
}

/// How much of a text the words are.
fn score(words: &[String], content: &str) -> f64 {
    let own = lexical::words(content);
    let hits = own.iter().filter(|own| words.iter().any(|word| own.starts_with(word.as_str()))).count();
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(hits) / number(own.len() + 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_telling_words_are_looked_for() {
        let query = "Where is the Übersicht of PX-4711?";
        assert_eq!(wanted(query, &lexical::telling(query)), "Übersicht* PX* 4711*");
        assert!(score(&["ubersicht".into()], "Die Übersicht") > 0.0);
    }
}

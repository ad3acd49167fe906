//! How well a row answers a query. The same on every database, since it is computed from the row's own text.

use crate::query::{Query, Term};
use crate::word::{Word, words};

/// How soon another occurrence counts for little.
const SATURATION: f64 = 1.2;
/// What a longer word counts of which only the beginning was asked for.
const BEGINNING: f64 = 0.6;
/// What a field adds in which the terms stand together in the order of the query.
const TOGETHER: f64 = 0.5;
/// What a field adds that says nothing but the query.
const WHOLE: f64 = 1.0;
/// Words of a field that count.
const FIELD_WORDS_MAX: usize = 20_000;

impl Query {
    /// How well fields, each with its weight, answer the query: higher is better, and 0 when a term is in none of them.
    ///
    /// An occurrence counts by the weight of its field, and less in a long field and after the first ones. Fields in which the
    /// terms stand together, or that say nothing else, count more.
    ///
    /// ```
    /// let query = text_rules::Query::parse("hot swap", 8);
    /// let title = query.score(&[(3.0, "Hot swap"), (1.0, "Builds are changed in place.")]);
    /// let content = query.score(&[(3.0, "Builds"), (1.0, "A swap needs a hot engine.")]);
    /// assert!(title > content && content > 0.0);
    /// assert_eq!(query.score(&[(3.0, "Swaps")]), 0.0);
    /// ```
    #[must_use]
    pub fn score(&self, fields: &[(f64, &str)]) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let fields: Vec<(f64, Vec<Word>)> = fields
            .iter()
            .map(|(weight, text)| (weight.max(0.0), words(text).take(FIELD_WORDS_MAX).collect()))
            .collect();
        let heaviest = fields.iter().map(|(weight, _)| *weight).fold(0.0, f64::max);
        if heaviest <= 0.0 {
            return 0.0;
        }
        let mut total = 0.0;
        for term in self.terms() {
            let weight: f64 = fields.iter().map(|(weight, words)| weight * frequency(term, words)).sum();
            if weight <= 0.0 {
                return 0.0;
            }
            total += weight / (weight + SATURATION);
        }
        let bonus = fields.iter().map(|(weight, words)| weight / heaviest * self.together(words)).fold(0.0, f64::max);
        total + bonus
    }

    /// What a field adds for having the terms one behind the other.
    fn together(&self, words: &[Word]) -> f64 {
        let whole = Term {
            words: self.terms().iter().flat_map(|term| term.words.iter().cloned()).collect(),
            is_prefix: self.terms().last().is_some_and(|term| term.is_prefix),
        };
        let says_nothing_else = words.iter().map(|word| &word.folded).eq(&whole.words);
        match whole.places(words).next() {
            None => 0.0,
            Some(_) if says_nothing_else => WHOLE,
            Some(_) if self.terms().len() > 1 => TOGETHER,
            Some(_) => 0.0,
        }
    }
}

/// How often a term is in a field, the less the longer the field is.
fn frequency(term: &Term, words: &[Word]) -> f64 {
    let counted: f64 = term
        .places(words)
        .map(|place| {
            let found = words.get(place.end.saturating_sub(1)).map(|word| word.folded.as_str());
            if found == term.words.last().map(String::as_str) { 1.0 } else { BEGINNING }
        })
        .sum();
    // Fields have at most some thousand words.
    let length = f64::from(u32::try_from(words.len()).unwrap_or(u32::MAX));
    counted / (1.0 + (1.0 + length / 50.0).ln())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranked<'a>(query: &str, texts: &[&'a str]) -> Vec<&'a str> {
        let query = Query::parse(query, 8);
        let mut texts: Vec<(f64, &str)> = texts.iter().map(|text| (query.score(&[(1.0, *text)]), *text)).collect();
        texts.retain(|(score, _)| *score > 0.0);
        texts.sort_by(|left, right| right.0.total_cmp(&left.0));
        texts.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_answers_best_comes_first() {
        let long = format!("swap {}", "other words ".repeat(300));
        let texts = ["nothing", long.as_str(), "swapping", "a swap of a swap", "swap", "some other swap"];
        assert_eq!(ranked("swap", &texts), ["swap", "a swap of a swap", "some other swap", "swapping", long.as_str()]);
        let texts = ["a swap that is hot", "a hot swap here", "hot", "hot swap"];
        assert_eq!(ranked("hot swap", &texts), ["hot swap", "a hot swap here", "a swap that is hot"]);
    }

    #[test]
    fn a_heavy_field_outweighs_a_light_one() {
        let query = Query::parse("berth", 8);
        assert!(query.score(&[(3.0, "the berth"), (1.0, "x")]) > query.score(&[(3.0, "x"), (1.0, "the berth")]));
        assert!(query.score(&[(3.0, "hot"), (1.0, "berth")]) > 0.0, "terms may be in different fields");
        assert!(query.score(&[(0.0, "berth")]) <= 0.0);
        assert!(Query::default().score(&[(1.0, "berth")]) <= 0.0);
    }

    proptest! {
        #[test]
        fn a_score_is_a_number_and_says_whether_everything_is_there(query in "\\PC{0,20}", text in "\\PC{0,60}") {
            let query = Query::parse(&query, 8);
            let score = query.score(&[(2.0, &text)]);
            prop_assert!(score.is_finite() && score >= 0.0);
            let has_all = !query.is_empty() && query.terms().iter().all(|term| {
                let words: Vec<Word> = words(&text).collect();
                term.places(&words).next().is_some()
            });
            prop_assert_eq!(score > 0.0, has_all);
        }
    }
}

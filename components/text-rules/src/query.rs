//! Queries as people write them.

use std::ops::Range;

use crate::word::{Word, words};

/// Words of a query that count; the rest is left out.
pub const WORDS_MAX: usize = 32;
/// Characters of a query that count.
pub const QUERY_LENGTH_MAX: usize = 1_000;
/// Characters of one word that count; a longer one is taken for the beginning of a word.
const WORD_LENGTH_MAX: usize = 64;

/// What somebody looks for: every term must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term>,
}

/// One word, or several that stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Folded, and never without one.
    pub words: Vec<String>,
    /// Whether the last word is the beginning of one.
    pub is_prefix: bool,
}

impl Query {
    /// Reads a query: words, `"quoted phrases"`, `word*` for the beginning of a word, which the last word always is unless it
    /// is quoted. What is joined by signs, as in `start-up`, is a phrase. Every text is a query; one without words finds nothing.
    ///
    /// ```
    /// let query = text_rules::Query::parse("\"Hot Swap\" plan* star", text_rules::WORDS_MAX);
    /// let terms: Vec<String> = query.terms().iter().map(|term| term.words.join(" ")).collect();
    /// assert_eq!(terms, ["hot swap", "plan", "star"]);
    /// assert!(query.terms()[2].is_prefix);
    /// ```
    #[must_use]
    pub fn parse(text: &str, words_max: usize) -> Self {
        let text = match text.char_indices().nth(QUERY_LENGTH_MAX) {
            Some((end, _)) => text.get(..end).unwrap_or_default(),
            None => text,
        };
        let mut query = Self::default();
        let mut left = words_max;
        let mut rest = text;
        let mut quoted = false;
        // Whether the last term so far is none that was quoted.
        let mut is_open = false;
        while let Some((before, after)) = rest.split_once('"') {
            // The last quote of an odd number of them opens nothing.
            if query.add(before, quoted, &mut left) {
                is_open = !quoted;
            }
            quoted = !quoted && after.contains('"');
            rest = after;
        }
        is_open |= query.add(rest, false, &mut left);
        if let (true, Some(last)) = (is_open, query.terms.last_mut()) {
            last.is_prefix = true;
        }
        query
    }

    /// What must be there.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether it asks for nothing, and so finds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Where a text has what the query asks for, in bytes and in their order, for marking it.
    ///
    /// ```
    /// let query = text_rules::Query::parse("swap", 8);
    /// assert_eq!(query.find("Hot swaps and a swap"), [4..9, 16..20]);
    /// ```
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let words: Vec<Word> = words(text).collect();
        let mut found: Vec<Range<usize>> = self
            .terms
            .iter()
            .flat_map(|term| term.places(&words))
            .filter_map(|place| Some(words.get(place.start)?.place.start..words.get(place.end - 1)?.place.end))
            .collect();
        found.sort_by_key(|place| (place.start, std::cmp::Reverse(place.end)));
        found.dedup_by(|later, earlier| later.start < earlier.end);
        found
    }

    /// Whether there was a word.
    fn add(&mut self, text: &str, quoted: bool, left: &mut usize) -> bool {
        let before = self.terms.len();
        let chunks: Vec<&str> = if quoted { vec![text] } else { text.split_whitespace().collect() };
        for chunk in chunks {
            let mut term = Term { words: Vec::new(), is_prefix: !quoted && chunk.ends_with('*') };
            for word in words(chunk).take(*left) {
                let end = word.folded.char_indices().nth(WORD_LENGTH_MAX).map(|(end, _)| end);
                term.words.push(end.and_then(|end| word.folded.get(..end)).unwrap_or(&word.folded).to_owned());
                term.is_prefix |= end.is_some();
            }
            *left -= term.words.len();
            if !term.words.is_empty() {
                self.terms.push(term);
            }
        }
        self.terms.len() > before
    }
}

impl Term {
    /// Where among the words of a text the term stands, as ranges of indexes.
    pub(crate) fn places<'a>(&'a self, words: &'a [Word]) -> impl Iterator<Item = Range<usize>> + 'a {
        let length = self.words.len();
        words
            .windows(length.max(1))
            .enumerate()
            .filter(move |(_, window)| self.is_at(window))
            .map(move |(start, _)| start..start + length)
    }

    fn is_at(&self, window: &[Word]) -> bool {
        let last = self.words.len().saturating_sub(1);
        self.words.iter().zip(window).enumerate().all(|(index, (asked, word))| {
            if self.is_prefix && index == last {
                word.folded.starts_with(asked.as_str())
            } else {
                word.folded == *asked
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `word*` for a beginning, `one+two` for a phrase.
    fn read(text: &str) -> Vec<String> {
        let write = |term: &Term| term.words.join("+") + if term.is_prefix { "*" } else { "" };
        Query::parse(text, 8).terms().iter().map(write).collect()
    }

    #[test]
    fn queries_are_read_as_people_write_them() {
        for (text, terms) in [
            ("", vec![]),
            ("   ", vec![]),
            ("!?* \"\" \"--\"", vec![]),
            ("plan", vec!["plan*"]),
            ("plan ", vec!["plan*"]),
            ("\"plan\"", vec!["plan"]),
            ("Hot SWAP", vec!["hot", "swap*"]),
            ("hot* swap", vec!["hot*", "swap*"]),
            ("\"hot swap\"", vec!["hot+swap"]),
            ("\"hot swap\" plan", vec!["hot+swap", "plan*"]),
            ("plan \"hot swap\"", vec!["plan", "hot+swap"]),
            ("plan \"hot swap", vec!["plan", "hot", "swap*"]),
            ("\"a\" b \"c", vec!["a", "b", "c*"]),
            ("\"a b\"\"c d\"", vec!["a+b", "c+d"]),
            ("start-up", vec!["start+up*"]),
            ("a:b & (c | !d)", vec!["a+b", "c", "d*"]),
            ("Ünïcode' OR 1=1 --", vec!["unicode", "or", "1+1*"]),
            ("a b c d e f g h i j", vec!["a", "b", "c", "d", "e", "f", "g", "h*"]),
        ] {
            assert_eq!(read(text), terms, "{text}");
        }
    }

    #[test]
    fn a_word_without_end_is_the_beginning_of_one() {
        let query = Query::parse(&format!("{} next", "x".repeat(500)), 8);
        assert_eq!((query.terms()[0].words[0].len(), query.terms()[0].is_prefix), (WORD_LENGTH_MAX, true));
    }

    #[test]
    fn what_is_found_does_not_overlap() {
        let text = "swap hot swap";
        assert_eq!(Query::parse("\"hot swap\" swap", 8).find(text), [0..4, 5..13]);
        assert!(Query::parse("cold", 8).find(text).is_empty());
        assert!(Query::default().find(text).is_empty());
    }

    proptest! {
        #[test]
        fn every_text_is_a_query_within_its_limits(text in "\\PC{0,80}", words_max in 0_usize..6) {
            let query = Query::parse(&text, words_max);
            let words: Vec<&String> = query.terms().iter().flat_map(|term| &term.words).collect();
            prop_assert!(words.len() <= words_max);
            prop_assert!(query.terms().iter().all(|term| !term.words.is_empty()));
            for place in query.find(&text) {
                prop_assert!(text.get(place).is_some());
            }
        }

        #[test]
        fn a_text_has_what_is_taken_from_it(before in "[a-z ]{0,10}", word in "[a-zäß0-9]{1,10}", after in "( [a-z ]{0,10})?") {
            let text = format!("{before} {word}{after}");
            let query = Query::parse(&word, 8);
            prop_assert!(!query.find(&text).is_empty());
        }
    }
}

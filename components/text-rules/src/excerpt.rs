//! Excerpts: the part of a text that says most of a query.

use std::ops::Range;

use crate::query::Query;

/// What stands for text that was left out.
const LEFT_OUT: char = '…';

impl Query {
    /// The part of a text of at most `length` characters with most of what the query asks for, on one line, cut between words
    /// and with `…` where something was left out; the text's beginning when it has nothing of it.
    ///
    /// ```
    /// let query = text_rules::Query::parse("swap", 8);
    /// assert_eq!(query.snippet("The engine keeps the old build until a swap has ended.", 24), "…build until a swap has…");
    /// assert_eq!(query.snippet("A swap.", 24), "A swap.");
    /// ```
    #[must_use]
    pub fn snippet(&self, text: &str, length: usize) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let starts: Vec<usize> = line.char_indices().map(|(at, _)| at).collect();
        if starts.len() <= length {
            return line;
        }
        let index = |at: usize| starts.partition_point(|start| *start < at);
        let found: Vec<Range<usize>> =
            self.find(&line).into_iter().map(|place| index(place.start)..index(place.end)).collect();
        // Two characters are kept for what was left out.
        let room = length.saturating_sub(2);
        let from = window(&found, starts.len(), room);
        let characters: Vec<char> = line.chars().collect();
        cut(&characters, from, room)
    }
}

/// Where a window of so many characters begins that has most places, with some text around them.
fn window(found: &[Range<usize>], total: usize, room: usize) -> usize {
    let mut best = (0, 0, 0);
    let mut end = 0;
    for (first, place) in found.iter().enumerate() {
        end = end.max(first);
        while found.get(end).is_some_and(|next| next.end <= place.start.saturating_add(room)) {
            end += 1;
        }
        if end - first > best.0 {
            best = (end - first, place.start, found.get(end - 1).map_or(place.end, |last| last.end));
        }
    }
    let (count, start, end) = best;
    if count == 0 {
        return found.first().map_or(0, |place| place.start).min(total.saturating_sub(room));
    }
    start.saturating_sub(room.saturating_sub(end - start) / 2).min(total.saturating_sub(room))
}

/// So many characters from a place on, moved to the beginnings and ends of words.
fn cut(characters: &[char], from: usize, room: usize) -> String {
    let is_gap = |at: usize| characters.get(at).is_none_or(|character| character.is_whitespace());
    let end_max = from.saturating_add(room).min(characters.len());
    let mut start = from;
    if start > 0 && !is_gap(start - 1) {
        // Into the next word, unless one word fills everything.
        start = (start..end_max).find(|at| is_gap(*at)).map_or(start, |gap| gap + 1);
    }
    let mut end = end_max;
    if !is_gap(end) {
        end = (start..end).rev().find(|at| is_gap(*at)).filter(|gap| *gap > start).unwrap_or(end);
    }
    let mut text = String::new();
    if start > 0 {
        text.push(LEFT_OUT);
    }
    let kept: String = characters.get(start..end).unwrap_or_default().iter().collect();
    text.push_str(kept.trim());
    if end < characters.len() {
        text.push(LEFT_OUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_part_with_most_of_the_query_is_shown() {
        let text =
            format!("One swap. {} A hot swap of a build. {}", "More words. ".repeat(20), "And so on. ".repeat(20));
        let snippet = Query::parse("hot swap", 8).snippet(&text, 60);
        assert!(snippet.contains("A hot swap of a build"), "{snippet}");
        assert!(snippet.starts_with('…') && snippet.ends_with('…'), "{snippet}");
    }

    #[test]
    fn without_anything_found_the_text_begins_at_its_beginning() {
        assert_eq!(Query::parse("cold", 8).snippet("one two\n three four", 12), "one two…");
        assert_eq!(Query::default().snippet("", 12), "");
        assert_eq!(Query::default().snippet("abcdefgh", 5), "abc…");
    }

    proptest! {
        #[test]
        fn a_snippet_is_never_longer_than_asked(query in "[a-zé\" ]{0,12}", text in "\\PC{0,80}", length in 0_usize..40) {
            let snippet = Query::parse(&query, 8).snippet(&text, length);
            prop_assert!(snippet.chars().count() <= length.max(2), "{:?}", snippet);
        }
    }
}

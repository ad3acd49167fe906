//! The passages that answer a question: those that mean the like, and those that have its words, as far as the caller sees
//! their entries.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{
    entry::{Entry, Status},
    search::{self, meaning, rank::Wanted},
};

/// Passages that are asked of embeddings.
const PASSAGES: usize = 20;
/// Entries that are read for their words.
const ENTRIES: usize = 6;
/// Characters of a passage.
const PASSAGE: usize = 800;
/// A passage that shares no word with the question must be this similar at least.
const SIMILAR: f64 = 0.3;

/// A passage that may answer.
#[derive(Clone, Debug)]
pub struct Source {
    /// The entry.
    pub entry_id: Id,
    /// Its title.
    pub title: String,
    /// Its title in an address.
    pub slug: String,
    /// What the passage says.
    pub passage: String,
    /// Where it begins in the entry's content.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// How well it fits.
    pub score: f64,
    /// Found by meaning, not by words.
    pub by_meaning: bool,
}

/// An entry, as far as it is needed here.
#[data]
struct Known {
    id: String,
    title: String,
    slug: String,
    #[field(raw)]
    content: String,
}

/// The `count` best passages.
pub fn find(question: &str, space_id: Option<&Id>, project_id: Option<&Id>, count: usize) -> Result<Vec<Source>> {
    let wanted = Wanted::of_question(question);
    let mut select = Select::<Entry>::new().equal("status", Status::Published).equal("is_template", false);
    if let Some(space_id) = space_id {
        select = select.equal("space_id", space_id);
    }
    if let Some(project_id) = project_id {
        select = select.equal("project_id", project_id);
    }
    let similar = meaning::passages(question, project_id, PASSAGES).unwrap_or_default();
    let worded = worded(&select, &wanted)?;
    let mut ids: Vec<String> = similar.iter().map(|passage| passage.entry_id.clone()).collect();
    ids.extend(worded.iter().cloned());
    let known = read(&select, &ids)?;
    let mut by_meaning = Vec::new();
    for passage in similar {
        let Some(entry) = known.get(&passage.entry_id) else { continue };
        if wanted.coverage(&passage.content).0 > 0 || passage.similarity >= SIMILAR {
            by_meaning.extend(from_meaning(entry, &passage));
        }
    }
    let by_words = worded.iter().filter_map(|id| from_words(known.get(id)?, &wanted)).collect();
    Ok(merged(by_meaning, by_words, count))
}

/// Entries with every telling word of the question, or else with most of them.
fn worded(select: &Select<Entry>, wanted: &Wanted) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut ranked = search::by_words(select, wanted, true)?;
    if ranked.is_empty() {
        ranked = search::by_words(select, wanted, false)?;
    }
    Ok(ranked.into_iter().take(ENTRIES).map(|(id, _)| id).collect())
}

fn read(select: &Select<Entry>, ids: &[String]) -> Result<BTreeMap<String, Known>> {
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut known = BTreeMap::new();
    // Contents are long: a few at a time.
    for part in ids.chunks(8) {
        let rows: Vec<Known> = select
            .clone()
            .one_of("id", part.iter().copied())
            .columns(&Pool, "\"id\", \"title\", \"slug\", \"content\"")?;
        known.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
    }
    Ok(known)
}

/// A passage as embeddings has it: its text has the title and an empty line before the content. It is cut anew from the
/// entry, so that it is what stands there now; what stands there no more is left out.
fn from_meaning(entry: &Known, passage: &meaning::Passage) -> Option<Source> {
    let before = entry.title.chars().count() + 2;
    let start = passage.start.saturating_sub(before);
    let end = passage.end.saturating_sub(before);
    let text: String = entry.content.chars().skip(start).take(end.saturating_sub(start)).collect();
    if text.trim().is_empty() || !passage.content.ends_with(text.as_str()) {
        return None;
    }
    Some(source(entry, text, start, end, passage.similarity, true))
}

/// The passage of an entry with most of the words; none when it has too few of them.
fn from_words(entry: &Known, wanted: &Wanted) -> Option<Source> {
    let needed = wanted.words.len().div_ceil(2).max(1);
    let in_title = wanted.coverage(&entry.title).0;
    let best = passages(&entry.content).into_iter().map(|(start, text)| {
        let (found, score) = wanted.coverage(&text);
        (found, score, start, text)
    });
    let (found, score, start, text) = best.max_by(|left, right| {
        (left.0, left.1)
            .partial_cmp(&(right.0, right.1))
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(right.2.cmp(&left.2))
    })?;
    let end = start + text.chars().count();
    (found.max(in_title) >= needed || (!wanted.phrases.is_empty() && score > 0.0))
        .then(|| source(entry, text, start, end, score, false))
}

fn source(entry: &Known, passage: String, start: usize, end: usize, score: f64, by_meaning: bool) -> Source {
    Source {
        entry_id: Id::from(entry.id.as_str()),
        title: entry.title.clone(),
        slug: entry.slug.clone(),
        passage,
        start,
        end,
        score,
        by_meaning,
    }
}

/// A text in pieces of whole paragraphs, as far as those fit; each with where it begins.
fn passages(content: &str) -> Vec<(usize, String)> {
    let mut passages: Vec<(usize, String)> = Vec::new();
    let mut place = 0;
    for line in content.split_inclusive('\n') {
        let letters: Vec<char> = line.chars().collect();
        for piece in letters.chunks(PASSAGE) {
            let ends_paragraph = passages.last().is_none_or(|(_, text)| {
                text.chars().count() + piece.len() > PASSAGE
                    || (text.ends_with("\n\n") && text.chars().count() > PASSAGE / 2)
            });
            let piece_text: String = piece.iter().collect();
            match passages.last_mut().filter(|_| !ends_paragraph) {
                Some((_, text)) => text.push_str(&piece_text),
                None => passages.push((place, piece_text)),
            }
            place += piece.len();
        }
    }
    passages.retain(|(_, text)| !text.trim().is_empty());
    passages
}

/// Both in turn, each passage once.
fn merged(by_meaning: Vec<Source>, by_words: Vec<Source>, count: usize) -> Vec<Source> {
    let mut merged: Vec<Source> = Vec::new();
    let mut lists = [by_meaning.into_iter(), by_words.into_iter()];
    loop {
        let mut is_done = true;
        for list in &mut lists {
            let Some(source) = list.next() else { continue };
            is_done = false;
            let is_new = !merged
                .iter()
                .any(|known| known.entry_id == source.entry_id && known.start < source.end && source.start < known.end);
            if is_new && merged.len() < count {
                merged.push(source);
            }
        }
        if is_done {
            return merged;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(content: &str) -> Known {
        Known { id: "e1".into(), title: "Gates".into(), slug: "gates".into(), content: content.into() }
    }

    #[test]
    fn a_passage_is_what_stands_in_the_entry_now() {
        let passage = |start, end, content: &str| meaning::Passage {
            entry_id: "e1".into(),
            content: content.into(),
            start,
            end,
            similarity: 0.5,
        };
        let entry = known("Open it.");
        let source = from_meaning(&entry, &passage(0, 15, "Gates\n\nOpen it.")).unwrap();
        assert_eq!((source.start, source.end, source.passage.as_str()), (0, 8, "Open it."));
        assert!(from_meaning(&entry, &passage(0, 16, "Gates\n\nClose it.")).is_none(), "it has changed meanwhile");
    }

    #[test]
    fn half_of_the_words_are_enough_and_fewer_are_not() {
        let entry = known("The red gate opens in the morning.\n\nNothing else.");
        let found = |question: &str| from_words(&entry, &Wanted::of_question(question)).is_some();
        assert!(found("when does the red gate open"));
        assert!(!found("which dragons guard red mountains"));
    }

    proptest! {
        #[test]
        fn passages_are_the_whole_text(content in "[a-z \\n]{0,3000}") {
            let letters: Vec<char> = content.chars().collect();
            let mut visible = 0;
            for (start, text) in passages(&content) {
                let length = text.chars().count();
                prop_assert!(length <= PASSAGE);
                prop_assert_eq!(letters[start..start + length].iter().collect::<String>(), text.clone());
                visible += text.chars().filter(|letter| !letter.is_whitespace()).count();
            }
            prop_assert_eq!(visible, letters.iter().filter(|letter| !letter.is_whitespace()).count());
        }
    }
}

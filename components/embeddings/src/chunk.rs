//! Falling into passages: whole sentences as far as they fit, with some of the last passage again at the beginning of the
//! next, so that nothing is lost between two.

/// A passage of a text; offsets are in its characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What it says, to the letter.
    pub content: String,
}

/// The passages of a text, each of at most `size` characters, which share up to `overlap` of them with the one before. A
/// text without a visible character has none.
pub fn passages(text: &str, size: usize, overlap: usize) -> Vec<Passage> {
    let letters: Vec<char> = text.chars().collect();
    let size = size.max(1);
    let overlap = overlap.min(size / 2);
    let sentences = sentences(&letters, size);
    let mut passages = Vec::new();
    let mut first = 0;
    while first < sentences.len() {
        let Some(start) = sentences.get(first).map(|(start, _)| *start) else { break };
        let mut next = first;
        let mut end = start;
        while let Some((_, until)) = sentences.get(next).filter(|(_, until)| next == first || until - start <= size) {
            end = *until;
            next += 1;
        }
        if let Some(passage) = trimmed(&letters, start, end) {
            add(&mut passages, passage);
        }
        if next >= sentences.len() {
            break;
        }
        // Back by as many sentences as fit into the overlap, and at least one further than this passage began.
        let mut again = next;
        while again > first + 1 && sentences.get(again - 1).is_some_and(|(begin, _)| end - begin <= overlap) {
            again -= 1;
        }
        first = again;
    }
    passages
}

/// Adds a passage, unless all of it is in the one before; that one goes where all of it is in this one.
fn add(passages: &mut Vec<Passage>, passage: Passage) {
    if passages.last().is_some_and(|last| last.end >= passage.end) {
        return;
    }
    if passages.last().is_some_and(|last| last.start >= passage.start) {
        passages.pop();
    }
    passages.push(passage);
}

/// Without the blanks around it.
fn trimmed(letters: &[char], start: usize, end: usize) -> Option<Passage> {
    let part = letters.get(start..end)?;
    let before = part.iter().take_while(|letter| letter.is_whitespace()).count();
    let after = part.iter().rev().take_while(|letter| letter.is_whitespace()).count();
    let (start, end) = (start + before, end.saturating_sub(after));
    let content: String = letters.get(start..end)?.iter().collect();
    (!content.is_empty()).then_some(Passage { start, end, content })
}

/// Where sentences begin and end, one after the other without a gap; none is longer than `size`.
fn sentences(letters: &[char], size: usize) -> Vec<(usize, usize)> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for index in 0..letters.len() {
        if ends_here(letters, index) || index + 1 == letters.len() {
            cut(letters, start, index + 1, size, &mut sentences);
            start = index + 1;
        }
    }
    sentences
}

/// Whether a sentence ends behind this letter: a mark with a blank behind it, an empty line, or a mark of a script
/// without blanks.
fn ends_here(letters: &[char], index: usize) -> bool {
    let (Some(letter), next) = (letters.get(index), letters.get(index + 1)) else { return false };
    match letter {
        '.' | '!' | '?' | ':' | ';' => next.is_none_or(|next| next.is_whitespace()),
        '。' | '！' | '？' => true,
        '\n' => next.is_none_or(|next| *next == '\n' || matches!(next, '#' | '-' | '*' | '|')),
        _ => false,
    }
}

/// A sentence that is too long is cut at its last blank within the size, or hard where there is none.
fn cut(letters: &[char], mut start: usize, end: usize, size: usize, into: &mut Vec<(usize, usize)>) {
    while end - start > size {
        let part = letters.get(start..start + size).unwrap_or_default();
        let blank = part.iter().rposition(|letter| letter.is_whitespace()).filter(|at| *at > size / 2);
        let until = start + blank.map_or(size, |at| at + 1);
        into.push((start, until));
        start = until;
    }
    if end > start {
        into.push((start, end));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_stay_whole_and_neighbours_overlap() {
        let text = "One is first. Two is next! Is three here? Four ends it.";
        let passages = passages(text, 30, 14);
        let contents: Vec<&str> = passages.iter().map(|passage| passage.content.as_str()).collect();
        assert_eq!(contents, ["One is first. Two is next!", "Two is next! Is three here?", "Four ends it."]);
        assert_eq!((passages[1].start, passages[1].end), (14, 41));
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut() {
        let passages = passages(&"x".repeat(25), 10, 3);
        assert_eq!(passages.iter().map(|passage| passage.content.len()).collect::<Vec<_>>(), [10, 10, 5]);
        assert!(super::passages(" \n ", 10, 2).is_empty());
    }

    proptest! {
        /// Every visible letter is in a passage, every passage is what its offsets say, and none is too long.
        #[test]
        fn nothing_is_lost(text in "[ab é.!?\\n]{0,300}", size in 1_usize..60, overlap in 0_usize..40) {
            let letters: Vec<char> = text.chars().collect();
            let passages = passages(&text, size, overlap);
            let mut covered = vec![false; letters.len()];
            let mut last = None;
            for passage in &passages {
                let content: String = letters[passage.start..passage.end].iter().collect();
                prop_assert_eq!(&content, &passage.content);
                prop_assert!(passage.end - passage.start <= size);
                prop_assert!(last.is_none_or(|last| passage.start > last), "they go on");
                last = Some(passage.start);
                covered[passage.start..passage.end].fill(true);
            }
            for (letter, covered) in letters.iter().zip(covered) {
                prop_assert!(covered || letter.is_whitespace());
            }
        }
    }
}

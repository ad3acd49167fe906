//! Words: runs of letters and digits, folded so that `Über`, `über` and `UBER` are one word.

use std::ops::Range;

use unicode_normalization::char::decompose_canonical;

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it is compared.
    pub folded: String,
    /// Where it stands in the text, in bytes.
    pub place: Range<usize>,
}

/// Folds a text: lower case, and Latin letters without their accents. Letters of other scripts keep their marks.
///
/// ```
/// assert_eq!(text_rules::fold("Crème BRÛLÉE, Й"), "creme brulee, й");
/// ```
#[must_use]
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut after_latin = false;
    for character in text.chars() {
        fold_into(&mut folded, character, &mut after_latin);
    }
    folded
}

/// The words of a text, in their order.
///
/// ```
/// let words: Vec<String> = text_rules::words("Berth's 2nd start-up").map(|word| word.folded).collect();
/// assert_eq!(words, ["berth", "s", "2nd", "start", "up"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = Word> + '_ {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = rest.find(|(_, character)| character.is_alphanumeric())?;
        let mut folded = String::new();
        let mut after_latin = false;
        fold_into(&mut folded, first, &mut after_latin);
        let mut end = start + first.len_utf8();
        while let Some((at, next)) = rest.next_if(|(_, next)| next.is_alphanumeric() || is_mark(*next)) {
            fold_into(&mut folded, next, &mut after_latin);
            end = at + next.len_utf8();
        }
        Some(Word { folded, place: start..end })
    })
}

/// Adds a character as it is compared.
fn fold_into(folded: &mut String, character: char, after_latin: &mut bool) {
    if is_mark(character) {
        // An accent of its own behind a Latin letter is one with it.
        if !*after_latin {
            folded.push(character);
        }
        return;
    }
    let mut base = None;
    decompose_canonical(character, |part| {
        base.get_or_insert(part);
    });
    match base {
        Some(base) if base.is_ascii() => {
            *after_latin = base.is_ascii_alphabetic();
            folded.push(base.to_ascii_lowercase());
        }
        _ => {
            *after_latin = false;
            folded.extend(character.to_lowercase());
        }
    }
}

/// The accents that stand behind the letter they belong to.
fn is_mark(character: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accents_are_one_with_their_letter_however_they_are_written() {
        for (text, folded) in [
            ("Ångström", "angstrom"),
            ("A\u{30a}ngstro\u{308}m", "angstrom"),
            ("İstanbul", "istanbul"),
            ("Việt Nam", "viet nam"),
            ("МОСКВА", "москва"),
            ("Øl", "øl"),
            ("東京", "東京"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn a_word_says_where_it_stands() {
        let text = "…die Größe_2!";
        let found: Vec<_> = words(text).map(|word| (text[word.place].to_owned(), word.folded)).collect();
        let expected = [("die", "die"), ("Größe", "große"), ("2", "2")];
        assert_eq!(found, expected.map(|(place, folded)| (place.to_owned(), folded.to_owned())));
    }

    proptest! {
        #[test]
        fn words_lie_within_the_text_and_one_behind_the_other(text in "\\PC{0,60}") {
            let mut end = 0;
            for word in words(&text) {
                prop_assert!(word.place.start >= end && text.get(word.place.clone()).is_some());
                prop_assert!(!word.folded.is_empty());
                end = word.place.end;
            }
        }

        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,60}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}

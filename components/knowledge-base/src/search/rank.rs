//! How well a text fits the words that are looked for: the same on every database, and where in it they are.

use std::collections::BTreeSet;

use berth_sdk::prelude::*;

/// Words of one question.
const WORDS_MAX: usize = 12;
/// Letters of one word that are compared.
const WORD_LETTERS_MAX: usize = 60;
/// What a title, a tag and the rest weigh.
const TITLE: f64 = 3.0;
const TAG: f64 = 2.0;
const BODY: f64 = 1.0;
/// What a word that only begins so counts.
const PREFIX: f64 = 0.6;
/// Characters of a snippet.
const SNIPPET: usize = 240;
/// Words that say little of what a question is about.
const COMMON: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "has", "have", "how", "i",
    "if", "in", "is", "it", "its", "my", "of", "on", "or", "our", "should", "that", "the", "their", "there", "this",
    "to", "was", "we", "what", "when", "where", "which", "who", "why", "will", "with", "you", "your",
];

/// The letter without its accent, where that is common.
pub fn plain(letter: char) -> char {
    match letter {
        'à'..='å' => 'a',
        'ç' => 'c',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ù'..='ü' => 'u',
        'ý' | 'ÿ' => 'y',
        other => other,
    }
}

/// A word of a text, as it is compared, and where it is in the text's characters.
struct Word {
    text: String,
    start: usize,
    end: usize,
}

fn words_of(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut is_open = false;
    for (place, letter) in text.chars().enumerate() {
        if !letter.is_alphanumeric() {
            is_open = false;
            continue;
        }
        if !is_open {
            words.push(Word { text: String::new(), start: place, end: place });
            is_open = true;
        }
        if let Some(word) = words.last_mut() {
            if word.text.len() < WORD_LETTERS_MAX * 4 {
                word.text.extend(letter.to_lowercase().map(plain));
            }
            word.end = place + 1;
        }
    }
    words
}

/// The words of a text as they are compared, with a blank before each and one at the end.
pub fn folded(text: &str) -> String {
    let mut folded: String = words_of(text).iter().map(|word| format!(" {}", word.text)).collect();
    folded.push(' ');
    folded
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Single words; one that is begun counts too.
    pub words: Vec<String>,
    /// Words that must follow one another: what stood in quotation marks.
    pub phrases: Vec<String>,
}

impl Wanted {
    /// Reads what people write: words, and `"words that follow one another"`.
    pub fn read(text: &str) -> Self {
        let mut phrases = Vec::new();
        let mut loose = String::new();
        for (place, part) in text.split('"').enumerate() {
            let words = folded(part);
            if place % 2 == 1 && words.trim().contains(' ') {
                phrases.push(words.trim().to_string());
            } else {
                loose.push_str(part);
                loose.push(' ');
            }
        }
        let mut known = BTreeSet::new();
        let words = words_of(&loose).into_iter().map(|word| word.text).filter(|word| known.insert(word.clone()));
        Self { words: words.take(WORDS_MAX).collect(), phrases: phrases.into_iter().take(WORDS_MAX).collect() }
    }

    /// Of a question the words that tell what it is about.
    pub fn of_question(text: &str) -> Self {
        let all = Self::read(text);
        let telling: Vec<String> = all.words.iter().filter(|word| !COMMON.contains(&word.as_str())).cloned().collect();
        Self { words: if telling.is_empty() { all.words } else { telling }, phrases: all.phrases }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.phrases.is_empty()
    }

    /// How well an entry fits, by its folded title, tags and body.
    pub fn score(&self, title: &str, tags: &str, body: &str) -> f64 {
        let mut score = 0.0;
        for (text, weight) in [(title, TITLE), (tags, TAG), (body, BODY)] {
            for word in &self.words {
                score += weight * density(text, word);
            }
            for phrase in &self.phrases {
                if text.contains(&format!(" {phrase} ")) {
                    score += weight;
                }
            }
        }
        score
    }

    /// How many of the words a passage has, whole or begun, and how often.
    pub fn coverage(&self, passage: &str) -> (usize, f64) {
        let folded = folded(passage);
        let found = self.words.iter().filter(|word| folded.contains(&format!(" {word}"))).count();
        (found, self.score("", "", &folded))
    }

    /// A piece of a text around what fits best, with that between `**`.
    pub fn snippet(&self, text: &str) -> String {
        let words = words_of(text);
        let wanted: Vec<&String> = self.words.iter().chain(&self.phrases).collect();
        let is_hit = |word: &Word| {
            wanted
                .iter()
                .any(|wanted| word.text.starts_with(wanted.as_str()) || wanted.split(' ').any(|part| part == word.text))
        };
        let first = words.iter().find(|word| is_hit(word)).map_or(0, |word| word.start);
        let begin = words.iter().rev().find(|word| word.start + SNIPPET / 4 <= first).map_or(0, |word| word.start);
        let letters: Vec<char> = text.chars().collect();
        let end = (begin + SNIPPET).min(letters.len());
        let end = words
            .iter()
            .rev()
            .map(|word| word.end)
            .find(|until| *until <= end)
            .filter(|until| *until > begin)
            .unwrap_or(end);
        let mut snippet = String::from(if begin > 0 { "…" } else { "" });
        let mut place = begin;
        for word in words.iter().filter(|word| word.start >= begin && word.end <= end && is_hit(word)) {
            snippet.extend(letters.get(place..word.start).unwrap_or_default());
            snippet.push_str("**");
            snippet.extend(letters.get(word.start..word.end).unwrap_or_default());
            snippet.push_str("**");
            place = word.end;
        }
        snippet.extend(letters.get(place..end).unwrap_or_default());
        if end < letters.len() {
            snippet.push('…');
        }
        validate::clean(&snippet.replace('\n', " "))
    }
}

/// How much of a folded text a word is: often counts more, but not as often.
fn density(text: &str, word: &str) -> f64 {
    let whole = text.matches(&format!(" {word} ")).count();
    let begun = text.matches(&format!(" {word}")).count() - whole.min(text.matches(&format!(" {word}")).count());
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let often = number(whole) + PREFIX * number(begun);
    if often == 0.0 {
        return 0.0;
    }
    // Saturating, and less in a long text.
    let length = 1.0 + number(text.len()) / 4_000.0;
    often / (often + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(query: &str, title: &str, tags: &str, body: &str) -> f64 {
        Wanted::read(query).score(&folded(title), &folded(tags), &folded(body))
    }

    #[test]
    fn a_title_weighs_more_than_a_tag_and_that_more_than_the_rest() {
        let (title, tag, body) =
            (score("gate", "Gate", "", ""), score("gate", "", "gate", ""), score("gate", "", "", "the gate"));
        assert!(title > tag && tag > body && body > 0.0, "{title} {tag} {body}");
        assert!(score("gate", "", "", "gate") > score("gate", "", "", "gateway"), "a whole word before a beginning");
        assert!(score("gatew", "", "", "Gateways") > 0.0);
        assert_eq!(score("way", "", "", "gateway"), 0.0, "an end is no beginning");
    }

    #[test]
    fn quotation_marks_hold_words_together() {
        let wanted = Wanted::read("\"red gate\" open");
        assert_eq!((wanted.words, wanted.phrases), (vec!["open".to_string()], vec!["red gate".to_string()]));
        assert!(score("\"red gate\"", "", "", "a red gate") > 0.0);
        assert_eq!(score("\"red gate\"", "", "", "a gate, red"), 0.0);
    }

    #[test]
    fn a_snippet_shows_what_was_found() {
        let text =
            format!("{} To rotate a certificate, upload it. {}", "filler words ".repeat(40), "and more ".repeat(40));
        let snippet = Wanted::read("certif").snippet(&text);
        assert!(snippet.starts_with('…') && snippet.ends_with('…'), "{snippet}");
        assert!(snippet.contains("rotate a **certificate**, upload"), "{snippet}");
        assert_eq!(Wanted::read("Größe").snippet("Die Größe"), "Die **Größe**");
    }

    #[test]
    fn a_question_is_about_its_telling_words() {
        assert_eq!(Wanted::of_question("How do I restart the gateway?").words, ["restart", "gateway"]);
        assert_eq!(Wanted::of_question("how is it").words, ["how", "is", "it"]);
    }

    proptest! {
        #[test]
        fn any_text_has_a_snippet(query in ".{0,40}", text in ".{0,600}") {
            let snippet = Wanted::read(&query).snippet(&text);
            prop_assert!(snippet.chars().count() <= SNIPPET * 3 + 2);
        }
    }
}

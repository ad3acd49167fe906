//! The built-in embedder: words and parts of words, hashed into a vector. It needs no network and no model file, and the
//! same text has the same vector for ever. It finds what is said with the same words or other forms of them; of meaning
//! beyond words it knows nothing.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{problem::Result, vector};

use super::Embedder;

/// Members of a vector.
pub const DIMENSIONS: usize = 256;
/// Letters of the parts of a word.
const PART_LETTERS: [usize; 2] = [3, 4];
/// What a whole word, a pair of neighbours, and all parts of a word weigh.
const WORD_WEIGHT: f32 = 1.0;
const PAIR_WEIGHT: f32 = 0.4;
const PARTS_WEIGHT: f32 = 1.1;
/// Letters of a word that are looked at.
const WORD_LETTERS_MAX: usize = 40;
/// Places that a feature has in a vector: with several, one collision does not hide it.
const PLACES: u64 = 2;

/// Words that say little of what a text is about.
const COMMON: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "may", "me", "more", "my", "no", "not", "of", "on", "or", "our", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "to", "too", "up", "us", "was", "we", "were", "what", "when", "where", "which", "who", "why", "will", "with",
    "would", "you", "your",
];

/// The built-in embedder.
pub struct Lexical;

impl Embedder for Lexical {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|text| embed(text)).collect())
    }

    fn texts_max(&self) -> usize {
        usize::MAX
    }
}

/// The vector of a text, of length one. A text without a letter or digit has one too, by its characters.
pub fn embed(text: &str) -> Vec<f32> {
    let mut weights: BTreeMap<u64, f32> = BTreeMap::new();
    let mut add = |kind: u8, feature: &str, weight: f32| {
        *weights.entry(hash(kind, feature)).or_default() += weight;
    };
    let telling = telling(text);
    for word in &telling {
        add(b'w', word, WORD_WEIGHT);
        let parts = parts(word);
        #[expect(clippy::cast_precision_loss, reason = "a word has few parts")]
        let weight = PARTS_WEIGHT / (parts.len().max(1) as f32).sqrt();
        for part in &parts {
            add(b'p', part, weight);
        }
    }
    for pair in telling.windows(2) {
        if let [left, right] = pair {
            add(b'n', &format!("{left} {right}"), PAIR_WEIGHT);
        }
    }
    if telling.is_empty() {
        add(b't', text.trim(), WORD_WEIGHT);
    }
    spread(&weights)
}

/// The words of a text without those that say little; a text of only such words is about them.
pub fn telling(text: &str) -> Vec<String> {
    let words = words(text);
    let telling: Vec<String> = words.iter().filter(|word| !COMMON.contains(&word.as_str())).cloned().collect();
    if telling.is_empty() { words } else { telling }
}

/// Puts every feature at its places, with its sign. What is there often counts more, but not as often.
fn spread(weights: &BTreeMap<u64, f32>) -> Vec<f32> {
    let mut vector = vec![0.0_f32; DIMENSIONS];
    for (feature, weight) in weights {
        let weight = if *weight > 1.0 { 1.0 + weight.ln() } else { *weight };
        for place in 0..PLACES {
            let mixed = mix(feature.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let index = usize::try_from(mixed % DIMENSIONS as u64).unwrap_or(0);
            let sign = if mixed >> 63 == 0 { 1.0 } else { -1.0 };
            if let Some(member) = vector.get_mut(index) {
                *member += sign * weight;
            }
        }
    }
    let length = vector::norm(&vector);
    if length == 0.0 {
        // Features that cancel each other out: rare, and no reason to have no vector.
        if let Some(member) = vector.first_mut() {
            *member = 1.0;
        }
        return vector;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a member of a vector of length one")]
    vector.iter_mut().for_each(|member| *member = (f64::from(*member) / length) as f32);
    vector
}

/// The words of a text in lower case, without accents; `camelCase` and `snake_case` fall into theirs.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for letter in text.chars() {
        let ends = !letter.is_alphanumeric() || (was_lower && letter.is_uppercase());
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        was_lower = letter.is_lowercase();
        if letter.is_alphanumeric() && word.len() < WORD_LETTERS_MAX * 4 {
            word.extend(letter.to_lowercase().map(plain));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The words of names that are written as one, such as `parseUserInput`; each once, and nothing of plain prose.
pub fn parted(text: &str) -> String {
    let chunks = text.split(|letter: char| !letter.is_alphanumeric());
    let parted: BTreeSet<String> = chunks.map(words).filter(|words| words.len() > 1).flatten().collect();
    parted.into_iter().collect::<Vec<_>>().join(" ")
}

/// The letter without its accent, where that is common.
fn plain(letter: char) -> char {
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

/// Parts of a word; its ends are marked, so that a beginning is not a middle.
fn parts(word: &str) -> Vec<String> {
    let letters: Vec<char> =
        std::iter::once('<').chain(word.chars().take(WORD_LETTERS_MAX)).chain(std::iter::once('>')).collect();
    let mut parts = Vec::new();
    for length in PART_LETTERS {
        parts.extend(letters.windows(length).map(|part| part.iter().collect::<String>()));
    }
    parts
}

/// FNV-1a.
fn hash(kind: u8, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(step(0xcbf2_9ce4_8422_2325, kind), step)
}

/// Spreads the bits of a number over all of it.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use berth_sdk::vector::{cosine, norm};
    use proptest::prelude::*;

    use super::*;

    fn alike(left: &str, right: &str) -> f32 {
        cosine(&embed(left), &embed(right)).unwrap()
    }

    #[test]
    fn other_forms_of_the_same_words_are_alike_and_other_words_are_not() {
        let near = alike("How do I restart the payment gateway?", "Restarting payment gateways after an outage");
        let far = alike("How do I restart the payment gateway?", "Colours of the annual summer party invitation");
        assert!(near > 0.3, "{near}");
        assert!(far < 0.2, "{far}");
        assert!(alike("database", "databases") > 0.4, "{}", alike("database", "databases"));
        assert!(alike("parseUserInput", "parse user input") > 0.99);
        assert!(alike("Rückgängig", "ruckgangig") > 0.99);
    }

    #[test]
    fn a_question_finds_the_passage_that_answers_it() {
        let passages = [
            "The backup of the database runs every night at two and is kept for thirty days.",
            "Holidays are asked for in the calendar, two weeks ahead; the team lead approves them.",
            "To rotate a certificate, upload the new one and restart the proxy.",
        ];
        let best = |question: &str| {
            let scores: Vec<f32> = passages.iter().map(|passage| alike(question, passage)).collect();
            (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
        };
        assert_eq!(best("when is the nightly database backup?"), 0);
        assert_eq!(best("who approves a holiday"), 1);
        assert_eq!(best("rotating certificates"), 2);
    }

    #[test]
    fn names_are_made_of_words() {
        assert_eq!(parted("fn parseUserInput(userName)"), "input name parse user");
        assert_eq!(parted("Plain prose, snake_case and HTTP."), "");
    }

    #[test]
    fn a_text_without_words_has_a_vector() {
        for text in ["", "!!!", "the", "数据库", "🚢"] {
            let length = norm(&embed(text));
            assert!((length - 1.0).abs() < 1e-5, "{text}: {length}");
        }
        assert!(alike("???", "!!!") < 0.9);
    }

    proptest! {
        #[test]
        fn every_vector_has_length_one_and_is_always_the_same(text in ".{0,200}") {
            let vector = embed(&text);
            prop_assert_eq!(vector.len(), DIMENSIONS);
            prop_assert!((norm(&vector) - 1.0).abs() < 1e-4);
            prop_assert_eq!(vector, embed(&text));
        }
    }
}

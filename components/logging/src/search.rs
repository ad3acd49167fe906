//! What a search asks for: words that must all be there, "quoted phrases", `field:value`, and `-field:value` for what must
//! not be. This is the only file that knows how a database looks for words.

use berth_sdk::prelude::*;

use crate::filter::{Filter, like};

/// Characters of a search.
const TEXT_MAX: usize = 1_000;
/// Words, phrases and fields of a search.
const PARTS_MAX: usize = 20;

/// What can be searched in.
pub(crate) struct Searched {
    /// The texts in which words are looked for.
    pub texts: &'static [&'static str],
    /// Names in a search with their columns.
    pub fields: &'static [(&'static str, &'static str)],
    /// The column of a document whose members can be named, such as `context.orderId:7`, with its name in a search.
    pub document: (&'static str, &'static str),
}

/// A part of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A word, or a phrase, anywhere in the text.
    Text(String),
    /// A column's value, in which `*` stands for anything.
    Field { column: &'static str, value: String, is_not: bool },
    /// A member of the document.
    Member { name: String, value: String, is_not: bool },
}

/// Narrows a selection to what a search asks for; 400 when it asks for too much.
pub(crate) fn narrow(filter: &mut Filter, text: &str, searched: &Searched) -> Result<()> {
    let (column, _) = searched.document;
    for part in parse(text, searched)? {
        match part {
            Part::Text(word) => {
                filter.anywhere_in(searched.texts, &word);
            }
            Part::Field { column, value, is_not } => {
                let (operator, value) = match (value.contains('*'), is_not) {
                    (true, false) => ("LIKE ? ESCAPE '!'", like(&value)),
                    (true, true) => ("NOT LIKE ? ESCAPE '!'", like(&value)),
                    (false, false) => ("= ?", value),
                    (false, true) => ("<> ?", value),
                };
                let absent = if is_not { format!(" OR {column} IS NULL") } else { String::new() };
                filter.and(&format!("{column} {operator}{absent}"), [value.into()]);
            }
            Part::Member { name, value, is_not } => {
                let member = format!("CAST({column} AS JSONB) ->> ?");
                if is_not {
                    let sql = format!("COALESCE({member}, '') <> ?");
                    filter.and(&sql, [name.into(), value.into()]);
                } else {
                    filter.and(&format!("{member} = ?"), [name.into(), value.into()]);
                }
            }
        }
    }
    Ok(())
}

fn parse(text: &str, searched: &Searched) -> Result<Vec<Part>> {
    if text.chars().count() > TEXT_MAX {
        return Err(Problem::field("q", format!("must have at most {TEXT_MAX} characters")));
    }
    let parts: Vec<Part> = tokens(text).into_iter().filter_map(|token| part(&token, searched)).collect();
    if parts.len() > PARTS_MAX {
        return Err(Problem::field("q", format!("must have at most {PARTS_MAX} words")));
    }
    Ok(parts)
}

/// Words between white space; quotes hold together what is between them, and are kept.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut token, mut is_quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars().filter(|letter| *letter != '\0') {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                token.push('"');
            }
            letter if letter.is_whitespace() && !is_quoted => tokens.push(std::mem::take(&mut token)),
            letter => token.push(letter),
        }
    }
    tokens.push(token);
    tokens
}

fn part(token: &str, searched: &Searched) -> Option<Part> {
    let bare = |text: &str| text.replace('"', "").trim().to_string();
    let (is_not, named) = match token.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, token),
    };
    if let Some((name, value)) = named.split_once(':').filter(|(name, _)| !name.contains('"')) {
        let value = bare(value);
        let (_, document) = searched.document;
        let member = name.strip_prefix(document).and_then(|rest| rest.strip_prefix('.'));
        if value.is_empty() {
            // `level:` alone is a word.
        } else if let Some((_, column)) = searched.fields.iter().find(|(known, _)| *known == name) {
            let value = match *column {
                "level" => value.to_lowercase(),
                "category" | "severity" => value.to_uppercase(),
                _ => value,
            };
            return Some(Part::Field { column, value, is_not });
        } else if let Some(member) = member.filter(|member| !member.is_empty()) {
            return Some(Part::Member { name: member.to_string(), value, is_not });
        }
    }
    let word = bare(token);
    (!word.is_empty()).then_some(Part::Text(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEARCHED: Searched = Searched {
        texts: &["message"],
        fields: &[("level", "level"), ("traceId", "trace_id")],
        document: ("context", "context"),
    };

    fn sql(text: &str) -> String {
        let mut filter = Filter::new("1 = 1", []);
        narrow(&mut filter, text, &SEARCHED).unwrap();
        filter.sql
    }

    #[test]
    fn words_phrases_and_fields_are_told_apart() {
        let parts = parse(r#"disk "is full" level:error -traceId:t* context.disk:"sda 1" http://x level:"#, &SEARCHED);
        assert_eq!(
            parts.unwrap(),
            [
                Part::Text("disk".into()),
                Part::Text("is full".into()),
                Part::Field { column: "level", value: "error".into(), is_not: false },
                Part::Field { column: "trace_id", value: "t*".into(), is_not: true },
                Part::Member { name: "disk".into(), value: "sda 1".into(), is_not: false },
                Part::Text("http://x".into()),
                Part::Text("level:".into()),
            ]
        );
        assert_eq!(sql("level:error"), "1 = 1 AND (level = $1)");
        assert_eq!(sql("-traceId:a*"), "1 = 1 AND (trace_id NOT LIKE $1 ESCAPE '!' OR trace_id IS NULL)");
        assert_eq!(sql("  "), "1 = 1");
    }

    #[test]
    fn a_search_has_an_end() {
        assert_eq!(parse(&"a ".repeat(21), &SEARCHED).unwrap_err().errors[0].field, "q");
        assert_eq!(parse(&"a".repeat(1_001), &SEARCHED).unwrap_err().status, 400);
    }

    proptest! {
        #[test]
        fn any_text_is_a_search(text in ".{0,100}") {
            let mut filter = Filter::new("1 = 1", []);
            let _ = narrow(&mut filter, &text, &SEARCHED);
            prop_assert_eq!(filter.sql.matches('$').count(), filter.values.len());
        }
    }
}

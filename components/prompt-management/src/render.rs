//! Filling prompts: `{{name}}` and `{{name|filter}}`, without logic and without a second look at what was filled in. Pure.

pub mod filters;
pub mod values;

use std::collections::BTreeMap;

use berth_sdk::{prelude::*, serde_json::Value, validate::FieldError};
use filters::Filter;

/// Characters of a prompt.
pub const CONTENT_CHARACTERS_MAX: usize = 100_000;
/// Bytes of a filled prompt.
const RENDERED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Places of one prompt.
const PLACES_MAX: usize = 1_000;
/// Filters of one place.
const FILTERS_MAX: usize = 10;

/// A prompt, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Place { name: String, filters: Vec<Filter> },
}

impl Template {
    /// Takes a prompt apart; 422 with every place that makes no sense. Braces that are never closed are text.
    pub fn parse(content: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut errors: Vec<FieldError> = Vec::new();
        let mut rest = content;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((inside, further)) = after.split_once("}}") else { break };
            pieces.push(Piece::Text(before.to_string()));
            match place(inside) {
                Ok(piece) => pieces.push(piece),
                Err(message) => errors.push(FieldError::new("content", message)),
            }
            rest = further;
            if pieces.len() > 2 * PLACES_MAX {
                errors.push(FieldError::new("content", format!("must have at most {PLACES_MAX} variables")));
                break;
            }
        }
        pieces.push(Piece::Text(rest.to_string()));
        if errors.is_empty() {
            return Ok(Self { pieces });
        }
        errors.truncate(validate::FAULTS_MAX);
        Err(Problem::unprocessable("The content names variables or filters that make no sense.")
            .with_code("INVALID_TEMPLATE")
            .with_errors(errors))
    }

    /// The names it uses, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for piece in &self.pieces {
            if let Piece::Place { name, .. } = piece
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// Fills in the values; a name without one leaves nothing.
    pub fn fill(&self, values: &BTreeMap<String, Value>) -> Result<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Place { name, filters } => {
                    let value = values.get(name).cloned().unwrap_or(Value::Null);
                    text.push_str(&filters::apply(&value, filters));
                }
            }
            if text.len() > RENDERED_BYTES_MAX {
                return Err(Problem::unprocessable(format!(
                    "It has more than {RENDERED_BYTES_MAX} bytes when filled."
                )));
            }
        }
        Ok(text)
    }
}

fn place(inside: &str) -> Result<Piece, String> {
    let mut parts = inside.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    if !is_name(name) {
        let shown: String = inside.chars().take(60).collect();
        return Err(format!("{{{{{shown}}}}} is no variable: a name has letters, digits and _"));
    }
    let filters = parts.map(Filter::parse).collect::<Result<Vec<_>, _>>()?;
    if filters.len() > FILTERS_MAX {
        return Err(format!("{name} must have at most {FILTERS_MAX} filters"));
    }
    Ok(Piece::Place { name: name.to_string(), filters })
}

/// Whether a text can name a variable.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// About how many tokens a text has: a token is about four bytes of English.
pub fn estimated_tokens(text: &str) -> i64 {
    i64::try_from(text.len().div_ceil(4)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(content: &str, values: Value) -> String {
        let values = values.as_object().unwrap().clone().into_iter().collect();
        Template::parse(content).unwrap().fill(&values).unwrap()
    }

    #[test]
    fn places_become_values_and_are_not_looked_at_again() {
        assert_eq!(filled("Hi {{ name }}, {{name|upper}}!", json!({"name": "Ada"})), "Hi Ada, ADA!");
        assert_eq!(filled("{{a}}", json!({"a": "{{b}}", "b": "x"})), "{{b}}");
        assert_eq!(
            filled("{{n}} {{t}} {{o}} {{gone}}.", json!({"n": 0, "t": false, "o": {"k": [1]}})),
            "0 false {\"k\":[1]} ."
        );
        assert_eq!(filled("a {{ b } c", json!({})), "a {{ b } c");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let problem = Template::parse("{{a|shout}} {{b c}} {{d|truncate(x)}}").unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref(), problem.errors.len()), (422, "INVALID_TEMPLATE", 3));
        assert_eq!(Template::parse("{{a}} {{b|upper}} {{a}}").unwrap().names(), ["a", "b"]);
    }

    proptest! {
        /// Text without braces comes out as it went in, and a value too, whatever is in it.
        #[test]
        fn nothing_is_lost_or_run(text in "[^{}]{0,80}", value in ".{0,80}") {
            let values = BTreeMap::from([("v".to_string(), Value::String(value.clone()))]);
            let content = format!("{text}{{{{v}}}}{text}");
            let rendered = Template::parse(&content).unwrap().fill(&values).unwrap();
            prop_assert_eq!(rendered, format!("{text}{value}{text}"));
        }

        /// No content at all makes it fall over.
        #[test]
        fn any_content_is_parsed_or_refused(content in ".{0,200}") {
            let _ = Template::parse(&content);
        }
    }
}

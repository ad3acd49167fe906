//! Reading expressions: words, then a descent with limits on length, depth and size. Pure.

use berth_sdk::{serde_json, serde_json::Value};

use super::{BYTES_MAX, DEPTH_MAX, Expression, NODES_MAX, Operator, Part, Path};

/// Reads an expression; the error says what is wrong and where.
///
/// ```
/// use condition_rules::parse;
/// assert!(parse("trigger.data.severity >= 3 and not exists steps.check.output.error").is_ok());
/// assert_eq!(parse("a == ").unwrap_err(), "a value is missing at the end");
/// ```
pub fn parse(text: &str) -> Result<Expression, String> {
    whole(text, Parser::either)
}

/// Reads one operand: a literal, a list or a path.
pub fn parse_operand(text: &str) -> Result<Expression, String> {
    whole(text, Parser::operand)
}

fn whole(text: &str, read: fn(&mut Parser) -> Result<Expression, String>) -> Result<Expression, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("it must have at most {BYTES_MAX} bytes"));
    }
    let mut parser = Parser { words: words(text)?, place: 0, depth: 0, nodes: 0 };
    let expression = read(&mut parser)?;
    match parser.words.get(parser.place) {
        None => Ok(expression),
        Some((at, _)) => Err(format!("something is left over at {at}")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Sign(&'static str),
    Literal(Value),
    Path(Path),
    Keyword(&'static str),
}

const SIGNS: [&str; 12] = ["==", "!=", ">=", "<=", ">", "<", "(", ")", "[", "]", ",", "??"];
const KEYWORDS: [&str; 6] = ["and", "or", "not", "in", "contains", "exists"];

fn words(text: &str) -> Result<Vec<(usize, Word)>, String> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(letter) = rest.chars().next() else { break };
        if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        }
        let (word, length) = match letter {
            '\'' | '"' => quoted(rest, at)?,
            '-' | '0'..='9' => number(rest, at)?,
            'a'..='z' | 'A'..='Z' | '_' => named(rest, at)?,
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("{letter:?} at {at} means nothing"))?;
                (Word::Sign(sign), sign.len())
            }
        };
        words.push((at, word));
        at += length;
        if words.len() > NODES_MAX * 2 {
            return Err("it has too many parts".into());
        }
    }
    Ok(words)
}

/// A text in single or double quotes; a backslash takes the next letter as it is.
fn quoted(rest: &str, at: usize) -> Result<(Word, usize), String> {
    let (text, length) = quoted_text(rest).ok_or_else(|| format!("the text at {at} has no end"))?;
    Ok((Word::Literal(Value::String(text)), length))
}

fn quoted_text(rest: &str) -> Option<(String, usize)> {
    let mut letters = rest.char_indices();
    let (_, quote) = letters.next()?;
    let mut text = String::new();
    while let Some((place, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((text, place + quote.len_utf8())),
            '\\' => match letters.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                taken @ ('\\' | '\'' | '"') => text.push(taken),
                _ => return None,
            },
            _ => text.push(letter),
        }
    }
    None
}

fn number(rest: &str, at: usize) -> Result<(Word, usize), String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '+' | '.');
    let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
    let text = rest.get(..length).unwrap_or_default();
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_number() => Ok((Word::Literal(value), length)),
        _ => Err(format!("the number at {at} is none")),
    }
}

fn name_length(rest: &str) -> usize {
    rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))).unwrap_or(rest.len())
}

/// A keyword, true, false, null, or a path.
fn named(rest: &str, at: usize) -> Result<(Word, usize), String> {
    let mut length = name_length(rest);
    let first = rest.get(..length).unwrap_or_default();
    let follows = rest.get(length..).and_then(|rest| rest.chars().next());
    if !matches!(follows, Some('.' | '[')) {
        match first {
            "true" => return Ok((Word::Literal(true.into()), length)),
            "false" => return Ok((Word::Literal(false.into()), length)),
            "null" => return Ok((Word::Literal(Value::Null), length)),
            _ => {}
        }
    }
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == first)
        && follows != Some('.')
    {
        return Ok((Word::Keyword(keyword), length));
    }
    let broken = || format!("the path at {at} breaks off");
    let mut parts = vec![Part::Name(first.to_string())];
    loop {
        let more = rest.get(length..).unwrap_or_default();
        if let Some(more) = more.strip_prefix('.') {
            let count = name_length(more);
            if count == 0 {
                return Err(broken());
            }
            parts.push(Part::Name(more.get(..count).unwrap_or_default().to_string()));
            length += 1 + count;
        } else if let Some(more) = more.strip_prefix('[') {
            let (part, count) = bracketed(more).ok_or_else(broken)?;
            parts.push(part);
            length += 1 + count;
        } else {
            break;
        }
        if parts.len() > DEPTH_MAX {
            return Err(format!("the path at {at} is too long"));
        }
    }
    Ok((Word::Path(Path(parts)), length))
}

/// What stands between brackets of a path, and its length with the closing one.
fn bracketed(rest: &str) -> Option<(Part, usize)> {
    if rest.starts_with(['\'', '"']) {
        let (text, length) = quoted_text(rest)?;
        rest.get(length..)?.strip_prefix(']')?;
        return Some((Part::Name(text), length + 1));
    }
    let end = rest.find(']')?;
    let digits = rest.get(..end)?;
    let is_index = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_index { Some((Part::Index(digits.parse().ok()?), end + 1)) } else { None }
}

struct Parser {
    words: Vec<(usize, Word)>,
    place: usize,
    depth: usize,
    nodes: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.place).map(|(_, word)| word)
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let fits = matches!(self.peek(), Some(Word::Keyword(word)) if *word == keyword);
        self.place += usize::from(fits);
        fits
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let fits = matches!(self.peek(), Some(Word::Sign(word)) if *word == sign);
        self.place += usize::from(fits);
        fits
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it nests deeper than {DEPTH_MAX}"));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn count(&mut self) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(format!("it has more than {NODES_MAX} parts")) } else { Ok(()) }
    }

    fn either(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.all()?];
        while self.takes_keyword("or") {
            parts.push(self.all()?);
        }
        Ok(single(parts, Expression::Or))
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.one()?];
        while self.takes_keyword("and") {
            parts.push(self.one()?);
        }
        Ok(single(parts, Expression::And))
    }

    fn one(&mut self) -> Result<Expression, String> {
        if self.takes_keyword("not") {
            let part = self.deeper(Self::one)?;
            return Ok(Expression::Not(Box::new(part)));
        }
        if self.takes_keyword("exists") {
            let operand = self.operand()?;
            return existing(operand);
        }
        let left = self.operand()?;
        if self.takes_keyword("exists") {
            return existing(left);
        }
        let operator = match self.peek() {
            Some(Word::Sign(sign)) => Operator::parse(sign),
            Some(Word::Keyword(word)) => Operator::parse(word),
            _ => None,
        };
        let Some(operator) = operator else { return Ok(left) };
        self.place += 1;
        let right = self.operand()?;
        Ok(Expression::Compare(operator, Box::new(left), Box::new(right)))
    }

    fn operand(&mut self) -> Result<Expression, String> {
        self.count()?;
        let Some((at, word)) = self.words.get(self.place).cloned() else {
            return Err("a value is missing at the end".into());
        };
        self.place += 1;
        match word {
            Word::Literal(value) => Ok(Expression::Literal(value)),
            Word::Path(path) => Ok(Expression::Path(path)),
            Word::Sign("(") => {
                let inner = self.deeper(Self::either)?;
                if self.takes_sign(")") { Ok(inner) } else { Err(format!("the bracket at {at} is not closed")) }
            }
            Word::Sign("[") => self.deeper(|parser| parser.list(at)),
            _ => Err(format!("a value is missing at {at}")),
        }
    }

    fn list(&mut self, at: usize) -> Result<Expression, String> {
        let mut entries = Vec::new();
        if self.takes_sign("]") {
            return Ok(Expression::List(entries));
        }
        loop {
            entries.push(self.operand()?);
            if self.takes_sign("]") {
                return Ok(Expression::List(entries));
            }
            if !self.takes_sign(",") {
                return Err(format!("the list at {at} is not closed"));
            }
        }
    }
}

fn existing(operand: Expression) -> Result<Expression, String> {
    match operand {
        Expression::Path(path) => Ok(Expression::Exists(path)),
        _ => Err("exists needs a path".into()),
    }
}

fn single(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

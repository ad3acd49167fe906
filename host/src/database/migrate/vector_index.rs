//! `CREATE VECTOR INDEX ON table (column)`, which no parser of SQL knows.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::super::vector_index::{NAME_BYTES_MAX, VectorIndex};
use super::Rules;

/// How it begins.
const BEGINNING: [&str; 3] = ["create", "vector", "index"];

/// Reads the statement if it is one that makes a vector index, and checks its names.
pub(super) fn parse(parser: &mut Parser<'_>, rules: &Rules<'_>) -> Result<Option<VectorIndex>, String> {
    if !BEGINNING.iter().enumerate().all(|(place, word)| is_word(&parser.peek_nth_token(place).token, word)) {
        return Ok(None);
    }
    for _ in BEGINNING {
        parser.advance_token();
    }
    let unparsable = |error: ParserError| error.to_string();
    parser.expect_keyword(Keyword::ON).map_err(unparsable)?;
    let table = rules.own_name(&parser.parse_object_name(false).map_err(unparsable)?)?;
    parser.expect_token(&Token::LParen).map_err(unparsable)?;
    let column = rules.plain_name(&parser.parse_identifier().map_err(unparsable)?)?;
    parser.expect_token(&Token::RParen).map_err(unparsable)?;
    let index = VectorIndex::new(&table, &column);
    index.map(Some).ok_or_else(|| {
        format!(
            "the vector index on {table} ({column}) needs names without __ and of at most {NAME_BYTES_MAX} characters together"
        )
    })
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

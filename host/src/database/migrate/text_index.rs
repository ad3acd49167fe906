//! `CREATE TEXT INDEX name ON table (column [WEIGHT n], …)`, which no parser of SQL knows.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::super::text_index::{COLUMNS_MAX, NAME_BYTES_MAX, TextIndex, WEIGHT_MAX};
use super::Rules;

/// Reads the statement if it is one that makes a text index, and checks its names.
pub(super) fn parse(parser: &mut Parser<'_>, rules: &Rules<'_>) -> Result<Option<TextIndex>, String> {
    if !parser.parse_keywords(&[Keyword::CREATE, Keyword::TEXT, Keyword::INDEX]) {
        return Ok(None);
    }
    let unparsable = |error: ParserError| error.to_string();
    let name = rules.own_name(&parser.parse_object_name(false).map_err(unparsable)?)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("the text index {name} has a name of more than {NAME_BYTES_MAX} characters"));
    }
    parser.expect_keyword(Keyword::ON).map_err(unparsable)?;
    let table = rules.own_name(&parser.parse_object_name(false).map_err(unparsable)?)?;
    parser.expect_token(&Token::LParen).map_err(unparsable)?;
    let mut columns: Vec<(String, usize)> = Vec::new();
    loop {
        let column = rules.plain_name(&parser.parse_identifier().map_err(unparsable)?)?;
        if columns.iter().any(|(other, _)| *other == column) {
            return Err(format!("the text index {name} has the column {column} twice"));
        }
        columns.push((column, weight(parser)?));
        if columns.len() > COLUMNS_MAX {
            return Err(format!("the text index {name} has more than {COLUMNS_MAX} columns"));
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(unparsable)?;
    Ok(Some(TextIndex { name, table, columns }))
}

/// `WEIGHT n` behind a column; 1 when there is none.
fn weight(parser: &mut Parser<'_>) -> Result<usize, String> {
    match parser.peek_token().token {
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("weight") => {}
        _ => return Ok(1),
    }
    parser.advance_token();
    let token = parser.next_token().token;
    match &token {
        Token::Number(number, _) => number.parse().ok(),
        _ => None,
    }
    .filter(|weight| (1..=WEIGHT_MAX).contains(weight))
    .ok_or_else(|| format!("a weight is 1 to {WEIGHT_MAX}, not {token}"))
}

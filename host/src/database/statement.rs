//! Statements of guests: checked against a grant, and written anew for the database that shall run them.
//!
//! What runs is never the text that came in but the text made of the parsed tree, so that a database cannot read a
//! statement in another way than the check did: comments, quoting and case are settled before. Everything is refused
//! that is not listed here. Names given by WITH are renamed, so that they can never mean a table.

mod check;
mod expression;
mod functions;
mod hint;
mod query;
#[cfg(test)]
mod tests;
mod text;
mod vector;

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{Expr, Statement as Parsed, VisitMut as _, visit_statements};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::{DatabaseError, Dialect, Value};
pub(super) use check::CTE_PREFIX;
use check::Checker;
pub(super) use functions::is_table_function;
pub(super) use hint::Hint;
#[cfg(test)]
pub(crate) use tests::ALLOWED;

/// Bytes of one statement.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Parameters of one statement.
pub(crate) const PARAMETERS_MAX: usize = 500;
/// Open parentheses and CASEs at once. The parser looks ahead at each of them, so deep nesting costs it dearly.
const NESTING_MAX: usize = 16;
/// Operators and the like. A chain of them makes a tree as deep as it is long, which all walks over it descend.
const OPERATORS_MAX: usize = 250;
/// How deep the parser may recurse.
const RECURSION_MAX: usize = 48;

/// A statement that may run.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    sql: Arc<str>,
    /// Under which prefixes it was checked, which the database asks once more.
    tables: Arc<[String]>,
    parameters: usize,
    is_read_only: bool,
    hints: Arc<[Option<Hint>]>,
    /// Which parameters are what to search for, and where they go.
    searches: Arc<[(usize, usize)]>,
    dialect: Dialect,
}

/// Why a statement may not run; each with a sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It names something that is not the plugin's, or does something no guest may do.
    #[error("{0}")]
    Denied(String),
    /// It is no statement, or one that not both databases have.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    TooLarge(String),
}

impl Statement {
    /// Checks a statement of a plugin that owns the tables under `prefixes`, and writes it for `dialect`.
    pub(crate) fn check(sql: &str, prefixes: &[String], dialect: Dialect) -> Result<Self, Refusal> {
        if sql.len() > TEXT_BYTES_MAX {
            return Err(Refusal::TooLarge(format!("a statement has at most {TEXT_BYTES_MAX} bytes")));
        }
        if sql.contains('\0') {
            return Err(Refusal::Invalid("a statement must not contain the NUL character".to_owned()));
        }
        shape(sql)?;
        let mut statements =
            parser(sql).and_then(|mut parser| parser.parse_statements()).map_err(|error| unparsable(&error))?;
        let (Some(mut statement), true) = (statements.pop(), statements.is_empty()) else {
            return Err(Refusal::Invalid("exactly one statement is allowed".to_owned()));
        };
        // Before the rewriting, which loses what a cast was to.
        let hints = hint::of(&statement);
        let mut checker = Checker::new(prefixes, dialect);
        checker.run(&mut statement)?;
        let searches = checker.number_searches(&mut statement).into();
        let text = statement.to_string();
        // A printer's mistake must not become a hole.
        let again =
            parser(&text).and_then(|mut parser| parser.parse_statements()).map_err(|error| unparsable(&error))?;
        if !checker.is_same(&again, &statement) {
            return Err(Refusal::Invalid("the statement cannot be written in one way only: simplify it".to_owned()));
        }
        let parameters = checker.parameters();
        let sql = written_for(text, prefixes, dialect);
        let tables = prefixes.into();
        Ok(Self { is_read_only: only_reads(&statement), sql, tables, parameters, hints, searches, dialect })
    }

    /// A statement of SQLite as if it had been checked, for tests of what comes after the check.
    #[cfg(test)]
    pub(super) fn unchecked(sql: &str, prefixes: &[String]) -> Self {
        let (sql, dialect) = (written_for(sql.to_owned(), prefixes, Dialect::Sqlite), Dialect::Sqlite);
        let (hints, searches) = (Arc::from([]), Arc::from([]));
        Self { sql, tables: prefixes.into(), parameters: 0, is_read_only: false, hints, searches, dialect }
    }

    /// The text to run.
    pub(crate) fn sql(&self) -> &Arc<str> {
        &self.sql
    }

    /// Prefixes of the tables it may touch.
    pub(super) fn tables(&self) -> &Arc<[String]> {
        &self.tables
    }

    /// How many parameters it takes.
    pub(crate) fn parameters(&self) -> usize {
        self.parameters
    }

    /// Whether it changes no row, neither by itself nor in a WITH.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The parameters as the text takes them: what to search for becomes the database's own query.
    pub(crate) fn bind(&self, parameters: Vec<Value>) -> Result<Vec<Value>, DatabaseError> {
        text::bind(&self.searches, parameters, self.dialect)
    }

    pub(super) fn hints(&self) -> &Arc<[Option<Hint>]> {
        &self.hints
    }

    /// About how many bytes it takes in a cache.
    pub(crate) fn size(&self) -> usize {
        self.sql.len() + self.hints.len() + 16 * self.searches.len() + 64
    }
}

/// The text as the database gets it. SQLite keeps prepared statements by their text, and with each of them what its second
/// wall said of it: the prefixes in the text keep those of different plugins apart.
fn written_for(text: String, prefixes: &[String], dialect: Dialect) -> Arc<str> {
    match dialect {
        Dialect::Sqlite => format!("{text} /* {} */", prefixes.join(" ")).into(),
        Dialect::Postgres => text.into(),
    }
}

/// Whether neither the statement nor one within it is anything else than a query.
fn only_reads(statement: &Parsed) -> bool {
    let visited = visit_statements(statement, |inner| match inner {
        Parsed::Query(_) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    visited.is_continue()
}

/// Checks a statement of a migration that changes rows, and writes it for the dialect.
pub(super) fn check_parsed(statement: &mut Parsed, prefixes: &[String], dialect: Dialect) -> Result<(), Refusal> {
    let mut checker = Checker::new(prefixes, dialect);
    checker.run(statement)?;
    if checker.parameters() > 0 {
        return Err(Refusal::Invalid("a migration has no parameters".to_owned()));
    }
    Ok(())
}

/// Checks an expression of an index or a constraint: no query, no parameter, no function that is not listed.
pub(super) fn check_expression(expression: &Expr, dialect: Dialect) -> Result<(), Refusal> {
    let mut checker = Checker::new(&[], dialect);
    checker.forbid_queries();
    let outcome = expression.clone().visit(&mut checker);
    match outcome {
        std::ops::ControlFlow::Break(refusal) => Err(*refusal),
        std::ops::ControlFlow::Continue(()) if checker.parameters() > 0 => {
            Err(Refusal::Invalid("an index or a constraint has no parameters".to_owned()))
        }
        std::ops::ControlFlow::Continue(()) => Ok(()),
    }
}

fn parser(sql: &str) -> Result<Parser<'static>, ParserError> {
    const DIALECT: &PostgreSqlDialect = &PostgreSqlDialect {};
    Parser::new(DIALECT)
        .with_recursion_limit(RECURSION_MAX)
        // Literals stay as they are written, so that they are written out as they were.
        .with_options(ParserOptions::new().with_unescape(false))
        .try_with_sql(sql)
}

fn unparsable(error: &ParserError) -> Refusal {
    match error {
        ParserError::RecursionLimitExceeded => Refusal::TooLarge("the statement is nested too deeply".to_owned()),
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => Refusal::Invalid(text.clone()),
    }
}

/// Refuses what would cost the parser, or a walk over its tree, too much: judged by the tokens alone, before parsing. Each
/// statement of a migration counts for itself.
pub(super) fn shape(sql: &str) -> Result<(), Refusal> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize()
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    let (mut open, mut operators) = (0_usize, 0_usize);
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            // No tree goes on behind it. What is still open then is no statement.
            Token::SemiColon => operators = 0,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => open += 1,
                Keyword::END => open = open.saturating_sub(1),
                Keyword::NoKeyword | Keyword::VALUES | Keyword::AS | Keyword::NULL => {}
                keyword if DEEPENING.contains(&keyword) => operators += 1,
                _ => {}
            },
            Token::Word(_)
            | Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::Placeholder(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_) => {}
            _ => operators += 1,
        }
        if open > NESTING_MAX {
            return Err(Refusal::TooLarge(format!("at most {NESTING_MAX} parentheses or CASEs may be open at once")));
        }
        if operators > OPERATORS_MAX {
            return Err(Refusal::TooLarge(format!("a statement has at most {OPERATORS_MAX} operators")));
        }
    }
    Ok(())
}

/// Words that put one expression or query around another.
const DEEPENING: &[Keyword] = &[
    Keyword::AND,
    Keyword::OR,
    Keyword::XOR,
    Keyword::NOT,
    Keyword::IS,
    Keyword::NOTNULL,
    Keyword::IN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::SIMILAR,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::BETWEEN,
    Keyword::COLLATE,
    Keyword::AT,
    Keyword::UNION,
    Keyword::EXCEPT,
    Keyword::MINUS,
    Keyword::INTERSECT,
    Keyword::SELECT,
    Keyword::JOIN,
    Keyword::INTERVAL,
    Keyword::OVERLAPS,
    Keyword::OPERATOR,
    Keyword::MEMBER,
    Keyword::DIV,
    Keyword::MATCH,
    Keyword::GLOB,
    Keyword::PRIOR,
];

//! `text_match(alias.index, $n)` and `text_rank(alias.index, $n)`: full-text search, which each database spells in a way
//! of its own.
//!
//! A text index is a table beside the table in SQLite, with the rows' own numbers, and a column of the table in
//! PostgreSQL. What somebody typed becomes the database's own query in the host, so it is never malformed there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Statement, Value,
    ValueWithSpan, VisitMut as _, VisitorMut,
};

use super::super::text_index;
use super::super::{DatabaseError, Dialect, Value as Parameter};
use super::{Refusal, parser};

/// What a parameter of a search is called until all uses of all parameters are known.
const MARK: &str = "$text";

/// What is asked of a text index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Match,
    Rank,
}

/// A call of one of the two functions.
pub(super) struct Call<'a> {
    kind: Kind,
    /// The table, as it is called in the statement.
    alias: &'a Ident,
    pub index: &'a Ident,
    /// The number of the parameter.
    pub parameter: &'a str,
}

/// Which of the two a function is.
pub(super) fn kind(function: &Function) -> Option<Kind> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case("text_match") => Some(Kind::Match),
        [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case("text_rank") => Some(Kind::Rank),
        _ => None,
    }
}

/// Reads a call; its form must be exactly the one that is described.
pub(super) fn read(function: &Function, kind: Kind) -> Result<Call<'_>, Box<Refusal>> {
    let fault = || {
        let name = if kind == Kind::Match { "text_match" } else { "text_rank" };
        Box::new(Refusal::Invalid(format!("write {name}(alias.index, $1), with the alias of the index's table")))
    };
    let plain = !function.uses_odbc_syntax
        && matches!(function.parameters, FunctionArguments::None)
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && function.filter.is_none()
        && function.over.is_none();
    let FunctionArguments::List(list) = &function.args else { return Err(fault()) };
    if !plain || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
        return Err(fault());
    }
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
            value: Value::Placeholder(number),
            ..
        }))),
    ] = list.args.as_slice()
    else {
        return Err(fault());
    };
    let [alias, index] = parts.as_slice() else { return Err(fault()) };
    Ok(Call { kind, alias, index, parameter: number.trim_start_matches('$') })
}

/// The call as the dialect has it. Its names have been checked.
pub(super) fn rewrite(call: &Call<'_>, dialect: Dialect) -> Result<Expr, Box<Refusal>> {
    let Call { kind, alias, index, parameter } = call;
    let table = format!("{}{}", text_index::PREFIX, index.value);
    let text = match (dialect, kind) {
        (Dialect::Sqlite, Kind::Match) => {
            format!("({alias}.rowid IN (SELECT rowid FROM {table}({MARK}{parameter})))")
        }
        // Ranked once a statement and then looked up: `rank` asks the whole index for each row otherwise.
        (Dialect::Sqlite, Kind::Rank) => format!(
            "COALESCE((WITH {table}_rank AS MATERIALIZED (SELECT rowid AS number, rank AS place FROM {table}({MARK}{parameter})) \
             SELECT -place FROM {table}_rank WHERE number = {alias}.rowid), 0.0)"
        ),
        (Dialect::Postgres, Kind::Match) => {
            format!("({alias}.{index} @@ to_tsquery('pg_catalog.simple', {MARK}{parameter}))")
        }
        (Dialect::Postgres, Kind::Rank) => format!(
            "ts_rank('{}', {alias}.{index}, to_tsquery('pg_catalog.simple', {MARK}{parameter}), 1)",
            text_index::WEIGHTS
        ),
    };
    parser(&text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|error| Box::new(Refusal::Invalid(error.to_string())))
}

/// Which parameters are searches. One that the statement also uses as it is gets a copy behind the last parameter.
#[derive(Clone, Debug, Default)]
pub(super) struct Searches {
    /// How often a parameter is used at all, and how often as a search.
    uses: BTreeMap<usize, (usize, usize)>,
}

impl Searches {
    pub(super) fn note_use(&mut self, number: usize) {
        self.uses.entry(number).or_default().0 += 1;
    }

    pub(super) fn note_search(&mut self, number: usize) {
        self.uses.entry(number).or_default().1 += 1;
    }

    /// Puts the final numbers in the place of the marks. Returns from which parameter each search comes and where it goes.
    pub(super) fn number(&self, statement: &mut Statement, parameters: usize) -> Vec<(usize, usize)> {
        let mut next = parameters;
        let mut places = BTreeMap::new();
        for (number, (uses, searches)) in &self.uses {
            if *searches == 0 {
                continue;
            }
            let place = if uses == searches {
                *number
            } else {
                next += 1;
                next
            };
            places.insert(*number, place);
        }
        if !places.is_empty() {
            let _: ControlFlow<()> = statement.visit(&mut Numbers(&places));
        }
        places.into_iter().collect()
    }
}

struct Numbers<'a>(&'a BTreeMap<usize, usize>);

impl VisitorMut for Numbers<'_> {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(text) = &mut value.value
            && let Some(place) =
                text.strip_prefix(MARK).and_then(|number| number.parse().ok()).and_then(|number| self.0.get(&number))
        {
            *text = format!("${place}");
        }
        ControlFlow::Continue(())
    }
}

/// Writes what was typed as the database's own query, in the places where the statement looks for it.
pub(super) fn bind(
    places: &[(usize, usize)],
    mut parameters: Vec<Parameter>,
    dialect: Dialect,
) -> Result<Vec<Parameter>, DatabaseError> {
    for (from, to) in places {
        let query = match parameters.get(from - 1) {
            Some(Parameter::Text(text)) => text_index::query(text, dialect),
            Some(Parameter::Null) => text_index::query("", dialect),
            _ => return Err(DatabaseError::Invalid(format!("parameter ${from} is what to search for: text"))),
        };
        match parameters.get_mut(to - 1) {
            Some(place) => *place = Parameter::Text(query),
            None => parameters.push(Parameter::Text(query)),
        }
    }
    Ok(parameters)
}

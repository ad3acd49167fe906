//! `vector_product(alias.column, $n)`: how alike a column's vector and a parameter are, counted by the database. SQLite has a
//! function of this name from the host. PostgreSQL reads the column's vector index, which the SELECT joins; where there is no
//! such index, or it is not filled yet, PostgreSQL says so.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Select,
    TableFactor, Value, ValueWithSpan,
};

use super::super::vector_index::{ID, INNER, PREFIX, PRODUCT, READ, VECTOR, VectorIndex};
use super::{Refusal, parser};

const NAME: &str = "vector_product";

/// A call of the function.
pub(super) struct Call {
    /// The table, as it is called in the statement.
    pub alias: Ident,
    pub column: Ident,
    /// With its `$`.
    parameter: String,
}

/// A table in the FROM of a SELECT.
pub(super) struct Table {
    alias: String,
    name: String,
    /// Columns of it that are compared, and the numbers of the joins with their indexes.
    compared: Vec<(VectorIndex, usize)>,
}

/// Whether a function is it.
pub(super) fn is_product(function: &Function) -> bool {
    matches!(function.name.0.as_slice(), [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case(NAME))
}

/// Checks the form of a call, which must be exactly the one that is described.
pub(super) fn check(function: &Function) -> Result<(), Box<Refusal>> {
    let plain = !function.uses_odbc_syntax
        && matches!(function.parameters, FunctionArguments::None)
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && function.filter.is_none()
        && function.over.is_none();
    if plain && arguments(function).is_some() {
        return Ok(());
    }
    Err(Box::new(Refusal::Invalid(format!("write {NAME}(alias.column, $1), with the alias of the column's table"))))
}

fn arguments(function: &Function) -> Option<Call> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
            value: Value::Placeholder(parameter),
            ..
        }))),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let [alias, column] = parts.as_slice() else { return None };
    let plain = list.clauses.is_empty() && list.duplicate_treatment.is_none();
    plain.then(|| Call { alias: alias.clone(), column: column.clone(), parameter: parameter.clone() })
}

/// Reads an expression that is a call; its form has been checked.
pub(super) fn read(expr: &Expr) -> Option<Call> {
    match expr {
        Expr::Function(function) if is_product(function) => arguments(function),
        _ => None,
    }
}

/// The tables in the FROM of a SELECT, with the names that `named` gives; those without one are left out.
pub(super) fn tables(select: &Select, named: impl Fn(&Ident) -> Option<String>) -> Vec<Table> {
    let factors = select
        .from
        .iter()
        .flat_map(|tables| std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation)));
    factors
        .filter_map(|factor| {
            let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
            let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
            let name = named(ident)?;
            let alias = match alias {
                Some(alias) if alias.columns.is_empty() => folded(&alias.name),
                Some(_) => return None,
                None => name.clone(),
            };
            Some(Table { alias, name, compared: Vec::new() })
        })
        .collect()
}

/// A name as PostgreSQL reads it.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

impl Table {
    /// Whether the statement calls it so.
    pub(super) fn is(&self, alias: &str) -> bool {
        self.alias == alias
    }

    /// Notes that a column is compared. Returns the number of its join: `next`, when it has none yet. None: it can have no index.
    pub(super) fn compare(&mut self, column: &str, next: usize) -> Option<usize> {
        let index = VectorIndex::new(&self.name, column)?;
        if let Some((_, number)) = self.compared.iter().find(|(other, _)| *other == index) {
            return Some(*number);
        }
        self.compared.push((index, next));
        Some(next)
    }
}

fn joined(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// The call over the index that is joined under a number. What the index cannot hold, and what is not in it, is compared as
/// the bytes it is. The parameter is read in a query of its own, and with it once a statement and not once a row.
pub(super) fn rewrite(call: &Call, number: usize) -> Result<Expr, Box<Refusal>> {
    let Call { alias, column, parameter } = call;
    let text = format!(
        "COALESCE({INNER}({}.{VECTOR}, (SELECT {READ}({parameter}))), {PRODUCT}({alias}.{column}, {parameter}))",
        joined(number)
    );
    parser(&text).and_then(|mut parser| parser.parse_expr()).map_err(|error| unwritable(&error))
}

/// Joins the indexes of what is compared, each behind its table: they have a row for each of its rows at most, and columns that
/// no table has.
pub(super) fn join(select: &mut Select, tables: &[Table]) -> Result<(), Box<Refusal>> {
    for (table, index, number) in
        tables.iter().flat_map(|table| table.compared.iter().map(move |(index, number)| (table, index, *number)))
    {
        let (view, alias) = (index.view(), joined(number));
        let text = format!("one LEFT JOIN {view} AS {alias} ON {alias}.{ID} = \"{}\".id", table.alias);
        let made = parser(&text).and_then(|mut parser| parser.parse_table_and_joins());
        let Some(join) = made.map_err(|error| unwritable(&error))?.joins.pop() else { continue };
        for tables in &mut select.from {
            if is_called(&tables.relation, &table.alias) {
                tables.joins.insert(0, join);
                break;
            }
            if let Some(place) = tables.joins.iter().position(|other| is_called(&other.relation, &table.alias)) {
                tables.joins.insert(place + 1, join);
                break;
            }
        }
    }
    Ok(())
}

fn is_called(factor: &TableFactor, name: &str) -> bool {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } => folded(&alias.name) == name,
        TableFactor::Table { name: ObjectName(parts), alias: None, .. } => {
            matches!(parts.as_slice(), [ObjectNamePart::Identifier(ident)] if folded(ident) == name)
        }
        _ => false,
    }
}

fn unwritable(error: &sqlparser::parser::ParserError) -> Box<Refusal> {
    Box::new(Refusal::Invalid(error.to_string()))
}

//! `vector_product(alias.column, $n)`: how alike a column's vector and a parameter are, counted by the database. SQLite has a
//! function of this name from the host; PostgreSQL has none, and says so.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Value, ValueWithSpan,
};

use super::Refusal;

const NAME: &str = "vector_product";

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
    let is_right = matches!(&function.args, FunctionArguments::List(list)
        if list.clauses.is_empty() && list.duplicate_treatment.is_none() && matches!(list.args.as_slice(), [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }))),
        ] if parts.len() == 2));
    if plain && is_right {
        return Ok(());
    }
    Err(Box::new(Refusal::Invalid(format!("write {NAME}(alias.column, $1), with the alias of the column's table"))))
}

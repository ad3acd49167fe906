//! Expressions: the operators, casts and calls that both databases have.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Ident, ObjectNamePart, TimezoneInfo, UnaryOperator,
};

use super::super::Dialect;
use super::check::{Walk, deny, invalid};
use super::functions::{is_function, is_reserved};

const CONTINUE: Walk = ControlFlow::Continue(());

/// One expression; those inside it are visited on their own.
pub(super) fn expression(expr: &mut Expr, dialect: Dialect) -> Walk {
    match expr {
        Expr::Identifier(ident) => plain(ident),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [_, column] => plain(column),
            _ => deny(format!("{} names a schema", DisplayParts(parts))),
        },
        Expr::BinaryOp { op, .. } => operator(op),
        Expr::UnaryOp { op: UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not, .. } => CONTINUE,
        Expr::Like { any: false, .. } => CONTINUE,
        Expr::ILike { .. } => invalid("ILIKE is not in both databases: write LOWER(…) LIKE LOWER(…)"),
        Expr::Cast { kind, data_type, format: None, .. } => {
            // `::` is PostgreSQL's own spelling.
            if matches!(kind, CastKind::DoubleColon) {
                *kind = CastKind::Cast;
            }
            if !matches!(kind, CastKind::Cast) {
                return invalid("only CAST is supported");
            }
            match cast(data_type, dialect) {
                Some(written) => {
                    *data_type = written;
                    CONTINUE
                }
                None => invalid(format!(
                    "a CAST is to TEXT, BIGINT, DOUBLE PRECISION, NUMERIC, BOOLEAN, TIMESTAMPTZ, JSONB or BYTEA, not {data_type}"
                )),
            }
        }
        Expr::Substring { special: true, .. } => CONTINUE,
        Expr::Substring { .. } => invalid("write SUBSTR(text, from, length)"),
        Expr::Trim { trim_where: None, trim_what: None, trim_characters: None, .. } => CONTINUE,
        Expr::Trim { .. } => invalid("write TRIM(text), or LTRIM and RTRIM with two arguments"),
        Expr::Function(function) => call(function),
        Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_) => CONTINUE,
        other => invalid(format!("{other} is not an expression of both databases")),
    }
}

/// What is said in another way in SQLite, after everything inside has been visited.
pub(super) fn rewrite(expr: &mut Expr, dialect: Dialect) {
    // There `->>` answers a number for a number, where PostgreSQL answers text.
    if dialect == Dialect::Sqlite && matches!(expr, Expr::BinaryOp { op: BinaryOperator::LongArrow, .. }) {
        let inner = std::mem::replace(expr, Expr::Tuple(Vec::new()));
        *expr = Expr::Cast { kind: CastKind::Cast, expr: Box::new(inner), data_type: DataType::Text, format: None };
    }
}

/// One argument of a call.
pub(super) fn argument(argument: &FunctionArg) -> Walk {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(_) | FunctionArgExpr::Wildcard) => CONTINUE,
        _ => invalid("a function takes expressions"),
    }
}

fn plain(ident: &Ident) -> Walk {
    if ident.quote_style.is_none() && is_reserved(&ident.value.to_ascii_lowercase()) {
        return deny(format!("{ident} is not a column; times and identities are given as parameters"));
    }
    CONTINUE
}

fn operator(operator: &BinaryOperator) -> Walk {
    match operator {
        BinaryOperator::Plus
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::Modulo
        | BinaryOperator::StringConcat
        | BinaryOperator::Gt
        | BinaryOperator::Lt
        | BinaryOperator::GtEq
        | BinaryOperator::LtEq
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::And
        | BinaryOperator::Or
        | BinaryOperator::BitwiseAnd
        | BinaryOperator::BitwiseOr
        | BinaryOperator::Arrow
        | BinaryOperator::LongArrow => CONTINUE,
        other => invalid(format!("the operator {other} is not in both databases")),
    }
}

fn call(function: &Function) -> Walk {
    let name = match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => ident.value.to_ascii_lowercase(),
        _ => return deny(format!("the function {} is not allowed", function.name)),
    };
    if !is_function(&name) {
        return deny(format!("the function {name} is not allowed"));
    }
    if function.uses_odbc_syntax
        || !matches!(function.parameters, FunctionArguments::None)
        || !function.within_group.is_empty()
        || function.null_treatment.is_some()
    {
        return invalid(format!("{name} may only have arguments, FILTER and OVER"));
    }
    let FunctionArguments::List(list) = &function.args else {
        return invalid(format!("{name} needs its arguments in parentheses"));
    };
    if list.clauses.iter().any(|clause| !matches!(clause, FunctionArgumentClause::OrderBy(_))) {
        return invalid(format!("{name} may only have ORDER BY among its arguments"));
    }
    list.args.iter().try_for_each(argument)
}

/// A cast's type as the dialect has it. SQLite casts to a storage class, so JSON and times stay the text they are.
fn cast(data_type: &DataType, dialect: Dialect) -> Option<DataType> {
    let (sqlite, postgres) = match data_type {
        DataType::Text | DataType::Varchar(None) => (DataType::Text, DataType::Text),
        DataType::BigInt(None)
        | DataType::Int8(None)
        | DataType::Integer(None)
        | DataType::Int(None)
        | DataType::Int4(None) => (DataType::Integer(None), DataType::BigInt(None)),
        DataType::DoublePrecision | DataType::Float8 | DataType::Real | DataType::Double(ExactNumberInfo::None) => {
            (DataType::Real, DataType::DoublePrecision)
        }
        DataType::Numeric(ExactNumberInfo::None) => (DataType::Real, DataType::Numeric(ExactNumberInfo::None)),
        DataType::Boolean | DataType::Bool => (DataType::Integer(None), DataType::Boolean),
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            (DataType::Text, DataType::Timestamp(None, TimezoneInfo::Tz))
        }
        DataType::JSONB => (DataType::Text, DataType::JSONB),
        DataType::Bytea => (DataType::Blob(None), DataType::Bytea),
        _ => return None,
    };
    Some(match dialect {
        Dialect::Sqlite => sqlite,
        Dialect::Postgres => postgres,
    })
}

struct DisplayParts<'a>(&'a [Ident]);

impl std::fmt::Display for DisplayParts<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            write!(formatter, "{}{part}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

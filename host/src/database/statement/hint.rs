//! What kind of value an expression of the answer has, for SQLite, which answers a comparison with 0 or 1 and a piece
//! of JSON with text.

use std::sync::Arc;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, ObjectNamePart, SelectItem, SetExpr, Statement, UnaryOperator, Value,
};

use super::functions;

/// What a value without a declared type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Hint {
    Boolean,
    Json,
    /// Text and nothing else, whatever it looks like.
    Text,
}

/// One entry a column of the answer, as far as it can be told; none after a `*`.
pub(super) fn of(statement: &Statement) -> Arc<[Option<Hint>]> {
    let items = match statement {
        Statement::Query(query) => projection(&query.body),
        Statement::Insert(insert) => insert.returning.as_deref(),
        Statement::Update(update) => update.returning.as_deref(),
        Statement::Delete(delete) => delete.returning.as_deref(),
        _ => None,
    };
    items
        .unwrap_or_default()
        .iter()
        .map_while(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(hint(expr)),
            _ => None,
        })
        .collect()
}

fn projection(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => projection(&query.body),
        SetExpr::SetOperation { left, .. } => projection(left),
        SetExpr::Insert(Statement::Insert(insert)) => insert.returning.as_deref(),
        SetExpr::Update(Statement::Update(update)) => update.returning.as_deref(),
        SetExpr::Delete(Statement::Delete(delete)) => delete.returning.as_deref(),
        _ => None,
    }
}

fn hint(expr: &Expr) -> Option<Hint> {
    match expr {
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
        | Expr::Like { .. }
        | Expr::Exists { .. }
        | Expr::UnaryOp { op: UnaryOperator::Not, .. } => Some(Hint::Boolean),
        Expr::BinaryOp { op, .. } => operator(op),
        Expr::Nested(inner) => hint(inner),
        Expr::Value(value) => match value.value {
            Value::Boolean(_) => Some(Hint::Boolean),
            Value::SingleQuotedString(_) => Some(Hint::Text),
            _ => None,
        },
        Expr::Cast { data_type, .. } => match data_type {
            DataType::Text => Some(Hint::Text),
            DataType::JSONB => Some(Hint::Json),
            DataType::Boolean | DataType::Bool => Some(Hint::Boolean),
            _ => None,
        },
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().map(|when| &when.result).chain(else_result.as_deref()).find_map(hint)
        }
        Expr::Function(function) => match function.name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] if functions::is_json(&name.value.to_ascii_lowercase()) => {
                Some(Hint::Json)
            }
            [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case("text_match") => Some(Hint::Boolean),
            _ => None,
        },
        _ => None,
    }
}

fn operator(operator: &BinaryOperator) -> Option<Hint> {
    match operator {
        BinaryOperator::Gt
        | BinaryOperator::Lt
        | BinaryOperator::GtEq
        | BinaryOperator::LtEq
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::And
        | BinaryOperator::Or => Some(Hint::Boolean),
        BinaryOperator::Arrow => Some(Hint::Json),
        BinaryOperator::LongArrow | BinaryOperator::StringConcat => Some(Hint::Text),
        _ => None,
    }
}

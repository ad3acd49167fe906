//! What an expression says of a run. Pure.

use std::{borrow::Cow, cmp::Ordering};

use berth_sdk::serde_json::Value;

use super::{Expression, Operator, Part, Path};

impl Expression {
    /// Whether it holds. A value that is not there is null; only `true` by itself holds.
    pub fn holds(&self, scope: &Value) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(scope)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(scope)),
            Self::Not(part) => !part.holds(scope),
            Self::Exists(path) => look_up(scope, path).is_some_and(|value| !value.is_null()),
            Self::Compare(operator, left, right) => compare(*operator, &left.value(scope), &right.value(scope)),
            Self::Literal(_) | Self::List(_) | Self::Path(_) => *self.value(scope) == Value::Bool(true),
        }
    }

    /// The value it stands for.
    pub fn value<'a>(&'a self, scope: &'a Value) -> Cow<'a, Value> {
        match self {
            Self::Literal(value) => Cow::Borrowed(value),
            Self::Path(path) => look_up(scope, path).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            Self::List(parts) => {
                Cow::Owned(Value::Array(parts.iter().map(|part| part.value(scope).into_owned()).collect()))
            }
            _ => Cow::Owned(Value::Bool(self.holds(scope))),
        }
    }
}

/// The value at a path; none when there is nothing there.
///
/// ```
/// use berth_sdk::json;
/// use condition_rules::{Path, look_up};
/// let scope = json!({"a": [{"b": 1}]});
/// assert_eq!(look_up(&scope, &Path::parse("a[0].b").unwrap()), Some(&json!(1)));
/// assert_eq!(look_up(&scope, &Path::parse("a[1].b").unwrap()), None);
/// ```
pub fn look_up<'a>(scope: &'a Value, path: &Path) -> Option<&'a Value> {
    path.0.iter().try_fold(scope, |value, part| match (value, part) {
        (Value::Object(members), Part::Name(name)) => members.get(name),
        (Value::Object(members), Part::Index(index)) => members.get(&index.to_string()),
        (Value::Array(entries), Part::Index(index)) => entries.get(*index),
        (Value::Array(entries), Part::Name(name)) => entries.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Whether a comparison holds.
pub fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    let order = || order(left, right);
    match operator {
        Operator::Equal => equal(left, right),
        Operator::Unequal => !equal(left, right),
        Operator::Greater => order() == Some(Ordering::Greater),
        Operator::Less => order() == Some(Ordering::Less),
        Operator::GreaterOrEqual => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
        Operator::LessOrEqual => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        Operator::In => has(right, left),
        Operator::Contains => has(left, right),
    }
}

/// Whether two values are the same; numbers by their size.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Array(entries), part) => entries.iter().any(|entry| equal(entry, part)),
        (Value::String(text), Value::String(piece)) => text.contains(piece.as_str()),
        (Value::Object(members), Value::String(name)) => members.contains_key(name),
        _ => false,
    }
}

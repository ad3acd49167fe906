//! Judging strictly, for rules that something hangs on: what is not known or cannot be compared is an error, while
//! [`Expression::holds`] takes it for false, and its contrary for true. Pure.

use std::borrow::Cow;

use berth_sdk::serde_json::Value;

use super::{Expression, Operator, compare, look_up};

impl Expression {
    /// Whether it holds of these facts; an error says what keeps it from being judged. What stands behind a part that decides
    /// already is not looked at: `exists a and a > 3`.
    ///
    /// ```
    /// use berth_sdk::json;
    /// let decide = |text: &str| condition_rules::parse(text).unwrap().decide(&json!({"days": 30, "region": "eu"}));
    /// assert_eq!(decide("days <= 30 and region in ['eu', 'us']"), Ok(true));
    /// assert_eq!(decide("not missing > 3").unwrap_err(), "missing is not known");
    /// assert_eq!(decide("exists missing and missing > 3"), Ok(false));
    /// assert!(decide("region > 3").is_err() && decide("days").is_err());
    /// ```
    pub fn decide(&self, facts: &Value) -> Result<bool, String> {
        match self {
            Self::And(parts) => all(parts, facts, true),
            Self::Or(parts) => all(parts, facts, false).map(|none| !none),
            Self::Not(part) => Ok(!part.decide(facts)?),
            Self::Exists(path) => Ok(look_up(facts, path).is_some_and(|value| !value.is_null())),
            Self::Compare(operator, left, right) => {
                let (left, right) = (left.known(facts)?, right.known(facts)?);
                require_comparable(*operator, &left, &right)?;
                Ok(compare(*operator, &left, &right))
            }
            Self::Literal(_) | Self::List(_) | Self::Path(_) => match &*self.known(facts)? {
                Value::Bool(truth) => Ok(*truth),
                other => Err(format!("{} is neither true nor false", shown(other))),
            },
        }
    }

    /// The value it stands for; an error when that is not known.
    fn known<'a>(&'a self, facts: &'a Value) -> Result<Cow<'a, Value>, String> {
        match self {
            Self::Literal(value) => Ok(Cow::Borrowed(value)),
            Self::Path(path) => look_up(facts, path).map(Cow::Borrowed).ok_or_else(|| format!("{path} is not known")),
            Self::List(parts) => {
                let values: Result<Vec<Value>, String> =
                    parts.iter().map(|part| part.known(facts).map(Cow::into_owned)).collect();
                Ok(Cow::Owned(Value::Array(values?)))
            }
            _ => Ok(Cow::Owned(Value::Bool(self.decide(facts)?))),
        }
    }
}

/// Whether every part comes to `wanted`; the first that does not decides.
fn all(parts: &[Expression], facts: &Value, wanted: bool) -> Result<bool, String> {
    for part in parts {
        if part.decide(facts)? != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

fn require_comparable(operator: Operator, left: &Value, right: &Value) -> Result<(), String> {
    let fits = match operator {
        Operator::Equal | Operator::Unequal => true,
        Operator::Greater | Operator::Less | Operator::GreaterOrEqual | Operator::LessOrEqual => {
            (left.is_number() && right.is_number()) || (left.is_string() && right.is_string())
        }
        Operator::In => can_hold(right, left),
        Operator::Contains => can_hold(left, right),
    };
    if fits { Ok(()) } else { Err(format!("{} and {} cannot be compared so", shown(left), shown(right))) }
}

fn can_hold(whole: &Value, part: &Value) -> bool {
    whole.is_array() || ((whole.is_string() || whole.is_object()) && part.is_string())
}

/// A value for a message; long ones are cut.
fn shown(value: &Value) -> String {
    const SHOWN_MAX: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX { text } else { text.chars().take(SHOWN_MAX).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::*;

    use crate::parse;

    #[test]
    fn what_decides_already_ends_it() {
        let facts = json!({"a": 1, "none": null, "list": [1]});
        let decide = |text: &str| parse(text).unwrap().decide(&facts);
        assert_eq!(decide("a == 2 and b > 3"), Ok(false));
        assert_eq!(decide("a == 1 or b > 3"), Ok(true));
        assert!(decide("b > 3 or a == 1").is_err() && decide("a == 1 and b > 3").is_err());
        assert_eq!(decide("none == null and not exists none"), Ok(true));
        assert!(decide("none > 1").is_err() && decide("b == null").is_err() && decide("a in 3").is_err());
        assert_eq!(decide("a in list and list contains a"), Ok(true));
        assert!(decide("a in [b]").is_err());
        assert_eq!(decide("(a > 0) == true"), Ok(true));
    }

    proptest! {
        /// What can be judged is judged as the lenient way judges it.
        #[test]
        fn both_ways_agree(text in "(and|or|not|in|exists|contains|a|b|c|1|2|'x'|\\[|\\]|\\(|\\)|==|!=|>|<=| ){0,30}") {
            let facts = json!({"a": 1, "b": "x", "c": [1, "x"]});
            if let Ok(expression) = parse(&text)
                && let Ok(truth) = expression.decide(&facts)
            {
                prop_assert_eq!(truth, expression.holds(&facts));
            }
        }
    }
}

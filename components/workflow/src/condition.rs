//! Conditions as forms make them: a field, an operator, a value. They mean what the expression of the same words means. Pure.

use berth_sdk::{data, serde_json::Value};

use crate::expression::{Operator, Path, compare, look_up};

/// The operators of a condition.
const OPERATORS: &str = "==, !=, >, <, >=, <=, in, contains, exists";

/// One condition.
#[data]
pub struct Condition {
    /// A path, such as `trigger.data.severity`.
    #[field(min = 1, max = 500)]
    pub field: String,
    /// `==`, `!=`, `>`, `<`, `>=`, `<=`, `in`, `contains` or `exists`.
    #[field(min = 1, max = 20)]
    pub operator: String,
    /// What it is compared with; for `exists`, whether it shall.
    pub value: Option<Value>,
}

impl Condition {
    /// The path, and what is wrong with it or the operator.
    pub fn path(&self) -> Result<Path, String> {
        if self.operator != "exists" && Operator::parse(&self.operator).is_none() {
            return Err(format!("the operator must be one of {OPERATORS}"));
        }
        Path::parse(&self.field)
    }

    /// Whether it holds; one that cannot be understood does not.
    ///
    /// ```
    /// use berth_sdk::{json, serde_json};
    /// use workflow::condition::Condition;
    /// let condition = |value| serde_json::from_value::<Condition>(value).unwrap();
    /// let scope = json!({"trigger": {"tags": ["a"]}});
    /// assert!(condition(json!({"field": "trigger.tags", "operator": "contains", "value": "a"})).holds(&scope));
    /// assert!(condition(json!({"field": "trigger.x", "operator": "exists", "value": false})).holds(&scope));
    /// assert!(!condition(json!({"field": "trigger.x", "operator": "~", "value": 1})).holds(&scope));
    /// ```
    pub fn holds(&self, scope: &Value) -> bool {
        let Ok(path) = self.path() else { return false };
        let found = look_up(scope, &path);
        match Operator::parse(&self.operator) {
            Some(operator) => {
                compare(operator, found.unwrap_or(&Value::Null), self.value.as_ref().unwrap_or(&Value::Null))
            }
            None => found.is_some_and(|value| !value.is_null()) == (self.value != Some(Value::Bool(false))),
        }
    }
}

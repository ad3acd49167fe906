//! The values a prompt is filled with: given ones, defaults, and what is wrong with them. Pure.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    validate::FieldError,
};
use chrono::NaiveDate;

use super::Template;
use crate::variable::{Kind, Variable};

/// The values to fill in, and what was left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// By name.
    pub values: BTreeMap<String, Value>,
    /// One line for each value that nothing uses.
    pub warnings: Vec<String>,
}

/// Puts given values and defaults together; 422 `MISSING_VARIABLE` with every variable that is missing or of another type.
/// What a prompt names without declaring it must be given, and may be anything.
pub fn prepare(template: &Template, declared: &[Variable], given: &Map<String, Value>) -> Result<Ready> {
    let mut errors: Vec<FieldError> = Vec::new();
    let mut values = BTreeMap::new();
    let mut fault = |name: &str, message: String| errors.push(FieldError::new(format!("variables.{name}"), message));
    for variable in declared {
        let name = variable.name.as_str();
        let value = given.get(name).filter(|value| !value.is_null()).or(variable.default_value.as_ref());
        match value.filter(|value| !value.is_null()) {
            None if variable.is_required => fault(name, "is required".into()),
            None => {}
            Some(value) => match misfit(variable, value) {
                Some(message) => fault(name, message),
                None => {
                    values.insert(name.to_string(), value.clone());
                }
            },
        }
    }
    let is_declared = |name: &str| declared.iter().any(|variable| variable.name == name);
    let used = template.names();
    for name in used.iter().filter(|name| !is_declared(name)) {
        match given.get(*name) {
            Some(value) if !value.is_null() => {
                values.insert((*name).to_string(), value.clone());
            }
            _ => fault(name, "is required".into()),
        }
    }
    if !errors.is_empty() {
        errors.truncate(validate::FAULTS_MAX);
        return Err(Problem::new(
            422,
            "MISSING_VARIABLE",
            "Variables are missing or wrong",
            format!("{} variables are missing or of the wrong type.", errors.len()),
        )
        .with_errors(errors));
    }
    let unknown = given.keys().filter(|name| !is_declared(name) && !used.contains(&name.as_str()));
    let warnings = unknown.map(|name| format!("The prompt has no variable {name}.")).collect();
    Ok(Ready { values, warnings })
}

/// What is wrong with a value.
pub fn misfit(variable: &Variable, value: &Value) -> Option<String> {
    let fits = match variable.r#type {
        Kind::String => value.is_string(),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::Json => true,
        Kind::Array => value.is_array(),
        Kind::Date => value.as_str().is_some_and(is_date),
    };
    if !fits {
        let wanted = match variable.r#type {
            Kind::String => "a text",
            Kind::Number => "a number",
            Kind::Boolean => "true or false",
            Kind::Json => "JSON",
            Kind::Array => "a list",
            Kind::Date => "a date such as 2026-01-31 or a time such as 2026-01-31T08:15:00Z",
        };
        return Some(format!("must be {wanted}"));
    }
    let schema = variable.validation.as_ref()?;
    validate::json_schema(schema, value).err()
}

fn is_date(text: &str) -> bool {
    Timestamp::parse(text).is_some() || text.parse::<NaiveDate>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(fields: Value) -> Variable {
        let mut whole = json!({"promptId": "p1", "displayName": "x", "type": "STRING", "isRequired": true});
        for (name, value) in fields.as_object().unwrap() {
            whole[name] = value.clone();
        }
        berth_sdk::serde_json::from_value(whole).unwrap()
    }

    fn prepared(content: &str, declared: &[Variable], given: Value) -> Result<Ready> {
        prepare(&Template::parse(content).unwrap(), declared, given.as_object().unwrap())
    }

    #[test]
    fn everything_that_is_missing_or_wrong_is_listed() {
        let declared = [
            variable(json!({"name": "a"})),
            variable(json!({"name": "n", "type": "NUMBER"})),
            variable(json!({"name": "d", "type": "DATE"})),
            variable(json!({"name": "o", "isRequired": false})),
        ];
        let problem = prepared("{{a}} {{x}}", &declared, json!({"n": "7", "d": "tomorrow"})).unwrap_err();
        let fields: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!((problem.status, problem.code.as_ref()), (422, "MISSING_VARIABLE"));
        assert_eq!(fields, ["variables.a", "variables.n", "variables.d", "variables.x"]);
    }

    #[test]
    fn zero_false_and_the_empty_text_are_values_and_defaults_stand_in() {
        let declared = [
            variable(json!({"name": "n", "type": "NUMBER", "defaultValue": 7})),
            variable(json!({"name": "b", "type": "BOOLEAN"})),
            variable(json!({"name": "s"})),
            variable(json!({"name": "o", "isRequired": false, "defaultValue": "std"})),
        ];
        let ready = prepared("", &declared, json!({"n": 0, "b": false, "s": "", "extra": 1})).unwrap();
        assert_eq!(json!(ready.values), json!({"b": false, "n": 0, "o": "std", "s": ""}));
        assert_eq!(ready.warnings, ["The prompt has no variable extra."]);
        assert_eq!(prepared("", &declared, json!({"b": true, "s": "x"})).unwrap().values["n"], 7);
    }

    #[test]
    fn a_validation_is_a_json_schema() {
        let declared = [variable(json!({"name": "s", "validation": {"enum": ["red", "green"]}}))];
        assert!(prepared("", &declared, json!({"s": "red"})).is_ok());
        assert_eq!(prepared("", &declared, json!({"s": "blue"})).unwrap_err().errors.len(), 1);
    }
}

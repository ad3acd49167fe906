//! Variables: what a prompt is filled with.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    prompt::{self, Prompt, PromptScope},
    render, resolve,
};

/// Variables of one prompt.
const VARIABLES_MAX: usize = 200;

/// What a value must be.
#[choice(upper)]
pub enum Kind {
    /// A text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// Anything.
    Json,
    /// A list.
    Array,
    /// A date or a time.
    Date,
}

/// A variable of a prompt.
#[entity(table = "prompt_variables", name = "variable", global, sort = "name")]
pub struct Variable {
    /// The prompt.
    pub prompt_id: Id,
    /// As in `{{name}}`.
    #[field(min = 1, max = 64)]
    pub name: String,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub display_name: String,
    /// What a value must be.
    #[field(default = Kind::String)]
    pub r#type: Kind,
    /// Whether there must be a value.
    #[field(default = true)]
    pub is_required: bool,
    /// Stands in for a value that is not given.
    pub default_value: Option<Value>,
    /// A JSON Schema that a value must fit.
    pub validation: Option<Value>,
    /// Whose the prompt is.
    #[field(hidden, default = PromptScope::Organization)]
    pub scope: PromptScope,
}

impl Rules for Variable {}

/// A variable, as it is given.
#[data]
pub struct VariableInput {
    #[field(min = 1, max = 64)]
    name: String,
    #[field(min = 1, max = 200, plain)]
    display_name: Option<String>,
    #[field(default = Kind::String)]
    r#type: Kind,
    #[field(default = true)]
    is_required: bool,
    default_value: Option<Value>,
    validation: Option<Value>,
}

/// All variables of a prompt.
#[data]
pub struct VariablesInput {
    /// The whole list: what is not on it goes.
    #[field(max = 200)]
    pub variables: Vec<VariableInput>,
}

/// What is shown of them.
#[data]
pub struct Variables {
    items: Vec<Value>,
    total: i64,
}

fn shown(rows: &[Stored<Variable>]) -> Variables {
    let items: Vec<Value> = rows.iter().map(|row| Value::Object(row.shown())).collect();
    Variables { total: i64::try_from(items.len()).unwrap_or(i64::MAX), items }
}

/// The variables of a prompt.
pub fn of_prompt(database: &dyn Executor, prompt_id: &str) -> Result<Vec<Stored<Variable>>> {
    Select::<Variable>::new().equal("prompt_id", prompt_id).limit(200).all(database)
}

/// `GET /api/prompts/{id}/variables`.
pub fn list(Params(id): Params<Id>) -> Result<Json<Variables>> {
    let prompt = prompt::named(&Pool, &id)?;
    Ok(Json(shown(&of_prompt(&Pool, &prompt.id)?)))
}

/// `PUT /api/prompts/{id}/variables`: replaces them.
pub fn replace(Params(id): Params<Id>, Json(input): Json<VariablesInput>) -> Result<Json<Variables>> {
    let (prompt, rows) = prompt::transaction(|transaction| {
        let prompt = prompt::named(transaction, &id)?;
        prompt::require_writable(&prompt)?;
        let rows = set(transaction, &prompt, input)?;
        Ok::<_, Problem>((prompt, rows))
    })?;
    resolve::forget(&prompt);
    Ok(Json(shown(&rows)))
}

/// Writes the whole list.
pub fn set(transaction: &Transaction, prompt: &Stored<Prompt>, input: VariablesInput) -> Result<Vec<Stored<Variable>>> {
    let variables: Vec<Variable> = input
        .variables
        .into_iter()
        .map(|variable| Variable {
            prompt_id: prompt.id.clone(),
            display_name: variable.display_name.unwrap_or_else(|| variable.name.clone()),
            name: variable.name,
            r#type: variable.r#type,
            is_required: variable.is_required,
            default_value: variable.default_value.filter(|value| !value.is_null()),
            validation: variable.validation.filter(|value| !value.is_null()),
            scope: prompt.scope,
        })
        .collect();
    check(&variables)?;
    transaction.execute("DELETE FROM prompt_variables WHERE prompt_id = $1", params![&prompt.id])?;
    variables.into_iter().map(|variable| entity::create(transaction, variable)).collect()
}

fn check(variables: &[Variable]) -> Result<()> {
    let mut faults = Faults::default();
    if variables.len() > VARIABLES_MAX {
        faults.add("variables", format!("must have at most {VARIABLES_MAX} entries"));
    }
    for (index, variable) in variables.iter().enumerate() {
        let path = format!("variables[{index}]");
        if !render::is_name(&variable.name) {
            faults.add(format!("{path}.name"), "must have letters, digits and _, and begin with a letter");
        }
        if variables.iter().take(index).any(|other| other.name == variable.name) {
            faults.add(format!("{path}.name"), "is there twice");
        }
        if variable.validation.as_ref().is_some_and(|schema| !schema.is_object()) {
            faults.add(format!("{path}.validation"), "must be a JSON Schema");
        } else if let Some(value) = &variable.default_value
            && let Some(message) = render::values::misfit(variable, value)
        {
            faults.add(format!("{path}.defaultValue"), message);
        }
    }
    faults.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_names_once_and_defaults_that_fit() {
        let variable = |name: &str, kind: &str, default: Value| -> Variable {
            berth_sdk::serde_json::from_value(
                json!({"promptId": "p", "name": name, "displayName": "x", "type": kind, "defaultValue": default}),
            )
            .unwrap()
        };
        assert!(check(&[variable("a", "NUMBER", json!(0)), variable("b", "STRING", Value::Null)]).is_ok());
        let problem = check(&[
            variable("a", "NUMBER", json!("0")),
            variable("a", "STRING", json!("x")),
            variable("a b", "JSON", json!(1)),
        ]);
        let fields: Vec<String> = problem.unwrap_err().errors.into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["variables[0].defaultValue", "variables[1].name", "variables[2].name"]);
    }
}

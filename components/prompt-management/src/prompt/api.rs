//! The routes of prompts: the usual ones by id or name, with a text and variables in one go where somebody wants that.

use berth_sdk::{
    database::like,
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::{Prompt, forget, named, require_project, transaction};
use crate::{
    variable::{self, VariableInput, VariablesInput},
    version::{self, NewVersion},
};

/// Copies of one prompt under names of their own.
const COPIES_MAX: u32 = 50;
/// How often an update that lost a race is tried.
const ATTEMPTS_MAX: u32 = 3;

/// `GET /api/prompts`.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Prompt>>>> {
    let mut select = Select::<Prompt>::new();
    if let Some(word) = query.filter("search") {
        select = select.meets(like::in_one_of(&["\"name\"", "\"display_name\""], &word));
    }
    for field in ["tags", "usage"] {
        if let Some(word) = query.filter(if field == "tags" { "tag" } else { "usage" }) {
            let sql = format!("CAST(\"{field}\" AS TEXT) LIKE ? ESCAPE '!'");
            select = select.condition(&sql, [like::entry(&word)]);
        }
    }
    select.page(&Pool, &query)
}

/// What a body has besides the prompt's own members: its first or next version, and its variables.
#[data]
pub struct Extras {
    content: Option<String>,
    variables: Option<Vec<VariableInput>>,
}

fn extras(fields: &mut Map<String, Value>) -> Result<(Option<String>, Option<VariablesInput>)> {
    let content = match fields.remove("content") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(Problem::field("content", "must be text")),
    };
    let variables = match fields.remove("variables") {
        None | Some(Value::Null) => None,
        Some(list) => Some(
            serde_json::from_value(json!({ "variables": list }))
                .map_err(|error| Problem::field("variables", format!("do not fit: {error}")))?,
        ),
    };
    Ok((content, variables))
}

/// `POST /api/prompts`: with `content` its first version comes along as a draft, with `variables` these.
pub fn create(Json(fields): Json<Map<String, Value>>) -> Result<Created<Stored<Prompt>>> {
    let mut fields = fields;
    let (content, variables) = extras(&mut fields)?;
    let name = fields.get("name").cloned().unwrap_or_default();
    fields.entry("displayName").or_insert(name);
    require_project(&fields, None)?;
    let prompt = transaction(|transaction| {
        let prompt = entity::create_from::<Prompt>(transaction, fields)?;
        if let Some(content) = content {
            version::add(transaction, &prompt, NewVersion::of(content))?;
        }
        if let Some(variables) = variables {
            variable::set(transaction, &prompt, variables)?;
        }
        Ok::<_, Problem>(prompt)
    })
    .map_err(taken)?;
    forget(&prompt);
    Ok(Created(prompt))
}

fn taken(problem: Problem) -> Problem {
    if problem.status == 409 && problem.code == "CONFLICT" && problem.detail.contains("prompt_prompts") {
        return Problem::conflict("There is a prompt of this name already.").with_code("NAME_TAKEN");
    }
    problem
}

/// `GET /api/prompts/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Prompt>> {
    named(&Pool, &id)
}

/// `PUT /api/prompts/{id}`: new `content` becomes a new draft and leaves every version as it is.
pub fn update(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(fields): Json<Map<String, Value>>,
) -> Result<Stored<Prompt>> {
    let mut fields = fields;
    let (content, variables) = extras(&mut fields)?;
    let mut variables = variables;
    if fields.contains_key("projectId") {
        require_project(&fields, named(&Pool, &id)?.project_id.as_ref())?;
    }
    let mut attempt = 1;
    let (old, new) = loop {
        let list = variables.take();
        let again = list.clone();
        let result = transaction(|transaction| {
            let old = named(transaction, &id)?;
            let new = entity::update::<Prompt>(transaction, &old.id, &fields, if_match)?;
            if let Some(content) = &content {
                super::require_writable(&new)?;
                version::add(transaction, &new, NewVersion::of(content.clone()))?;
            }
            if let Some(list) = list {
                super::require_writable(&new)?;
                variable::set(transaction, &new, list)?;
            }
            Ok::<_, Problem>((old, new))
        });
        match result {
            Err(problem) if problem.code == "CHANGED_MEANWHILE" && if_match.0.is_none() && attempt < ATTEMPTS_MAX => {
                variables = again;
                attempt += 1;
            }
            result => break result.map_err(taken)?,
        }
    };
    forget(&old);
    forget(&new);
    Ok(new)
}

/// `DELETE /api/prompts/{id}`.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    let prompt = transaction(|transaction| {
        let prompt = named(transaction, &id)?;
        entity::delete::<Prompt>(transaction, &prompt.id, if_match)?;
        Ok::<_, Problem>(prompt)
    })?;
    forget(&prompt);
    Ok(NoContent)
}

/// What a copy has of its own.
#[data]
#[derive(Default)]
pub struct CopyInput {
    /// `<name>-copy` when absent.
    #[field(min = 1, max = 64)]
    name: Option<String>,
    #[field(min = 1, max = 200, plain)]
    display_name: Option<String>,
}

/// `POST /api/prompts/{id}/duplicate`: a copy of the organization's own, with the variables, and the published text (or the
/// newest one) as its first draft.
pub fn duplicate(Params(id): Params<Id>, input: Option<Json<CopyInput>>) -> Result<Created<Stored<Prompt>>> {
    let input = input.map(|Json(input)| input).unwrap_or_default();
    let copy = transaction(|transaction| {
        let original = named(transaction, &id)?;
        let mut copy = original.data.clone();
        if copy.scope == super::PromptScope::Global {
            copy.scope = super::PromptScope::Organization;
        }
        copy.is_system = false;
        copy.owner_id = None;
        copy.display_name = input
            .display_name
            .unwrap_or_else(|| format!("{} (copy)", copy.display_name.chars().take(190).collect::<String>()));
        copy.name = match input.name {
            Some(name) => name,
            None => free_name(transaction, &copy.name)?,
        };
        let copy = entity::create(transaction, copy)?;
        let text = version::latest(transaction, &original)?;
        if let Some(text) = text {
            version::add(transaction, &copy, NewVersion::of(text.content.clone()))?;
        }
        for variable in variable::of_prompt(transaction, &original.id)? {
            let variable = variable::Variable { prompt_id: copy.id.clone(), scope: copy.scope, ..variable.data };
            entity::create(transaction, variable)?;
        }
        Ok::<_, Problem>(copy)
    })
    .map_err(taken)?;
    // A global prompt of this name may be remembered, which the copy hides.
    forget(&copy);
    Ok(Created(copy))
}

fn free_name(transaction: &Transaction, name: &str) -> Result<String> {
    let stem: String = name.chars().take(54).collect();
    for number in 1..=COPIES_MAX {
        let candidate = if number == 1 { format!("{stem}-copy") } else { format!("{stem}-copy{number}") };
        // Also those that the caller does not see take a name.
        let row = transaction.query_one(
            "SELECT id FROM prompt_prompts WHERE organization_id = $1 AND name = $2",
            params![auth::organization_id()?, &candidate],
        )?;
        if row.is_none() {
            return Ok(candidate);
        }
    }
    Err(Problem::conflict("There are too many copies of it."))
}

//! Many secrets at once: imports, which are all or nothing unless told otherwise, and moves between backends.

use std::collections::BTreeSet;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    rights,
    secret::{self, Scope, SecretType, StorageBackend, api, value},
};

/// Secrets in one import or move.
const ITEMS_MAX: usize = 200;

/// What became of one item.
#[data]
pub(crate) struct ItemResult {
    index: i64,
    name: String,
    /// `created`, `moved`, `failed` or `skipped`.
    status: String,
    secret_id: Option<Id>,
    code: Option<String>,
    message: Option<String>,
}

/// What became of all of them.
#[data]
pub(crate) struct Results {
    items: Vec<ItemResult>,
    succeeded: i64,
    failed: i64,
}

/// The body of an import of an env file.
#[data]
pub(crate) struct ImportEnv {
    /// Lines of `NAME=value`.
    #[field(max = 1_000_000, raw)]
    content: String,
    /// Of every variable; GENERIC when nothing is said.
    r#type: Option<SecretType>,
    scope: Option<Scope>,
    team_id: Option<Id>,
    project_id: Option<Id>,
    #[field(default)]
    tags: Vec<String>,
    #[field(default)]
    services: Vec<String>,
    #[field(default)]
    continue_on_error: bool,
}

/// The body of an import of JSON.
#[data]
pub(crate) struct ImportJson {
    /// Each as the body of a creation.
    #[field(min = 1, max = 200)]
    secrets: Vec<Map<String, Value>>,
    #[field(default)]
    continue_on_error: bool,
}

/// `POST /api/secrets/import/env`.
pub(crate) fn import_env(Json(body): Json<ImportEnv>) -> Result<Json<Results>> {
    let variables = parse_env(&body.content)?;
    let common = json!({
        "type": body.r#type.unwrap_or(SecretType::Generic), "scope": body.scope.unwrap_or(Scope::Organization),
        "teamId": body.team_id, "projectId": body.project_id, "tags": body.tags, "services": body.services,
    });
    let items = variables
        .into_iter()
        .map(|(name, text)| {
            let mut fields = common.as_object().cloned().unwrap_or_default();
            fields.retain(|_, value| !value.is_null());
            fields.insert("name".into(), name.into());
            fields.insert("value".into(), text.into());
            fields
        })
        .collect();
    import(items, body.continue_on_error)
}

/// `POST /api/secrets/import/json`.
pub(crate) fn import_json(Json(body): Json<ImportJson>) -> Result<Json<Results>> {
    import(body.secrets, body.continue_on_error)
}

fn import(items: Vec<Map<String, Value>>, continue_on_error: bool) -> Result<Json<Results>> {
    rights::refuse_components()?;
    if items.is_empty() || items.len() > ITEMS_MAX {
        return Err(Problem::bad_request(format!("An import has 1 to {ITEMS_MAX} secrets.")));
    }
    let names: Vec<String> =
        items.iter().map(|item| item.get("name").and_then(Value::as_str).unwrap_or_default().to_string()).collect();
    let prepared: Vec<Result<api::Prepared>> = items.into_iter().map(api::prepare).collect();
    let outcomes: Vec<Result<Id>> = if continue_on_error {
        let one = |prepared| database::transaction(|transaction| api::make(transaction, prepared)).map(|made| made.id);
        prepared.into_iter().map(|prepared| prepared.and_then(one)).collect()
    } else if prepared.iter().all(Result::is_ok) {
        let mut failed = None;
        let made = database::transaction(|transaction| {
            let mut made = Vec::with_capacity(names.len());
            for (index, prepared) in prepared.into_iter().enumerate() {
                match prepared.and_then(|prepared| api::make(transaction, prepared)) {
                    Ok(secret) => made.push(secret.id),
                    Err(problem) => {
                        failed = Some((index, problem.clone()));
                        return Err(problem);
                    }
                }
            }
            Ok(made)
        });
        match (made, failed) {
            (Ok(made), _) => made.into_iter().map(Ok).collect(),
            (Err(_), Some((at, problem))) => return Err(nothing_imported(problem, &names, &[at])),
            (Err(problem), None) => return Err(problem),
        }
    } else {
        let faulty: Vec<(usize, Problem)> =
            prepared.into_iter().enumerate().filter_map(|(index, item)| Some((index, item.err()?))).collect();
        let places: Vec<usize> = faulty.iter().map(|(index, _)| *index).collect();
        let first = faulty.into_iter().next().map_or_else(Problem::internal, |(_, problem)| problem);
        return Err(nothing_imported(first, &names, &places));
    };
    Ok(Json(results(&names, outcomes, "created")))
}

/// The first problem, and which items were in the way.
fn nothing_imported(mut problem: Problem, names: &[String], faulty: &[usize]) -> Problem {
    let items: Vec<Value> = faulty.iter().map(|index| json!({"index": index, "name": names.get(*index)})).collect();
    problem.detail = format!("Nothing was imported. {}", problem.detail);
    problem.with("items", items)
}

fn results(names: &[String], outcomes: Vec<Result<Id>>, done: &str) -> Results {
    let mut results = Results { items: Vec::with_capacity(names.len()), succeeded: 0, failed: 0 };
    for (index, (name, outcome)) in names.iter().zip(outcomes).enumerate() {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let name = name.clone();
        results.items.push(match outcome {
            Ok(id) => {
                results.succeeded += 1;
                ItemResult { index, name, status: done.into(), secret_id: Some(id), code: None, message: None }
            }
            Err(problem) => {
                results.failed += 1;
                let (code, message) = (Some(problem.code.to_string()), Some(problem.detail));
                ItemResult { index, name, status: "failed".into(), secret_id: None, code, message }
            }
        });
    }
    results
}

/// Reads `NAME=value` lines: comments, `export`, and values in quotes. 400 names the line.
fn parse_env(content: &str) -> Result<Vec<(String, String)>> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut names = BTreeSet::new();
    for (number, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |message: &str| Problem::field(format!("content:{}", number + 1), message);
        let (name, text) = line.split_once('=').ok_or_else(|| fault("must be NAME=value"))?;
        let name = name.trim().strip_prefix("export ").unwrap_or(name).trim().to_string();
        if !value::is_variable(&name) || !secret::is_name(&name) {
            return Err(fault("must begin with a name of letters, digits and _"));
        }
        if !names.insert(name.clone()) {
            return Err(fault("names a variable for the second time"));
        }
        variables.push((name, unquoted(text.trim()).ok_or_else(|| fault("has a quote that does not end"))?));
    }
    Ok(variables)
}

fn unquoted(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(ToString::to_string);
    }
    let Some(rest) = text.strip_prefix('"') else {
        // A comment begins after a space.
        return Some(text.split(" #").next().unwrap_or_default().trim_end().to_string());
    };
    let mut read = String::with_capacity(rest.len());
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return letters.as_str().trim_start().chars().next().is_none_or(|next| next == '#').then_some(read),
            '\\' => match letters.next()? {
                'n' => read.push('\n'),
                'r' => read.push('\r'),
                't' => read.push('\t'),
                other => read.push(other),
            },
            letter => read.push(letter),
        }
    }
    None
}

/// The body of a move.
#[data]
pub(crate) struct Migrate {
    #[field(min = 1, max = 200)]
    secret_ids: Vec<Id>,
    target_backend: StorageBackend,
    /// Where there are several configurations; the default one otherwise.
    vault_id: Option<Id>,
}

/// `POST /api/secrets/migrate`.
pub(crate) fn migrate(Json(body): Json<Migrate>) -> Result<Json<Results>> {
    rights::refuse_components()?;
    let names: Vec<String> = body.secret_ids.iter().map(|id| id.as_str().to_string()).collect();
    let mut outcomes = Vec::with_capacity(names.len());
    for id in &body.secret_ids {
        match api::relocate(id, body.target_backend, body.vault_id.as_ref()) {
            // What is not built is not built for any of them.
            Err(problem) if problem.status == 501 => return Err(problem),
            outcome => outcomes.push(outcome.map(|secret| secret.id)),
        }
    }
    Ok(Json(results(&names, outcomes, "moved")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_is_read_as_a_shell_reads_it() {
        let content =
            "# head\n\nA=1\nexport B = two words # not this\nC=\"x # y\\n\\\"z\\\"\" # that\nD='$raw \\n'\nE=\n";
        let read = parse_env(content).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(read, [("A", "1"), ("B", "two words"), ("C", "x # y\n\"z\""), ("D", "$raw \\n"), ("E", "")]);
    }

    #[test]
    fn a_fault_names_its_line() {
        for (content, field) in [
            ("A=1\nnonsense", "content:2"),
            ("1A=x", "content:1"),
            ("A=\"open", "content:1"),
            ("A='open", "content:1"),
            ("A=1\n\nA=2", "content:3"),
            ("A=\"x\" y", "content:1"),
        ] {
            assert_eq!(parse_env(content).unwrap_err().errors[0].field, field, "{content}");
        }
    }
}

//! Artifacts: the files of a run's workspace and what a step does to one of them. Pure rules; the ledger of changes
//! is in the store.

use berth_sdk::{canonical, prelude::*, serde_json::Value};
use plan_rules::{StepType, params::CONTENT_BYTES_MAX};

use crate::{failure::Failure, patch};

/// What a change does to a file.
#[choice]
pub enum Operation {
    /// It was not there.
    Create,
    /// It was there and still is.
    Update,
    /// It is gone.
    Delete,
}

/// One change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Relative to the workspace, normalised.
    pub path: String,
    /// What was there.
    pub before: Option<String>,
    /// What is there.
    pub after: Option<String>,
}

impl Change {
    /// What kind of change it is.
    pub fn operation(&self) -> Operation {
        match (&self.before, &self.after) {
            (None, Some(_)) => Operation::Create,
            (_, None) => Operation::Delete,
            (Some(_), Some(_)) => Operation::Update,
        }
    }

    /// The change that undoes this one.
    pub fn inverse(&self) -> Self {
        Self { path: self.path.clone(), before: self.after.clone(), after: self.before.clone() }
    }
}

/// SHA-256 of a content.
pub fn hash(content: Option<&String>) -> Option<String> {
    content.map(|content| canonical::sha256_bytes(content.as_bytes()))
}

/// What a file step changes, given what is at its path now.
///
/// ```
/// use berth_sdk::json;
/// use execution_service::artifact::{Operation, change};
/// use plan_rules::StepType;
/// let made = change(StepType::FileCreate, &json!({"path": "a", "content": "x"}), None).unwrap();
/// assert_eq!(made.operation(), Operation::Create);
/// assert_eq!(change(StepType::FileDelete, &json!({"path": "a"}), None).unwrap_err().code, "FILE_MISSING");
/// ```
///
/// # Errors
/// When the file is there already, is missing, or is not what the edit expects.
pub fn change(kind: StepType, params: &Value, current: Option<String>) -> Result<Change, Failure> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let path = text("path").unwrap_or_default().to_string();
    let missing = || Failure::new("FILE_MISSING", format!("{path} is not in the workspace."));
    let after = match (kind, &current) {
        (StepType::FileCreate, Some(_)) => {
            return Err(Failure::new("FILE_EXISTS", format!("{path} is in the workspace already.")));
        }
        (StepType::FileCreate, None) => Some(text("content").unwrap_or_default().to_string()),
        (_, None) => return Err(missing()),
        (StepType::FileDelete, Some(_)) => None,
        (_, Some(current)) => Some(
            edited(current, params)
                .map_err(|message| Failure::new("EDIT_MISMATCH", format!("{path} cannot be edited: {message}.")))?,
        ),
    };
    if after.as_ref().is_some_and(|after| after.len() > CONTENT_BYTES_MAX) {
        let message = format!("{path} would have more than {CONTENT_BYTES_MAX} bytes.");
        return Err(Failure::lasting("FILE_TOO_LARGE", message));
    }
    Ok(Change { path, before: current, after })
}

/// The content after an edit: the whole content, a unified diff, or one search and replace.
fn edited(current: &str, params: &Value) -> Result<String, String> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    if let Some(content) = text("content") {
        return Ok(content.to_string());
    }
    if let Some(diff) = text("diff") {
        return patch::apply(current, diff);
    }
    let (search, replace) = (text("search").unwrap_or_default(), text("replace").unwrap_or_default());
    match occurrences(current, search) {
        0 => Err("the text to search is not there".into()),
        1 => Ok(current.replacen(search, replace, 1)),
        _ => Err("the text to search is there more than once".into()),
    }
}

/// How often a text occurs, overlaps too; counting stops at two.
fn occurrences(text: &str, search: &str) -> usize {
    let Some(first) = text.find(search).filter(|_| !search.is_empty()) else { return 0 };
    let step = search.chars().next().map_or(1, char::len_utf8);
    1 + usize::from(text.get(first + step..).is_some_and(|rest| rest.contains(search)))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json::Value};
    use plan_rules::StepType;
    use proptest::prelude::*;

    use super::{Operation, change, hash};

    fn edit(params: Value, current: &str) -> Result<String, &'static str> {
        let mut params = params;
        params["path"] = json!("a");
        change(StepType::FileEdit, &params, Some(current.into()))
            .map(|change| change.after.unwrap())
            .map_err(|failure| failure.code)
    }

    #[test]
    fn an_edit_replaces_what_occurs_exactly_once() {
        assert_eq!(edit(json!({"search": "two", "replace": "2"}), "one two").unwrap(), "one 2");
        assert_eq!(edit(json!({"search": "o", "replace": "0"}), "one two"), Err("EDIT_MISMATCH"));
        assert_eq!(edit(json!({"search": "aa", "replace": ""}), "aaa"), Err("EDIT_MISMATCH"));
        assert_eq!(edit(json!({"search": "x", "replace": ""}), "one"), Err("EDIT_MISMATCH"));
        assert_eq!(edit(json!({"search": "ä", "replace": "$1"}), "-ä-").unwrap(), "-$1-");
    }

    #[test]
    fn an_edit_takes_a_whole_content_or_a_diff() {
        assert_eq!(edit(json!({"content": ""}), "one").unwrap(), "");
        assert_eq!(edit(json!({"diff": "@@ -1 +1 @@\n-one\n+two\n"}), "one\n").unwrap(), "two\n");
        assert_eq!(edit(json!({"diff": "@@ -1 +1 @@\n-x\n+two\n"}), "one\n"), Err("EDIT_MISMATCH"));
        let long = "x".repeat(1024 * 1024);
        assert_eq!(edit(json!({"search": "y", "replace": long}), "xy"), Err("FILE_TOO_LARGE"));
    }

    #[test]
    fn a_file_is_made_once_and_only_a_file_that_is_there_changes() {
        let create = |current: Option<&str>| {
            change(StepType::FileCreate, &json!({"path": "a", "content": "x"}), current.map(Into::into))
        };
        assert_eq!(create(Some("")).unwrap_err().code, "FILE_EXISTS");
        assert_eq!(create(None).unwrap().operation(), Operation::Create);
        assert_eq!(
            change(StepType::FileEdit, &json!({"path": "a", "content": "x"}), None).unwrap_err().code,
            "FILE_MISSING"
        );
        let gone = change(StepType::FileDelete, &json!({"path": "a"}), Some("x".into())).unwrap();
        assert_eq!((gone.operation(), hash(gone.after.as_ref())), (Operation::Delete, None));
    }

    proptest! {
        #[test]
        fn the_inverse_of_a_change_restores_what_was(before in proptest::option::of("[a-z]{0,8}"), content in "[a-z]{0,8}") {
            let kind = if before.is_some() { StepType::FileEdit } else { StepType::FileCreate };
            let done = change(kind, &json!({"path": "a", "content": content}), before.clone()).unwrap();
            let undone = done.inverse();
            prop_assert_eq!(&undone.before, &done.after);
            prop_assert_eq!(undone.after, before);
        }
    }
}

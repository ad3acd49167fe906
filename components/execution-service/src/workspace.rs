//! The workspace of a run: the ledger of every change of a file, whose last word on a path is the file. In a dry run
//! the ledger is written for the checks of later steps and never shown.

use berth_sdk::{page::Page, prelude::*, schemars::JsonSchema, serde::Serialize, serde_json::Value};

use crate::{
    artifact::{Change, Operation, hash},
    assertion::Facts,
    failure::Failure,
    run::Run,
    step::StepRow,
};

/// The text of a content in a row: it is bytes there.
type Content = Option<Vec<u8>>;

/// One change of one file, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
#[schemars(crate = "berth_sdk::schemars")]
pub struct Artifact {
    /// The row.
    pub id: Id,
    /// The execution.
    pub execution_id: Id,
    /// The step that changed it.
    pub step_id: Id,
    /// Grows with every change.
    pub sequence: i64,
    /// Relative to the workspace.
    pub path: String,
    /// What was done.
    pub operation: Operation,
    /// SHA-256 of what was there.
    pub before_hash: Option<String>,
    /// SHA-256 of what is there.
    pub after_hash: Option<String>,
    /// What was there.
    pub before: Option<String>,
    /// What is there.
    pub after: Option<String>,
    /// It is the last word on its path.
    pub is_current: bool,
    /// A rollback did it.
    pub is_compensation: bool,
    /// When.
    pub created_at: Timestamp,
}

/// Which artifacts are wanted.
#[data]
pub struct ArtifactQuery {
    /// Only changes of this file.
    pub path: Option<String>,
    /// Only changes by this step.
    pub step_id: Option<Id>,
    /// Only the last word on each path.
    pub current: Option<bool>,
    /// `tar` for an archive of the workspace.
    pub format: Option<String>,
}

/// What is at a path now.
pub fn read(database: &dyn Executor, execution_id: &Id, path: &str) -> Result<Option<String>> {
    let row = database.query_one(
        "SELECT after FROM execution_artifacts WHERE execution_id = $1 AND path = $2 ORDER BY sequence DESC LIMIT 1",
        params![execution_id, path],
    )?;
    Ok(row.map(|row| row.get::<Content>("after")).transpose()?.flatten().map(text))
}

/// Refuses a file where a folder is, or below a file.
pub fn check_place(run: &Run<'_>, path: &str) -> Result<Option<Failure>> {
    let mut stems: Vec<String> = Vec::new();
    for (index, _) in path.match_indices('/') {
        stems.push(path.get(..index).unwrap_or_default().to_string());
    }
    for stem in &stems {
        if read(run.transaction, &run.execution.id, stem)?.is_some() {
            return Ok(Some(Failure::new("PATH_TAKEN", format!("{stem} is a file, so that nothing can be below it."))));
        }
    }
    // Compared as text and not by `LIKE` or `<`, which databases and languages read differently.
    let below = run.transaction.query_one(
        "SELECT path FROM execution_artifacts WHERE execution_id = $1 AND SUBSTR(path, 1, $3) = $2 AND is_current = $4 AND operation <> $5 LIMIT 1",
        params![
            &run.execution.id,
            format!("{path}/"),
            path.chars().count() + 1,
            true,
            Operation::Delete,
        ],
    )?;
    Ok(below.map(|_| Failure::new("PATH_TAKEN", format!("{path} is a folder of the workspace."))))
}

/// Writes a change into the ledger.
pub fn write(run: &Run<'_>, step_id: &Id, change: &Change, is_compensation: bool) -> Result<()> {
    let transaction = run.transaction;
    transaction.execute(
        "UPDATE execution_artifacts SET is_current = $3 WHERE execution_id = $1 AND path = $2 AND is_current = $4",
        params![&run.execution.id, &change.path, false, true],
    )?;
    let bytes = |content: &Option<String>| content.as_ref().map(|content| content.as_bytes().to_vec());
    transaction.execute(
        "INSERT INTO execution_artifacts (id, organization_id, created_by, created_at, updated_at, version, execution_id, step_id, sequence, path, operation, before_hash, after_hash, before, after, is_current, is_compensation, is_dry_run) \
         VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        params![
            Id::new(),
            &run.execution.organization_id,
            auth::principal().user_id,
            run.now,
            &run.execution.id,
            step_id,
            run.execution.event_sequence,
            &change.path,
            change.operation(),
            hash(change.before.as_ref()),
            hash(change.after.as_ref()),
            bytes(&change.before),
            bytes(&change.after),
            true,
            is_compensation,
            run.execution.options.dry_run,
        ],
    )?;
    Ok(())
}

/// What a step has changed, the last change first.
pub fn changes_of(run: &Run<'_>, step_id: &Id) -> Result<Vec<Change>> {
    let rows = run.transaction.query(
        "SELECT path, before, after FROM execution_artifacts WHERE execution_id = $1 AND step_id = $2 AND is_compensation = $3 ORDER BY sequence DESC",
        params![&run.execution.id, step_id, false],
    )?;
    rows.into_iter()
        .map(|row| {
            Ok(Change {
                path: row.get("path")?,
                before: row.get::<Content>("before")?.map(text),
                after: row.get::<Content>("after")?.map(text),
            })
        })
        .collect()
}

/// The rows that are the workspace now.
pub fn current_ids(run: &Run<'_>) -> Result<Vec<String>> {
    let rows = run.transaction.query(
        "SELECT id FROM execution_artifacts WHERE execution_id = $1 AND is_current = $2 AND operation <> $3 ORDER BY path",
        params![&run.execution.id, true, Operation::Delete],
    )?;
    Ok(rows.into_iter().map(|row| row.get::<String>("id")).collect::<Result<_, Fault>>()?)
}

/// One page of the ledger, in the order of the changes.
pub fn page(execution_id: &Id, query: &ArtifactQuery, part: &PageQuery) -> Result<Page<Artifact>> {
    let mut values: Vec<database::Value> = vec![auth::organization_id()?.into(), execution_id.into(), false.into()];
    let mut from =
        String::from("FROM execution_artifacts WHERE organization_id = $1 AND execution_id = $2 AND is_dry_run = $3");
    let mut only = |column: &str, value: Option<database::Value>| {
        if let Some(value) = value {
            values.push(value);
            from.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    };
    only("path", query.path.clone().map(Into::into));
    only("step_id", query.step_id.clone().map(Into::into));
    only("is_current", query.current.map(Into::into));
    let total = database::query_one(&format!("SELECT COUNT(*) AS total {from}"), &values)?
        .map_or(Ok(0), |row| row.get::<i64>("total"))?;
    let sql = format!("SELECT * {from} ORDER BY sequence, id LIMIT {} OFFSET {}", part.limit, part.offset);
    let rows = database::query(&sql, &values)?;
    let items = rows.into_iter().map(|row| artifact(&row)).collect::<Result<Vec<_>, Fault>>()?;
    Ok(part.envelope(items, total))
}

/// The next file of the workspace after a path, by name; for archives.
pub fn file_after(execution_id: &Id, path: &str) -> Result<Option<(String, Vec<u8>, Timestamp)>> {
    let row = database::query_one(
        "SELECT path, after, created_at FROM execution_artifacts WHERE organization_id = $1 AND execution_id = $2 AND path > $3 AND is_current = $4 AND is_dry_run = $5 AND operation <> $6 ORDER BY path LIMIT 1",
        params![auth::organization_id()?, execution_id, path, true, false, Operation::Delete],
    )?;
    row.map(|row| Ok((row.get("path")?, row.get::<Content>("after")?.unwrap_or_default(), row.get("created_at")?)))
        .transpose()
}

/// How large the workspace is: files and bytes.
pub fn size(execution_id: &Id) -> Result<(i64, i64)> {
    let row = database::query_one(
        "SELECT COUNT(*) AS files, COALESCE(SUM(LENGTH(after)), 0) AS bytes FROM execution_artifacts WHERE organization_id = $1 AND execution_id = $2 AND is_current = $3 AND is_dry_run = $4 AND operation <> $5",
        params![auth::organization_id()?, execution_id, true, false, Operation::Delete],
    )?;
    Ok(row.map_or(Ok((0, 0)), |row| Ok::<_, Fault>((row.get("files")?, row.get("bytes")?)))?)
}

/// What assertions look at while a step runs: the workspace and earlier outputs, with what this step is about to do.
pub struct Sight<'a, 't> {
    /// The execution.
    pub run: &'a Run<'t>,
    /// What the step changes.
    pub changes: &'a [Change],
    /// The step itself and what came of it.
    pub own: Option<(&'a StepRow, &'a Value)>,
}

impl Facts for Sight<'_, '_> {
    fn file(&self, path: &str) -> Result<Option<String>> {
        match self.changes.iter().rev().find(|change| change.path == path) {
            Some(change) => Ok(change.after.clone()),
            None => read(self.run.transaction, &self.run.execution.id, path),
        }
    }

    fn output(&self, step: &Value) -> Result<Option<Value>> {
        let names = |id: &Id, order: i64| step.as_i64() == Some(order) || step.as_str() == Some(id.as_str());
        if let Some((_, output)) = self.own.filter(|(row, _)| names(&row.step_id, row.order)) {
            return Ok(Some(output.clone()));
        }
        let Some(state) = self.run.steps.iter().find(|state| names(&state.step_id, state.order)) else {
            return Ok(None);
        };
        if !state.status.is_done() {
            return Ok(None);
        }
        let row =
            self.run.transaction.query_one("SELECT output FROM execution_steps WHERE id = $1", params![&state.id])?;
        Ok(row.map(|row| row.json::<Value>("output")).transpose()?)
    }
}

fn artifact(row: &database::Row) -> Result<Artifact, Fault> {
    Ok(Artifact {
        id: row.get("id")?,
        execution_id: row.get("execution_id")?,
        step_id: row.get("step_id")?,
        sequence: row.get("sequence")?,
        path: row.get("path")?,
        operation: row.get("operation")?,
        before_hash: row.get("before_hash")?,
        after_hash: row.get("after_hash")?,
        before: row.get::<Content>("before")?.map(text),
        after: row.get::<Content>("after")?.map(text),
        is_current: row.get("is_current")?,
        is_compensation: row.get("is_compensation")?,
        created_at: row.get("created_at")?,
    })
}

/// Contents come from JSON texts, so they are UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

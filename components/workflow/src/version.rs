//! Versions of definitions: a change makes a new one, and a run keeps the one it began with.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::{definition::Definition, workflow::Workflow};

/// How long a definition stays in the cache; it never changes.
const CACHED: Duration = Duration::from_secs(60 * 60);

/// One version, as it is shown.
#[data]
pub struct Version {
    /// The row.
    pub id: Id,
    /// The workflow.
    pub workflow_id: Id,
    /// The workflow's version that it came with.
    pub version: i64,
    /// Its steps and variables.
    pub definition: Definition,
    /// Who made it.
    pub created_by: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// Keeps a definition as a version.
pub fn keep(transaction: &Transaction, workflow: &Stored<Workflow>) -> Result<()> {
    transaction.execute(
        "INSERT INTO workflow_versions (id, organization_id, created_by, created_at, updated_at, version, workflow_id, definition) \
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
        params![
            Id::new(),
            auth::organization_id()?,
            auth::principal().user_id,
            clock::now(),
            workflow.definition_version,
            &workflow.id,
            json!(workflow.definition),
        ],
    )?;
    Ok(())
}

/// The definition of a version.
pub fn definition(database: &dyn Executor, workflow_id: &Id, version: i64) -> Result<Definition> {
    cache::remember(&format!("definition:{workflow_id}:{version}"), CACHED, || {
        let row = database.query_one(
            "SELECT definition FROM workflow_versions WHERE workflow_id = $1 AND version = $2 AND organization_id = $3",
            params![workflow_id, version, auth::organization_id()?],
        )?;
        Ok(row.ok_or_else(|| Problem::missing("version"))?.json("definition")?)
    })
}

/// Who made a version.
pub fn author(database: &dyn Executor, workflow_id: &Id, version: i64) -> Result<Option<Id>> {
    let row = database.query_one(
        "SELECT created_by FROM workflow_versions WHERE workflow_id = $1 AND version = $2 AND organization_id = $3",
        params![workflow_id, version, auth::organization_id()?],
    )?;
    Ok(row.map(|row| row.get("created_by")).transpose()?.flatten())
}

/// One page of a workflow's versions, newest first.
pub fn page(workflow_id: &Id, query: &PageQuery) -> Result<JsonText<Page<Version>>> {
    let values = [auth::organization_id()?.into(), database::Value::from(workflow_id)];
    let from = "FROM workflow_versions WHERE organization_id = $1 AND workflow_id = $2";
    let total = database::query_one(&format!("SELECT COUNT(*) AS total {from}"), &values)?
        .map_or(Ok(0), |row| row.get::<i64>("total"))?;
    let sql = format!(
        "SELECT id, workflow_id AS \"workflowId\", version, definition, created_by AS \"createdBy\", created_at AS \"createdAt\" \
         {from} ORDER BY version DESC LIMIT {} OFFSET {}",
        query.limit, query.offset
    );
    Ok(JsonText::new(200, query.envelope_text(&database::query_json(&sql, &values)?, total)))
}

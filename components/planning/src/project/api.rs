//! What a project has besides itself: tasks, profile, context, and being the current one.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Project, access};
use crate::task::Task;

/// The member of a project's metadata that holds the application profile.
const PROFILE: &str = "applicationProfile";

/// `GET /api/projects/{id}/tasks`.
pub(crate) fn tasks(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Task>>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Select::new().equal("project_id", &project.id).page(&Pool, &query)
}

/// `GET /api/projects/{id}/profile`.
pub(crate) fn profile(Params(id): Params<Id>) -> Result<Json<Map<String, Value>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Ok(Json(profile_of(&project)))
}

/// `PUT /api/projects/{id}/profile`: a partial merge; null removes a member.
pub(crate) fn change_profile(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(patch): Json<Value>,
) -> Result<Json<Map<String, Value>>> {
    database::transaction(|transaction| {
        let mut project = entity::read::<Project>(transaction, &id)?;
        if_match.check(project.version)?;
        access::require(transaction, &project, access::Level::Editor)?;
        let mut profile = profile_of(&project);
        merge(&mut profile, patch.as_object().cloned().unwrap_or_default());
        project.metadata.insert(PROFILE.into(), Value::Object(profile.clone()));
        entity::save(transaction, &mut project)?;
        transaction.publish("project.updated", &Project::event_data(&project))?;
        Ok(Json(profile))
    })
}

fn profile_of(project: &Project) -> Map<String, Value> {
    project.metadata.get(PROFILE).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn merge(profile: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        if value.is_null() {
            profile.remove(&name);
        } else {
            profile.insert(name, value);
        }
    }
}

/// What is known of a project's application.
#[data]
pub(crate) struct Context {
    project_id: Id,
    name: String,
    description: Option<String>,
    repository_url: Option<String>,
    profile: Map<String, Value>,
    /// How many plans there are in each status.
    plans: Map<String, Value>,
    /// How many tasks there are in each status.
    tasks: Map<String, Value>,
}

/// `GET /api/projects/{id}/context`.
pub(crate) fn context(Params(id): Params<Id>) -> Result<Json<Context>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Ok(Json(Context {
        plans: counts("plan_plans", &project.id)?,
        tasks: counts("project_tasks", &project.id)?,
        profile: profile_of(&project),
        project_id: project.id,
        name: project.data.name,
        description: project.data.description,
        repository_url: project.data.repository_url,
    }))
}

fn counts(table: &str, project_id: &Id) -> Result<Map<String, Value>> {
    let sql = format!(
        "SELECT status, COUNT(*) AS total FROM {table} WHERE project_id = $1 AND deleted_at IS NULL GROUP BY status ORDER BY status"
    );
    let mut counts = Map::new();
    for row in database::query(&sql, params![project_id])? {
        counts.insert(row.get("status")?, row.get::<i64>("total")?.into());
    }
    Ok(counts)
}

/// `POST /api/projects/{id}/switch`.
pub(crate) fn switch(Params(id): Params<Id>) -> Result<Stored<Project>> {
    let (organization_id, user_id) = (auth::organization_id()?, auth::user_id()?);
    database::transaction(|transaction| {
        let project = entity::read::<Project>(transaction, &id)?;
        transaction.execute(
            "INSERT INTO project_selections (organization_id, user_id, project_id, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (organization_id, user_id) DO UPDATE SET project_id = excluded.project_id, updated_at = excluded.updated_at",
            params![organization_id, user_id, &project.id, clock::now()],
        )?;
        Ok(project)
    })
}

/// `GET /api/projects/current`; 404 when the caller has chosen none, or it is gone.
pub(crate) fn current() -> Result<Stored<Project>> {
    let chosen = database::query_one(
        "SELECT project_id FROM project_selections WHERE organization_id = $1 AND user_id = $2",
        params![auth::organization_id()?, auth::user_id()?],
    )?;
    match chosen {
        Some(row) => entity::read(&Pool, &row.get::<String>("project_id")?),
        None => Err(Problem::missing("current project")),
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;

    use super::merge;

    #[test]
    fn a_profile_changes_only_where_the_patch_says_so() {
        let object = |value: berth_sdk::serde_json::Value| value.as_object().cloned().unwrap();
        let mut profile = object(json!({"language": "rust", "port": 80, "old": 1}));
        merge(&mut profile, object(json!({"port": 0, "old": null})));
        assert_eq!(profile, object(json!({"language": "rust", "port": 0})));
    }
}

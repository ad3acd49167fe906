//! What a project has besides itself: tasks, profile, context, and being the current one.

use std::time::Duration;

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::{Project, access};
use crate::task::{self, Task};

/// The member of a project's metadata that holds the application profile.
const PROFILE: &str = "applicationProfile";
/// The largest profile, as JSON.
const PROFILE_BYTES_MAX: usize = 256 * 1024;
/// How long a project is cached.
const CACHED: Duration = Duration::from_secs(5 * 60);

/// `GET /api/projects/{id}/tasks`.
pub(crate) fn tasks(
    Params(id): Params<Id>,
    Query(filter): Query<task::Filter>,
    query: PageQuery,
) -> Result<JsonText<Page<Stored<Task>>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    task::list_of(Select::new().equal("project_id", &project.id), filter, query)
}

/// `GET /api/projects/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<JsonText<Stored<Project>>> {
    let (version, text) = document(&id)?;
    Ok(JsonText::new(200, text.into_bytes()).with_version(Some(version)))
}

/// A project as it is shown, with its version. The database is asked whether the caller sees it and whether what is
/// cached is still true, so that neither an old copy nor a lost one ever shows too much.
fn document(id: &Id) -> Result<(i64, String)> {
    let key = cache_key(id);
    if let Some((version, text)) = cache::get::<(i64, String)>(&key)
        && Select::<Project>::new().equal("id", id).equal("version", version).count(&Pool)? == 1
    {
        return Ok((version, text));
    }
    let (text, version) = entity::read_text::<Project>(id)?;
    let document = (version.unwrap_or_default(), String::from_utf8_lossy(&text).into_owned());
    cache::set_ttl(&key, &document, CACHED);
    Ok(document)
}

/// Where a project is cached.
pub(crate) fn cache_key(id: &str) -> String {
    format!("project:{id}")
}

/// The application profile of a project, with the project's version; 404 unless the caller sees it.
pub(crate) fn profile_of(id: &Id) -> Result<(i64, Map<String, Value>)> {
    #[data]
    struct Shown {
        metadata: Map<String, Value>,
    }
    let (version, text) = document(id)?;
    let shown: Shown = serde_json::from_str(&text).map_err(|_| Problem::internal())?;
    Ok((version, profile_in(&shown.metadata)))
}

/// `GET /api/projects/{id}/profile`.
pub(crate) fn profile(Params(id): Params<Id>) -> Result<Json<Map<String, Value>>> {
    Ok(Json(profile_of(&id)?.1))
}

/// `PUT /api/projects/{id}/profile`: a partial merge; null removes a member.
pub(crate) fn change_profile(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(patch): Json<Value>,
) -> Result<Json<Map<String, Value>>> {
    let patch = patch.as_object().cloned().unwrap_or_default();
    database::transaction(|transaction| change_profile_of(transaction, &id, if_match, patch, |_| Ok(())))
        .map(|(_, profile)| Json(profile))
}

/// Merges a patch into the application profile of a project, when `allow` has nothing against the one that is there.
/// 404, 403, 412, and 413 for a profile that gets too large.
pub(crate) fn change_profile_of(
    transaction: &Transaction,
    id: &Id,
    if_match: IfMatch,
    patch: Map<String, Value>,
    allow: impl FnOnce(&Map<String, Value>) -> Result<()>,
) -> Result<(i64, Map<String, Value>)> {
    let mut project = entity::read::<Project>(transaction, id)?;
    if_match.check(project.version)?;
    access::require(transaction, &project, access::Level::Editor)?;
    let mut profile = profile_in(&project.metadata);
    allow(&profile)?;
    merge(&mut profile, patch);
    let bytes = json!(profile).to_string().len();
    if bytes > PROFILE_BYTES_MAX {
        return Err(Problem::too_large(format!("A profile has at most {PROFILE_BYTES_MAX} bytes.")));
    }
    project.metadata.insert(PROFILE.into(), Value::Object(profile.clone()));
    entity::save(transaction, &mut project)?;
    transaction.forget(cache_key(id));
    transaction.publish("project.updated", &Project::event_data(&project))?;
    Ok((project.version, profile))
}

fn profile_in(metadata: &Map<String, Value>) -> Map<String, Value> {
    metadata.get(PROFILE).and_then(Value::as_object).cloned().unwrap_or_default()
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
    /// How many issues there are in each status.
    issues: Map<String, Value>,
    /// Its modules, without their files; at most 200.
    modules: Vec<ModuleName>,
    /// The names of its environments.
    environments: Vec<String>,
}

/// A module, as the context names it.
#[data]
pub(crate) struct ModuleName {
    pub id: Id,
    pub name: String,
    pub path: String,
}

/// The modules of a project, in the order of their names; at most 200.
pub(crate) fn modules_of(database: &dyn Executor, project_id: &Id) -> Result<Vec<ModuleName>> {
    Ok(database::query_as(
        database,
        "SELECT id, name, path FROM project_modules WHERE project_id = $1 ORDER BY name, id LIMIT 200",
        params![project_id],
    )?)
}

/// `GET /api/projects/{id}/context`.
pub(crate) fn context(Params(id): Params<Id>) -> Result<Json<Context>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Ok(Json(Context {
        plans: counts("plan_plans", &project.id, " AND deleted_at IS NULL")?,
        tasks: counts("project_tasks", &project.id, " AND deleted_at IS NULL")?,
        issues: counts("project_issues", &project.id, "")?,
        modules: modules_of(&Pool, &project.id)?,
        environments: database::query(
            "SELECT name FROM project_environments WHERE project_id = $1 ORDER BY name",
            params![&project.id],
        )?
        .into_iter()
        .map(|row| row.get("name"))
        .collect::<Result<_, _>>()?,
        profile: profile_in(&project.metadata),
        project_id: project.id,
        name: project.data.name,
        description: project.data.description,
        repository_url: project.data.repository_url,
    }))
}

fn counts(table: &str, project_id: &Id, more: &str) -> Result<Map<String, Value>> {
    let sql = format!(
        "SELECT status, COUNT(*) AS total FROM {table} WHERE project_id = $1{more} GROUP BY status ORDER BY status"
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
    let id = current_id()?.ok_or_else(|| Problem::missing("current project"))?;
    entity::read(&Pool, &id)
}

/// The project that the caller has chosen, whether or not it is still there.
pub(crate) fn current_id() -> Result<Option<Id>> {
    let chosen = database::query_one(
        "SELECT project_id FROM project_selections WHERE organization_id = $1 AND user_id = $2",
        params![auth::organization_id()?, auth::user_id()?],
    )?;
    Ok(chosen.map(|row| row.get("project_id")).transpose()?)
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

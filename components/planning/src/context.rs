//! Application contexts: what is known of a project's application, kept as its application profile.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::project;

/// The context of a project.
#[data]
pub(crate) struct ApplicationContext {
    project_id: Id,
    /// Whatever is worth knowing: languages, frameworks, conventions, constraints.
    profile: Map<String, Value>,
    /// The project's version, for `If-Match`.
    version: i64,
}

/// Which context.
#[data]
pub(crate) struct Which {
    project_id: Option<Id>,
}

/// The body of `POST /api/application-context`.
#[data]
pub(crate) struct NewContext {
    project_id: Id,
    profile: Map<String, Value>,
}

/// The body of `PUT /api/application-context/{projectId}`.
#[data]
pub(crate) struct ContextPatch {
    /// Only members that are here change; null removes one.
    profile: Map<String, Value>,
}

fn read(project_id: Id) -> Result<Json<ApplicationContext>> {
    let (version, profile) = project::profile_of(&project_id)?;
    Ok(Json(ApplicationContext { project_id, profile, version }))
}

/// `GET /api/application-context?projectId`; without it the caller's current project.
fn read_named(Query(which): Query<Which>) -> Result<Json<ApplicationContext>> {
    match which.project_id {
        Some(project_id) => read(project_id),
        None => match project::current_id()? {
            Some(project_id) => read(project_id),
            None => Err(Problem::field("projectId", "is required while no project is the current one")),
        },
    }
}

/// `GET /api/application-context/{projectId}`.
fn read_one(Params(project_id): Params<Id>) -> Result<Json<ApplicationContext>> {
    read(project_id)
}

/// `POST /api/application-context`: 409 when the project has one.
fn create(Json(input): Json<NewContext>) -> Result<Created<ApplicationContext>> {
    let NewContext { project_id, profile } = input;
    let allow = |known: &Map<String, Value>| {
        if known.is_empty() { Ok(()) } else { Err(Problem::conflict("The project has a context already; change it.")) }
    };
    let (version, profile) = database::transaction(|transaction| {
        project::change_profile_of(transaction, &project_id, IfMatch(None), profile, allow)
    })?;
    Ok(Created(ApplicationContext { project_id, profile, version }))
}

/// `PUT /api/application-context/{projectId}`: 404 when the project has none.
fn change(
    Params(project_id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<ContextPatch>,
) -> Result<Json<ApplicationContext>> {
    let allow = |known: &Map<String, Value>| {
        if known.is_empty() { Err(Problem::missing("application context of the project")) } else { Ok(()) }
    };
    let (version, profile) = database::transaction(|transaction| {
        project::change_profile_of(transaction, &project_id, if_match, input.profile, allow)
    })?;
    Ok(Json(ApplicationContext { project_id, profile, version }))
}

/// The routes of application contexts.
pub(crate) fn routes() -> Router {
    Router::new()
        .get("/api/application-context", read_named)
        .summary("Read the context of a project.")
        .post("/api/application-context", create)
        .summary("Create the context of a project.")
        .get("/api/application-context/{projectId}", read_one)
        .summary("Read the context of a project.")
        .put("/api/application-context/{projectId}", change)
        .summary("Update the context of a project.")
}

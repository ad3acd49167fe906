//! Who may do what with a project.

use berth_sdk::{auth::PrincipalKind, prelude::*};

use super::{Project, Visibility};

/// What somebody may do.
#[choice]
pub(crate) enum Level {
    Owner,
    Editor,
    Viewer,
}

impl Level {
    /// Whether this level is enough where `wanted` is needed.
    fn covers(self, wanted: Self) -> bool {
        let rank = |level| match level {
            Self::Viewer => 0,
            Self::Editor => 1,
            Self::Owner => 2,
        };
        rank(self) >= rank(wanted)
    }
}

/// One line of an access list: a user or a team.
#[entity(table = "project_access", name = "access entry", sort = "createdAt")]
pub(crate) struct AccessEntry {
    #[field(readonly)]
    pub project_id: Id,
    pub user_id: Option<Id>,
    pub team_id: Option<Id>,
    pub level: Level,
}

impl Rules for AccessEntry {}

impl AccessEntry {
    /// The entry of a user.
    pub(crate) fn of_user(project_id: &Id, user_id: Id, level: Level) -> Self {
        Self { project_id: project_id.clone(), user_id: Some(user_id), team_id: None, level }
    }
}

/// A line of the body of `PUT /api/projects/{id}/access`.
#[data]
pub(crate) struct Line {
    user_id: Option<Id>,
    team_id: Option<Id>,
    level: Level,
}

/// That body.
#[data]
pub(crate) struct NewList {
    /// The whole list: whoever is not on it loses access.
    #[field(max = 500)]
    access: Vec<Line>,
}

impl NewList {
    fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (index, line) in self.access.iter().enumerate() {
            if line.user_id.is_some() == line.team_id.is_some() {
                faults.add(format!("access[{index}]"), "must have either userId or teamId");
            }
            let is_repeated = |other: &Line| (&other.user_id, &other.team_id) == (&line.user_id, &line.team_id);
            if self.access.iter().take(index).any(is_repeated) {
                faults.add(format!("access[{index}]"), "is there twice");
            }
        }
        faults.finish()?;
        if self.access.iter().any(|line| line.level == Level::Owner) {
            return Ok(());
        }
        Err(Problem::unprocessable("A project needs an owner."))
    }
}

/// `GET /api/projects/{id}/access`.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<AccessEntry>>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Select::new().equal("project_id", &project.id).page(&Pool, &query)
}

/// `PUT /api/projects/{id}/access`: replaces the list.
pub(crate) fn change(Params(id): Params<Id>, Json(list): Json<NewList>) -> Result<Json<Page<Stored<AccessEntry>>>> {
    list.check()?;
    database::transaction(|transaction| {
        let project = entity::read::<Project>(transaction, &id)?;
        require(transaction, &project, Level::Owner)?;
        transaction.execute("DELETE FROM project_access WHERE project_id = $1", params![&project.id])?;
        let mut entries = Vec::with_capacity(list.access.len());
        for Line { user_id, team_id, level } in list.access {
            let entry = AccessEntry { project_id: project.id.clone(), user_id, team_id, level };
            entries.push(entity::create(transaction, entry)?);
        }
        let total = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        Ok(Json(PageQuery::default().envelope(entries, total)))
    })
}

/// 403 unless the caller has this level. What the organization sees is governed by permissions alone, but for its access
/// list; administrators and who made the project may do everything.
pub(crate) fn require(database: &dyn Executor, project: &Stored<Project>, wanted: Level) -> Result<()> {
    let principal = auth::principal();
    let is_open = project.visibility == Visibility::Organization && wanted != Level::Owner;
    if principal.is_super_admin || principal.is_platform || is_open || project.created_by == principal.user_id {
        return Ok(());
    }
    let user_id = principal.user_id.unwrap_or_default();
    let held =
        Select::<AccessEntry>::new().equal("project_id", &project.id).equal("user_id", user_id).first(database)?;
    // Who may delete in the whole organization may do so in an open project.
    let by_permission = project.visibility == Visibility::Organization && auth::has("projects.project.delete");
    if by_permission || held.is_some_and(|entry| entry.level.covers(wanted)) {
        return Ok(());
    }
    Err(Problem::forbidden(format!("It needs the level {wanted} in the project.")))
}

/// Whether the caller may change what hangs on a project: 404 when they do not see it, 403 when they only see it. What
/// the organization sees is governed by permissions alone.
pub(crate) fn require_edit(database: &dyn Executor, project_id: &Id) -> Result<()> {
    let principal = auth::principal();
    let missing = || Problem::missing(Project::DEFINITION.name);
    let row = database
        .query_one(
            "SELECT visibility, created_by FROM project_projects WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
            params![project_id, auth::organization_id()?],
        )?
        .ok_or_else(missing)?;
    let (visibility, created_by): (Visibility, Option<String>) = (row.get("visibility")?, row.get("created_by")?);
    let by_role = principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System;
    if by_role || visibility == Visibility::Organization || (created_by.is_some() && created_by == principal.user_id) {
        return Ok(());
    }
    let held = database.query(
        "SELECT level FROM project_access WHERE project_id = $1 AND user_id = $2",
        params![project_id, principal.user_id.unwrap_or_default()],
    )?;
    let levels = held.into_iter().map(|row| row.get("level")).collect::<Result<Vec<Level>, _>>()?;
    if levels.is_empty() {
        return Err(missing());
    }
    if levels.iter().any(|level| level.covers(Level::Editor)) {
        return Ok(());
    }
    Err(Problem::forbidden("It needs the level editor in the project."))
}

#[cfg(test)]
mod tests {
    use super::{Level, Line, NewList};

    #[test]
    fn a_higher_level_covers_the_lower_ones() {
        assert!(Level::Owner.covers(Level::Viewer) && Level::Editor.covers(Level::Editor));
        assert!(!Level::Viewer.covers(Level::Editor) && !Level::Editor.covers(Level::Owner));
    }

    #[test]
    fn an_access_list_has_an_owner_and_nobody_twice() {
        let line = |user: Option<&str>, level| Line { user_id: user.map(Into::into), team_id: None, level };
        let list = |access| NewList { access }.check();
        assert!(list(vec![line(Some("u1"), Level::Owner), line(Some("u2"), Level::Viewer)]).is_ok());
        assert_eq!(list(vec![line(Some("u1"), Level::Editor)]).unwrap_err().status, 422);
        assert_eq!(list(vec![line(None, Level::Owner)]).unwrap_err().errors[0].field, "access[0]");
        assert_eq!(
            list(vec![line(Some("u1"), Level::Owner), line(Some("u1"), Level::Viewer)]).unwrap_err().errors[0].field,
            "access[1]"
        );
    }
}
